"""Ctrl-C and SIGTERM in the middle of a run, sent to a real process."""

from __future__ import annotations

import hashlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from graphopt.cli.stop import Stopped, stop_behind

Start = Callable[..., subprocess.Popen[str]]

SLOW = """
import pathlib, time
import numpy as np

calls = 0

def feeds():
    "Quick while the samples are checked, slow when the model is calibrated on them."
    global calls
    calls += 1
    for number in range(50):
        if calls > 1:
            pathlib.Path("busy").touch()
            time.sleep(0.1)
        yield np.random.default_rng(number).random((3, 8, 8), np.float32)
"""


def wait_for(path: Path, process: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + 60
    while not path.exists():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.mark.parametrize(
    ("signum", "code"), [(signal.SIGHUP, 129), (signal.SIGINT, 130), (signal.SIGTERM, 143)]
)
def test_stop_while_it_calibrates(start: Start, folder: Path, signum: int, code: int) -> None:
    (folder / "slow.py").write_text(SLOW)
    (folder / "scratch").mkdir()
    before = hashlib.sha256((folder / "model.onnx").read_bytes()).digest()
    files = {path.name for path in folder.iterdir()}
    process = start(
        *("optimize", "model.onnx", "-o", "out.onnx", "--report", "out.json"),
        *("-p", "quantize-static", "--calib", "slow.py:feeds"),
        scratch=folder / "scratch",
    )
    wait_for(folder / "busy", process)
    process.send_signal(signum)
    stdout, stderr = process.communicate(timeout=60)
    assert process.returncode == code
    assert (stdout, stderr) == ("", "graphopt: error: interrupted; nothing half-written is left\n")
    assert {path.name for path in folder.iterdir()} == {*files, "busy"}
    assert list((folder / "scratch").iterdir()) == []
    assert hashlib.sha256((folder / "model.onnx").read_bytes()).digest() == before


def test_stop_inside_a_finalizer_is_sent_again() -> None:
    """Python drops what is raised in ``__del__``; the run must end all the same."""
    script = """
import os, signal, time
from graphopt.cli.stop import Stopped, listen

class Final:
    def __del__(self):
        os.kill(os.getpid(), signal.SIGTERM)
        for _ in range(1000):
            pass

listen()
try:
    Final()
    time.sleep(20)
except Stopped as stop:
    raise SystemExit(stop.code)
"""
    ended = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=False
    )
    assert (ended.returncode, ended.stderr) == (143, "")


def test_stop_that_became_another_error_is_found() -> None:
    stop = Stopped(signal.SIGINT)
    try:
        try:
            raise stop
        except Stopped as err:
            raise ImportError("initialization failed") from err
    except ImportError as err:
        assert stop_behind(err) is stop
    assert stop_behind(ValueError("a bug")) is None


def test_reader_that_leaves_is_no_error(start: Start, folder: Path) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    process = start("passes", stdout=writing)
    os.close(writing)
    _, stderr = process.communicate(timeout=60)
    assert (process.returncode, stderr) == (141, "")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_output_that_cannot_be_printed(start: Start) -> None:
    with Path("/dev/full").open("w") as full:
        _, stderr = (process := start("passes", stdout=full)).communicate(timeout=60)
    assert process.returncode == 5
    assert stderr.startswith("graphopt: error: no room left")
    assert stderr.count("\n") == 1
