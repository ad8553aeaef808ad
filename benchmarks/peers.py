"""graphopt beside other tools that quantize ONNX models, in one run: one table with a picture.

    python benchmarks/peers.py                                 # shapes of well-known networks
    python benchmarks/peers.py FOLDER --tools NNCF onnxsim --limit 500

Each tool runs with its own defaults in a virtual environment of its own, which is made below
``--venvs`` where it is not there yet. FOLDER is laid out as for ``zoo.py``. Without it the shapes
of ResNet-50, MobileNetV2 and BERT-base are taken, with random weights and random samples: of these
only time and bytes mean anything.

All files of a model are timed in turns on one thread at batch 1, by processor time, and scored on
the evaluation data. The table goes to standard output and, as Markdown, JSON and SVG, to the files
that ``--output`` names.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import textwrap
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import networks
import numpy as np
import onnx
import table
from peer_tools import TOOLS
from peers_picture import Mark, picture
from scoring import Samples, Score, score
from zoo import LONGEST, Entry, entries

from graphopt.analysis.audit import audit
from graphopt.graph import io
from graphopt.runtime import bursts, latency
from graphopt.runtime.bursts import Runner
from graphopt.runtime.session import Session

FLOAT, OURS = "float", "graphopt"
LIMITS_NOT_MET = 4
SAMPLES = 8
SHAPES: dict[str, Callable[[], onnx.ModelProto]] = {
    "resnet50": lambda: networks.resnet50(folded=True),
    "mobilenetv2": networks.mobilenetv2,
    "bert-base": networks.bert,
}
HEADER = (
    "| model | tool | bytes | time to float | time to best peer | SQNR dB | agreement | metric "
    "| integer layers | seconds |\n|---|---|---|---|---|---|---|---|---|---|"
)


@dataclass(frozen=True)
class Row:
    """What one tool made of one model.

    Attributes:
        model: Its name.
        tool: Name of the tool, for graphopt with the preset.
        bytes_ratio: Size of the file over that of the input, external data included.
        seconds: Wall time of the tool.
        time_ratio: Processor time over that of the input file, measured in turns.
        time_spread: Two standard errors of it.
        to_best: The same over that of the fastest file of another tool.
        integer: Layers on integer kernels, in onnxruntime's own optimized graph.
        layers: Of so many.
        score: Taken on the evaluation data.
        error: Why there is no file, or none that can be run.
    """

    model: str
    tool: str
    bytes_ratio: float = 0.0
    seconds: float = 0.0
    time_ratio: float = 0.0
    time_spread: float = 0.0
    to_best: float = 0.0
    integer: int = 0
    layers: int = 0
    score: Score | None = None
    error: str = ""


def shapes(folder: Path, names: list[str]) -> Iterator[Entry]:
    """Networks of random weights, written with random samples as a folder of models has them."""
    rng = np.random.default_rng(1)
    for name in names:
        place = folder / name
        place.mkdir()
        model = SHAPES[name]()
        feed = model.graph.input[0].name
        shape = (128, 768) if feed == "hidden" else (3, 224, 224)
        onnx.save(model, place / "model.onnx")
        for part in ("calib", "eval"):
            arrays: dict[str, Any] = {feed: rng.standard_normal((SAMPLES, *shape), np.float32)}
            np.savez(place / f"{part}.npz", **arrays)
        yield Entry(name, place / "model.onnx", place / "calib.npz", place / "eval.npz")


def interpreter(tool: str, venvs: Path) -> Path:
    """The Python of a tool's virtual environment, made with the tool inside where it is missing."""
    folder = venvs / "".join(c if c.isalnum() else "-" for c in tool)
    python, complete = folder / "bin" / "python", folder / "complete"
    if not complete.exists():
        subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
        command = [str(python), "-m", "pip", "install", "-q", *TOOLS[tool][0]]
        subprocess.run(command, check=True)
        complete.touch()
    return python


def command_of(tool: str, entry: Entry, out: Path, options: argparse.Namespace) -> list[str]:
    """The command that makes ``out`` of a model."""
    files = [str(entry.model), str(entry.calib), str(out)]
    if tool.startswith(OURS):
        command = [sys.executable, "-m", "graphopt", "optimize", files[0], "--calib", files[1]]
        return [*command, "--preset", tool.rsplit(maxsplit=1)[-1], "--threads", "1", "-o", files[2]]
    script = Path(__file__).with_name("peer_tools.py")
    return [str(interpreter(tool, options.venvs)), str(script), tool, *files]


def make(tool: str, entry: Entry, out: Path, options: argparse.Namespace) -> Row:
    """Let a tool quantize a model."""
    environment = os.environ | {"OMP_NUM_THREADS": "1", "ORT_DISABLE_TELEMETRY": "1"}
    started = time.perf_counter()
    try:
        done = subprocess.run(
            command_of(tool, entry, out, options),
            capture_output=True,
            text=True,
            timeout=options.timeout,
            check=False,
            env=environment,
        )
        met = done.returncode in (0, LIMITS_NOT_MET)
        error = "" if met and out.exists() else done.stderr.strip() or f"exit {done.returncode}"
    except (subprocess.SubprocessError, OSError) as err:
        error = str(err)
    if error:
        return Row(entry.name, tool, error=textwrap.shorten(error.splitlines()[-1], LONGEST))
    seconds = time.perf_counter() - started
    size, before = (io.file_bytes(io.load(path), path) for path in (out, entry.model))
    return Row(entry.name, tool, size / before, seconds)


