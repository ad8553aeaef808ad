"""Run presets over a folder of models and print one table.

    python benchmarks/zoo.py                                # the digits of models/
    python benchmarks/zoo.py FOLDER --presets auto onnxruntime onnxruntime-tuned --limit 500

FOLDER holds one folder a model with ``model.onnx``, ``calib.npz`` and ``eval.npz`` in it, or files
``KIND-NAME.onnx`` that share ``KIND-calib.npz`` and ``KIND-eval.npz``. Each preset runs as a user
runs it, ``graphopt optimize MODEL --calib CALIB``, in a process of its own; the evaluation data is
kept back for scoring. ``onnxruntime``, ``onnxruntime-tuned`` and ``onnxruntime-dynamic`` among the
presets stand for onnxruntime's own quantizer (see ``baseline.py``).

The table goes to standard output and, as Markdown and with all figures as JSON, to the files that
``--output`` names.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import textwrap
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import baseline
import table
from scoring import Score, score

ROOT = Path(__file__).parent.parent
LIMITS_NOT_MET = 4
LONGEST = 160  # characters of an error in the table
HEADER = (
    "| model | preset | made by | bytes | latency | SQNR dB | agreement | metric | integer layers "
    "| seconds |\n|---|---|---|---|---|---|---|---|---|---|"
)


@dataclass(frozen=True)
class Entry:
    """A model of the folder with its data."""

    name: str
    model: Path
    calib: Path
    judge: Path


@dataclass(frozen=True)
class Row:
    """One line of the table: what was made, and the score taken afterwards; or the error."""

    model: str
    preset: str
    bytes_ratio: float = 0.0
    seconds: float = 0.0
    score: Score | None = None
    report: dict[str, Any] | None = None
    error: str = ""


def entries(folder: Path) -> list[Entry]:
    """The models of a folder in either layout, by name."""
    found = [
        Entry(path.parent.name, path, path.parent / "calib.npz", path.parent / "eval.npz")
        for path in folder.glob("*/model.onnx")
    ]
    for path in folder.glob("*-*.onnx"):
        kind = path.stem.partition("-")[0]
        entry = Entry(path.stem, path, folder / f"{kind}-calib.npz", folder / f"{kind}-eval.npz")
        if entry.judge.exists():
            found.append(entry)
    return sorted(found, key=lambda entry: entry.name)


def run(entry: Entry, preset: str, options: argparse.Namespace) -> Row:
    """Optimize one model with one preset and score what came out."""
    with tempfile.TemporaryDirectory() as folder:
        out, report = Path(folder, "out.onnx"), Path(folder, "report.json")
        started = time.perf_counter()
        try:
            if preset in baseline.SETTINGS:
                baseline.quantize(entry.model, entry.calib, out, preset)
            else:
                optimize(entry, preset, out, report, options)
            seconds = time.perf_counter() - started
            found = score(
                out, entry.model, entry.judge, limit=options.limit, threads=options.threads
            )
        except Exception as err:  # whatever a tool raises is its line of the table
            reason = (str(err).strip() or type(err).__name__).splitlines()[-1]
            return Row(entry.name, preset, error=textwrap.shorten(reason, LONGEST))
        ratio = out.stat().st_size / entry.model.stat().st_size
        made = json.loads(report.read_text(encoding="utf-8")) if report.exists() else None
        return Row(entry.name, preset, ratio, seconds, found, made)


def optimize(
    entry: Entry, preset: str, out: Path, report: Path, options: argparse.Namespace
) -> None:
    """Run the command as a user does, in a process of its own."""
    command = [sys.executable, "-m", "graphopt", "optimize", str(entry.model), "--preset", preset]
    command += ["--threads", str(options.threads), "-o", str(out), "--report", str(report)]
    if entry.calib.exists():
        command += ["--calib", str(entry.calib)]
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=options.timeout, check=False
    )
    if done.returncode not in (0, LIMITS_NOT_MET):
        raise RuntimeError(done.stderr.strip() or f"exit code {done.returncode}")


def line(row: Row) -> str:
    """A row of the Markdown table."""
    if row.score is None:
        return f"| {row.model} | {row.preset} | {row.error} | | | | | | | |"
    found = row.score
    cells = [
        row.model,
        row.preset,
        made_by(row),
        f"{row.bytes_ratio:.3f}x",
        table.latency(found),
        ", ".join(f"{db:.1f}" for db in found.sqnr_db.values()),
        "" if found.agreement is None else f"{found.agreement:.1f} %",
        table.metric(found),
        table.integer_layers(row.report),
        f"{row.seconds:.0f}",
    ]
    return f"| {' | '.join(cells)} |"


def made_by(row: Row) -> str:
    """The candidate that was chosen, or what the preset is."""
    if row.report is None:
        return baseline.SETTINGS[row.preset]
    return next((c["name"] for c in row.report["candidates"] if c["chosen"]), row.preset)


def parse(arguments: list[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description="Run presets over a folder of models.")
    parser.add_argument("folder", nargs="?", type=Path, default=ROOT / "models", metavar="FOLDER")
    parser.add_argument("--models", nargs="+", metavar="NAME", help="only these")
    parser.add_argument("--presets", nargs="+", metavar="NAME", default=["auto"])
    parser.add_argument("--limit", type=int, help="score the first LIMIT samples only")
    parser.add_argument("--threads", type=int, default=1, help="of onnxruntime (default 1)")
    parser.add_argument("--timeout", type=int, default=3600, help="seconds a run (default 3600)")
    parser.add_argument(
        "--output", type=Path, default=Path("zoo"), help="files to write (default zoo.md, .json)"
    )
    return parser.parse_args(arguments)


def main(arguments: list[str] | None = None) -> int:
    """Print a line a run; the exit code is 1 where a run failed."""
    options = parse(arguments)
    chosen = entries(options.folder)
    if options.models:
        known = {entry.name: entry for entry in chosen}
        if missing := [name for name in options.models if name not in known]:
            print(f"no model {missing[0]!r} in {options.folder}; it has {sorted(known)}")
            return 2
        chosen = [known[name] for name in options.models]
    if not chosen:
        print(f"{options.folder}: no NAME/model.onnx and no KIND-NAME.onnx with KIND-eval.npz")
        return 2
    print(HEADER, flush=True)
    rows: list[Row] = []
    for entry in chosen:
        for preset in options.presets:
            rows.append(run(entry, preset, options))
            print(line(rows[-1]), flush=True)
            table.save(options.output, HEADER, map(line, rows), rows)
    return int(any(row.error for row in rows))


if __name__ == "__main__":
    sys.exit(main())
