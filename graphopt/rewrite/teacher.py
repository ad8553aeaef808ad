"""A teacher brought to the names of its student."""

from __future__ import annotations

from collections.abc import Sequence

from onnx import ValueInfoProto

from graphopt.errors import ModelError
from graphopt.graph.graph import Graph
from graphopt.graph.ports import compatible, described
from graphopt.rewrite.rename import rename_tensors

__all__ = ["fitted"]


def fitted(teacher: Graph, student: Graph) -> Graph:
    """The teacher with the student's names of inputs and outputs.

    Those of the same name belong together, the others in their order.

    Returns:
        ``teacher`` itself where the names are the same already, else a renamed copy.

    Raises:
        ModelError: They differ in the number, types or shapes of inputs or outputs.
    """
    names = _pairs("inputs", student.required_inputs, teacher.required_inputs)
    names |= _pairs("outputs", student.main.proto.output, teacher.main.proto.output)
    if all(theirs == ours for theirs, ours in names.items()):
        return teacher
    renamed = teacher.copy()
    rename_tensors(renamed, names)
    return renamed


def _pairs(
    kind: str, ours: Sequence[ValueInfoProto], theirs: Sequence[ValueInfoProto]
) -> dict[str, str]:
    """The teacher's names to the student's."""
    known = {value.name: value for value in theirs}
    same = {value.name for value in ours} & set(known)
    pairs = [(value, known[value.name]) for value in ours if value.name in same]
    left = [[value for value in side if value.name not in same] for side in (ours, theirs)]
    pairs += zip(*left, strict=False)
    if len(ours) != len(theirs) or not all(compatible(a, b) for a, b in pairs):
        raise ModelError(
            f"student and teacher differ in their {kind}: {_listed(ours)} of the student, "
            f"{_listed(theirs)} of the teacher"
        )
    return {b.name: a.name for a, b in pairs}


def _listed(values: Sequence[ValueInfoProto]) -> str:
    return ", ".join(f"{value.name!r} {described(value)}" for value in values) or "none"
