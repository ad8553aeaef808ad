"""Linear layers solved again: the weight and bias that bring given inputs to wanted results."""

from __future__ import annotations

from copy import copy
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from graphopt.numerics.masked_solvers import MaskedSolver, masked_solvers
from graphopt.numerics.moments import Moments, MomentSums

__all__ = ["RIDGES", "Behind", "Solved", "solve_layer"]

Floats = NDArray[np.float64]
Singles = NDArray[np.float32]

_SLICE = 4096
"""Rows whose products are summed in float32 before they are added in float64."""
RIDGES = (1e-4, 1e-3, 1e-2, 1e-1)
"""What is tried where nobody says how strongly to pull."""
_RIDGE = 1e-3
"""That where too few rows are there to try."""
_HELD_OUT = 0.2
"""Share of the rows, the last ones, that decide between ridges."""
_TRIED = 32
"""Outputs, and groups, on which ridges are compared where not all share one system."""


@dataclass(frozen=True, eq=False)
class Behind:
    """What happens to the results of a layer before anybody looks at them.

    Attributes:
        added: What is added to them, ``(rows, groups, out)``; None for nothing.
        low: Sums below this are told apart by nobody: a Relu has 0. One for all, or
            ``(groups, out)``.
        high: Nor are those above this: a Clip at 6 has 6. Likewise.
    """

    added: Singles | None = None
    low: float | Floats = -np.inf
    high: float | Floats = np.inf

    @property
    def flat(self) -> bool:
        """Whether there are sums that nobody tells apart."""
        return bool(np.isfinite(self.low).any() or np.isfinite(self.high).any())

    def of(self, group: int) -> Behind:
        """The same for one group, ``added`` being ``(rows, out)``."""
        added = None if self.added is None else self.added[:, group]
        return Behind(added, *(_part(each, group) for each in (self.low, self.high)))

    def nearest(self, wanted: Singles, now: Singles) -> Singles:
        """Of all sums that look the same as the wanted ones, those nearest to what they are now.

        >>> relu = Behind(low=0.0)
        >>> relu.nearest(np.float32([2, -3, -3]), np.float32([-1, -1, 5])).tolist()
        [2.0, -1.0, 0.0]
        """
        low, high = np.asarray(self.low, np.float32), np.asarray(self.high, np.float32)
        near = np.array(np.broadcast_to(wanted, np.broadcast_shapes(wanted.shape, now.shape)))
        if np.isfinite(low).any():
            np.minimum(now, low, out=near, where=wanted <= low)
        if np.isfinite(high).any():
            np.maximum(now, high, out=near, where=wanted >= high)
        return near


def _part(bound: float | Floats, at: int | list[int]) -> float | Floats:
    """A bound of one group or of some outputs."""
    return bound[at] if isinstance(bound, np.ndarray) else bound


@dataclass(frozen=True, eq=False)
class Solved:
    """A layer solved again.

    Attributes:
        weight: ``(groups, width, out)``.
        bias: ``(groups, out)``; zero where none was fitted.
    """

    weight: Floats
    bias: Floats


def solve_layer(
    rows: Singles,
    wanted: Singles,
    start: Floats,
    *,
    ridge: float | None = None,
    mask: NDArray[np.bool_] | None = None,
    behind: Behind | None = None,
    rounds: int = 3,
    biased: bool = True,
    moments: Moments | None = None,
) -> Solved:
    """Regularised least squares of a layer, group by group.

    With ``X`` the rows and ``T`` the wanted results, both centred where there is a bias,
    ``W = (X'X / n + l I)^-1 (X'T / n + l W0)``, l being ``ridge`` times the mean of the diagonal.
    Elements outside the mask are zero and the others solved exactly with them, output by output.

    Where a function that is flat beyond some value stands behind, each round then wants, of all
    sums that it does not tell from the right one, that nearest to the present one: this majorises
    the error behind the function, so that it falls with each round.

    Args:
        rows: What the layer reads: ``(rows, groups, width)``.
        wanted: What its results, with what is added to them, should be: ``(rows, groups, out)``.
        start: The weight to stay near where the rows do not tell: ``(groups, width, out)``.
        ridge: How strongly, as a share of the mean square of the inputs; None for that of
            ``RIDGES`` which, solved on the first rows, comes nearest on the last ones. Rows then
            have to be in the order of the samples, so that these are others.
        mask: Which elements may differ from zero, shaped as ``start``; None for all.
        behind: What happens to the results.
        rounds: Of the majorisation.
        biased: Whether the layer has a bias.
        moments: Of the rows, where they are known already.
    """
    systems = [_System(rows[:, g], start[g], biased=biased) for g in range(len(start))]
    for group, system in enumerate(systems):
        known = None if moments is None else (moments.mean[group], moments.covariance[group])
        system.learn(known, held_out=ridge is None)
    masks = np.ones(start.shape, bool) if mask is None else mask
    aims = [_Aim(wanted[:, g], (behind or Behind()).of(g)) for g in range(len(start))]
    if ridge is None:
        ridge = _best_ridge(systems, masks, aims)
    weight, bias = np.zeros(start.shape), np.zeros((len(start), start.shape[2]))
    for group, (system, support, aim) in enumerate(zip(systems, masks, aims, strict=True)):
        system.pull_by(ridge)
        for solver in masked_solvers(system.matrix, support, system.start):
            columns = solver.columns
            found = _majorised(system, solver, aim.only(columns), rounds)
            weight[group][:, columns], bias[group, columns] = found
    return Solved(weight, bias)


