"""Sums over samples from which the closeness of answers follows, and what they leave open."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from graphopt.numerics.fresh import FEW
from graphopt.observe.request import Rows
from graphopt.run.quality import Fresh, Quality
from graphopt.tasks.compare import Comparator, Least, Numbers, Sampling, is_numeric
from graphopt.tasks.containers import Elements
from graphopt.tasks.equal import EqualValues
from graphopt.tasks.rounding import rounding_of
from graphopt.tasks.rows import MatchedRows
from graphopt.tasks.task import Task

__all__ = ["Tally"]


class Tally:
    """Sums over samples from which the closeness of each output follows, by what it means.

    An output that one side does not have is left out.

    Args:
        outputs: Names.
        tasks: What they mean; what is not told is read from the first answer.
        telling: Whether the samples say how far outputs vary; random feeds do not.
        alike: Whether all samples are the same one, which then says nothing of others.
        clipped: Whether the answers come from a model with fixed ranges.
    """

    def __init__(
        self,
        outputs: Sequence[str],
        tasks: Mapping[str, Task] | None = None,
        *,
        telling: bool = True,
        alike: bool = False,
        clipped: bool = False,
    ) -> None:
        self.outputs, self.tasks = list(outputs), dict(tasks or {})
        self.comparators: dict[str, Comparator] | None = None
        self.samples = 0
        self.sampling, self.alike = Sampling(telling, clipped), alike

    def add(self, right: Mapping[str, Any], answer: Mapping[str, Any], rows: Rows) -> None:
        """Count one feed; of outputs with a row per sample only the real rows."""
        self.samples += rows.real
        if self.comparators is None:
            here = [name for name in self.outputs if name in right and name in answer]
            self.comparators = self._comparators(here, right)
        for comparator in self._each():
            comparator.add(right, answer, rows)

    def add_steps(
        self,
        rows: Sequence[Rows],
        right: Sequence[Mapping[str, Any]],
        answers: Sequence[Mapping[str, Any]],
    ) -> None:
        """Count where some steps of feeding back have led: the last of them, of every output.

        An answer that is empty has a state that fits no more.
        """
        for comparator in (self.comparators or {}).values():
            if not isinstance(comparator, Numbers):
                continue
            if answers[-1]:
                comparator.add_last(right[-1], answers[-1], rows[-1], len(right))
            else:
                steps = sum(map(bool, answers))
                comparator.fail(f"state of another shape after {steps} steps")

    def _comparators(self, names: Iterable[str], right: Mapping[str, Any]) -> dict[str, Comparator]:
        """Who compares each output; rows that depend on the data share one."""
        tasks = {name: self.tasks.get(name) or _neutral(name, right[name]) for name in names}
        listed = [t for t in tasks.values() if t.free_rows or t.sorted_rows]
        free = [task for task in listed if task.kind != "container"]
        matched = MatchedRows(free, self.sampling)
        return {
            name: matched if task in free else self._comparator(task, right[name])
            for name, task in tasks.items()
        }

    def _comparator(self, task: Task, value: Any) -> Comparator:
        if task.kind == "container" or not isinstance(value, np.ndarray):
            return Elements(task, self.sampling)
        if task.kind in ("indices", "mask", "texts") or not is_numeric(value):
            return EqualValues(task)
        return Numbers(task, self.sampling)

    def _each(self) -> list[Comparator]:
        """Every comparator once."""
        return list({id(each): each for each in (self.comparators or {}).values()}.values())

    def quality(self, source: str, fresh: Fresh | None = None) -> Quality:
        """The figures so far; ``source`` says where the samples came from."""
        found = {name: q for each in self._each() for name, q in each.found().items()}
        outputs = {name: found[name] for name in self.outputs if name in found}
        classes = [
            quality.agreement
            for quality in outputs.values()
            if quality.kind == "classes" and quality.agreement is not None
        ]
        return Quality(
            sqnr_db={name: quality.sqnr_db for name, quality in outputs.items()},
            agreement_top1=min(classes, default=None),
            outputs=outputs,
            samples=self.samples,
            source=source,
            worst_sample_db={name: each.worst_sample_db for name, each in outputs.items()},
            fresh=fresh,
            alike=self.alike,
        )

    def fresh(self) -> Fresh | None:
        """What fresh samples give at least; None of many samples, of one, and of alike ones."""
        if self.alike or not 1 < self.samples < FEW:
            return None
        found = {name: least for each in self._each() for name, least in each.least().items()}
        least = {name: found.get(name, Least()) for name in self.comparators or {}}
        return Fresh(
            {name: each.sqnr_db for name, each in least.items()},
            {name: each.agreement for name, each in least.items()},
        )


def _neutral(name: str, value: Any) -> Task:
    """What an output is by its type alone."""
    if not isinstance(value, np.ndarray):
        return Task(name, "container")
    match value.dtype.kind:
        case "f":
            return Task(name, "regression", rounding=rounding_of(value.dtype))
        case "b":
            return Task(name, "mask")
        case "i" | "u":
            return Task(name, "indices")
        case _:
            return Task(name, "texts")
