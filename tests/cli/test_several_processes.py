"""Under a launcher such as torchrun only the leading process prints and writes."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

Run = Callable[..., subprocess.CompletedProcess[str]]

PLAN = ("optimize", "model.onnx", "-p", "fuse-batchnorm", "-o", "out.onnx", "--report", "r.json")


@pytest.fixture
def launched(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """Sets what a launcher tells the process of a number, of two."""

    def launch(rank: int) -> None:
        told = {"RANK": str(rank), "WORLD_SIZE": "2", "MASTER_ADDR": "localhost"}
        for name, value in {**told, "MASTER_PORT": "29500"}.items():
            monkeypatch.setenv(name, value)

    return launch


def test_the_leading_process_prints_and_writes(
    run: Run, folder: Path, launched: Callable[[int], None]
) -> None:
    launched(0)
    result = run(*PLAN)
    assert (result.returncode, result.stderr) == (0, "")
    assert "Written: out.onnx" in result.stdout
    assert (folder / "r.json").exists()


def test_the_others_run_along_in_silence(
    run: Run, folder: Path, launched: Callable[[int], None]
) -> None:
    launched(1)
    before = sorted(folder.iterdir())
    result = run(*PLAN, "-v", "--min-sqnr", "400")
    assert (result.returncode, result.stdout, result.stderr) == (0, "", "")
    assert sorted(folder.iterdir()) == before


def test_an_error_says_in_which_process_it_was(run: Run, launched: Callable[[int], None]) -> None:
    launched(1)
    result = run("optimize", "no.onnx")
    assert result.returncode == 3
    assert result.stderr == "graphopt (process 1): error: no.onnx: no such file\n"


def test_an_environment_without_sense_is_told_in_a_line(
    run: Run, launched: Callable[[int], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    launched(0)
    monkeypatch.setenv("WORLD_SIZE", "9" * 5000)
    result = run("inspect", "none.onnx")
    assert (result.returncode, result.stdout, result.stderr.count("\n")) == (5, "", 1)
    assert "error: the environment has WORLD_SIZE='999" in result.stderr
