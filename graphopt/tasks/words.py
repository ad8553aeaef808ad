"""What the user says of outputs, as text: ``scores=multi-label,boxes=regression``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from graphopt.errors import UsageError, quoted
from graphopt.options import near_miss
from graphopt.tasks.task import FORMS, KINDS, Form, Task, TaskKind

__all__ = ["TasksGiven", "grouped_tasks", "parse_tasks", "split_tasks"]

TasksGiven = Mapping[str, str] | str
"""The meaning of outputs by name, or the same as one text."""

_MOST_AXES = 64
_SCORES: tuple[TaskKind, ...] = ("classes", "binary", "multi-label")


def split_tasks(given: TasksGiven) -> dict[str, str]:
    """The meaning of each output as text, by the name of the output.

    Raises:
        UsageError: A part of the text is not ``OUTPUT=KIND``, or an output is named twice.
    """
    if not isinstance(given, str):
        return dict(given)
    found = dict[str, str]()
    for part in given.split(","):
        name, equals, words = (text.strip() for text in part.rpartition("="))
        if not equals or not name or not words:
            raise UsageError(f"task: {quoted(part.strip())} is not of the form OUTPUT=KIND")
        if name in found:
            raise UsageError(f"task: output {quoted(name)} is named twice")
        found[name] = words
    return found


def parse_tasks(given: TasksGiven) -> dict[str, Task]:
    """What the user says each output means.

    Args:
        given: For each output a kind, behind it in any order, with colons, the axis of the
            classes and how scores are written: ``multi-label:logits:1``; behind ``state`` the input
            that takes it: ``state:h``.

    Raises:
        UsageError: A word is no kind, form or axis, or a form is none of scores.
    """
    return {name: _parsed(name, words) for name, words in split_tasks(given).items()}


def _parsed(name: str, words: str) -> Task:
    if not isinstance(name, str) or not isinstance(words, str):
        raise UsageError(f"task: {quoted(name)}={quoted(words)} must be a name and a kind as text")
    first, *others = words.split(":")
    kind = next((kind for kind in KINDS if kind == first), None)
    if kind is None:
        raise UsageError(
            f"task: {quoted(name)}: unknown kind {quoted(first)}{near_miss(first, KINDS)}; "
            f"kinds are {', '.join(KINDS)}"
        )
    if kind == "state":
        return Task(name, kind, fed_to=":".join(others), given=True)
    axis: int | None = None
    form: Form | None = None
    for other in others:
        known = next((each for each in FORMS if each == other), None)
        if known is not None and kind not in _SCORES:
            raise UsageError(
                f"task: {quoted(name)}: {known} are a form of scores, of {', '.join(_SCORES)}, "
                f"and not of {kind}"
            )
        if known is not None:
            form = known
        elif other.isdecimal() and int(other) < _MOST_AXES:
            axis = int(other)
        else:
            raise UsageError(
                f"task: {quoted(name)}: {quoted(other)} is neither an axis counted from the front "
                f"nor one of {', '.join(FORMS)}"
            )
    return Task(name, kind, axis, form, given=True)


def grouped_tasks(tasks: Sequence[Task]) -> list[tuple[str, str]]:
    """Outputs of one meaning in a line: their names, and the meaning with its reason."""
    lines = dict[str, list[Task]]()
    for task in tasks:
        words = f"{replace(task, fed_to='')}: {task.why}"
        lines.setdefault(words, []).append(task)
    return [
        (f"{alike[0].output} and {len(alike) - 1} more", words)
        if len(alike) > 1
        else (alike[0].output, f"{alike[0]}: {alike[0].why}")
        for words, alike in lines.items()
    ]
