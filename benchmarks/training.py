"""Run the recipes that train and print one table.

    python benchmarks/training.py --list
    python benchmarks/training.py FOLDER [ROW ...] [--seeds 0 1] [--threads N] [--work DIR]

Each row runs as a user runs it, ``graphopt optimize MODEL --recipe NAME.toml --train DATA``, in a
process of its own; data of FOLDER that it does not see scores what comes out, the model that went
in, and the model before any training. Without ROW all rows run whose inputs are there; what is
missing is said. ``benchmarks/README.md`` says what FOLDER holds. Prepared data, models and reports
stay in DIR. Needs the extra ``train``.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnx
from onnx import numpy_helper
from scoring import Score, score
from training_data import HERE, MissingError, Source

import graphopt.passes  # noqa: F401 - fills the registry
from graphopt.contract.recipe import format_recipe, read_recipe
from graphopt.families.training import TrainingPass

LIMITS_NOT_MET = 4
LEAST_ZEROS = 0.001  # fewer are by chance
HEADER = (
    "| row | seed | asked | float | untrained | trained | agreement | bytes | zeros | seconds "
    "| CPU s |\n|---|---|---|---|---|---|---|---|---|---|---|"
)


@dataclass(frozen=True)
class Row:
    """One line of the table.

    Attributes:
        name: Of the row.
        model: The float model's folder.
        data: What it is trained on: pictures, labelled, sentences or calib.
        recipe: Name of the recipe; empty where it is the row's.
        least: What the metric must reach, in percent; None where rows are compared.
        most_seconds: What it may take on two cores; None where nothing is asked.
        teacher: The row whose result teaches; ``float`` for the float model, where the student is
            another one; empty where the student's own float model does.
        layers: Whether the student is the float model with half of its layers.
        calibrated: Whether it needs calibration samples.
    """

    name: str
    model: str
    data: str
    recipe: str = ""
    least: float | None = None
    most_seconds: float | None = None
    teacher: str = ""
    layers: bool = False
    calibrated: bool = False

    @property
    def path(self) -> Path:
        """The recipe."""
        return HERE / "recipes" / f"{self.recipe or self.name}.toml"


SMALL, LARGE = "cifar-resnet20", "cifar-resnet56"
ROWS = (
    Row("resnet20-half-macs", SMALL, "pictures", least=81.0, most_seconds=300),
    Row("resnet20-channels", SMALL, "pictures", least=80.8, most_seconds=360, calibrated=True),
    Row("resnet56-channels", LARGE, "pictures", least=83.0, calibrated=True),
    Row("resnet20-half-macs-tucker", SMALL, "pictures"),
    Row("resnet20-half-macs-cp", SMALL, "pictures"),
    Row("resnet20-half-macs-labels", SMALL, "labelled"),
    Row("resnet20-control", SMALL, "labelled"),
    Row("resnet20-sparse90", SMALL, "pictures", least=79.8),
    Row("resnet20-sparse90-once", SMALL, "pictures"),
    Row("resnet20-w4a4", SMALL, "pictures", least=81.0, calibrated=True),
    Row("resnet20-w8a8", SMALL, "pictures", least=81.0, calibrated=True),
    Row("resnet56-finetune", LARGE, "labelled", least=86.5),
    Row("resnet20-labels", SMALL, "labelled"),
    Row("resnet20-distilled", SMALL, "labelled", teacher="resnet56-finetune"),
    Row("mobilenet-int4", "mobilenetv1-025-imagenet", "calib", calibrated=True),
    Row("minilm-three-layers", "minilm", "sentences", least=81.7, teacher="float", layers=True),
)


@dataclass(frozen=True)
class Outcome:
    """What a row came to.

    Attributes:
        row: Its name.
        seed: Of the run.
        untrained: Metric of the same recipe without its training, in percent.
        score: Of the result against the float model.
        bytes_ratio: Size of the file against the float model's.
        zeros: Share of zeros in those weights of the file that hold some.
        seconds: Wall clock time of the command.
        cpu_seconds: Processor time of the command.
        missing: Why there is no figure; empty where there is one.
    """

    row: str
    seed: int
    untrained: float | None = None
    score: Score | None = None
    bytes_ratio: float = 0.0
    zeros: float = 0.0
    seconds: float = 0.0
    cpu_seconds: float = 0.0
    missing: str = ""


class Bench:
    """Runs rows over one folder of models."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.options = options
        self.work: Path = options.work
        self.source = Source(options.folder, options.work)

    def run(self, row: Row, seed: int) -> Outcome:
        """Train, score, and clear away nothing: what was made stays in the work folder.

        Raises:
            MissingError: An input is not there, or the command failed.
        """
        if not row.path.exists():
            raise MissingError(f"no recipe {row.path.name} in {row.path.parent}")
        original = self.source.model(row.model)
        model = self.source.cut(row.model) if row.layers else original
        judge = self.source.find(f"{row.model}/eval.npz")
        calibration: list[str] = []
        if row.calibrated:
            calibration = ["--calib", str(self.source.find(f"{row.model}/calib.npz"))]
        training = ["--train", str(self.source.training(row.data, row.model))]
        if row.teacher:
            training += ["--teacher", str(self._teacher(row, original, seed))]
        if self.options.checkpoints is not None:
            training += ["--checkpoints", str(self.options.checkpoints)]
        untrained = self._untrained(row, model, calibration, seed)
        out = self.result(row.name, seed)
        seconds, cpu_seconds = self._optimize(model, row.path, [*calibration, *training], seed, out)
        return Outcome(
            row.name,
            seed,
            score(untrained, original, judge, limit=None, threads=self.options.threads).after,
            score(out, original, judge, limit=None, threads=self.options.threads),
            out.stat().st_size / original.stat().st_size,
            zeros(out),
            seconds,
            cpu_seconds,
        )

    def result(self, name: str, seed: int) -> Path:
        """Where the model of a row goes."""
        return self.work / f"{name}-{seed}.onnx"

    def _teacher(self, row: Row, original: Path, seed: int) -> Path:
        if row.teacher == "float":
            return original
        path = self.result(row.teacher, seed)
        if not path.exists():
            raise MissingError(f"its teacher {path} is not there; run the row {row.teacher} first")
        return path

    def _untrained(self, row: Row, model: Path, arguments: Sequence[str], seed: int) -> Path:
        """What the recipe makes without its training: the model itself, where that is all."""
        plan = read_recipe(row.path)
        rest = tuple(each for each in plan.passes if not isinstance(each, TrainingPass))
        if not rest:
            return model
        out = self.work / f"{row.name}-untrained.onnx"
        recipe = out.with_suffix(".toml")
        recipe.write_text(format_recipe(dataclasses.replace(plan, passes=rest)), encoding="utf-8")
        self._optimize(model, recipe, arguments, seed, out)
        return out

    def _optimize(
        self, model: Path, recipe: Path, arguments: Sequence[str], seed: int, out: Path
    ) -> tuple[float, float]:
        """Run the command; gives the wall clock and the processor time that it took."""
        command = [sys.executable, "-m", "graphopt", "optimize", str(model)]
        command += ["--recipe", str(recipe), *arguments, "--seed", str(seed), "-o", str(out)]
        command += ["--threads", str(self.options.threads)]
        for suffix in (".json", ".html"):
            command += ["--report", str(out.with_suffix(suffix))]
        threads = {"OMP_NUM_THREADS": str(self.options.threads)}
        started, before = time.perf_counter(), _children_seconds()
        done = subprocess.run(
            command, capture_output=True, text=True, check=False, env={**os.environ, **threads}
        )
        if done.returncode not in (0, LIMITS_NOT_MET):
            said = done.stderr.strip() or f"exit code {done.returncode}"
            raise MissingError(said.splitlines()[-1].removeprefix("graphopt: error: "))
        out.with_suffix(".txt").write_text(done.stdout, encoding="utf-8")
        return time.perf_counter() - started, _children_seconds() - before


