"""A teacher brought to the names of its student."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from onnx import ValueInfoProto

from graphopt.errors import ModelError, UsageError
from graphopt.graph.graph import Graph
from graphopt.graph.ports import compatible, described
from graphopt.options import near_miss
from graphopt.rewrite.rename import rename_tensors

__all__ = ["FittedTeacher", "fitted"]

_Values = Sequence[ValueInfoProto]


@dataclass(frozen=True)
class FittedTeacher:
    """A teacher whose inputs and outputs are those of its student.

    Attributes:
        graph: Under the student's names.
        left_out: Its outputs that the student has not.
    """

    graph: Graph
    left_out: tuple[str, ...] = ()

    @property
    def told(self) -> list[str]:
        """What the user should know of it."""
        if not self.left_out:
            return []
        names = ", ".join(repr(name) for name in self.left_out)
        return [f"outputs of the teacher that the student has not are left out: {names}"]


def fitted(teacher: Graph, student: Graph, pairs: Sequence[str] = ()) -> FittedTeacher:
    """The teacher with the student's names of inputs and outputs.

    Those of the same name belong together; of the others those of which only one fits by type and
    shape, then the rest in their order. The teacher may have more outputs.

    Args:
        teacher: Not edited.
        student: Whose names count.
        pairs: Outputs that belong together whatever their names, ``student=teacher``.

    Returns:
        With ``teacher`` itself where nothing differs, else a changed copy.

    Raises:
        ModelError: They differ in the number, types or shapes of inputs or outputs.
        UsageError: A pair names no outputs.
    """
    outputs = _outputs(student.main.proto.output, teacher.main.proto.output, pairs)
    names = _inputs(student.required_inputs, teacher.required_inputs) | outputs
    left_out = tuple(v.name for v in teacher.main.proto.output if v.name not in outputs)
    if not left_out and all(theirs == ours for theirs, ours in names.items()):
        return FittedTeacher(teacher)
    changed = teacher.copy()
    kept = [value for value in changed.main.proto.output if value.name in outputs]
    del changed.main.proto.output[:]
    changed.main.proto.output.extend(kept)
    changed.main.touch()
    rename_tensors(changed, names)
    return FittedTeacher(changed, left_out)


def _inputs(ours: _Values, theirs: _Values) -> dict[str, str]:
    """The teacher's names to the student's."""
    known = {value.name: value for value in theirs}
    same = {value.name for value in ours} & set(known)
    pairs = [(value, known[value.name]) for value in ours if value.name in same]
    left = [[value for value in side if value.name not in same] for side in (ours, theirs)]
    pairs += zip(*left, strict=False)
    if len(ours) != len(theirs) or not all(compatible(a, b) for a, b in pairs):
        raise ModelError(_differ("inputs", ours, theirs))
    return {b.name: a.name for a, b in pairs}


def _outputs(ours: _Values, theirs: _Values, pairs: Sequence[str]) -> dict[str, str]:
    """The teacher's names to the student's: said, the same, alone in fitting, in order."""
    mine, known = ({value.name: value for value in side} for side in (ours, theirs))
    found = _said(pairs, mine, known)  # the student's names to the teacher's
    for name in mine:
        if name not in found and name in known and name not in found.values():
            found[name] = name
    while more := _only_fits(mine, known, found):
        found |= more
    open_ones = [name for name in mine if name not in found]
    free = [name for name in known if name not in found.values()]
    if len(open_ones) == len(free):
        found |= zip(open_ones, free, strict=True)
    fits = all(compatible(mine[a], known[b]) for a, b in found.items())
    if len(found) < len(mine) or not fits:
        advice = "; say which belong together: pair=STUDENT=TEACHER, by their names"
        raise ModelError(_differ("outputs", ours, theirs) + advice)
    return {b: a for a, b in found.items()}


def _only_fits(
    mine: Mapping[str, ValueInfoProto],
    known: Mapping[str, ValueInfoProto],
    found: Mapping[str, str],
) -> dict[str, str]:
    """An output of the student that one of the teacher fits, and no other does."""
    free = [name for name in known if name not in found.values()]
    open_ones = [name for name in mine if name not in found]
    for name in open_ones:
        fitting = [other for other in free if compatible(mine[name], known[other])]
        if len(fitting) == 1:
            return {name: fitting[0]}
    return {}


def _said(
    pairs: Sequence[str],
    mine: Mapping[str, ValueInfoProto],
    known: Mapping[str, ValueInfoProto],
) -> dict[str, str]:
    found = dict[str, str]()
    for text in pairs:
        ours, sign, theirs = text.partition("=")
        if not sign:
            raise UsageError(f"pair: {text!r} must be STUDENT=TEACHER, two names of outputs")
        for role, name, names in (("student", ours, mine), ("teacher", theirs, known)):
            if name not in names:
                raise UsageError(f"pair: the {role} has no output {name!r}{near_miss(name, names)}")
        if ours in found or theirs in found.values():
            raise UsageError(f"pair: {text!r} names an output for the second time")
        found[ours] = theirs
    return found


def _differ(kind: str, ours: _Values, theirs: _Values) -> str:
    return (
        f"student and teacher differ in their {kind}: {_listed(ours)} of the student, "
        f"{_listed(theirs)} of the teacher"
    )


def _listed(values: _Values) -> str:
    return ", ".join(f"{value.name!r} {described(value)}" for value in values) or "none"
