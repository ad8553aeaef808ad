"""Named recipes. ``auto`` is the planner's; the others are plain lists of passes."""

from __future__ import annotations

from graphopt.errors import UsageError, quoted
from graphopt.options import near_miss

__all__ = ["CLEAN", "LIFTED", "describe", "find", "names"]

CLEAN = (
    "inline-functions,freeze-initializers,eliminate-dead,fold-constants,eliminate-identity,"
    "convert-einsum,fuse-batchnorm,fuse-activations,deduplicate-initializers"
)
"""Lossless clean-up, in the order in which each pass finds what the one before uncovered.

A second time it changes nothing."""
LIFTED = f"{CLEAN},convert-to-float32,fuse-batchnorm,fold-constants,upgrade-opset"

_PRESETS: dict[str, tuple[str, str | None]] = {
    "auto": (
        "clean-up, then the int8 form that measures best on this machine and data; within a limit "
        "of yours also fewer channels",
        None,
    ),
    "clean": ("lossless clean-up only", CLEAN),
    "int8-static": (
        "static int8 (QDQ, per channel) with bias correction; needs calibration data",
        f"{LIFTED},quantize-static,correct-bias,quantize-weights,eliminate-dead,strip-metadata",
    ),
    "int8-dynamic": (
        "int8 MatMuls with activations quantized at run time; needs no data",
        f"{LIFTED},quantize-dynamic,quantize-weights,eliminate-dead,strip-metadata",
    ),
    "int8-weights": (
        "int8 weights, float arithmetic: a quarter of the bytes at float speed; needs no data",
        f"{LIFTED},quantize-weights,eliminate-dead,strip-metadata",
    ),
    "float16": (
        "half the bytes; computes in float16 what calibration data show to hold it, for GPUs and "
        "NPUs; without data only weights are stored so",
        f"{CLEAN},upgrade-opset,convert-float16,eliminate-dead,strip-metadata",
    ),
}


def find(name: str) -> str | None:
    """Spec text of a preset; None for ``auto``, whose passes the planner chooses.

    Raises:
        UsageError: No preset has that name.
    """
    if name not in _PRESETS:
        raise UsageError(f"unknown preset {quoted(name)}{near_miss(name, _PRESETS)}")
    return _PRESETS[name][1]


def describe(name: str) -> str:
    """One phrase on what a preset does."""
    return _PRESETS[name][0]


def names() -> list[str]:
    """The names of all presets, ``auto`` first."""
    return list(_PRESETS)
