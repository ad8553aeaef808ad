"""Which low-rank form each layer gets: within its own budget, or within one of all together."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal

import numpy as np
from onnx import NodeProto

from graphopt.contract.passes import Context
from graphopt.errors import DataError, LimitError, Need, PassError
from graphopt.facts.layers import Layer, layer
from graphopt.facts.macs import count_macs, node_macs
from graphopt.facts.shapes import Shapes
from graphopt.facts.weights import WeightGroup
from graphopt.families.answer_damage import AnswerDamage
from graphopt.families.low_rank_forms import Factored, Forms
from graphopt.families.run_shapes import run_shapes
from graphopt.graph.graph import Graph
from graphopt.numerics.allocation import Priced, allot
from graphopt.numerics.lowrank import Budget
from graphopt.rewrite.alone import alone

__all__ = ["Counted", "RankPlan"]

_SAMPLES = (8, 64)
"""On so many, as the model's size allows, it is measured what a lower rank does to the answers."""
_MOST_MACS = 300_000_000_000
"""What all that multiplies, if so few samples allow it; two cores take some 20 seconds for it."""
_MEASURED = (0.7, 0.35)
"""Shares of what a form costs at which that is done; in between and beyond it follows the loss."""
_LEAST_DAMAGE, _RUIN = 1e-9, 1e6

Counted = Literal["macs", "bytes"]


