"""What the outputs mean that training compares: student and teacher each read by their own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from graphopt.errors import ModelError, Need
from graphopt.facts.shapes import infer
from graphopt.graph.graph import Graph
from graphopt.graph.tensors import Array
from graphopt.tasks.reading import read_tasks
from graphopt.tasks.task import Task

__all__ = ["float_tasks", "settled"]


def float_tasks(
    graph: Graph, answers: Sequence[Mapping[str, Array]], words: Mapping[str, Task]
) -> dict[str, Task]:
    """What the outputs of floats mean, in order.

    Args:
        graph: The model.
        answers: Its outputs for some samples, at least once.
        words: What the user says; of other outputs it does not count here.
    """
    floats = [name for name, values in answers[0].items() if values.dtype.kind == "f"]
    given = {name: word for name, word in words.items() if name in graph.main.outputs}
    tasks = read_tasks(graph, infer(graph), answers, given)
    return {name: tasks[name] for name in floats if name in tasks}


def settled(
    models: tuple[Graph, Graph],
    answers: tuple[Mapping[str, Array], Mapping[str, Array]],
    mine: Mapping[str, Task],
) -> tuple[dict[str, Task], dict[str, Task]]:
    """What the outputs mean to student and teacher, each written in its own form.

    What is not clear of the one is what the other says it is.

    Args:
        models: Student and teacher, outputs under the same names.
        answers: Of both to the same samples.
        mine: What the student's outputs mean.

    Raises:
        ModelError: An output is one thing of the student and another of the teacher.
    """
    words = {name: _word(task) for name, task in mine.items() if task.given}
    theirs = float_tasks(models[1], [answers[1]], words)
    ours = dict(mine)
    for name in mine:
        if name not in theirs:
            continue
        first, second = ours[name], theirs[name]
        if _unclear(first) and not _unclear(second):
            found = float_tasks(models[0], [answers[0]], {name: _word(second)})[name]
            ours[name] = replace(found, given=False, why="that of the teacher is")
        elif _unclear(second) and not _unclear(first):
            theirs[name] = float_tasks(models[1], [answers[1]], {name: _word(first)})[name]
        elif first.kind != second.kind and first.form != second.form:
            raise ModelError(
                f"output {name!r} is {first} of the student and {second} of the teacher; say "
                f"which it is, {first.kind} or {second.kind}",
                Need.TASK,
            )
    return ours, theirs


def _unclear(task: Task) -> bool:
    return task.kind == "regression" and not task.given


def _word(task: Task) -> Task:
    """The kind alone, so that the form is read anew."""
    return Task(task.output, task.kind, task.axis)
