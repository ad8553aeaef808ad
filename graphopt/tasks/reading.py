"""Reads what each output of a model means: from the graph's end, the answers, names last."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from onnx import TensorProto, ValueInfoProto

from graphopt.errors import UsageError
from graphopt.facts.shapes import Shapes
from graphopt.graph.graph import Graph
from graphopt.graph.tensors import Array
from graphopt.options import near_miss
from graphopt.tasks.ends import End, end_of, sized_by_values
from graphopt.tasks.names import kinds_named
from graphopt.tasks.ordered import ordered_rows
from graphopt.tasks.packed_rows import columns_of
from graphopt.tasks.rounding import roundings
from graphopt.tasks.states import fed_back
from graphopt.tasks.task import Form, Task, TaskKind

__all__ = ["read_tasks"]

_FLOATS = (
    TensorProto.FLOAT,
    TensorProto.DOUBLE,
    TensorProto.FLOAT16,
    TensorProto.BFLOAT16,
)
_COORDINATES = 4
_UNCLEAR = "nothing says what its numbers mean"
_NEAR = 1e-3
"""How exactly probabilities sum to one, in half precision too."""


def read_tasks(
    graph: Graph,
    shapes: Shapes,
    answers: Sequence[Mapping[str, Any]] = (),
    given: Mapping[str, Task] | None = None,
) -> dict[str, Task]:
    """What each output means, in order.

    Args:
        graph: The model.
        shapes: Of its tensors.
        answers: Its outputs for some samples; without them the graph alone speaks.
        given: What the user says, by the name of the output; axis and form are read where they
            are left open.

    Raises:
        UsageError: ``given`` names no output of the model.
    """
    words = dict(given or {})
    for name in words:
        if name not in graph.main.outputs:
            hint = near_miss(name, graph.main.outputs)
            raise UsageError(f"task: the model has no output {name!r}{hint}")
    states = fed_back(graph)
    sized, ordered = sized_by_values(graph.main), ordered_rows(graph.main)
    rounding = roundings(graph.main, shapes)
    tasks = dict[str, Task]()
    for value in graph.main.proto.output:
        name = value.name
        seen = [answer[name] for answer in answers if name in answer]
        task = _read(graph, value, shapes, seen)
        if name in states and task.kind == "regression":
            task = Task(name, "state", fed_to=states[name], why="of the same type, shape and role")
        free = name in sized and shapes.static_shape(name) is None
        place = _free_axis(graph, shapes, name) if free else None
        if not free and name in ordered:
            tensors = [each for each in seen if isinstance(each, np.ndarray)]
            place = _axis_of(ordered[name], _shape(tensors, shapes, name))
        ranked = not free and place is not None
        task = _packed(task, seen, free or ranked, place)
        task = replace(
            task,
            free_rows=free,
            sorted_rows=ranked,
            rows_axis=place,
            rounding=rounding.get(name, task.rounding),
        )
        tasks[name] = _with_word(task, words.get(name), seen)
    return tasks


def _packed(task: Task, seen: Sequence[Any], rows: bool, place: int | None) -> Task:
    """Rows that hold boxes beside scores and classes, as their values tell."""
    if not rows or task.kind not in ("regression", "detections"):
        return task
    packed = task.kind == "detections"
    columns = columns_of(_tables(seen, place), packed=packed)
    if columns is None:
        return task
    axis = np.ndim(seen[0]) - 1
    why = task.why if packed else "the values in their columns"
    return replace(task, kind="detections", axis=axis, columns=columns, why=why)


def _tables(seen: Sequence[Any], place: int | None) -> list[Array]:
    """Answers as rows ``(rows, columns)``; none where there are other axes than of samples."""
    arrays = [each for each in seen if isinstance(each, np.ndarray)]
    ranks = {each.ndim for each in arrays}
    if (ranks != {2} or place not in (0, None)) and (ranks != {3} or place != 1):
        return []
    return [each.reshape(-1, each.shape[-1]) for each in arrays]


def _axis_of(size: int, shape: tuple[int | None, ...] | None) -> int | None:
    """The one axis of that size; None where there is none, or several."""
    places = [n for n, dim in enumerate(shape or ()) if dim == size]
    return places[0] if len(places) == 1 else None


def _free_axis(graph: Graph, shapes: Shapes, name: str) -> int | None:
    """The last axis of free size that no input has as well; None where there is none."""
    info = shapes.get(name)
    if info is None or info.shape is None:
        return None
    given = {
        dim
        for value in graph.required_inputs
        if (known := shapes.get(value.name)) is not None
        for dim in known.shape or ()
    }
    free = [n for n, dim in enumerate(info.shape) if not isinstance(dim, int)]
    own = [n for n in free if info.shape[n] is None or info.shape[n] not in given]
    return max(own or free, default=None)


def _with_word(read: Task, word: Task | None, seen: Sequence[Any]) -> Task:
    """What the user says, completed by what was read."""
    if word is None:
        return read
    axis = word.axis if word.axis is not None else read.axis
    rank = max((np.ndim(each) for each in seen), default=None)
    if word.axis is not None and rank is not None and word.axis >= rank:
        raise UsageError(
            f"task: output {read.output!r} has {rank} axes, so none is number {word.axis}"
        )
    if axis is None and word.kind in ("classes", "multi-label", "boxes", "detections"):
        axis = _last_axis(seen)
    form = word.form
    if form is None and word.kind in ("classes", "binary", "multi-label"):
        shares = not read.sums and bool(seen) and _within_one(seen)
        form = read.form or ("probabilities" if shares else "logits")
    columns = read.columns if word.kind == "detections" else None
    if word.kind == "detections" and (read.free_rows or read.sorted_rows):
        columns = columns_of(_tables(seen, read.rows_axis), packed=True)
    return replace(
        read,
        kind=word.kind,
        axis=axis,
        form=form,
        columns=columns,
        fed_to=word.fed_to,
        why="given",
        given=True,
    )


def _read(graph: Graph, value: ValueInfoProto, shapes: Shapes, seen: Sequence[Any]) -> Task:
    name, kind = value.name, value.type.WhichOneof("value") or ""
    if kind in ("sequence_type", "map_type", "optional_type"):
        return Task(name, "container", why=f"it is a {kind.removesuffix('_type')}")
    dtype = value.type.tensor_type.elem_type
    if dtype == TensorProto.STRING:
        return Task(name, "texts", why="its type")
    if dtype == TensorProto.BOOL:
        return Task(name, "mask", why="its type")
    end = end_of(graph.main, name, shapes)
    if dtype not in _FLOATS:
        return _whole(name, end, shapes)
    arrays = [np.asarray(each) for each in seen if isinstance(each, np.ndarray) and each.size]
    return _scored(name, end, _shape(arrays, shapes, name), arrays)


def _whole(name: str, end: End, shapes: Shapes) -> Task:
    """Integers: numbers of things, unless they are rounded floats."""
    made = None if end.node is None else shapes.get(end.made)
    rounded = made is not None and made.data_type in _FLOATS
    if end.node is not None and (rounded or "Quantize" in end.node.op_type):
        return Task(name, "regression", end.axis, why=f"rounded results of {end.node.op_type}")
    why = "its type" if end.node is None else f"{end.node.op_type} makes it"
    return Task(name, "indices", why=why)


def _scored(
    name: str, end: End, shape: tuple[int | None, ...] | None, arrays: Sequence[Any]
) -> Task:
    """Floats: by the end of the graph, then by the answers, then by the name."""
    width = None if shape is None or end.axis is None else shape[end.axis]
    if end.kind in ("softmax", "log-softmax"):
        form: Form = "probabilities" if end.kind == "softmax" else "log-probabilities"
        return Task(name, "classes", end.axis, form, why="a softmax makes it")
    if end.kind == "unit" and end.axis is not None:
        return Task(name, "embedding", end.axis, why="vectors of length 1")
    if end.kind == "packed":
        return Task(name, "detections", end.axis, why="parts of different kinds side by side")
    if end.kind == "order":
        return Task(name, "regression", why="sorted values")
    axis = _sums_to_one(arrays)
    if axis is not None:
        return Task(name, "classes", axis, "probabilities", why="it sums to one")
    if end.kind == "sigmoid":
        if kinds_named(name)[:1] == [("boxes", None)] and shape and shape[-1] == _COORDINATES:
            return Task(name, "boxes", len(shape) - 1, why=f"the name {name!r}")
        one = width == 1 or (shape is not None and _columns(shape) == 1)
        kind: TaskKind = "binary" if one else "multi-label"
        axis = end.axis if end.axis is not None else _channels(shape)
        return Task(name, kind, None if one else axis, "probabilities", why="a sigmoid makes it")
    if _unit_rows(arrays):
        return Task(name, "embedding", len(shape or ()) - 1, why="vectors of length 1")
    return _by_name(name, end, shape, arrays)


def _by_name(
    name: str, end: End, shape: tuple[int | None, ...] | None, arrays: Sequence[Any]
) -> Task:
    """The name's word where the shape does not gainsay it, else plain numbers."""
    axis = end.axis if end.axis is not None else _channels(shape)
    width = None if shape is None or axis is None else shape[axis]
    for kind, form in kinds_named(name):
        why = f"the name {name!r}"
        if kind == "boxes" and shape and shape[-1] == _COORDINATES:
            return Task(name, "boxes", len(shape) - 1, why=why)
        if kind == "embedding" and axis is not None:
            return Task(name, "embedding", axis, why=why)
        fits = end.kind in ("layer", "unknown") or form != "logits"
        sums = end.kind == "layer" and not arrays  # the graph speaks before the name
        shares = form != "probabilities" or (_within_one(arrays) and not sums)
        if kind != "classes" or not fits or not shares:
            continue
        if width == 1 or (shape is not None and _columns(shape) == 1):
            return Task(name, "binary", None, form, why=why)
        if form == "probabilities":
            return Task(name, "multi-label", axis, form, why=f"{why}, which does not sum to one")
        return Task(name, kind, axis, form, why=why)
    return Task(name, "regression", axis, why=_UNCLEAR, sums=end.kind == "layer")