@dataclass(eq=False)
class RankPlan:
    """Chooses forms for the layers of a graph.

    Attributes:
        graph: The graph as it is; only copies of it are edited.
        context: Measures.
        timed: Whether forms are left out that take longer here than the layer does.
    """

    graph: Graph
    context: Context
    timed: bool
    _ratios: dict[tuple[int, str], float] = field(default_factory=dict)

    def alone(self, forms: Forms, budget: Budget) -> Factored | str:
        """The form of a layer within a budget of its own, or why it stays."""
        found = forms.at(budget)
        if isinstance(found, str) or not self.timed:
            return found
        ratio = self._ratio(forms, found)
        return found if ratio <= 1 else f"{found.words} takes {ratio:.2f}x its time here"

    def together(
        self,
        forms: Sequence[Forms],
        others: Sequence[WeightGroup],
        original: Sequence[WeightGroup],
        kind: Counted,
        share: float,
    ) -> list[Factored | str]:
        """The forms of all layers within one budget, or why they stay.

        With samples those are taken whose measured damage to the answers rises least for what they
        save; without, or where the cost of a layer is not known, each layer has the same share.

        Args:
            forms: Of the layers that can have any.
            others: Layers that cannot; they count with what they cost.
            original: The layers of the graph before the first lossy pass.
            kind: What is counted.
            share: Of what the original ones cost.
        """
        dense = [self._cost(each.group, kind, self._shapes) for each in forms]
        whole = self._cost_of(original, kind, run_shapes(self.context.reference, self.context))
        rest = self._cost_of(others, kind, self._shapes)
        known = [cost for cost in dense if cost is not None]
        if len(known) < len(dense) or rest is None or whole is None or not sum(known):
            return [self._even(each, kind, share) for each in forms]
        budget = share * whole - rest
        if sum(known) <= budget:
            return [f"all together have no more {kind} than that already" for _ in forms]
        if not self.context.calibrated:
            return [self._even(each, kind, budget / sum(known)) for each in forms]
        return self._spread(forms, known, kind, budget)

    def left(
        self,
        forms: Sequence[Forms],
        plans: Sequence[Factored | str],
        others: Sequence[WeightGroup],
        original: Sequence[WeightGroup],
        kind: Counted,
    ) -> float | None:
        """What all layers cost with their plans, as a share of what the original ones did.

        None where costs are unknown and some layers stay.

        Args:
            forms: As for ``together``, which gave the ``plans``; no layer was edited since.
            plans: The form of each; a reason where it stays.
            others: As for ``together``.
            original: As for ``together``.
            kind: What is counted.
        """
        shares = [
            1.0 if isinstance(found, str) else _share(found, each, kind)
            for each, found in zip(forms, plans, strict=True)
        ]
        dense = [self._cost(each.group, kind, self._shapes) for each in forms]
        whole = self._cost_of(original, kind, run_shapes(self.context.reference, self.context))
        rest = self._cost_of(others, kind, self._shapes)
        known = [cost for cost in dense if cost is not None]
        if len(known) < len(dense) or rest is None or whole is None:
            stays = others or any(isinstance(found, str) for found in plans)
            return None if stays else max(shares, default=0.0)
        cost = rest + sum(share * each for share, each in zip(shares, known, strict=True))
        return cost / whole if whole else 0.0

    def _spread(
        self, forms: Sequence[Forms], dense: Sequence[float], kind: Counted, budget: float
    ) -> list[Factored | str]:
        """Forms by measured damage; those that turn out to be slower are left out, one by one."""
        least = max(budget / sum(dense), 0) / 2
        grids = [list(each.grid(least)) for each in forms]
        damages = self._damages(forms, grids, kind)
        slow = [""] * len(forms)
        while True:
            choices = [
                [Priced(cost, 0.0)]
                + [Priced(cost * _share(f, each, kind), damage(1 - f.energy)) for f in grid]
                for each, cost, grid, damage in zip(forms, dense, grids, damages, strict=True)
            ]
            chosen = allot(choices, budget)
            refused = False
            for place, (each, index) in enumerate(zip(forms, chosen, strict=True)):
                if not index or not self.timed:
                    continue
                found = grids[place][index - 1]
                ratio = self._ratio(each, found)
                if ratio > 1:
                    refused = True
                    slow[place] = f"{found.words} takes {ratio:.2f}x its time here"
                    grids[place] = _without(grids[place], found)
            if not refused:
                break
        return [
            grid[index - 1] if index else reason or "others get cheaper at less damage"
            for grid, index, reason in zip(grids, chosen, slow, strict=True)
        ]

    def _even(self, forms: Forms, kind: Counted, share: float) -> Factored | str:
        """The form of a layer that keeps the same share as all others."""
        if share <= 0:
            return "the others alone cost too much"
        if kind == "macs":
            return self.alone(forms, Budget("macs", share))
        fitting = [each for each in forms.grid(share) if _share(each, forms, kind) <= share]
        return max(fitting, key=lambda each: each.energy, default="no form of it is small enough")

    def _cost_of(
        self, groups: Sequence[WeightGroup], kind: Counted, shapes: Shapes
    ) -> float | None:
        """What some weights cost together; None where nobody knows."""
        found = [self._cost(group, kind, shapes) for group in groups]
        return None if None in found else sum(each or 0.0 for each in found)

    def _cost(self, group: WeightGroup, kind: Counted, shapes: Shapes) -> float | None:
        """What the layers of a weight cost: elements for bytes, whatever holds them for now."""
        if kind == "bytes":
            return float(math.prod(group.constant.shape))
        found = [node_macs(each.scope, each.node, shapes) for each in group.layers]
        return None if None in found else float(sum(each or 0 for each in found))

    @cached_property
    def _shapes(self) -> Shapes:
        return run_shapes(self.graph, self.context)

    def _damages(
        self, forms: Sequence[Forms], grids: Sequence[Sequence[Factored]], kind: Counted
    ) -> list[_Damage]:
        """What the answers lose by what the outputs of each layer lose, measured one by one."""
        samples, shares = self._extent(len(forms))
        answers = self._answers(samples)
        measured = []
        for each, grid in zip(forms, grids, strict=True):
            points = []
            for share in shares if answers is not None and each.read is not None and grid else ():
                one = min(grid, key=lambda form: abs(_share(form, each, kind) - share))
                points.append((1 - one.energy, self._damage(answers, each, one)))
            measured.append(_points(points))
        slopes = [damage / loss for points in measured for loss, damage in points]
        usual = float(np.median(slopes)) if slopes else 1.0
        return [_Damage(points or ((1.0, usual),)) for points in measured]

    def _answers(self, samples: int) -> AnswerDamage | None:
        """What measures answers; None where they are too large to be held, or no numbers."""
        try:
            return AnswerDamage(self.graph, self.context, samples)
        except (DataError, LimitError):
            return None
        except PassError as err:
            if Need.MEMORY_LIMIT in err.needs:
                return None
            raise

    def _damage(self, answers: AnswerDamage | None, forms: Forms, found: Factored) -> float:
        assert answers is not None
        try:
            return max(answers.of(self._with(forms, found)), _LEAST_DAMAGE)
        except DataError:  # the answers are not finite any more
            return _RUIN

    def _extent(self, layers: int) -> tuple[int, Sequence[float]]:
        """Samples to measure on, and at which shares of the cost."""
        work = max(1, 2 * layers * (count_macs(self.graph, self._shapes).total or 1))
        least, most = _SAMPLES
        samples = max(least, min(most, _MOST_MACS // work))
        return samples, _MEASURED if samples * work <= 2 * _MOST_MACS else _MEASURED[-1:]

    def _with(self, forms: Forms, found: Factored) -> Graph:
        """The graph with one weight in another form."""
        copy = self.graph.copy()
        places = {id(node): place for place, node in enumerate(self.graph.main.nodes)}
        nodes = [copy.main.nodes[places[id(each.node)]] for each in forms.group.layers]
        forms.put(found, [_layer(copy, node) for node in nodes])
        return copy

    def _ratio(self, forms: Forms, found: Factored) -> float:
        """Time of a form over that of the layer, of several layers the longest; 0 if unknown."""
        key = id(forms), found.words
        if key not in self._ratios:
            ratios = [0.0]
            for each in forms.group.layers:
                base = None
                if each.scope is self.graph.main:
                    base = alone(self.graph, each.node, self._shapes)
                if base is not None:
                    other = base.copy()
                    (node,) = (n for n in other.main.nodes if n.output[0] == each.node.output[0])
                    forms.put(found, [_layer(other, node)])
                    ratios.append(self.context.time_ratio(base, other))
            self._ratios[key] = max(ratios)
        return self._ratios[key]


def _points(measured: Sequence[tuple[float, float]]) -> tuple[tuple[float, float], ...]:
    """Loss and damage, both rising; what does not lose anything tells nothing."""
    rising: list[tuple[float, float]] = []
    for loss, damage in sorted(each for each in measured if each[0] > 0):
        if rising and loss == rising[-1][0]:
            continue
        rising.append((loss, max(damage, rising[-1][1] if rising else 0.0)))
    return tuple(rising)


@dataclass(frozen=True)
class _Damage:
    """Damage to the answers by the share of its outputs' energy that a layer loses.

    Between measured points it is a line through their logarithms; beyond them, and with one point,
    it is in proportion.

    Attributes:
        points: Loss and damage, above 0 and rising; at least one.
    """

    points: tuple[tuple[float, float], ...]

    def __call__(self, loss: float) -> float:
        if loss <= 0:
            return 0.0
        (low, least), (high, most) = self.points[0], self.points[-1]
        if not low < loss < high:
            at, damage = (low, least) if loss <= low else (high, most)
            return damage * loss / at
        losses, damages = np.log(np.array(self.points).T)
        return math.exp(float(np.interp(math.log(loss), losses, damages)))


def _layer(graph: Graph, node: NodeProto) -> Layer:
    found = layer(graph.main, node)
    assert isinstance(found, Layer)
    return found


def _share(found: Factored, forms: Forms, kind: Counted) -> float:
    """What a form costs over what the layer does."""
    if kind == "macs":
        return found.macs_share
    return found.elements / math.prod(forms.group.constant.shape)


def _without(grid: Sequence[Factored], slow: Factored) -> list[Factored]:
    """The forms that may still be faster: of the same kind only those of fewer elements."""
    return [each for each in grid if each.kind != slow.kind or each.elements < slow.elements]
