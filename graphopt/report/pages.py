"""The page of a pass, made from its class: docstring, options with bounds, an example."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from graphopt.contract.passes import Pass
from graphopt.contract.preconditions import CalibrationSamples
from graphopt.contract.spec import format_value
from graphopt.options import OptionField, option_fields
from graphopt.report.advice import CALIBRATION_OPTION

__all__ = ["OptionRow", "PassPage", "page"]

_KINDS = {bool: "true or false", int: "whole number", float: "number", str: "text", tuple: "texts"}


@dataclass(frozen=True)
class OptionRow:
    """One option in words: ``values`` says what it takes, bounds and unit included."""

    name: str
    default: str
    values: str
    help: str


@dataclass(frozen=True)
class PassPage:
    """One pass for a reader: ``text`` is the docstring with its picture.

    ``requires`` is what must hold before the first edit, in phrases.
    """

    name: str
    family: str
    summary: str
    text: str
    lossy: bool
    needs_samples: bool
    requires: list[str]
    options: list[OptionRow]
    example: str


def page(pass_class: type[Pass]) -> PassPage:
    """The page of a pass class."""
    text = inspect.cleandoc(pass_class.__doc__ or "")
    summary, _, _ = text.partition("\n")
    fields, item = option_fields(pass_class), pass_class()
    return PassPage(
        name=pass_class.name,
        family=_family(pass_class.__module__),
        summary=summary,
        text=text,
        lossy=pass_class.lossy,
        needs_samples=item.asks(CalibrationSamples),
        requires=[str(each) for each in pass_class.requires],
        options=[_row(item) for item in fields.values()],
        example=_example(item, fields),
    )


def _family(module: str) -> str:
    """The folder of a pass of our own; the package of one from elsewhere."""
    parts = module.split(".")
    return parts[-2] if parts[0] == "graphopt" else parts[0]


def _row(item: OptionField) -> OptionRow:
    if item.choices:
        values = " | ".join(format_value(choice) for choice in item.choices)
    else:
        values = item.option.bounds.replace("x", item.name) or _KINDS.get(item.kind, "")
    if item.option.unit:
        values += f" ({item.option.unit})"
    if item.optional:
        values += " or none"
    return OptionRow(item.name, format_value(item.default), values, item.option.help)


def _example(item: Pass, fields: Mapping[str, OptionField]) -> str:
    """A command line that runs as it stands: the first option that has a value, spelt out."""
    shown = next((f for f in fields.values() if _spellable(f.default)), None)
    spec = item.name
    if shown is not None:
        spec += f"{{{shown.name}={format_value(shown.default)}}}"
    data = f" {CALIBRATION_OPTION} calib.npz" if item.asks(CalibrationSamples) else ""
    return f"graphopt optimize model.onnx -p '{spec}'{data}"


def _spellable(default: Any) -> bool:
    return default is not None and default not in ((), "")
