"""Pass ``convert-float16``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from graphopt.contract.examples import Example
from graphopt.contract.preconditions import MinOpset
from graphopt.contract.registry import register
from graphopt.families.half_precision import HalfPrecisionPass, half_examples
from graphopt.numerics.halves import HalfName

__all__ = ["ConvertFloat16"]


@register("convert-float16")
@dataclass(frozen=True, kw_only=True)
class ConvertFloat16(HalfPrecisionPass):
    """Compute in float16 what calibration shows to hold it: half the bytes.

        x f32 -> Conv(W f32) -> Add -> y f32

    becomes

        x f32 -> Cast -> Conv(W f16) -> Add -> Cast -> y f32

    Who gains: GPUs, neural engines and NPUs compute in float16, at twice the speed and more. This
    CPU gains bytes alone: onnxruntime casts to float32 around every operator that it has no
    float16 kernel for, which on x86 are nearly all; ``activations=float32`` stores weights in 16
    bits behind Casts that are folded as the model is loaded, and has float speed there.

    In float32 stay, each with the reason: operators that ONNX defines for no float16; weights and
    constants beyond 65504 or so small that they would be lost; tensors that come within ``margin``
    of 65504 on the samples; nodes whose result loses more than it should when inputs are rounded
    (values below the smallest ones, large angles, denominators, decisions that turn), each tried
    alone on the samples; what computes on sizes and positions; what stands between codes; bodies
    of If, Loop and Scan, which cannot be calibrated. What hangs together with no layer stays too,
    so that no Cast is made for nothing. Masks of -3.4e38 in front of a Softmax become -8188. At
    the end all is rounded at once, tensor by tensor as a GPU does, and what the answers then have
    in dB is told: onnxruntime on this CPU rounds less often, and what it measures is better.

    Source: Micikevicius et al. 2018, Mixed Precision Training, section 3, for what float16 loses;
    IEEE 754-2019, binary16; types by operator from the ONNX schemas.
    """

    form_name: ClassVar[HalfName] = "float16"
    least_db: ClassVar[float] = 40.0
    requires = (MinOpset("operators for float16 throughout", 13),)

    @classmethod
    def examples(cls) -> Sequence[Example]:
        return half_examples("cnn", "Conv")