def judged(row: Row, entry: Entry, out: Path, options: argparse.Namespace) -> Row:
    """The row with what the file is worth."""
    try:
        found = audit(io.load(out), threads=1)
        taken = score(out, entry.model, entry.judge, limit=options.limit, threads=1)
    except Exception as err:  # whatever onnxruntime or a tool's file raises is its line
        reason = (str(err).strip() or type(err).__name__).splitlines()[-1]
        return replace(row, error=textwrap.shorten(reason, LONGEST))
    integer = len(found.integer)
    return replace(row, integer=integer, layers=integer + len(found.float_), score=taken)


def timed(
    rows: Mapping[str, Row], files: Mapping[str, Path], entry: Entry, rounds: int
) -> list[Row]:
    """The rows with their times, all files run in turns.

    The best peer is chosen on every other burst; ratios to it come from the others, so that its
    luck does not count.
    """
    feeds = Samples(entry.judge, 2).rows(0, 1)
    runners, names = [], [FLOAT, *(name for name, row in rows.items() if not row.error)]
    for name in names:
        session = Session(io.load(entry.model if name == FLOAT else files[name]), threads=1)
        runners.append(Runner(session, feeds))
    readings = bursts.measure(runners, rounds=rounds, seconds=600.0, clock="processor")
    times = {name: each.on("processor") for name, each in zip(names, readings, strict=True)}
    halves = [
        {name: latency.Times(each.bursts_ms[half::2]) for name, each in times.items()}
        for half in (0, 1)
    ]
    peers = [name for name in names if name != FLOAT and not name.startswith(OURS)]
    best = min(peers, key=lambda name: halves[0][name].median_ms, default=FLOAT)
    made = []
    for name, row in rows.items():
        if row.error:
            made.append(row)
            continue
        found = latency.ratio(times[name], times[FLOAT], "processor")
        to_best = latency.ratio(halves[1][name], halves[1][best], "processor").median
        made.append(
            replace(row, time_ratio=found.median, time_spread=found.spread, to_best=to_best)
        )
    return made


def line(row: Row) -> str:
    """A row of the Markdown table."""
    if row.score is None:
        return f"| {row.model} | {row.tool} | {row.error} | | | | | | | |"
    cells = [
        row.model,
        row.tool,
        f"{row.bytes_ratio:.3f}x",
        f"{row.time_ratio:.2f}x ± {row.time_spread:.2f}",
        f"{row.to_best:.2f}x",
        ", ".join(f"{db:.1f}" for db in row.score.sqnr_db.values()),
        "" if row.score.agreement is None else f"{row.score.agreement:.1f} %",
        table.metric(row.score),
        f"{row.integer} of {row.layers}",
        f"{row.seconds:.0f}",
    ]
    return f"| {' | '.join(cells)} |"


def marks(rows: list[Row]) -> list[Mark]:
    """What the picture shows: time and closeness of each file that can be run."""
    return [
        Mark(row.model, row.tool, row.time_ratio, min(row.score.sqnr_db.values()))
        for row in rows
        if row.score is not None
    ]


def parse(arguments: list[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description="graphopt beside other quantizers, in one run.")
    parser.add_argument("folder", nargs="?", type=Path, metavar="FOLDER")
    parser.add_argument("--models", nargs="+", metavar="NAME", help="only these of FOLDER")
    parser.add_argument("--shapes", nargs="+", choices=[*SHAPES], default=[*SHAPES])
    parser.add_argument("--presets", nargs="+", metavar="NAME", default=["auto"])
    parser.add_argument("--tools", nargs="*", choices=[*TOOLS], default=[*TOOLS])
    parser.add_argument(
        "--venvs", type=Path, default=Path(tempfile.gettempdir(), "graphopt-peers"),
        help="folder of the virtual environments (default: in the temporary folder)",
    )  # fmt: skip
    parser.add_argument("--limit", type=int, help="score the first LIMIT samples only")
    parser.add_argument("--rounds", type=int, default=30, help="bursts of each file (default 30)")
    parser.add_argument("--timeout", type=int, default=3600, help="seconds a tool (default 3600)")
    parser.add_argument(
        "--output", type=Path, default=Path("peers"),
        help="files to write (default peers.md, .json, .svg)",
    )  # fmt: skip
    return parser.parse_args(arguments)


def compared(entry: Entry, folder: Path, options: argparse.Namespace) -> list[Row]:
    """All tools on one model."""
    rows: dict[str, Row] = {}
    files: dict[str, Path] = {}
    for tool in [*(f"{OURS} {preset}" for preset in options.presets), *options.tools]:
        files[tool] = folder / f"{entry.name}.{len(files)}.onnx"
        rows[tool] = make(tool, entry, files[tool], options)
        if not rows[tool].error:
            rows[tool] = judged(rows[tool], entry, files[tool], options)
        print(f"{entry.name}: {tool}: {rows[tool].error or 'made'}", file=sys.stderr, flush=True)
    return timed(rows, files, entry, options.rounds)


def main(arguments: list[str] | None = None) -> int:
    """Print a line a file; the exit code is 1 where graphopt made none."""
    options = parse(arguments)
    rows: list[Row] = []
    print(HEADER)
    with tempfile.TemporaryDirectory(prefix="graphopt-peers-") as name:
        folder = Path(name)
        if options.folder is None:
            models: Any = shapes(folder, options.shapes)
        else:
            wanted = options.models
            models = [e for e in entries(options.folder) if not wanted or e.name in wanted]
        for entry in models:
            found = compared(entry, folder, options)
            print("\n".join(map(line, found)), flush=True)
            rows += found
            table.save(options.output, HEADER, map(line, rows), rows)
            options.output.with_suffix(".svg").write_text(picture(marks(rows)), encoding="utf-8")
    failed = [row for row in rows if row.tool.startswith(OURS) and row.error]
    return 1 if failed else 0


if __name__ == "__main__":
    raise SystemExit(main())