def _best_ridge(systems: list[_System], masks: NDArray[np.bool_], aims: list[_Aim]) -> float:
    """The ridge of ``RIDGES`` that, solved on the first rows, is nearest on the last."""
    errors = np.zeros(len(RIDGES))
    if systems[0].split == len(systems[0].rows):
        return _RIDGE
    for group in _some(len(systems)):
        system, support = systems[group], masks[group]
        columns = list(range(support.shape[1])) if support.all() else _some(support.shape[1])
        targets = aims[group].only(columns).targets(None)
        for at, ridge in enumerate(RIDGES):
            part = system.first_part(columns)
            part.pull_by(ridge)
            for solver in masked_solvers(part.matrix, support[:, columns], part.start):
                order = solver.columns
                weight, bias = _solved(part, solver, targets[: system.split, order])
                now = system.rows[system.split :] @ weight.astype(np.float32)
                wrong = now + bias.astype(np.float32) - targets[system.split :, order]
                errors[at] += float(np.square(wrong).sum(dtype=np.float64))
    return RIDGES[int(np.argmin(errors))]


def _some(count: int) -> list[int]:
    """At most so many of ``count`` as are tried, evenly."""
    places = np.linspace(0, count - 1, min(count, _TRIED)).astype(int)
    return [int(place) for place in places]


_Known = tuple[Floats, Floats]
"""Mean ``(width,)`` and covariance ``(width, width)`` of rows."""


def _known(sums: MomentSums) -> _Known:
    found = sums.result()
    return found.mean[0], found.covariance[0]


class _System:
    """The normal equations of one group.

    Attributes:
        rows: ``(rows, width)``.
        split: Rows in front of those held out.
        mean: Of the rows; zero without a bias.
        matrix: ``X'X / n + l I``.
        pull: ``l W0``.
        start: ``W0``.
    """

    def __init__(self, rows: Singles, start: Floats, *, biased: bool) -> None:
        self.rows, self.biased, self.start = np.ascontiguousarray(rows), biased, start
        self.split = len(rows) - round(_HELD_OUT * len(rows))
        self._first: _Known | None = None
        self._whole: _Known | None = None

    def learn(self, known: _Known | None, *, held_out: bool) -> None:
        """Take up mean and covariance of all rows, and those without the rows held out."""
        if known is None or held_out:
            sums = MomentSums(1, self.rows.shape[1])
            sums.add(self.rows[: self.split, None])
            self._first = _known(sums)
            sums.add(self.rows[self.split :, None])
            known = _known(sums)
        self._whole = known

    def pull_by(self, ridge: float) -> None:
        """Pull towards the start so strongly."""
        assert self._whole is not None
        mean, matrix = self._whole
        self.mean = mean if self.biased else np.zeros_like(mean)
        self.matrix = matrix.copy() if self.biased else matrix + np.outer(mean, mean)
        spread = float(np.trace(self.matrix)) / max(len(matrix), 1)
        level = ridge * spread if spread > 0 else 1.0  # where nothing varies the start stays
        np.fill_diagonal(self.matrix, self.matrix.diagonal() + level)
        self.pull = level * self.start

    def first_part(self, columns: list[int]) -> _System:
        """The equations of some outputs without the rows that are held out."""
        part = copy(self)
        part.rows, part._whole = self.rows[: self.split], self._first
        part.start = self.start[:, columns]
        return part

    def products(self, targets: Singles) -> tuple[Floats, Floats]:
        """``X'T / n`` and the mean of the targets, which are centred where there is a bias."""
        mean = (
            targets.mean(axis=0, dtype=np.float64) if len(targets) else np.zeros(targets.shape[1])
        )
        centre = mean if self.biased else np.zeros_like(mean)
        sums = np.zeros((self.rows.shape[1], targets.shape[1]))
        shift, level = self.mean.astype(np.float32), centre.astype(np.float32)
        for start in range(0, len(targets), _SLICE):
            part = slice(start, start + _SLICE)
            sums += (self.rows[part] - shift).T @ (targets[part] - level)
        return sums / max(len(targets), 1), centre


@dataclass(frozen=True, eq=False)
class _Aim:
    """What some outputs should be.

    Attributes:
        wanted: ``(rows, outputs)``.
        behind: What happens to them.
    """

    wanted: Singles
    behind: Behind

    def only(self, columns: list[int]) -> _Aim:
        """The same of some outputs."""
        added = self.behind.added
        parts = None if added is None else added[:, columns]
        bounds = (_part(each, columns) for each in (self.behind.low, self.behind.high))
        return _Aim(self.wanted[:, columns], Behind(parts, *bounds))

    def targets(self, now: Singles | None) -> Singles:
        """What the layer alone should give, when it gives ``now``; None before the first round."""
        added = self.behind.added
        if now is not None:
            sums = now if added is None else now + added
            near = self.behind.nearest(self.wanted, sums)
        else:
            near = self.wanted
        return near if added is None else near - added


def _majorised(
    system: _System, solver: MaskedSolver, aim: _Aim, rounds: int
) -> tuple[Floats, Floats]:
    """Weight ``(width, outputs)`` and bias of some outputs, in the order of the solver."""
    weight, bias = _solved(system, solver, aim.targets(None))
    for _ in range(rounds if aim.behind.flat else 0):
        now = system.rows @ weight.astype(np.float32) + bias.astype(np.float32)
        weight, bias = _solved(system, solver, aim.targets(now))
    return weight, bias


def _solved(system: _System, solver: MaskedSolver, targets: Singles) -> tuple[Floats, Floats]:
    products, mean = system.products(targets)
    weight = solver.solve(products + system.pull[:, solver.columns])
    bias = mean - system.mean @ weight if system.biased else np.zeros(len(mean))
    return weight, bias
