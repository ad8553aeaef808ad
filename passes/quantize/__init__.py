"""Passes that store or compute on integers."""

from graphopt.passes.quantize.absorb_bias import AbsorbBias
from graphopt.passes.quantize.assign_precision import AssignPrecision
from graphopt.passes.quantize.convert_bfloat16 import ConvertBfloat16
from graphopt.passes.quantize.convert_float16 import ConvertFloat16
from graphopt.passes.quantize.correct_bias import CorrectBias
from graphopt.passes.quantize.equalize_scales import EqualizeScales
from graphopt.passes.quantize.palettize_weights import PalettizeWeights
from graphopt.passes.quantize.quantize_dynamic import QuantizeDynamic
from graphopt.passes.quantize.quantize_static import QuantizeStatic
from graphopt.passes.quantize.quantize_weights import QuantizeWeights
from graphopt.passes.quantize.round_weights import RoundWeights
from graphopt.passes.quantize.scale_rows import ScaleRows
from graphopt.passes.quantize.smooth_activations import SmoothActivations

__all__ = [
    "AbsorbBias",
    "AssignPrecision",
    "ConvertBfloat16",
    "ConvertFloat16",
    "CorrectBias",
    "EqualizeScales",
    "PalettizeWeights",
    "QuantizeDynamic",
    "QuantizeStatic",
    "QuantizeWeights",
    "RoundWeights",
    "ScaleRows",
    "SmoothActivations",
]
