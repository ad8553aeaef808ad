"""Which channels a network misses least: backward elimination from second moments.

The layers that read a group of channels compute ``X_j W_j``. Without some channels, and with the
weights of the others solved anew, their outputs differ by an error that the moments
``G_j = X_j^T X_j`` tell without the samples. Source: the step of Hassibi and Stork 1993, Optimal
Brain Surgeon, taken for whole blocks of columns and for several layers at once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import scipy.linalg
from numpy.typing import NDArray

from graphopt.numerics.removal import damped

__all__ = ["Elimination", "Reader", "eliminate", "output_energy", "refit"]

Floats = NDArray[np.float64]
Places = NDArray[np.intp]

_STRIP = 256
"""Rows of a triangle that are mirrored at once."""
_PENDING = 128
"""Columns that go before the matrices are updated, by one large product in place of many small."""


@dataclass(frozen=True, eq=False)
class Reader:
    """A layer that multiplies the channels of a group with a weight.

    Attributes:
        moments: ``(columns, columns)`` second moments of all that it reads: centred, where its
            bias is fitted again; of any scale.
        weight: ``(columns, out)``.
        columns: ``(units, each)``: which columns each unit holds, -1 where it holds fewer than
            others. Columns of no unit stay for good, and are solved anew like the others.
    """

    moments: Floats
    weight: Floats
    columns: Places

    @property
    def energy(self) -> float:
        """Second moment of the output, summed over its channels: ``tr(W^T G W)``."""
        return float(np.einsum("io,io->", self.moments @ self.weight, self.weight))


@dataclass(frozen=True, eq=False)
class Elimination:
    """How a group loses its units one by one.

    Attributes:
        order: ``(units,)``, the first to go first.
        errors: ``(units + 1,)``: squared error of the outputs over their second moments, mean over
            the readers, once the first k of ``order`` are gone. Starts at 0 and never falls.
    """

    order: Places
    errors: Floats


def eliminate(readers: Sequence[Reader], damping: float = 1e-3) -> Elimination:
    """Drop units one by one, each time the one whose loss costs least.

    Without columns C of a layer, ``(W' - W)^T (G + l I) (W' - W)`` is least at
    ``W' = W - H_:C (H_CC)^-1 W_C`` with ``H = (G + l I)^-1``, and grows by
    ``tr(W_C^T (H_CC)^-1 W_C)``; then ``H -= H_:C (H_CC)^-1 H_C:``. A unit costs the mean of that
    over the readers, each relative to ``tr(W^T G W)`` at the start. What one step after another
    adds up to is exactly what all at once would cost.

    Takes ``O(columns^3)`` a reader.

    >>> moments = np.diag([4.0, 1.0, 2.0])
    >>> reader = Reader(moments, np.ones((3, 1)), np.arange(3)[:, None])
    >>> eliminate([reader], damping=0.0).order.tolist()
    [1, 2, 0]

    Args:
        readers: At least one, all with the same number of units.
        damping: ``l`` over the mean diagonal of ``G``.
    """
    units = len(readers[0].columns)
    states = [_State(reader, damping) for reader in readers]
    order, errors = np.zeros(units, np.intp), np.zeros(units + 1)
    gone = np.zeros(units, bool)
    for step in range(units):
        costs = sum((state.costs(units) for state in states), np.zeros(units)) / len(states)
        unit = int(np.argmin(np.where(gone, np.inf, costs)))
        gone[unit] = True
        for state in states:
            state.remove(unit)
        order[step] = unit
        errors[step + 1] = errors[step] + max(0.0, float(costs[unit]))
    return Elimination(order, errors)


def output_energy(readers: Sequence[Reader]) -> Floats:
    """What each unit ``(units,)`` adds to the outputs by itself: ``tr(W_C^T G_CC W_C)``.

    Relative to that of all, mean over the readers. Nothing makes up for the unit.
    """
    total = np.zeros(len(readers[0].columns))
    for reader in readers:
        energy = reader.energy
        if energy <= 0:
            continue
        for unit, columns in enumerate(reader.columns):
            held = columns[columns >= 0]
            part = reader.weight[held]
            moments = reader.moments[np.ix_(held, held)]
            total[unit] += float(np.einsum("io,io->", moments @ part, part)) / energy
    return total / len(readers)


def refit(moments: Floats, weight: Floats, lost: Places, damping: float = 1e-3) -> Floats:
    """The weight ``(columns, out)`` that makes up for lost columns, zero there.

    It is what the steps of ``eliminate`` lead to. A bias takes up the difference of the means:
    ``b' = b + mean(x) (W - W')``.

    >>> refit(np.array([[2.0, 1.0], [1.0, 2.0]]), np.ones((2, 1)), np.array([1]), 0.0).tolist()
    [[1.5], [0.0]]

    Args:
        moments: ``(columns, columns)``, centred or not; see ``Reader``.
        weight: ``(columns, out)``.
        lost: Columns that are no longer there.
        damping: How much the weight is held back; see ``eliminate``.
    """
    stay = np.setdiff1d(np.arange(len(weight)), lost)
    fitted = np.zeros_like(weight)
    if not len(stay):
        return fitted
    firm = damped(moments, damping)
    missing = firm[np.ix_(stay, lost)] @ weight[lost]
    solved = scipy.linalg.solve(firm[np.ix_(stay, stay)], missing, assume_a="pos")
    fitted[stay] = weight[stay] + solved
    return fitted


class _State:
    """One reader on its way: ``H``, and ``P = W W^T``, of which the costs follow.

    Both change by products of thin matrices, which wait until there are some; rows of the present
    matrices are put together when they are asked for. Blocks on the diagonal are always up to date.
    """

    def __init__(self, reader: Reader, damping: float) -> None:
        moments, weight, columns = _filled(reader)
        energy = reader.energy
        self.scale = 1 / energy if energy > 0 else 0.0
        rest = np.setdiff1d(np.arange(len(weight)), columns)
        places = np.concatenate([columns.reshape(-1), rest])
        sorted_places = bool((np.diff(places) == 1).all())
        firm = damped(moments, damping)
        self.inverse = _inverse(firm if sorted_places else firm[np.ix_(places, places)])
        self.products = weight[places] @ weight[places].T
        self.units, self.each = np.arange(len(columns)), columns.shape[1]
        self.gone = np.zeros(len(columns), bool)
        self._start()

    def _start(self) -> None:
        """Begin with matrices that are up to date."""
        count, each = len(self.units), self.each
        at, shape = np.arange(count), (count, each, count, each)
        held = slice(count * each)
        self.blocks = self.inverse[held, held].reshape(shape)[at, :, at, :]
        self.weights = self.products[held, held].reshape(shape)[at, :, at, :]
        self.thin, self.left, self.right = np.zeros((3, len(self.inverse), _room(each)))
        self.used = 0

    def costs(self, units: int) -> Floats:
        """What each of so many units would cost now; 0 for those that are gone."""
        costs = np.zeros(units)
        if self.each == 1:
            found = self.weights[:, 0, 0] / self.blocks[:, 0, 0]
        else:
            found = np.einsum("uij,uji->u", np.linalg.inv(self.blocks), self.weights)
        costs[self.units] = np.where(self.gone[self.units], 0.0, found * self.scale)
        return costs

    def remove(self, unit: int) -> None:
        """Let a unit go."""
        at = int(np.searchsorted(self.units, unit))
        each, used = self.each, self.used
        taken = slice(at * each, (at + 1) * each)
        old = slice(used)
        rows = self.inverse[:, taken] - self.thin[:, old] @ self.thin[taken, old].T
        factor = np.linalg.cholesky(rows[taken])
        thin = scipy.linalg.solve_triangular(factor, rows.T, lower=True).T
        made = scipy.linalg.solve_triangular(factor.T, thin.T, lower=False).T  # H_:C (H_CC)^-1
        product = self.products[:, taken] - self.left[:, old] @ self.right[taken, old].T
        product -= self.right[:, old] @ self.left[taken, old].T
        right = product - made @ product[taken] / 2
        new = slice(used, used + each)
        self.thin[:, new], self.left[:, new], self.right[:, new] = thin, made, right
        self.used = used + each
        self._update(thin, made, right)
        self.gone[unit] = True
        self.blocks[self.gone[self.units]] = np.eye(each)
        if self.used + each > self.thin.shape[1]:
            self._flush()

    def _update(self, thin: Floats, made: Floats, right: Floats) -> None:
        """Bring the blocks on the diagonal up to date."""
        count, each = len(self.units), self.each
        thin, made, right = (
            part[: count * each].reshape(count, each, each) for part in (thin, made, right)
        )
        self.blocks -= thin @ thin.transpose(0, 2, 1)
        change = made @ right.transpose(0, 2, 1)
        self.weights -= change + change.transpose(0, 2, 1)

    def _flush(self) -> None:
        """Bring the matrices up to date, without what is gone."""
        held = len(self.units) * self.each
        stays = np.repeat(~self.gone[self.units], self.each)
        stays = np.concatenate([stays, np.ones(len(self.inverse) - held, bool)])
        thin, left, right = (part[stays] for part in (self.thin, self.left, self.right))
        self.inverse = self.inverse[np.ix_(stays, stays)] - thin @ thin.T
        change = left @ right.T
        self.products = self.products[np.ix_(stays, stays)] - change - change.T
        self.units = self.units[~self.gone[self.units]]
        self._start()


def _room(each: int) -> int:
    """Columns that wait at most: some units at least."""
    return max(_PENDING, 4 * each)


def _filled(reader: Reader) -> tuple[Floats, Floats, Places]:
    """The same with columns that nobody reads where units hold fewer than others."""
    missing = reader.columns < 0
    count, size = int(missing.sum()), len(reader.weight)
    if not count:
        return reader.moments, reader.weight, reader.columns
    moments = np.eye(size + count) * max(float(np.trace(reader.moments)) / max(1, size), 1e-30)
    moments[:size, :size] = reader.moments
    weight = np.concatenate([reader.weight, np.zeros((count, reader.weight.shape[1]))])
    columns = reader.columns.copy()
    columns[missing] = size + np.arange(count)
    return moments, weight, columns


def _inverse(matrix: Floats) -> Floats:
    """The inverse of a positive definite matrix, in its place."""
    factor, info = scipy.linalg.lapack.dpotrf(matrix.T, lower=False, overwrite_a=True)
    if info:
        raise np.linalg.LinAlgError(f"leading minor {info} is not positive")
    inverse, _ = scipy.linalg.lapack.dpotri(factor, lower=False, overwrite_c=True)
    lower: Floats = inverse.T
    for start in range(0, len(lower), _STRIP):
        strip = slice(start, start + _STRIP)
        lower[:start, strip] = lower[strip, :start].T
        square = np.tril(lower[strip, strip])
        lower[strip, strip] = square + np.tril(square, -1).T
    return lower
