"""The report as JSON: keys that pipelines may rely on, described by ``schema.json``."""

from __future__ import annotations

import dataclasses
import json
import math
from importlib import resources
from typing import Any

from graphopt import __version__
from graphopt.pipeline.record import AuditRecord, ModelRecord, PassRecord, Quality, RunRecord

__all__ = ["SCHEMA", "document", "dump", "plain", "schema"]

SCHEMA = "graphopt-report/1"
"""Value of the key ``schema``; the number rises when a key changes its meaning or goes."""


def schema() -> dict[str, Any]:
    """The JSON Schema (draft 2020-12) that ``document`` keeps to."""
    text = resources.files("graphopt.report").joinpath("schema.json").read_text("utf-8")
    loaded: dict[str, Any] = json.loads(text)
    return loaded


def dump(value: Any) -> str:
    """Any value of ours as indented JSON text that every parser reads (no NaN, no Infinity)."""
    return json.dumps(plain(value), indent=2, ensure_ascii=False, allow_nan=False)


def plain(value: Any) -> Any:
    """Dataclasses as objects, tuples as arrays; a number that is not finite becomes null."""
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
    output = record.output
    return {
        "schema": SCHEMA,
        "graphopt": __version__,
        "command": record.command,
        "environment": plain(record.environment),
        "input": _model(record.input),
        "output": None if output is None else _model(output),
        "quality": None if record.quality is None else _quality(record.quality),
        "passes": [_pass(item) for item in record.passes],
        "candidates": plain(record.candidates),
        "audit": None if record.audit is None else _audit(record.audit),
        "layers": plain(record.layers),
        "limits": [
            {"name": item.name, "asked": item.asked, "measured": plain(item.measured),
             "met": item.met}
            for item in record.limits
        ],
        "latency_ratio": plain(record.latency_ratio),
        "latency_spread": plain(record.latency_spread),
        "messages": list(record.messages),
        "recipe": record.recipe,
        "dry_run": record.dry_run,
        "peak_rss_bytes": record.peak_rss_bytes,
        "seconds": record.seconds,
    }


def _model(model: ModelRecord) -> dict[str, Any]:
    return dict(plain(model))


def _quality(quality: Quality) -> dict[str, Any]:
    return dict(plain(quality))


def _pass(item: PassRecord) -> dict[str, Any]:
    return dict(plain(item))


def _audit(audit: AuditRecord) -> dict[str, Any]:
    return dict(plain(audit))
