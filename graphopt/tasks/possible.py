"""What the user says of outputs against what these can be."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from onnx import TensorProto, ValueInfoProto

from graphopt.errors import UsageError
from graphopt.facts.shapes import Dim, Shapes
from graphopt.graph.graph import Graph
from graphopt.graph.ports import compatible, described
from graphopt.tasks.states import fed_back
from graphopt.tasks.task import KINDS, Task, TaskKind

__all__ = ["possible_tasks"]

_COORDINATES = 4
_LYING_ALONG: tuple[TaskKind, ...] = ("classes", "multi-label", "boxes", "detections")
_NOT_YES_OR_NO: tuple[TaskKind, ...] = ("embedding", "boxes", "detections")
_ROUNDING = 1e-3
"""By which probabilities of half floats may leave 0 to 1."""


def possible_tasks(
    graph: Graph,
    shapes: Shapes,
    answers: Sequence[Mapping[str, Any]],
    given: Mapping[str, Task],
) -> dict[str, Task]:
    """What the user says of outputs; a state is told with the input that takes it.

    Args:
        graph: The model.
        shapes: Of its tensors.
        answers: Its outputs for some samples; without them the graph alone speaks.
        given: By the name of the output; names that there are not are left to the reader.

    Raises:
        UsageError: An output cannot be what is said.
    """
    outputs = {value.name: value for value in graph.main.proto.output}
    found = dict(given)
    for name, word in given.items():
        if name not in outputs:
            continue
        value = outputs[name]
        kinds = _kinds(value)
        if word.kind not in kinds:
            raise UsageError(
                f"task: output {name!r} is {_typed(value)} and cannot be "
                f"{word.kind}; say one of {', '.join(kinds)}"
            )
        if word.kind == "state":
            found[name] = _state(graph, value, word)
        seen = [
            np.asarray(each[name]) for each in answers if isinstance(each.get(name), np.ndarray)
        ]
        _check_axis(graph, shapes, word, seen)
        _check_form(word, seen)
    return found


def _kinds(value: ValueInfoProto) -> list[TaskKind]:
    """What an output of that type can be."""
    if value.type.WhichOneof("value") not in ("tensor_type", "sparse_tensor_type", None):
        return ["container"]
    dtype = value.type.tensor_type.elem_type
    if dtype == TensorProto.STRING:
        return ["texts"]
    never = ("texts", "container", *(_NOT_YES_OR_NO if dtype == TensorProto.BOOL else ()))
    return [kind for kind in KINDS if kind not in never]


def _typed(value: ValueInfoProto) -> str:
    kind = value.type.WhichOneof("value") or ""
    return described(value) if kind == "tensor_type" else f"a {kind.removesuffix('_type')}"


def _state(graph: Graph, value: ValueInfoProto, word: Task) -> Task:
    """The word with the input that takes the output.

    Raises:
        UsageError: None can, the one that is named cannot, or it is not clear which one.
    """
    name = value.name
    fitting = [each.name for each in graph.required_inputs if compatible(value, each)]
    fed_to = word.fed_to or fed_back(graph).get(name, "")
    if not fitting:
        raise UsageError(
            f"task: output {name!r} is no state, since no input is {described(value)} as it is"
        )
    if word.fed_to and fed_to not in fitting:
        raise UsageError(
            f"task: input {word.fed_to!r} cannot take output {name!r}, {described(value)}; what "
            f"can is {', '.join(map(repr, fitting))}"
        )
    if not fed_to and len(fitting) > 1:
        raise UsageError(
            f"task: inputs {', '.join(map(repr, fitting))} could each take output {name!r}; say "
            f"which, as {name}=state:{fitting[0]}"
        )
    return replace(word, fed_to=fed_to or fitting[0])


def _check_axis(graph: Graph, shapes: Shapes, word: Task, seen: Sequence[Any]) -> None:
    """There is such an axis, and it can hold what is said.

    Raises:
        UsageError: It cannot.
    """
    info = shapes.get(word.output)
    dims: tuple[Dim, ...] | None = None if info is None else info.shape
    if seen and (dims is None or len(dims) != seen[0].ndim):
        dims = (None,) * int(seen[0].ndim)
    if dims is None:
        return
    place = f"task: output {word.output!r} has"
    if word.axis is not None and word.axis >= len(dims):
        raise UsageError(f"{place} {len(dims)} axes, so none is number {word.axis}")
    if word.kind not in _LYING_ALONG:
        return
    if not dims:
        raise UsageError(f"{place} no axes along which {word.kind} could lie")
    if word.axis is None:
        return
    size, sizes = dims[word.axis], {each.shape[word.axis] for each in seen}
    taken = _inputs_of(graph, shapes, word.axis, size)
    if taken:
        raise UsageError(
            f"{place} along axis {word.axis} as many entries as input {taken!r} has samples or "
            f"places, so {word.kind} do not lie there"
        )
    width = size if isinstance(size, int) else max(sizes, default=None)
    if width == 1 and word.kind == "classes":
        raise UsageError(
            f"{place} one entry along axis {word.axis}, and one class tells nothing apart; say "
            "binary, or another axis"
        )
    if word.kind == "boxes" and width not in (None, _COORDINATES):
        raise UsageError(
            f"{place} {width} entries along axis {word.axis}, and boxes have {_COORDINATES} "
            "coordinates"
        )


def _inputs_of(graph: Graph, shapes: Shapes, axis: int, size: Dim) -> str:
    """An input that shares an axis of open size; empty for none.

    Sizes are the same where their name is, or where both lead and the input's has none.
    """
    if isinstance(size, int):
        return ""
    for value in graph.required_inputs:
        info = shapes.get(value.name)
        dims = () if info is None or info.shape is None else info.shape
        if (size is not None and size in dims) or (axis == 0 and None in dims[:1]):
            return value.name
    return ""


def _check_form(word: Task, seen: Sequence[Any]) -> None:
    """Scores can be written as is said.

    Raises:
        UsageError: They cannot.
    """
    floats = [each for each in seen if each.dtype.kind == "f" and each.size]
    if not floats or word.form in (None, "logits"):
        return
    low, high = (float(f([f(each) for each in floats])) for f in (np.min, np.max))
    least = 0.0 if word.form == "probabilities" else -np.inf
    most = 1.0 if word.form == "probabilities" else 0.0
    if low < least - _ROUNDING or high > most + _ROUNDING:
        raise UsageError(
            f"task: output {word.output!r} goes from {low:.3g} to {high:.3g}, so these are no "
            f"{word.form}"
        )
