"""What reports print for few samples, held against fresh ones: `python -m tests.fuzz.promises`.

Each random graph goes through every mode with 16 samples to calibrate and 16 to judge on; then both
models answer 256 others of the same distribution. An output whose measured SQNR is below what the
report says of fresh samples is a broken promise; one in twenty may be.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.fuzz import graphs
from tests.fuzz.case import Case
from tests.fuzz.helper import Bounds, Helper

__all__ = ["Promise", "promises"]

_BOUNDS = Bounds(seconds=120, bytes=4 * 10**9)
_SHARE = 0.95


@dataclass(frozen=True)
class Promise:
    """One output of one run, all in dB; minus infinity where nothing is said.

    Attributes:
        number: Of the case, as for the kind ``graphs``.
        output: Its name.
        printed: What the report measured.
        least: What it says that fresh samples give at least.
        measured: What they give.
    """

    number: int
    output: str
    printed: float
    least: float
    measured: float

    @property
    def kept(self) -> bool:
        """A tenth of a decibel is rounding of the report."""
        return self.measured >= min(self.least, 100.0) - 0.1


def promises(numbers: range) -> Iterator[Promise]:
    """Run the cases of ``graphs`` and measure what each says of fresh samples."""
    worker, judge = Helper(), Helper()
    try:
        for number in numbers:
            with tempfile.TemporaryDirectory(prefix="graphopt-fuzz-") as folder:
                worker.ask(_BOUNDS, do="make", kind="graphs", number=number, folder=folder)
                arguments = [*Case.noted(Path(folder)).arguments, "--report", "r.json"]
                answer = worker.ask(_BOUNDS, do="run", folder=folder, arguments=arguments)
                if answer["code"] != 0:
                    continue
                measured = judge.ask(
                    _BOUNDS,
                    do="measure",
                    folder=folder,
                    model="m.onnx",
                    out="o.onnx",
                    feeds="fresh.npy",
                )
                quality = json.loads((Path(folder) / "r.json").read_text())["quality"]
                for output, printed in quality["sqnr_db"].items():
                    fresh = (quality.get("fresh") or {}).get("sqnr_db", {}).get(output, printed)
                    yield Promise(
                        number, output, _decibels(printed), _decibels(fresh), measured[output]
                    )
    finally:
        worker.end()
        judge.end()


def _decibels(figure: float | str | None) -> float:
    """Reports write infinity as text, and nothing where nothing can be said."""
    return float("-inf") if figure is None else float(figure)


def _main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz.promises", description=__doc__)
    parser.add_argument("--count", type=int, default=150, help="how many graphs, in all modes")
    parser.add_argument("--first", type=int, default=0, help="number of the first graph")
    asked = parser.parse_args()
    made = kept = 0
    for promise in promises(
        range(asked.first * graphs.MODES, (asked.first + asked.count) * graphs.MODES)
    ):
        made, kept = made + 1, kept + promise.kept
        if not promise.kept:
            print(promise, flush=True)
    print(f"{kept} of {made} promises kept")
    return 0 if kept >= _SHARE * made else 1


if __name__ == "__main__":
    sys.exit(_main())
