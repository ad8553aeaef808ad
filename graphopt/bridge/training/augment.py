"""Pictures moved and mirrored."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from graphopt.errors import PassError
from graphopt.graph.tensors import Array

__all__ = ["Augment", "pictures_of"]

_PICTURE_RANK = 4
_MOST_COLOURS = 4


class Augment:
    """Random shifts and mirror images of picture inputs, channels first, repeatable by seed.

    Args:
        flip: Mirror half of the pictures left to right.
        shift: Move by up to so many pixels each way.
        fill: By input, what shows where a picture was moved away: ``(channels,)``.
    """

    def __init__(self, *, flip: bool, shift: int, fill: Mapping[str, Array]) -> None:
        self.flip = flip
        self.shift = shift
        self.fill = fill

    def __bool__(self) -> bool:
        return bool(self.fill) and (self.flip or self.shift > 0)

    def __call__(self, feeds: dict[str, Array], rng: np.random.Generator) -> dict[str, Array]:
        """The feeds with their pictures changed; all inputs of a sample in the same way."""
        if not self:
            return feeds
        count = len(feeds[next(iter(self.fill))])
        mirrored = rng.random(count) < 0.5 if self.flip else np.zeros(count, bool)
        moves = rng.integers(-self.shift, self.shift + 1, (count, 2))
        return {
            name: self._changed(array, self.fill[name], mirrored, moves)
            if name in self.fill
            else array
            for name, array in feeds.items()
        }

    def _changed(self, pictures: Array, fill: Array, mirrored: Array, moves: Array) -> Array:
        height, width = pictures.shape[2:]
        moved = np.empty_like(pictures)
        shade = fill if pictures.dtype.kind == "f" else fill.round()
        moved[:] = shade.astype(pictures.dtype)[None, :, None, None]
        for index, (down, right) in enumerate(np.clip(moves, [-height, -width], [height, width])):
            source = pictures[index, :, :, ::-1] if mirrored[index] else pictures[index]
            moved[index, :, _to(down, height), _to(right, width)] = source[
                :, _to(-down, height), _to(-right, width)
            ]
        return moved


def pictures_of(arrays: Mapping[str, Array]) -> dict[str, Array]:
    """Mean colour of every picture input, by name.

    Args:
        arrays: Leading axis = feeds; a picture input is of floats or bytes and has four axes.

    Raises:
        PassError: There is none, or its channels come last.
    """
    found = {
        name: np.asarray(array.mean(axis=(0, 1, 3, 4), dtype=np.float64))
        for name, array in arrays.items()
        if array.ndim == _PICTURE_RANK + 1 and array.dtype.kind in "fu"
    }
    if not found:
        raise PassError("flip and shift move pictures, and no input has four axes")
    for name in found:
        shape = arrays[name].shape[1:]
        if shape[-1] in (1, 3) and shape[1] > _MOST_COLOURS:
            raise PassError(
                f"flip and shift need pictures with channels first; input {name!r} has shape "
                f"{list(shape)}"
            )
    return found


def _to(move: int, size: int) -> slice:
    return slice(max(0, move), size + min(0, move))
