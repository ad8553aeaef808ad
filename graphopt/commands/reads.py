"""What a command with a result reads, told to the register of its files."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

from graphopt.callables import is_reference
from graphopt.commands.sources import Data, Model
from graphopt.contract.recipe import Recipe
from graphopt.graph.graph import Graph
from graphopt.passes.foreign import ApplyFunction
from graphopt.run.files import (
    CheckpointsRead,
    FileRead,
    Read,
    Written,
    function_file,
    samples_read,
)
from graphopt.run.metrics import MetricFunction

__all__ = ["STARTS", "files_read", "kept", "model_read"]

STARTS = ("the model", "the student")
"""Roles of the model that a run starts from."""


def model_read(role: str, model: Model | None, graph: Graph) -> Iterator[Read]:
    """The file of a model and those of its external data; nothing of one in memory."""
    if isinstance(model, str | Path):
        yield FileRead(role, Path(model))
        for path in sorted(graph.data_files):
            yield FileRead(f"external data of {role}", path)
    for path in graph.libraries:
        yield FileRead(f"a library of operators of {role}", path)


def files_read(
    models: Iterable[Read],
    plan: Recipe,
    data: Data,
    *,
    recipe_file: str | Path | None = None,
    metric: str | MetricFunction | None = None,
    checkpoints: str | Path | None = None,
) -> tuple[Read, ...]:
    """Every file that a run reads.

    Args:
        models: Those of its models.
        plan: Its passes may apply functions out of files.
        data: Where its samples come from.
        recipe_file: A recipe.
        metric: May be a function out of a file.
        checkpoints: Folder with the state of a training.
    """
    reads = [*models]
    for role in ("calibration", "evaluation", "training"):
        reads += samples_read(f"the {role} data", getattr(data, role))
    if recipe_file is not None:
        reads.append(FileRead("the recipe", Path(recipe_file)))
    if isinstance(metric, str) and is_reference(metric):
        reads += function_file("the metric", metric)
    for item in plan.passes:
        if isinstance(item, ApplyFunction) and is_reference(item.function):
            reads += function_file(f"the function of {item.name}", item.function)
    if checkpoints is not None:
        reads.append(CheckpointsRead("the checkpoints", Path(checkpoints)))
    return tuple(reads)


def kept(checkpoints: str | Path | None) -> list[Written]:
    """Where the state of a training is written to."""
    if checkpoints is None:
        return []
    return [Written("the checkpoints", Path(checkpoints), folder=True)]
