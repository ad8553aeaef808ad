"""Outputs of two models that mean the same and are written otherwise."""

from __future__ import annotations

from collections.abc import Mapping

from graphopt.tasks.task import Form, Task

__all__ = ["forms_apart"]


def forms_apart(ours: Mapping[str, Task], theirs: Mapping[str, Task]) -> list[str]:
    """What the user should know of outputs that two models write in different forms.

    Args:
        ours: What the student's outputs mean.
        theirs: What the teacher's of the same names mean.
    """
    told = list[str]()
    for name, task in ours.items():
        other = theirs.get(name)
        if other is None or not (task.scores or other.scores):
            continue
        mine, wanted = _form(task), _form(other)
        if mine is not None and wanted is not None and mine != wanted:
            told.append(
                f"output {name!r} holds {mine} of the student and {wanted} of the teacher: their "
                "SQNR says nothing, the agreement of their decisions does"
            )
    return told


def _form(task: Task) -> Form | None:
    """How scores are written; sums of a layer that nothing names are logits, if they are scores."""
    return task.form or ("logits" if task.sums else None)
