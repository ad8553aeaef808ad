"""Pass ``convert-bfloat16``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from graphopt.contract.examples import Example
from graphopt.contract.preconditions import MinOpset
from graphopt.contract.registry import register
from graphopt.families.half_precision import HalfPrecisionPass, half_examples
from graphopt.numerics.halves import HalfName

__all__ = ["ConvertBfloat16"]


@register("convert-bfloat16")
@dataclass(frozen=True, kw_only=True)
class ConvertBfloat16(HalfPrecisionPass):
    """Compute in bfloat16 what calibration shows to hold it: half the bytes.

        x f32 -> MatMul(W f32) -> y f32   becomes   x f32 -> Cast -> MatMul(W bf16) -> Cast -> y f32

    The range is that of float32, so nothing overflows; of the 24 bits of a mantissa 8 are left, so
    that answers have about 18 dB less than with float16. Who gains: accelerators and CPUs with
    kernels for it. This CPU does not: onnxruntime's CPU provider has kernels for hardly anything
    but Casts, and refuses to load most models in bfloat16. They are verified in float32 then, with
    the rounded weights, and the pass tells what is left where every tensor is rounded as well.
    ``activations=float32`` stores weights in bfloat16 behind Casts, which loads and runs anywhere.
    ONNX has MatMul and Gemm for bfloat16 from opset 13 on, Conv and pooling from opset 22 on only.

    What stays in float32, and why, is as in convert-float16.

    Source: Kalamkar et al. 2019, A Study of BFLOAT16 for Deep Learning Training; types by operator
    from the ONNX schemas.
    """

    form_name: ClassVar[HalfName] = "bfloat16"
    least_db: ClassVar[float] = 20.0
    requires = (MinOpset("bfloat16", 13),)

    @classmethod
    def examples(cls) -> Sequence[Example]:
        return half_examples("mlp", "Gemm", "MatMul")
