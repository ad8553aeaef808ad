"""What an edit does to the answers of a model, as one number."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import TensorProto, ValueInfoProto

from graphopt.contract.passes import Context, Values, Walk
from graphopt.errors import DataError
from graphopt.graph.difference import first_difference
from graphopt.graph.graph import Graph
from graphopt.numerics.divergence import class_divergence, relative_error
from graphopt.tasks.reading import read_tasks
from graphopt.tasks.task import Task

__all__ = ["AnswerDamage"]

_MOST_BYTES = 1 << 28


class AnswerDamage:
    """How far the answers of an edited model are from those of the model itself.

    Edits are cheapest in the order of the nodes: what is computed in front of them is held.

    Of scores of classes it is their softened KL divergence, of everything else the squared error
    over the energy; of several outputs the mean. Texts, sequences and maps say nothing.

    Args:
        graph: The model.
        context: Has the samples.
        samples: How many of them to look at.

    Raises:
        DataError: No output holds numbers, or one holds NaN or infinity.
        LimitError: They take too much memory.
    """

    def __init__(self, graph: Graph, context: Context, samples: int) -> None:
        self._graph, self._context, self._samples = graph, context, samples
        self._walk, self._reached = context.walk(graph, samples), -1
        outputs = graph.main.proto.output
        self._names = [value.name for value in outputs if _holds_numbers(value)]
        if not self._names:
            raise DataError("no output holds numbers, by which answers could be told apart")
        self._before = self._answers(context.walk(graph, samples))
        count = len(next(iter(self._before.values())))
        seen = [{name: self._before[name][at] for name in self._names} for at in range(count)]
        given = context.training.tasks if context.training is not None else {}
        self._tasks = read_tasks(graph, context.shapes, seen, given)

    def of(self, graph: Graph) -> float:
        """The damage; 0 of the model itself.

        Args:
            graph: A copy of the model that was edited, with the same local functions.
        """
        after = self._answers(self._from_the_edit(graph))
        found = [
            float(
                np.mean(
                    [self._apart(name, a, b) for a, b in zip(answers, after[name], strict=True)]
                )
            )
            for name, answers in self._before.items()
        ]
        return float(np.mean(found))

    def _from_the_edit(self, graph: Graph) -> Walk:
        """A walk along an edited copy that shares what is computed in front of the edit."""
        node = first_difference(self._graph, graph)
        if node is None:
            return self._context.walk(graph, self._samples)
        place = [id(each) for each in self._graph.main.nodes].index(id(node))
        if place < self._reached:
            self._walk = self._context.walk(self._graph, self._samples)
        if place != self._reached:
            self._walk.advance(node)
            self._reached = place
        return self._walk.fork(graph)

    def _answers(self, walk: Walk) -> dict[str, list[NDArray[np.float32]]]:
        return {name: walk.ask(Values(name, most_bytes=_MOST_BYTES)) for name in self._names}

    def _apart(self, name: str, wanted: NDArray[Any], given: NDArray[Any]) -> float:
        if wanted.shape != given.shape:
            return 1.0
        task: Task = self._tasks[name]
        if task.kind == "classes" and task.axis is not None:
            chances = task.form == "probabilities"
            return class_divergence(wanted, given, task.axis, chances=chances)
        return relative_error(wanted, given)


def _holds_numbers(value: ValueInfoProto) -> bool:
    kind = value.type.tensor_type.elem_type if value.type.HasField("tensor_type") else 0
    return kind not in (TensorProto.UNDEFINED, TensorProto.STRING)
