"""Two convolutions with a clipped line between them, solved together."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from graphopt.numerics.im2col import Window
from graphopt.numerics.least_squares import Behind

__all__ = ["ConvPair", "solve_pair"]

Floats = NDArray[np.float64]
Singles = NDArray[np.float32]

_TURNS = 4
"""Conjugate directions; with two steps of them the error on other samples hardly falls further."""
_RIDGE = 1e-2
"""Pull towards the weights that there are, as a share of the mean curvature."""
_HALVINGS = 3
"""So many sizes of the step are tried."""


@dataclass(frozen=True, eq=False)
class ConvPair:
    """``y = b2 + W2 * clip(b1 + W1 * x)``, each group of weights being ``(width, out)``.

    A row of the width is ``(channels, kernel)``, as ``Window.at`` has it.

    Attributes:
        first: How the first convolution moves.
        second: And the second.
        low: Values between them below this are this: 0 of a Relu.
        high: Likewise above.
        weights: Of both.
        biases: Of both, ``(out,)``.
    """

    first: Window
    second: Window
    low: float
    high: float
    weights: tuple[Floats, Floats]
    biases: tuple[Floats, Floats]


def solve_pair(
    pair: ConvPair, images: Singles, inside: NDArray[np.bool_], wanted: Singles, behind: Behind
) -> tuple[ConvPair, float, float]:
    """The pair whose results are nearest to what is wanted, and the errors before and after.

    The first convolution on its own would go by what each channel between was before. Here it goes
    by what the second makes of it: some channels in the place of many, with filters of their own.

    First the second alone makes up for what it can. Then comes Gauss and Newton's step on both, by
    conjugate gradients of which few are taken: the more, the better they do on these samples alone.
    A step that does not bring the error down is halved. Where a function that is flat stands
    behind the pair, it is majorised, see ``Behind.nearest``.

    Weights that are zero stay zero. Errors are squared, relative to the variance of what is wanted.

    Args:
        pair: Where to start from.
        images: What the first reads: ``(samples, height, width, channels)``, see ``Patches``.
        inside: Which positions between the two there are: ``(samples, height, width)``.
        wanted: What the second, with what is added to it, should give: ``(rows, out)``, rows being
            samples and positions.
        behind: What happens to the results, ``added`` being ``(rows, out)``.

    Source: Nocedal and Wright 2006, Numerical Optimization, section 10.3, for the step; Martens and
    Grosse 2015, Kronecker-factored Approximate Curvature, for what gradients are scaled by.
    """
    work = _Work(pair, images, inside, wanted, behind)
    first = now = _Point(work, work.start)
    for step in (_Point.second_alone, _Point.both):
        now = _tried(work, now, step(now))
    return work.pair(now.weights), first.error, now.error


def _tried(work: _Work, now: _Point, step: _Two) -> _Point:
    """Where a step leads, or a shorter one; where it started from if none brings the error down."""
    for _ in range(_HALVINGS):
        then = _Point(work, _plus(now.weights, step))
        if then.error < now.error:
            return then
        step = _plus(step, step, -0.5)
    return now


_Two = tuple[Singles, ...]
"""Weights of both, ``(taps * channels + 1, out)``, the bias last."""


def _plus(one: _Two, other: _Two, times: float = 1.0) -> _Two:
    return tuple(a + np.float32(times) * b for a, b in zip(one, other, strict=True))


def _dot(one: _Two, other: _Two) -> float:
    return sum(float((a * b).sum(dtype=np.float64)) for a, b in zip(one, other, strict=True))


class _Taps:
    """A window over ``(samples, height, width, channels)`` with nothing around, and back."""

    def __init__(self, window: Window, sizes: tuple[int, ...]) -> None:
        rank = len(window.kernel)
        strides, dilations = (each or (1,) * rank for each in (window.strides, window.dilations))
        bare = Window(window.kernel, strides, (), dilations)
        self._read, self.sizes = sizes, bare.positions(sizes)
        self._slices = [
            tuple(
                slice(at * d, at * d + (count - 1) * s + 1, s)
                for at, d, s, count in zip(tap, dilations, strides, self.sizes, strict=True)
            )
            for tap in np.ndindex(*window.kernel)
        ]

    def rows(self, maps: Singles) -> Singles:
        """What each position reads, then a one: ``(positions, taps * channels + 1)``."""
        count, channels = len(maps), maps.shape[-1]
        found = np.empty((count, *self.sizes, len(self._slices) * channels + 1), np.float32)
        for at, part in enumerate(self._slices):
            found[..., at * channels : (at + 1) * channels] = maps[:, part[0], part[1]]
        found[..., -1] = 1
        return found.reshape(-1, found.shape[-1])

    def back(self, rows: Singles, count: int) -> Singles:
        """What each value that is read gets of rows ``(positions, taps * channels)``."""
        channels = rows.shape[1] // len(self._slices)
        found = np.zeros((count, *self._read, channels), np.float32)
        given = rows.reshape(count, *self.sizes, -1)
        for at, part in enumerate(self._slices):
            found[:, part[0], part[1]] += given[..., at * channels : (at + 1) * channels]
        return found


class _Work:
    """What does not change: rows, and what is wanted of them."""

    def __init__(
        self,
        pair: ConvPair,
        images: Singles,
        inside: NDArray[np.bool_],
        wanted: Singles,
        behind: Behind,
    ) -> None:
        self._pair, self.wanted, self.behind, self.count = pair, wanted, behind, len(images)
        self.low, self.high = np.float32(pair.low), np.float32(pair.high)
        self.inside = inside.reshape(-1, 1)
        first = _Taps(pair.first, images.shape[1:3])
        self.between = first.sizes
        self.second = _Taps(pair.second, first.sizes)
        self.rows = first.rows(images)
        self.gram = self.rows.T @ self.rows / np.float32(len(self.rows))
        self.start = tuple(self._inside(at) for at in (0, 1))
        self.free = tuple(self._free(each) for each in self.start)
        spread = float(wanted.var(axis=0, dtype=np.float64).sum()) * len(wanted)
        self.spread = max(spread, 1e-30)

    def _inside(self, at: int) -> Singles:
        """A weight with its bias in the order of ``_Taps``."""
        weight, bias, taps = self._pair.weights[at], self._pair.biases[at], self._taps(at)
        turned = weight.reshape(-1, taps, weight.shape[1]).transpose(1, 0, 2)
        joined = np.concatenate([turned.reshape(weight.shape), bias[None]])
        return joined.astype(np.float32)

    @staticmethod
    def _free(weight: Singles) -> Singles:
        """1 where a weight may change, else 0; biases may."""
        free: Singles = (weight != 0).astype(np.float32)
        free[-1] = 1
        return free

    def _taps(self, at: int) -> int:
        return math.prod((self._pair.first, self._pair.second)[at].kernel)

    def pair(self, weights: _Two) -> ConvPair:
        """The pair with these weights."""
        found = []
        for at, values in enumerate(weights):
            weight = values[:-1].astype(np.float64)
            turned = weight.reshape(self._taps(at), -1, weight.shape[1]).transpose(1, 0, 2)
            found.append(turned.reshape(weight.shape))
        biases = [each[-1].astype(np.float64) for each in weights]
        return replace(self._pair, weights=(found[0], found[1]), biases=(biases[0], biases[1]))

    def maps(self, values: Singles) -> Singles:
        """Rows between the two as maps."""
        return values.reshape(self.count, *self.between, -1)


class _Point:
    """What comes of some weights."""

    def __init__(self, work: _Work, weights: _Two) -> None:
        self._work, self.weights = work, weights
        between = work.rows @ weights[0]
        self._alive = (between > work.low) & (between < work.high) & work.inside
        clipped = np.clip(between, work.low, work.high) * work.inside
        self._rows = work.second.rows(work.maps(clipped))
        now = self._rows @ weights[1]
        added = work.behind.added
        if added is not None:
            now += added
        self._wrong = work.behind.nearest(work.wanted, now) - now
        self.error = float(np.square(self._wrong).sum(dtype=np.float64)) / work.spread

    def _change(self, moved: _Two) -> Singles:
        """How results change to first order."""
        between = (self._work.rows @ moved[0]) * self._alive
        behind = self._work.second.rows(self._work.maps(between))[:, :-1]
        return self._rows @ moved[1] + behind @ self.weights[1][:-1]

    def _slope(self, wrong: Singles) -> _Two:
        """The adjoint of it, by the number of rows."""
        work, count = self._work, np.float32(len(wrong))
        maps = work.second.back(wrong @ self.weights[1][:-1].T, work.count)
        between = maps.reshape(len(work.rows), -1) * self._alive
        return work.rows.T @ between / count, self._rows.T @ wrong / count

    def second_alone(self) -> _Two:
        """What brings the error down most if only the second changes."""
        slope = self._slope(self._wrong)[1] * self._work.free[1]
        moved = _inverse(self._gram) @ slope * self._work.free[1]
        return np.zeros_like(self.weights[0]), moved

    @cached_property
    def _gram(self) -> Singles:
        gram: Singles = self._rows.T @ self._rows / np.float32(len(self._rows))
        return gram

    def both(self) -> _Two:
        """What, to first order, brings the error down most."""
        scaled, levels = self._scaling()
        moved: _Two = tuple(np.zeros_like(each) for each in self.weights)
        left = self._slope(self._wrong)
        ready = scaled(left)
        along, size = ready, _dot(left, ready)
        for _ in range(_TURNS):
            bent = self._slope(self._change(along))
            bent = tuple(b + level * a for b, a, level in zip(bent, along, levels, strict=True))
            bend = _dot(along, bent)
            if not (size > 0 and bend > 0):
                break
            moved = _plus(moved, along, size / bend)
            left = _plus(left, bent, -size / bend)
            ready = scaled(left)
            then = _dot(left, ready)
            along, size = _plus(ready, along, then / size), then
        return moved

    def _scaling(self) -> tuple[Callable[[_Two], _Two], list[np.float32]]:
        """What makes the curvature about the same in all directions, and the pull."""
        work, second = self._work, self.weights[1][:-1]
        outs, channels = second.shape[1], self.weights[0].shape[1]
        parts = second.reshape(-1, channels, outs)
        alive = self._alive.astype(np.float32)
        both = alive.T @ alive / np.float32(len(alive))
        ratio = len(work.rows) / len(self._wrong)
        between = np.einsum("tco,tdo->cd", parts, parts) * both * ratio
        grams = work.gram, between, self._gram
        inverses = [_inverse(each) for each in grams]
        mean = [float(np.trace(each)) / len(each) for each in grams]
        levels = [np.float32(_RIDGE * mean[0] * mean[1]), np.float32(_RIDGE * mean[2])]

        def scaled(values: _Two) -> _Two:
            one, two = (a * free for a, free in zip(values, work.free, strict=True))
            one, two = inverses[0] @ one @ inverses[1], inverses[2] @ two
            return one * work.free[0], two * work.free[1]

        return scaled, levels


def _inverse(matrix: Singles) -> Singles:
    size = len(matrix)
    level = _RIDGE * float(np.trace(matrix)) / size + 1e-12
    return np.linalg.inv(matrix.astype(np.float64) + level * np.eye(size)).astype(np.float32)