def _children_seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def zeros(path: Path) -> float:
    """Share of zeros in all float weights, of two axes or more, that hold any; 0 for none."""
    held = [numpy_helper.to_array(tensor) for tensor in onnx.load(path).graph.initializer]
    weights = [w for w in held if w.dtype.kind == "f" and w.ndim > 1 and not w.all()]
    empty = sum(int((w == 0).sum()) for w in weights)
    return empty / max(1, sum(w.size for w in weights))


def asked(row: Row) -> str:
    """What is asked of a row, for the table."""
    parts = [] if row.least is None else [f">= {row.least:g}"]
    if row.most_seconds is not None:
        parts.append(f"<= {row.most_seconds:g} s")
    return ", ".join(parts)


def line(row: Row, outcome: Outcome) -> str:
    """A row of the Markdown table."""
    found = outcome.score
    if found is None:
        return f"| {row.name} | {outcome.seed} | {asked(row)} | {outcome.missing} | | | | | | | |"
    cells: list[Any] = [
        *(row.name, outcome.seed, asked(row)),
        *(f"{figure:.2f}" for figure in (found.before, outcome.untrained, found.after)),
        "" if found.agreement is None else f"{found.agreement:.1f} %",
        f"{outcome.bytes_ratio:.3f}x",
        f"{outcome.zeros:.2%}" if outcome.zeros >= LEAST_ZEROS else "",
        *(f"{outcome.seconds:.0f}", f"{outcome.cpu_seconds:.0f}"),
    ]
    return f"| {' | '.join(map(str, cells))} |"


