"""A form for each layer within a budget, measured as a whole and mended."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

from graphopt.contract.forms import FormTrials, LayerForm, ModelFigures
from graphopt.contract.passes import Context
from graphopt.errors import PassError, UsageError
from graphopt.families.mixture import (
    Mixture,
    mixture_bytes,
    mixture_ms,
    mixture_spec,
    quietest,
    smallest,
)
from graphopt.graph import io
from graphopt.graph.graph import Graph
from graphopt.numerics.sqnr import decibels

__all__ = ["BudgetKind", "Mixed", "MixedBudget", "MixedSearch"]

BudgetKind = Literal["bytes", "latency", "min_sqnr"]

_TRIALS = 4
_NEAR = 0.02
"""A budget that is used up to so much of it is spent."""
_NEAR_DB = 0.3
_MARGIN_DB = 0.05


@dataclass(frozen=True)
class MixedBudget:
    """What a mixture may take.

    Attributes:
        kind: What is bounded.
        value: A share of what the float model takes, or dB.
        by_time: Whether time counts, not bytes.
    """

    kind: BudgetKind
    value: float
    by_time: bool


@dataclass(frozen=True)
class Mixed:
    """A model whose layers have a form each.

    Attributes:
        mixture: The form by the label of each layer.
        spec: The passes that made it; empty where all layers stay float.
        graph: The model.
        reached: What was measured, of what the budget is of.
        words: What it came to, for the record.
    """

    mixture: Mixture
    spec: str
    graph: Graph
    reached: float
    words: str


@dataclass
class MixedSearch:
    """Finds mixtures of forms for the layers of a graph.

    Attributes:
        graph: In floats; left as it is.
        context: Times models.
        trials: Measure and make them.
        forms: Those to choose from, floats among them.
        reason: Why nothing was found.
    """

    graph: Graph
    context: Context
    trials: FormTrials
    forms: Sequence[LayerForm]
    reason: str = "no choice of these forms keeps to the budget"
    _figures: ModelFigures | None = field(default=None, init=False)

    def within(self, budget: MixedBudget, behind: str) -> Mixed | None:
        """The best mixture that keeps to a budget; the nearest one where none does.

        Args:
            budget: What it may take.
            behind: Passes that follow before it is measured, as spec text.

        Returns:
            None where there is no choice at all.

        Raises:
            PassError: No layer can be measured, or a form cannot be made.
            ModelError: onnxruntime cannot run a mixture.
        """
        figures = self.trials.figures(self.forms, timed=budget.by_time)
        self._figures = figures
        goal = self._goal(figures, budget)
        found = list[Mixed]()
        seen = list[Mixture]()
        for _ in range(_TRIALS):
            mixture = self._solved(figures, budget, goal)
            if mixture is None or mixture in seen:
                break
            seen.append(mixture)
            found.append(self._measured(figures, mixture, budget, behind))
            ratio = self._off(budget, found[-1].reached)
            if ratio is None:
                break
            goal *= ratio
        return min(found, key=lambda each: self._rank(budget, each)) if found else None

    def alone_db(self, node: str, form: str) -> float:
        """SQNR of the worst output with one layer alone in a form."""
        assert self._figures is not None
        return float(decibels(1.0, self._figures.alone(node, form)))

    def _goal(self, figures: ModelFigures, budget: MixedBudget) -> float:
        """The budget in what is added up: bytes, milliseconds or noise."""
        if budget.kind == "bytes":
            return budget.value * io.size(self.graph)
        if budget.kind == "latency":
            return budget.value * mixture_ms(figures, {})
        return float(10 ** (-budget.value / 10))  # what is small adds up

    def _solved(self, figures: ModelFigures, budget: MixedBudget, goal: float) -> Mixture | None:
        if budget.kind == "min_sqnr":
            return smallest(figures, self.forms, goal, timed=budget.by_time)
        return quietest(figures, self.forms, goal, timed=budget.by_time)

    def _measured(
        self, figures: ModelFigures, mixture: Mixture, budget: MixedBudget, behind: str
    ) -> Mixed:
        try:
            spec = mixture_spec(mixture)
            made = self._made(spec, behind)
        except UsageError as err:  # names that no spec text can hold
            raise PassError(str(err)) from err
        noise = self.trials.noise(made)
        sqnr, size = float(decibels(1.0, noise)), io.size(made)
        predicted = float(decibels(1.0, figures.noise(mixture)))
        reached = sqnr
        if budget.kind == "bytes":
            reached = size / io.size(self.graph)
        elif budget.kind == "latency":
            reached = self.context.time_ratio(self.graph, made)
        words = (
            f"{sqnr:.1f} dB measured, {predicted:.1f} dB predicted, "
            f"{size / io.size(self.graph):.3f} of the bytes"
        )
        return Mixed(mixture, spec, made, reached, words)

    def _made(self, spec: str, behind: str) -> Graph:
        if not spec:
            return self.graph
        made = self.trials.made(f"{spec},{behind}" if behind else spec)
        if isinstance(made, str):
            raise PassError(made)
        return made

    def _off(self, budget: MixedBudget, reached: float) -> float | None:
        """By what the goal has to change; None where it is kept and spent."""
        if budget.kind == "min_sqnr":
            over = reached - budget.value
            return None if 0 <= over <= _NEAR_DB else float(10 ** ((over - _MARGIN_DB) / 10))
        used = reached / budget.value if budget.value else 1.0
        return None if used <= 1 else 1 / (used * (1 + _NEAR / 4))

    def _rank(self, budget: MixedBudget, found: Mixed) -> tuple[float, float]:
        """Least is best: what a budget is missed by, then what was to be least."""
        figures = self._figures
        assert figures is not None
        if budget.kind == "min_sqnr":
            taken = mixture_ms if budget.by_time else mixture_bytes
            return max(0.0, budget.value - found.reached), taken(figures, found.mixture)
        return max(0.0, found.reached - budget.value), figures.summed(found.mixture)