def _shape(arrays: Sequence[Any], shapes: Shapes, name: str) -> tuple[int | None, ...] | None:
    if arrays:
        return tuple(arrays[0].shape)
    info = shapes.get(name)
    if info is None or info.shape is None:
        return None
    return tuple(dim if isinstance(dim, int) else None for dim in info.shape)


def _columns(shape: tuple[int | None, ...]) -> int | None:
    """Values of one sample and place; None where unknown."""
    axis = _channels(shape)
    return 1 if axis is None else shape[axis]


def _channels(shape: tuple[int | None, ...] | None) -> int | None:
    """Where channels lie by custom: axis 1 of pictures, else the last one; None of one axis."""
    if shape is None or len(shape) < 2:
        return None
    return 1 if len(shape) >= 4 else len(shape) - 1


def _last_axis(seen: Sequence[Any]) -> int | None:
    rank = max((np.ndim(each) for each in seen), default=0)
    return rank - 1 if rank else None


def _sums_to_one(arrays: Sequence[Any]) -> int | None:
    """The axis along which all answers are distributions; None where there is none."""
    if not arrays or any(a.ndim < 2 or (a < 0).any() for a in arrays):
        return None
    rank = int(arrays[0].ndim)
    for axis in (*([1] if rank >= 4 else []), rank - 1):
        if arrays[0].shape[axis] > 1 and all(
            np.allclose(a.sum(axis=axis, dtype=np.float64), 1, atol=_NEAR) for a in arrays
        ):
            return axis
    return None


def _unit_rows(arrays: Sequence[Any]) -> bool:
    """Whether all rows along the last axis are of length 1."""
    if not arrays or any(a.ndim < 2 or a.shape[-1] < 2 for a in arrays):
        return False
    return all(
        np.allclose(np.linalg.norm(a.astype(np.float64), axis=-1), 1, atol=_NEAR) for a in arrays
    )


def _within_one(arrays: Sequence[Any]) -> bool:
    """Whether all answers lie from 0 to 1; without any nothing gainsays it."""
    return all(((a >= 0) & (a <= 1)).all() for a in arrays if isinstance(a, np.ndarray))
