"""What the answers suffer once all groups are narrower and the layers are solved again.

What groups do alone, in a network that is not repaired, does not add up to that: the layers behind
make up for some of it, and more of what one group did than of what another did.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray
from onnx import NodeProto

from graphopt.contract.kept import Kept, composed
from graphopt.contract.passes import Context, Request, Walk
from graphopt.errors import DataError, PassError
from graphopt.facts import shapes
from graphopt.facts.layers import Refusal
from graphopt.families.answer_damage import AnswerDamage
from graphopt.families.channels.costs import mac_terms
from graphopt.families.channels.cuts import cut_out
from graphopt.families.channels.narrowable import Narrowable
from graphopt.families.refitting.solvable import Solvable, solvables
from graphopt.families.refitting.walks import Refit
from graphopt.graph.graph import Graph
from graphopt.numerics.factors import draw_factors
from graphopt.numerics.narrowing import Curve, allocate

__all__ = ["Together", "corrected_curves"]

A = TypeVar("A")

logger = logging.getLogger(__name__)

_SAMPLES, _ROWS, _RIDGE = 64, 4096, 1e-3
"""What layers are solved by when widths are only tried: an eighth of what repairs them for good."""
_JUDGED = 256
"""Samples whose answers are compared, of which the first were solved by."""
_MOST_MACS = 5e11
"""What all tries may multiply: half a minute of one core."""
_WALKED = 3
"""Times that a sample is run through the model for a try."""
_CARE = 2
"""What did best is solved by so many times as much before it is taken: chance made it look best."""
_DRAWS = 20
"""So often factors are drawn that lead to widths tried before, until there are no others."""


class Together:
    """Widths of all groups, tried.

    Args:
        model: The groups.

    Raises:
        DataError: No output holds numbers, or one holds NaN or infinity.
        LimitError: They take too much memory.
    """

    def __init__(self, model: Narrowable) -> None:
        self._model = model
        self._damage = AnswerDamage(model.graph, model.context, _JUDGED)
        self._original = _Remembered(model.context, _SAMPLES)

    def damage(self, widths: Sequence[int], care: int = 1) -> float:
        """What the answers suffer at these widths.

        Args:
            widths: Of all groups.
            care: So many times the samples and the rows to solve by.

        Raises:
            DataError: A tensor then holds NaN or infinity.
        """
        graph = self._model.graph.copy()
        kept = cut_out(graph, self._model.shapes, self._model.cuts(widths), self._model.known)
        self._solve(graph, self._behind(graph, composed(self._model.context.kept, kept)), care)
        return self._damage.of(graph)

    def _behind(self, graph: Graph, kept: Kept) -> Context:
        """The context of what follows the cut; what the original gives is computed once."""
        base = self._model.context

        def walk(of: Graph, limit: int) -> Walk:
            return self._original.again(limit) if of is base.reference else base.walk(of, limit)

        return replace(base, shapes=shapes.infer(graph), kept=kept, walk=walk)

    def _solve(self, graph: Graph, context: Context, care: int) -> None:
        found = solvables(graph, lambda _: True)
        listed = [each for each in found if isinstance(each, Solvable)]
        refit = Refit(graph, context, listed, care * _SAMPLES)
        for one in listed:
            fit = refit.fit(one, care * _ROWS)
            if not isinstance(fit, Refusal):
                biased = one.takes_bias
                solved = fit.solved(_RIDGE, 0, fit.weight != 0, biased=biased)
                one.store(solved.weight, solved.bias if biased else None)


class _Remembered:
    """A walk along the original that gives again what it gave before without running it."""

    def __init__(self, context: Context, count: int) -> None:
        self._context, self.count = context, count
        self._answers: dict[Request[Any], Any] = {}
        self._walk: Walk | None = None

    def again(self, count: int) -> _Remembered:
        """The same from the start."""
        if count != self.count:
            self.count, self._answers = count, {}
        self._walk = None
        return self

    def ask(self, request: Request[A]) -> A:
        """See ``Walk``."""
        if request not in self._answers:
            self._answers[request] = self._running().ask(request)
        answer: A = self._answers[request]
        return answer

    def advance(self, node: NodeProto) -> None:
        """See ``Walk``."""
        self._running().advance(node)

    def fork(self, graph: Graph) -> Walk:
        """See ``Walk``."""
        return self._running().fork(graph)

    def _running(self) -> Walk:
        if self._walk is None:
            self._walk = self._context.walk(self._context.reference, self.count)
            self.count = self._walk.count
        return self._walk


def corrected_curves(
    model: Narrowable,
    curves: Sequence[Curve],
    cost: Callable[[Sequence[int]], float],
    most: float,
    tries: int,
) -> list[Curve]:
    """Curves whose damage is what each group adds once all are narrower and layers solved again.

    Widths are chosen by the curves and tried; what the tries so far say multiplies the damage of
    each group; and again. The curves returned are those whose widths did best.

    Args:
        model: The groups.
        curves: Of each, as measured alone.
        cost: Of a choice of widths.
        most: What it may cost.
        tries: Choices to try; fewer where one takes long, and none where two would take too long.
    """
    tries = min(tries, int(_MOST_MACS / max(1.0, _macs(model))) - 2 * _CARE)
    if tries < 2 or len(curves) < 2:
        return list(curves)
    try:
        return _best(model, curves, lambda given: allocate(given, cost, most), tries)
    except (DataError, PassError) as err:
        logger.info("widths are not tried together: %s", err)
        return list(curves)


def _best(
    model: Narrowable,
    curves: Sequence[Curve],
    chosen: Callable[[Sequence[Curve]], list[int]],
    tries: int,
) -> list[Curve]:
    together, now, widths = Together(model), list(curves), chosen(curves)
    parts: list[NDArray[np.float64]] = []
    wholes: dict[tuple[int, ...], float] = {}
    corrected: list[list[Curve]] = []
    for _ in range(tries):
        wholes[tuple(widths)] = together.damage(widths)
        parts.append(np.array([c.at(w) for c, w in zip(curves, widths, strict=True)]))
        corrected.append(now)
        for _ in range(_DRAWS):
            factors = draw_factors(np.array(parts), np.array([*wholes.values()]), model.context.rng)
            now = [each.times(float(f)) for each, f in zip(curves, factors, strict=True)]
            widths = chosen(now)
            if tuple(widths) not in wholes:
                break
        else:
            break
    best = int(np.argmin([*wholes.values()]))
    if best:
        first, last = (together.damage(list(wholes)[at], _CARE) for at in (0, best))
        best = best if last < first else 0
    return corrected[best]


def _macs(model: Narrowable) -> float:
    """About what one try multiplies: runs of the samples, and moments of what layers read."""
    run = sum(macs for macs, _ in mac_terms(model.graph, model.shapes))
    widths = [rows.rows.mean.shape for rows in model.known.values()]
    moments = sum(groups * width**2 for groups, width in widths)
    return float(_WALKED * _SAMPLES * run + _ROWS * moments)
