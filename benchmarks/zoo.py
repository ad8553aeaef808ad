"""Run presets over a folder of models and print one table.

    python benchmarks/zoo.py                                # the digits of models/
    python benchmarks/zoo.py FOLDER --presets auto int8-dynamic --limit 500

FOLDER holds one folder a model with ``model.onnx``, ``calib.npz`` and ``eval.npz`` in it, or files
``KIND-NAME.onnx`` that share ``KIND-calib.npz`` and ``KIND-eval.npz``. Each preset runs as a user
runs it, ``graphopt optimize MODEL --calib CALIB``, in a process of its own; the evaluation data is
kept back for scoring. The table goes to standard output and, as Markdown and with all figures as
JSON, to the files that ``--output`` names.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import shlex
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from scoring import Score, score

ROOT = Path(__file__).parent.parent
LIMITS_NOT_MET = 4
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
    """One line of the table: the run's own report and the score taken afterwards, or the error."""

    model: str
    preset: str
    command: str
    report: dict[str, Any] | None = None
    score: Score | None = None
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
        command = ["graphopt", "optimize", str(entry.model), "--preset", preset]
        command += ["--threads", str(options.threads), "-o", str(out), "--report", str(report)]
        if entry.calib.exists():
            command += ["--calib", str(entry.calib)]
        spelt = shlex.join(command[: command.index("-o")])
        try:
            done = subprocess.run(
                [sys.executable, "-m", *command],
                capture_output=True,
                text=True,
                timeout=options.timeout,
                check=False,
            )
        except subprocess.TimeoutExpired:
            return Row(entry.name, preset, spelt, error=f"stopped after {options.timeout} s")
        if done.returncode not in (0, LIMITS_NOT_MET):
            last = (done.stderr.strip() or f"exit code {done.returncode}").splitlines()[-1]
            return Row(entry.name, preset, spelt, error=last)
        found = score(out, entry.model, entry.judge, limit=options.limit, threads=options.threads)
        return Row(entry.name, preset, spelt, json.loads(report.read_text()), found)


def line(row: Row) -> str:
    """A row of the Markdown table."""
    if row.report is None or row.score is None:
        return f"| {row.model} | {row.preset} | {row.error} | | | | | | | |"
    report, found = row.report, row.score
    chosen = next((c["name"] for c in report["candidates"] if c["chosen"]), row.preset)
    ratio = report["output"]["bytes"] / report["input"]["bytes"]
    audit = report["audit"] or {"integer": [], "float": []}
    integer = len(audit["integer"])
    metric = ""
    if found.metric is not None:
        metric = f"{found.metric} {found.before:.2f} -> {found.after:.2f}"
    cells = [
        row.model,
        row.preset,
        chosen,
        f"{ratio:.3f}x",
        f"{found.latency_ratio:.2f}x ± {found.latency_spread / 2:.2f}",
        ", ".join(f"{db:.1f}" for db in found.sqnr_db.values()),
        f"{found.agreement:.1f} %",
        metric,
        f"{integer} of {integer + len(audit['float'])}",
        f"{report['seconds']:.0f}",
    ]
    return f"| {' | '.join(cells)} |"


def save(path: Path, rows: list[Row]) -> None:
    """Write ``path`` with the endings .md and .json, anew after each row."""
    table = "\n".join([HEADER, *map(line, rows)])
    path.with_suffix(".md").write_text(table + "\n", encoding="utf-8")
    figures = [dataclasses.asdict(row) for row in rows]
    path.with_suffix(".json").write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")


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
            save(options.output, rows)
    return int(any(row.error for row in rows))


if __name__ == "__main__":
    sys.exit(main())