def failed(row: Row, outcome: Outcome) -> bool:
    """Whether a row fell short of what is asked; one that could not run did not."""
    found = outcome.score
    if found is None or found.after is None:
        return False
    short = row.least is not None and found.after < row.least
    return short or (row.most_seconds is not None and outcome.seconds > row.most_seconds)


def parse(arguments: list[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("folder", nargs="?", type=Path, metavar="FOLDER")
    parser.add_argument("rows", nargs="*", metavar="ROW", help="only these")
    parser.add_argument("--list", action="store_true", help="name the rows and stop")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0], metavar="N")
    parser.add_argument("--threads", type=int, default=2, help="of each run (default 2)")
    parser.add_argument("--checkpoints", type=Path, metavar="DIR", help="go on from what is there")
    parser.add_argument(
        "--work", type=Path, default=Path("training"), metavar="DIR", help="default: training"
    )
    options = parser.parse_intermixed_args(arguments)
    if options.folder is None and not options.list:
        parser.error("give the folder of models, or --list")
    known = [row.name for row in ROWS]
    if unknown := [name for name in options.rows if name not in known]:
        parser.error(f"no row {unknown[0]!r}; there are {', '.join(known)}")
    return options


def main(arguments: list[str] | None = None) -> int:
    """Print a line a run; the exit code is 1 where one fell short of what is asked."""
    options = parse(arguments)
    if options.list:
        print("\n".join(f"{row.name:26} {row.model:26} {row.data:9} {asked(row)}" for row in ROWS))
        return 0
    options.work.mkdir(parents=True, exist_ok=True)
    bench, outcomes, short = Bench(options), list[Outcome](), False
    print(HEADER, flush=True)
    for row in ROWS:
        for seed in options.seeds if row.name in options.rows or not options.rows else []:
            try:
                outcome = bench.run(row, seed)
            except MissingError as err:
                outcome = Outcome(row.name, seed, missing=str(err))
            outcomes.append(outcome)
            short |= failed(row, outcome)
            print(line(row, outcome), flush=True)
            figures = json.dumps([dataclasses.asdict(each) for each in outcomes], indent=1)
            (options.work / "training.json").write_text(figures + "\n", encoding="utf-8")
    return int(short)


if __name__ == "__main__":
    sys.exit(main())
