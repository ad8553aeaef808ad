"""The tables of CPUs: what onnxruntime (1.22 to 1.32, read back from its graphs) fuses there.

Those of accelerators and of other runtimes are in files of their own; all come together here.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from graphopt.numerics.grids import CodeName
from graphopt.targets.accelerators import ACCELERATORS
from graphopt.targets.operator_rules import ONNXRUNTIME, STANDARD
from graphopt.targets.runtimes import RUNTIMES
from graphopt.targets.target import Slow, Target

__all__ = ["ANY_MACHINE", "TARGETS"]

ANY_MACHINE = "any machine"
"""Of a target that this machine is as well."""

_DYNAMIC = {"LSTM": "DynamicQuantizeLSTM"}
"""An LSTM of 128 to 512 cells took 0.33 to 0.55 times as long with it, one of 32 cells 0.8 times,
at 36 to 38 dB (onnxruntime 1.32, VNNI). RNN and GRU have no such form."""
_SLOW = Slow(group=8)
"""On integers 3x3 Convs of 128 channels at 28x28 took 2.9 times as long as in floats with 4
channels a group, 1.1 to 1.4 times with 8, and 0.6 times with 32 (onnxruntime 1.32, VNNI)."""
_LOOKUP: Literal["GatherBlockQuantized"] = "GatherBlockQuantized"
"""128 rows of 384 took 57 us from codes of 4 bits in bytes, 39 us from floats, 35 us from int8
(onnxruntime 1.32)."""
_BLOCKS: Mapping[CodeName, tuple[int, ...]] = {
    **dict.fromkeys(("int4", "uint4"), (16, 32, 64, 128, 256)),
    **dict.fromkeys(("int2", "uint2"), (128,)),
}
"""MatMulNBits at accuracy level 4, which onnxruntime 1.32 makes of them, against MatMul in floats,
384 x 1536, VNNI, for 1, 16 and 128 rows: int4 in blocks of 128 2.8, 1.4 and 1.4 times as fast, of
32 2.1, 1.1, 1.1, of 16 1.9, 1.05, 1.06; 2 bits in blocks of 128 2.4, 1.2, 1.15, of 64 1.9, 0.84,
0.83. Without VNNI blocks of 128 are 1.3 times as fast for one row, 0.74 times for 16 and more."""

_CPUS = (
    Target(
        "x86-vnni",
        "x86-64 with VNNI (AVX512-VNNI or AVX-VNNI): exact uint8 x int8 products",
        "x86-64",
        saturates=False,
        rules=ONNXRUNTIME,
        dynamic=_DYNAMIC,
        slow=_SLOW,
        block_lookup=_LOOKUP,
        block_sizes=_BLOCKS,
    ),
    Target(
        "x86-avx2",
        "x86-64 without VNNI: neighbouring products are added in 16 bits and saturate",
        "x86-64",
        saturates=True,
        rules=ONNXRUNTIME,
        dynamic=_DYNAMIC,
        slow=_SLOW,
        block_lookup=_LOOKUP,
    ),
    Target(
        "arm",
        "64-bit Arm of any kind: exact products",
        "64-bit Arm",
        saturates=False,  # equal bits on emulated Cortex-A53, A76 and one with i8mm (1.32)
        rules=ONNXRUNTIME,  # the same nodes are fused there (1.32, aarch64)
        dynamic=_DYNAMIC,
        block_lookup=_LOOKUP,
        bias="int32+zero",  # else onnxruntime's converter to .ort ends in an error (1.32)
        integer_time=0.7,  # SMULL and SMLAL do 8 products, FMLA 4, and more moves are needed
    ),
    Target(
        "arm-dotprod",
        "64-bit Arm with the dot product instructions (Cortex-A55, A76 and later)",
        "64-bit Arm",
        saturates=False,
        rules=ONNXRUNTIME,
        dynamic=_DYNAMIC,
        block_lookup=_LOOKUP,
        bias="int32+zero",
        integer_time=0.4,  # UDOT and SDOT do 16 products where FMLA does 4
    ),
    Target(
        "generic",
        "any runtime: operators with an integer form in the ONNX standard, never saturating",
        ANY_MACHINE,
        saturates=True,
        rules=STANDARD,
        contrib=False,
    ),
)

TARGETS = {target.name: target for target in (*_CPUS, *ACCELERATORS, *RUNTIMES)}
"""By name; ``host`` is one of the CPUs, found at run time."""
