"""What each layer does to the answers in each form, as values, as tables and as JSON."""

from __future__ import annotations

import json
from dataclasses import dataclass
from importlib import resources
from typing import Any

from graphopt import __version__
from graphopt.contract.forms import FLOAT, ModelFigures
from graphopt.numerics.sqnr import decibels
from graphopt.report.console import facts, table, terminal
from graphopt.report.json import plain
from graphopt.report.words import NONE, decibel, milliseconds, ratio, size

__all__ = [
    "Analysis",
    "FormTotal",
    "analysis_document",
    "analysis_schema",
    "form_totals",
    "noise_db",
    "print_analysis",
]

_SCHEMA = "graphopt-analysis/1"
"""Value of the key ``schema``; the number rises when a key changes its meaning or goes."""


@dataclass(frozen=True)
class Analysis:
    """What ``graphopt analyze`` found.

    Attributes:
        model: Its file; None for one in memory.
        target: Whose placement and types count.
        threads: Of onnxruntime, for the times.
        figures: Every layer in every form.
        source: Which samples judged: ``eval``, ``held-out`` or ``calib``.
        seconds: Wall time of the measurement.
    """

    model: str | None
    target: str
    threads: int
    figures: ModelFigures
    source: str
    seconds: float


@dataclass(frozen=True)
class FormTotal:
    """All layers that a form suits in that form, the others in floats.

    Attributes:
        form: Its name.
        layers: How many it suits.
        bytes: Of the file.
        ms: Of the layers together; None where one has no time.
        sqnr_db: What the sum of their noises comes to.
    """

    form: str
    layers: int
    bytes: int
    ms: float | None
    sqnr_db: float


def form_totals(figures: ModelFigures) -> list[FormTotal]:
    """What each form comes to for the whole model, by the sum of its parts."""
    found = []
    names = dict.fromkeys(name for each in figures.layers for name in each.forms)
    for name in names:
        forms = [each.forms.get(name, each.forms[FLOAT.name]) for each in figures.layers]
        choice = {each.node: name for each in figures.layers if name in each.forms}
        known = [form.ms for form in forms if form.ms is not None]
        found.append(
            FormTotal(
                name,
                len(choice),
                figures.bytes + sum(form.bytes for form in forms),
                sum(known) if len(known) == len(forms) else None,
                noise_db(figures.noise(choice)),
            )
        )
    return found


def noise_db(noise: float) -> float:
    """Power of an error over that of the answer, in dB."""
    return float(decibels(1.0, noise))


def print_analysis(found: Analysis) -> None:
    """Each layer with its error in each form, then what each form comes to for all."""
    console, figures = terminal(), found.figures
    names = [total.form for total in form_totals(figures) if total.form != FLOAT.name]
    rows = []
    for each in figures.layers:
        own = each.forms[FLOAT.name]
        errors = [
            decibel(noise_db(figures.alone(each.node, name))) if name in each.forms else NONE
            for name in names
        ]
        rows.append((each.node, size(own.bytes), milliseconds(own.ms), *errors))
    titles = ("layer", ">bytes", ">time", *(f">{name}" for name in names))
    table(console, titles, rows)
    whole = form_totals(figures)
    base = whole[0]
    rows = [
        (
            total.form,
            str(total.layers),
            size(total.bytes),
            ratio(total.bytes / base.bytes),
            NONE if not (total.ms and base.ms) else ratio(total.ms / base.ms),
            decibel(total.sqnr_db),
        )
        for total in whole
    ]
    table(console, ("all layers as", ">layers", ">bytes", ">of float", ">time", ">SQNR"), rows)
    facts(console, _notes(found))


def _notes(found: Analysis) -> list[tuple[str, str]]:
    figures = found.figures
    lines = [
        (
            "error",
            f"of the worst output with this layer alone in that form, its mean put right; "
            f"{figures.samples} samples ({found.source})",
        ),
        ("SQNR", "of all layers: their noises added up; measured together it is about that"),
        ("time", f"of the layers on this machine, {found.threads or 'all'} threads"),
        ("target", found.target),
        ("took", f"{found.seconds:.0f} s"),
    ]
    lines += [(name, f"suits no layer: {reason}") for name, reason in figures.reasons.items()]
    if figures.unmeasured:
        lines.append(("left out", f"{figures.unmeasured} measurements: the time limit was over"))
    return lines


def analysis_document(found: Analysis) -> dict[str, Any]:
    """What was found under the keys of ``analysis.json``."""
    figures = found.figures
    return {
        "schema": _SCHEMA,
        "graphopt": __version__,
        "model": found.model,
        "target": found.target,
        "threads": found.threads,
        "samples": figures.samples,
        "source": found.source,
        "seconds": found.seconds,
        "other_bytes": figures.bytes,
        "layers": [
            {
                "node": each.node,
                "op_type": each.op_type,
                "forms": {
                    name: {
                        "sqnr_db": noise_db(figures.alone(each.node, name)),
                        "weight_noise": form.noise,
                        "bytes": form.bytes,
                        "ms": form.ms,
                        "tensors": [[tensor, at_run] for tensor, at_run in form.grids],
                    }
                    for name, form in each.forms.items()
                },
            }
            for each in figures.layers
        ],
        "tensors": [
            {"name": tensor, "each_run": at_run, "noise": noise}
            for (tensor, at_run), noise in figures.grids.items()
        ],
        "totals": [plain(total) for total in form_totals(figures)],
        "unfit": dict(figures.reasons),
        "unmeasured": figures.unmeasured,
    }


def analysis_schema() -> dict[str, Any]:
    """The JSON Schema (draft 2020-12) that ``analysis_document`` keeps to."""
    text = resources.files("graphopt.report").joinpath("analysis.json").read_text("utf-8")
    loaded: dict[str, Any] = json.loads(text)
    return loaded
