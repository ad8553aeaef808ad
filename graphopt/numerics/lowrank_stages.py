"""The convolutions of a chain as factors of a product, and back."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from graphopt.numerics.lowrank_conv import ConvFactors
from graphopt.numerics.tucker import Tucker

__all__ = ["evened", "pointwise", "stage_factors", "unwhitened"]

_Floats = NDArray[np.float64]


def stage_factors(found: ConvFactors) -> tuple[list[str], list[_Floats]]:
    """The stages from the last to the first as factors of a product, with the names of their axes.

    o and i are the channels of the layer, p, q and r ranks, h, w and k axes of the kernel.
    """
    weights = [stage.weight.astype(np.float64) for stage in reversed(found.stages)]
    if found.scheme == "spatial":
        second, first = weights
        return ["orw", "rih"], [second[:, :, 0], first[..., 0]]
    if found.scheme == "cp":
        outer, window, inner = (each.reshape(len(each), -1) for each in weights)
        return ["or", "rk", "ri"], [outer, window, inner]
    middle = next(place for place, stage in enumerate(reversed(found.stages)) if stage.axes)
    names = ["op"] * middle + ["pqk"] + ["qi"] * (len(weights) - middle - 1)
    shaped = [
        each.reshape(*each.shape[:2], -1) if name == "pqk" else each.reshape(each.shape[:2])
        for name, each in zip(names, weights, strict=True)
    ]
    return names, shaped


def evened(names: Sequence[str], factors: Sequence[_Floats]) -> list[_Floats]:
    """The same product, each rank of the same norm on all sides, which quantizes better."""
    if "pqk" in names:
        return _evened_tucker(names, factors)
    places = [name.index("r") for name in names]
    fronted = [np.moveaxis(each, place, 0) for each, place in zip(factors, places, strict=True)]
    norms = np.array([np.linalg.norm(each.reshape(len(each), -1), axis=1) for each in fronted])
    even = np.prod(norms, axis=0) ** (1 / len(norms))
    scales = np.divide(even, norms, where=norms > 0, out=np.zeros_like(norms))
    return [
        np.moveaxis((each.T * scale).T, 0, place)
        for each, place, scale in zip(fronted, places, scales, strict=True)
    ]


def _evened_tucker(names: Sequence[str], factors: Sequence[_Floats]) -> list[_Floats]:
    parts = dict(zip(names, factors, strict=True))
    core = parts["pqk"]
    outer, inner = np.eye(core.shape[0]), np.eye(core.shape[1])
    if "op" in parts:
        outer, mixed = np.linalg.qr(parts["op"])
        core = np.tensordot(mixed, core, (1, 0))
    if "qi" in parts:
        inner, mixed = np.linalg.qr(parts["qi"].T)
        core = np.moveaxis(np.tensordot(core, mixed, (1, 1)), -1, 1)
    inner, core, outer = Tucker(outer, core, inner, (1.0,)).balanced()
    made = {"op": outer, "pqk": core, "qi": inner.T}
    return [made[name] for name in names]


def unwhitened(found: Tucker, inverse: _Floats) -> Tucker:
    """The form of the weight itself; an inner mix of all channels stays out of it."""
    if found.inner.shape[1] < len(found.inner):
        return replace(found, inner=inverse @ found.inner)
    core = np.moveaxis(np.tensordot(found.core, inverse, (1, 1)), -1, 1)
    return replace(found, core=core)


def pointwise(matrix: _Floats, axes: int) -> NDArray[np.float32]:
    """``(out, in)`` as the weight of a 1 x 1 convolution."""
    shaped = matrix.reshape(*matrix.shape, *(1,) * (axes - 2))
    return np.ascontiguousarray(shaped, dtype=np.float32)
