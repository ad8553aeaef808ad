"""The memory limit holds for all that a run holds: measured on processes of their own."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from graphopt.graph import io
from graphopt.testing import model_from_text

LIMIT = 100 * 10**6
TEXT = """<ir_version: 8, opset_import: ["" : 17]>
g (float[N, 3, H, W] x) => (float[N, 4, A, B] y) {
    a = Conv <pads = [1, 1, 1, 1]> (x, first)
    b = Relu(a)
    c = Conv <pads = [1, 1, 1, 1]> (b, second)
    d = Relu(c)
    e = Conv <pads = [1, 1, 1, 1]> (d, second)
    f = Relu(e)
    y = Conv <strides = [4, 4]> (f, third)
}"""
PLAIN = """
import resource, sys
import graphopt
from graphopt.data import open_data
from graphopt.graph import io
from graphopt.runtime.session import Session
graph = io.load(sys.argv[1])
samples = open_data(sys.argv[2], graph)
session = Session(graph, threads=1)
for feeds, _ in samples.feeds(batch=1, limit=3):
    session.run(feeds)
"""
LIMITED = """
import resource, sys
import graphopt
result = graphopt.optimize(
    sys.argv[1], calibration=sys.argv[2], memory_limit=int(sys.argv[3]), threads=1, trial=False
)
static = next(item for item in result.report.candidates if item.name == "int8 static")
assert static.sqnr_db is not None, static.verdict
"""
PEAK = "\nprint(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024)\n"


def peak(code: str, *arguments: str | Path) -> int:
    """Bytes that a process of its own takes at most."""
    command = [sys.executable, "-c", code + PEAK, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return int(done.stdout.split()[-1])


@pytest.mark.skipif(sys.platform != "linux", reason="resident memory is told in other units")
def test_a_search_takes_no_more_than_plain_inference_and_the_limit(tmp_path: Path) -> None:
    shapes = {"first": (24, 3, 3, 3), "second": (24, 24, 3, 3), "third": (4, 24, 4, 4)}
    io.save(io.load(model_from_text(TEXT, shapes)), tmp_path / "model.onnx")
    pictures = np.random.default_rng(0).normal(size=(40, 3, 224, 224)).astype(np.float32)
    np.savez(tmp_path / "calib.npz", x=pictures)
    files = tmp_path / "model.onnx", tmp_path / "calib.npz"
    plain = peak(PLAIN, *files)
    assert peak(LIMITED, *files, str(LIMIT)) <= 1.1 * (plain + LIMIT)
