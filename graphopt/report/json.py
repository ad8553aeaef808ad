"""The report as JSON: keys that pipelines may rely on, described by ``schema.json``."""

from __future__ import annotations

import dataclasses
import json
import math
from importlib import resources
from typing import Any

from graphopt import __version__
from graphopt.run.record import RunRecord

__all__ = ["SCHEMA", "document", "dump", "plain", "schema"]

SCHEMA = "graphopt-report/2"
"""Value of the key ``schema``; the number rises when a key changes its meaning or goes."""


def schema() -> dict[str, Any]:
    """The JSON Schema (draft 2020-12) that ``document`` keeps to."""
    text = resources.files("graphopt.report").joinpath("schema.json").read_text("utf-8")
    loaded: dict[str, Any] = json.loads(text)
    return loaded


def dump(value: Any) -> str:
    """Any value of ours as indented JSON text that every parser reads (no NaN, no Infinity).

    Characters that could steer a terminal, such as C1 controls, are escaped too.
    """
    text = json.dumps(plain(value), indent=2, ensure_ascii=False, allow_nan=False)
    return "".join(
        mark if mark.isprintable() or mark == "\n" else json.dumps(mark)[1:-1] for mark in text
    )


def plain(value: Any) -> Any:
    """Dataclasses as objects, tuples as arrays; a number that is not finite becomes null.

    A field that ends in an underscore, because Python keeps the word for itself, loses it.
    """
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {
            item.name.rstrip("_"): plain(getattr(value, item.name))
            for item in dataclasses.fields(value)
        }
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def document(record: RunRecord) -> dict[str, Any]:
    """The record of a run under the keys of ``schema.json``."""
    return {"schema": SCHEMA, "graphopt": __version__, **plain(record)}
