"""A small model, its data, graphopt as a real process; golden files beside the tests."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx.numpy_helper
import onnx.parser
import pytest
from hypothesis import settings

import graphopt

ROOT = Path(graphopt.__file__).parents[1]

settings.register_profile("busy", deadline=None)  # a busy machine fails no test
settings.load_profile("busy")

MODEL = """<ir_version: 8, opset_import: ["" : 17]>
small (float[N, 3, 8, 8] image) => (float[N, 10] scores)
<float[16, 3, 3, 3] w1, float[16] b1, float[10, 16] w2, float[10] b2> {
    conv = Conv<pads: ints = [1, 1, 1, 1]>(image, w1, b1)
    relu = Relu(conv)
    mean = GlobalAveragePool(relu)
    flat = Flatten(mean)
    scores = Gemm<transB: int = 1>(flat, w2, b2)
}"""


def small_model() -> onnx.ModelProto:
    """A classifier of pictures: Conv, Relu, GlobalAveragePool, Gemm; seeded random weights."""
    model = onnx.parser.parse_model(MODEL)
    rng = np.random.default_rng(0)
    shapes: list[tuple[str, tuple[int, ...]]] = [
        ("w1", (16, 3, 3, 3)),
        ("b1", (16,)),
        ("w2", (10, 16)),
        ("b2", (10,)),
    ]
    for name, shape in shapes:
        values = rng.standard_normal(shape).astype(np.float32)
        model.graph.initializer.append(onnx.numpy_helper.from_array(values, name))
    return model


def pictures(count: int) -> np.ndarray[Any, np.dtype[np.float32]]:
    """``(count, 3, 8, 8)``, seeded."""
    return np.random.default_rng(1).standard_normal((count, 3, 8, 8)).astype(np.float32)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """``model.onnx`` and ``calib.npz`` (16 pictures with labels) in a folder of their own."""
    onnx.save(small_model(), tmp_path / "model.onnx")
    np.savez(tmp_path / "calib.npz", image=pictures(16))
    np.savez(tmp_path / "eval.npz", image=pictures(16), labels=np.arange(16) % 10)
    return tmp_path


def environment() -> dict[str, str]:
    """The caller's, so that the process finds this very graphopt and leaves no caches behind."""
    return {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1", "TERM": "xterm"}


def defaults() -> None:
    """Signals as in a terminal, whatever the test runner was started with."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


def command(*arguments: str) -> list[str]:
    """The command line of graphopt with this interpreter."""
    return [sys.executable, "-m", "graphopt", *arguments]


@pytest.fixture
def run(folder: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Runs graphopt in ``folder`` and hands back exit code, stdout and stderr."""

    def runs(*arguments: str, **options: Any) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            command(*arguments),
            cwd=folder,
            env=environment(),
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
            **options,
        )

    return runs


@pytest.fixture
def start(folder: Path) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Starts graphopt in ``folder``; what still runs at the end of the test is killed."""
    started: list[subprocess.Popen[str]] = []

    def starts(*arguments: str, scratch: Path | None = None, **streams: Any) -> Any:
        env = environment()
        if scratch is not None:
            env["TMPDIR"] = str(scratch)
        streams = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **streams}
        process = subprocess.Popen(
            command(*arguments),
            cwd=folder,
            env=env,
            text=True,
            preexec_fn=defaults,  # noqa: PLW1509 - the tests start no threads
            **streams,
        )
        started.append(process)
        return process

    yield starts
    for process in started:
        process.kill()
        process.communicate()


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--update-golden", action="store_true", help="write the golden files anew")


@pytest.fixture
def golden(request: pytest.FixtureRequest) -> Callable[[str, str], None]:
    """Compares text with the file ``golden/NAME`` beside the test, but for blanks at line ends."""

    def compare(name: str, text: str) -> None:
        path = request.path.parent / "golden" / name
        lines = "".join(f"{line.rstrip()}\n" for line in text.splitlines())
        if request.config.getoption("--update-golden"):
            path.parent.mkdir(exist_ok=True)
            path.write_text(lines, encoding="utf-8")
        assert path.exists(), f"{path} is missing; make it with --update-golden"
        assert lines == path.read_text(encoding="utf-8")

    return compare
