"""Recipes: the list of passes with target, limits and preprocessing, as TOML."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import tomlkit

from graphopt import outside
from graphopt.contract import presets, registry
from graphopt.contract.passes import Pass
from graphopt.contract.settings import Limits, Machine
from graphopt.contract.spec import MOST_PASSES, parse_passes
from graphopt.contract.toml import MOST_BYTES, parse_toml
from graphopt.data.images import Preprocessing, parse_preprocessing
from graphopt.errors import UsageError, quoted
from graphopt.options import build, near_miss
from graphopt.tasks.words import parse_tasks

__all__ = [
    "METADATA_KEY",
    "Recipe",
    "format_recipe",
    "from_preset",
    "parse_recipe",
    "read_recipe",
]

METADATA_KEY = "graphopt.recipe"
"""Where an output model carries the recipe that made it."""

_IMAGE_KEYS = tuple(item.name for item in dataclasses.fields(Preprocessing))


@dataclass(frozen=True)
class Recipe:
    """A run in words that can be repeated.

    Attributes:
        passes: In order; empty together with ``auto``.
        auto: Let the planner choose the passes.
        target: Name of the target.
        min_sqnr_db: Least SQNR of every output against the input model, dB.
        min_agreement: Least share of decisions that stay the same, percent.
        max_drop: Most that the metric may get worse, in the metric's own unit.
        seed: Seed of all random numbers.
        images: Preprocessing of a folder of images.
        tasks: What outputs mean, by their name, as the user says it.
    """

    passes: tuple[Pass, ...] = ()
    auto: bool = False
    target: str = "host"
    min_sqnr_db: float | None = None
    min_agreement: float | None = None
    max_drop: float | None = None
    seed: int = 0
    images: Mapping[str, Any] = field(default_factory=dict)
    tasks: Mapping[str, str] = field(default_factory=dict)


_NUMBERS = ("min_sqnr_db", "min_agreement", "max_drop")
_KEYS = {"extends", "target", *_NUMBERS, "seed", "images", "tasks", "passes"}


def read_recipe(path: Path) -> Recipe:
    """The recipe in a file.

    Raises:
        UsageError: The file is missing, too large, not TOML, or names what does not exist.
    """
    try:
        with outside.opened(path) as file:
            text = file.read(MOST_BYTES + 1)
        if len(text) > MOST_BYTES:
            raise UsageError(f"recipe {path}: larger than {MOST_BYTES} bytes")
        decoded = text.decode()
    except OSError as err:
        raise UsageError(f"recipe {path}: cannot be read: {err.strerror or err}") from err
    except UnicodeDecodeError as err:
        raise UsageError(f"recipe {path}: cannot be read: it is not UTF-8 text: {err}") from err
    return parse_recipe(decoded, f"recipe {path}")


def parse_recipe(text: str, source: str = "recipe") -> Recipe:
    """The recipe that a TOML text describes; no code in it is ever run.

    Raises:
        UsageError: Not TOML, an unknown key, pass, option or value; with ``source`` in front.
    """
    try:
        return _from_table(parse_toml(text))
    except UsageError as err:
        raise UsageError(f"{source}: {err}") from err


def _from_table(table: dict[str, Any]) -> Recipe:
    for key in table:
        if key not in _KEYS:
            raise UsageError(f"unknown key {quoted(key)}{near_miss(key, _KEYS)}")
    base = Recipe()
    if "extends" in table:
        base = from_preset(_typed(table, "extends", str))
    listed = _typed(table, "passes", list, [])
    if len(listed) > MOST_PASSES:
        raise UsageError(f"a run has at most {MOST_PASSES} passes")
    passes = [*base.passes, *map(_one_pass, listed)]
    if not passes and not base.auto:
        raise UsageError('it names no pass; add [[passes]] tables or extends = "auto"')
    if passes and base.auto:
        raise UsageError('extends = "auto" chooses the passes itself; drop [[passes]]')
    images = _typed(table, "images", dict, {})
    for key in images:
        if key not in _IMAGE_KEYS:
            raise UsageError(f"unknown key {quoted(f'images.{key}')}{near_miss(key, _IMAGE_KEYS)}")
    parse_preprocessing(images)
    tasks = _typed(table, "tasks", dict, {})
    parse_tasks(tasks)
    recipe = dataclasses.replace(
        base,
        passes=tuple(passes),
        target=_typed(table, "target", str, base.target),
        **{key: _typed(table, key, float, getattr(base, key)) for key in _NUMBERS},
        seed=_typed(table, "seed", int, base.seed),
        images=images,
        tasks=tasks,
    )
    Limits(**{key: getattr(recipe, key) for key in _NUMBERS})
    Machine(seed=recipe.seed)
    return recipe


def _typed(table: Mapping[str, Any], key: str, kind: type, default: Any = None) -> Any:
    """A value of that type; its range is for ``Limits`` and ``Machine`` to say."""
    value = table.get(key, default)
    if kind is float and type(value) is int and abs(value) <= sys.float_info.max:
        value = float(value)
    if value is not default and (not isinstance(value, kind) or isinstance(value, bool)):
        raise UsageError(f"{key} = {quoted(value)} must be of type {kind.__name__}")
    return value


def _one_pass(item: Any) -> Pass:
    if not isinstance(item, dict) or not isinstance(item.get("name"), str):
        raise UsageError('each [[passes]] table needs name = "..."')
    options = {key: value for key, value in item.items() if key != "name"}
    return build(registry.find(item["name"]), options)


def from_preset(name: str) -> Recipe:
    """The recipe of a named preset.

    Raises:
        UsageError: No preset has that name.
    """
    spec = presets.find(name)
    return Recipe(auto=True) if spec is None else Recipe(passes=tuple(parse_passes(spec)))


def format_recipe(recipe: Recipe) -> str:
    """TOML that ``parse_recipe`` reads back to an equal recipe; defaults are left out."""
    document = tomlkit.document()
    if recipe.auto:
        document["extends"] = "auto"
    for item in dataclasses.fields(Recipe):
        value = getattr(recipe, item.name)
        if item.name in ("target", *_NUMBERS, "seed") and value != item.default:
            document[item.name] = value
    for key, table in (("images", recipe.images), ("tasks", recipe.tasks)):
        if table:
            document[key] = dict(table)
    if recipe.passes:
        document["passes"] = _tables(recipe.passes)
    return tomlkit.dumps(document)


def _tables(passes: Sequence[Pass]) -> tomlkit.items.AoT:
    tables = tomlkit.aot()
    for item in passes:
        table = tomlkit.table()
        table["name"] = item.name
        for key, value in item.options().items():
            if value is not None:  # TOML has no null; None is every such option's way to say unset
                table[key] = list(value) if isinstance(value, tuple) else value
        tables.append(table)
    return tables
