"""How long ``graphopt --help`` takes, against importing click alone, and what it imports.

    python benchmarks/startup.py [--rounds N]

Fails (exit code 1) where a heavy module is imported or the help takes longer than 0.3 s and three
times of ``python -c "import click"``.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time

import numpy as np

HELP = [sys.executable, "-m", "graphopt", "--help"]
CLICK = [sys.executable, "-c", "import click"]
HEAVY = ("numpy", "onnx", "onnx_graphsurgeon", "onnxruntime", "rich", "scipy", "torch")
MOST_SECONDS = 0.3
MOST_RATIO = 3.0

_LIST_MODULES = """
import sys
sys.argv = ["graphopt", "--help"]
sys.stdout = open(__import__("os").devnull, "w")
from graphopt.cli import main
try:
    main()
except SystemExit:
    pass
sys.stderr.write("\\n".join(sys.modules))
"""


def seconds(command: list[str]) -> float:
    """Time that a command takes from start to end."""
    started = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - started


def heavy_modules() -> list[str]:
    """Heavy modules that the help imports, in a process of its own."""
    command = [sys.executable, "-c", _LIST_MODULES]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    loaded = {line.partition(".")[0] for line in done.stderr.splitlines()}
    return [name for name in HEAVY if name in loaded]


def main() -> int:
    """Measure, print, and judge; gives the exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=15)
    rounds = parser.parse_args().rounds
    for command in (HELP, CLICK):
        seconds(command)  # byte code and disk cache
    pairs = np.array([[seconds(HELP), seconds(CLICK)] for _ in range(rounds)])
    ours, click = np.median(pairs, axis=0)
    ratio = float(np.median(pairs[:, 0] / pairs[:, 1]))
    heavy = heavy_modules()
    print(f"graphopt --help        {ours * 1000:6.0f} ms")
    print(f"python -c import click {click * 1000:6.0f} ms")
    print(f"ratio                  {ratio:6.2f}")
    print(f"heavy modules          {', '.join(heavy) or 'none'}")
    return int(bool(heavy) or (ours > MOST_SECONDS and ratio > MOST_RATIO))


if __name__ == "__main__":
    sys.exit(main())
