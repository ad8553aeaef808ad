"""What the tables of several benchmarks have in common: cells, and the files that they go to."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from scoring import Score

__all__ = ["integer_layers", "latency", "metric", "save"]


def metric(found: Score) -> str:
    """The metric by the labels, before and after; empty without labels."""
    if found.metric is None:
        return ""
    return f"{found.metric} {found.before:.2f} -> {found.after:.2f}"


def latency(found: Score) -> str:
    """Time relative to the original's, and half of how far measurements scatter."""
    return f"{found.latency_ratio:.2f}x ± {found.latency_spread / 2:.2f}"


def integer_layers(report: dict[str, Any] | None) -> str:
    """How many layers run on integer kernels, by the audit of a run; empty without one."""
    audit = report and report["audit"]
    if not audit:
        return ""
    integer = len(audit["integer"])
    return f"{integer} of {integer + len(audit['float'])}"


def save(path: Path, header: str, lines: Iterable[str], rows: Sequence[Any]) -> None:
    """Write ``path`` with the endings .md and .json, anew after each row.

    Args:
        path: Without its ending.
        header: Of the Markdown table.
        lines: Its rows.
        rows: Dataclasses with the figures.
    """
    path.with_suffix(".md").write_text("\n".join([header, *lines]) + "\n", encoding="utf-8")
    figures = [dataclasses.asdict(row) for row in rows]
    path.with_suffix(".json").write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")
