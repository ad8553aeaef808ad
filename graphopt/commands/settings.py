"""What a run is told, grouped: keywords of the API into values that commands and run share."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import Any, TypedDict

from graphopt.commands.sources import Data
from graphopt.contract import recipe
from graphopt.contract.passes import Pass
from graphopt.contract.preconditions import TrainingSamples
from graphopt.contract.recipe import Recipe
from graphopt.contract.settings import Limits, Machine
from graphopt.contract.spec import format_passes, parse_passes
from graphopt.data.source import Source
from graphopt.deadline import Deadline
from graphopt.errors import Need, UsageError
from graphopt.passes.foreign import Foreign
from graphopt.tasks.words import TasksGiven, parse_tasks, split_tasks

__all__ = ["Passes", "Settings", "deadline", "grouped", "plan_text", "planned", "refuse_unused"]

_SEARCH_SECONDS = 600.0
_WITH_TRAINING_SECONDS = 1800.0
Passes = str | Pass | Callable[[Any], Any] | Sequence[Pass | Callable[[Any], Any]]
"""Spec text, a pass or several; a function from model to model is one too."""


class Settings(TypedDict, total=False):
    """Single fields of ``Data``, ``Limits`` and ``Machine`` as keywords; they go before those."""

    calibration: Source | None
    training: Source | None
    evaluation: Source | None
    images: Mapping[str, Any] | None
    tasks: TasksGiven | None
    min_sqnr_db: float | None
    min_agreement: float | None
    max_drop: float | None
    strict: bool
    target: str | None
    threads: int
    seed: int | None
    memory_limit: int | None
    time_limit: float | None
    device: str
    ops_libraries: tuple[str | Path, ...]
    trial: bool


def grouped(
    data: Data | None, limits: Limits | None, machine: Machine | None, given: Mapping[str, Any]
) -> tuple[Data, Limits, Machine]:
    """The three values with the keywords put into them.

    Raises:
        TypeError: A keyword belongs to none, as Python has it for any function.
    """
    left = dict(given)

    def updated(value: Any) -> Any:
        own = {item.name: left.pop(item.name) for item in fields(value) if item.name in left}
        return replace(value, **own)

    groups = updated(data or Data()), updated(limits or Limits()), updated(machine or Machine())
    if left:
        raise TypeError(f"got an unexpected keyword argument {next(iter(left))!r}")
    return groups


def planned(
    passes: Passes | None,
    preset: str | None,
    recipe_file: str | Path | None,
    data: Data,
    limits: Limits,
    machine: Machine,
) -> Recipe:
    """What to run, from the one source that was given; single settings go over the recipe's.

    Raises:
        UsageError: Several sources, or one that names what does not exist, or no kind of output.
    """
    if sum(source is not None for source in (passes, preset, recipe_file)) > 1:
        raise UsageError("give one of passes, preset and recipe")
    if recipe_file is not None:
        plan = recipe.read_recipe(Path(recipe_file))
    elif passes is not None:
        plan = Recipe(passes=_listed(passes))
    else:
        plan = recipe.from_preset(preset or "auto")
    given: dict[str, Any] = {
        "target": machine.target,
        "max_drop": limits.max_drop,
        "min_agreement": limits.min_agreement,
        "min_sqnr_db": limits.min_sqnr_db,
        "images": {**plan.images, **data.images} if data.images else None,
        "seed": machine.seed,
        "tasks": {**plan.tasks, **split_tasks(data.tasks)} if data.tasks else None,
    }
    parse_tasks(given["tasks"] or {})
    return replace(plan, **{key: value for key, value in given.items() if value is not None})


def _listed(passes: Passes) -> tuple[Pass, ...]:
    """The passes given as spec text, as one or as several; functions of the caller's as well."""
    if isinstance(passes, str):
        return tuple(parse_passes(passes))
    return tuple(_one_pass(item) for item in (passes if isinstance(passes, Sequence) else [passes]))


def _one_pass(item: object) -> Pass:
    if isinstance(item, Pass):
        return item
    if callable(item) and not isinstance(item, type):
        return Foreign(item)
    raise UsageError(
        f"{item!r} is no pass; give spec text, passes such as MaskWeights(), or functions"
    )


def plan_text(plan: Recipe) -> str:
    """The plan in a line: ``auto`` or spec text."""
    return "auto" if plan.auto else format_passes(plan.passes)


def deadline(plan: Recipe, machine: Machine, started: float, *, trains: bool = False) -> Deadline:
    """When the search of ``auto`` starts nothing new, and a training ends.

    Args:
        plan: What to do.
        machine: Has the limit that was given.
        started: When the run did.
        trains: Whether ``auto`` was given samples to train on, which takes its time.

    Raises:
        UsageError: A time is given, and nothing is searched or trained.
    """
    given = machine.time_limit
    if plan.auto:
        usual = _WITH_TRAINING_SECONDS if trains else _SEARCH_SECONDS
        return Deadline(usual if given is None else given, started)
    if given is not None and not any(item.asks(TrainingSamples) for item in plan.passes):
        raise UsageError(
            "a time limit bounds the search of auto and trainings; here the passes are named and "
            "none of them trains"
        )
    return Deadline(given, started)


def refuse_unused(plan: Recipe, given: Mapping[str, Any]) -> None:
    """What only training uses must not be given in vain.

    Raises:
        UsageError: It is; the message has its name in ``given``.
    """
    if any(item.asks(TrainingSamples) for item in plan.passes):
        return
    for name, value in given.items():
        if value is None:
            continue
        if not plan.auto:
            raise UsageError(f"{name} is given and no pass trains; add distill or another one")
        if name != "training":
            raise UsageError(f"{name} is given; auto trains towards the model itself, at one go")
        if (plan.max_drop, plan.min_agreement, plan.min_sqnr_db) == (None, None, None):
            raise UsageError(
                "training is given, and auto trains only what a limit allows to prune", Need.LIMIT
            )
