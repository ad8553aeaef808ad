"""Remove channels from the models of a folder at several budgets and print one table.

    python benchmarks/pruning.py                            # the digits of models/
    python benchmarks/pruning.py FOLDER --macs 0.75 0.5 --int8 --limit 2000

FOLDER is laid out as for ``zoo.py``. Each row runs as a user runs it, ``graphopt optimize MODEL
--calib CALIB --passes CLEAN,prune-channels{macs=SHARE},reconstruct-weights``, in a process of
its own, with ``--int8`` once more with the passes of the preset ``int8-static`` behind it. Nothing
is trained; the evaluation data is kept back for scoring.

The table goes to standard output and, as Markdown and with all figures as JSON, to the files that
``--output`` names.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import textwrap
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import table
from scoring import Score, score
from zoo import LIMITS_NOT_MET, LONGEST, ROOT, Entry, entries

CLEAN = "eliminate-dead,fold-constants,eliminate-identity,fuse-batchnorm"
INT8 = "fuse-activations,upgrade-opset,quantize-static,correct-bias,quantize-weights,eliminate-dead"
WHOLE = 1.0
"""Share of the MACs at which nothing is removed: what the other rows stand beside."""
HEADER = (
    "| model | MACs asked | form | MACs | parameters | bytes | latency | agreement | metric "
    "| integer layers | CPU s | MB |\n|---|---|---|---|---|---|---|---|---|---|---|---|"
)


@dataclass(frozen=True)
class Row:
    """One line of the table.

    Attributes:
        model: Its name.
        macs: Share of the multiply-accumulates to keep.
        form: ``float`` or ``int8``.
        report: The run's own, as JSON.
        score: Taken afterwards.
        cpu_seconds: Processor time of the run.
        error: In place of all that.
    """

    model: str
    macs: float
    form: str
    report: dict[str, Any] | None = None
    score: Score | None = None
    cpu_seconds: float = 0.0
    error: str = ""


def passes(macs: float, form: str) -> str:
    """The passes of a row, as spec text.

    >>> passes(0.5, "float").partition("batchnorm,")[2]
    'prune-channels{macs=0.5},reconstruct-weights'
    """
    parts = [CLEAN]
    if macs < WHOLE:
        parts.append(f"prune-channels{{macs={macs:g}}},reconstruct-weights")
    if form == "int8":
        parts.append(INT8)
    return ",".join(parts)


def run(entry: Entry, macs: float, form: str, options: argparse.Namespace) -> Row:
    """Prune one model to a share of its MACs, and score what came out."""
    with tempfile.TemporaryDirectory() as folder:
        out, report = Path(folder, "out.onnx"), Path(folder, "report.json")
        command = [sys.executable, "-m", "graphopt", "optimize", str(entry.model)]
        command += ["--calib", str(entry.calib), "--passes", passes(macs, form)]
        command += ["--threads", str(options.threads), "-o", str(out), "--report", str(report)]
        before = _processor_seconds()
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        seconds = _processor_seconds() - before
        if done.returncode not in (0, LIMITS_NOT_MET):
            reason = (done.stderr.strip() or f"exit code {done.returncode}").splitlines()[-1]
            return Row(entry.name, macs, form, error=textwrap.shorten(reason, LONGEST))
        found = score(out, entry.model, entry.judge, limit=options.limit, threads=options.threads)
        made = json.loads(report.read_text(encoding="utf-8"))
        return Row(entry.name, macs, form, made, found, seconds)


def _processor_seconds() -> float:
    """Of all processes that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def line(row: Row) -> str:
    """A row of the Markdown table."""
    asked = "all" if row.macs == WHOLE else f"x{row.macs:g}"
    if row.score is None or row.report is None:
        return f"| {row.model} | {asked} | {row.form} | {row.error} | | | | | | | | |"
    found, report = row.score, row.report
    cells = [
        row.model,
        asked,
        row.form,
        *(_ratio(report, key) for key in ("macs", "params", "bytes")),
        table.latency(found),
        "" if found.agreement is None else f"{found.agreement:.1f} %",
        table.metric(found),
        table.integer_layers(report),
        f"{row.cpu_seconds:.0f}",
        f"{report['peak_rss_bytes'] / 2**20:.0f}",
    ]
    return f"| {' | '.join(cells)} |"


def _ratio(report: dict[str, Any], key: str) -> str:
    before, after = report["input"][key], report["output"][key]
    return f"{after / before:.3f}x" if before else ""


def parse(arguments: list[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description="Remove channels from a folder of models.")
    parser.add_argument("folder", nargs="?", type=Path, default=ROOT / "models", metavar="FOLDER")
    parser.add_argument("--models", nargs="+", metavar="NAME", help="only these")
    parser.add_argument(
        "--macs", nargs="+", type=float, default=[0.75, 0.5], help="shares (default 0.75 0.5)"
    )
    parser.add_argument("--int8", action="store_true", help="each share once more with int8 behind")
    parser.add_argument("--limit", type=int, help="score the first LIMIT samples only")
    parser.add_argument("--threads", type=int, default=1, help="of onnxruntime (default 1)")
    parser.add_argument(
        "--output", type=Path, default=Path("pruning"), help="files to write (default pruning.*)"
    )
    return parser.parse_args(arguments)


def main(arguments: list[str] | None = None) -> int:
    """Print a line a run; the exit code is 1 where a run failed."""
    options = parse(arguments)
    chosen = [
        entry
        for entry in entries(options.folder)
        if not options.models or entry.name in options.models
    ]
    if not chosen:
        print(f"{options.folder}: no such model in it; see zoo.py for its layout")
        return 2
    print(HEADER, flush=True)
    rows: list[Row] = []
    for entry in chosen:
        cases = [(share, "float") for share in options.macs]
        if options.int8:
            cases += [(share, "int8") for share in (WHOLE, *options.macs)]
        for share, form in cases:
            rows.append(run(entry, share, form, options))
            print(line(rows[-1]), flush=True)
            table.save(options.output, HEADER, map(line, rows), rows)
    return int(any(row.error for row in rows))


if __name__ == "__main__":
    sys.exit(main())
