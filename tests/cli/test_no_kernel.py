"""A model that is sound and has no kernel here: what needs no run is done, and it is said."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from graphopt.testing import model_from_text

Run = Callable[..., subprocess.CompletedProcess[str]]

OWN = """<ir_version: 8, opset_import: ["" : 17, "own" : 1]>
g (float[1,4] x) => (float[1,4] y) {
    a = Identity (x)
    w = Constant <value = float[4,4] {1,0,0,0, 0,1,0,0, 0,0,1,0, 0,0,0,1}> ()
    b = MatMul (a, w)
    y = own.Filter (b)
}"""
WRONG = OWN.replace("own.Filter (b)", "MatMul (b, b)")
REASON = (
    "onnxruntime has no kernel here: it does not know the operator own:Filter; "
    "give the library of its operators with --ops-library FILE"
)
REGISTERS = """
#include <stdio.h>
#include <stdlib.h>
void *RegisterCustomOps(void *options, const void *api) {
    (void)options, (void)api;
    FILE *seen = fopen(getenv("SEEN"), "a");
    fputs("registered\\n", seen);
    fclose(seen);
    return NULL;
}
"""


@pytest.fixture
def own(tmp_path: Path) -> Path:
    for name, text in (("own", OWN), ("wrong", WRONG)):
        (tmp_path / f"{name}.onnx").write_bytes(model_from_text(text).SerializeToString())
    return tmp_path


@pytest.fixture
def library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    compiler = shutil.which("cc")
    if compiler is None:
        pytest.skip("no C compiler")
    (tmp_path / "ops.c").write_text(REGISTERS)
    made = tmp_path / "ops.so"
    subprocess.run([compiler, "-shared", "-fPIC", "-o", made, tmp_path / "ops.c"], check=True)
    monkeypatch.setenv("SEEN", str(tmp_path / "seen"))
    return made


def test_what_needs_no_run_is_done_and_the_report_and_stderr_say_so(run: Run, own: Path) -> None:
    result = run("optimize", "own.onnx", "--report", "r.json")
    assert result.returncode == 0
    assert result.stderr == f"graphopt: note: not run: {REASON}\n"
    report = json.loads((own / "r.json").read_text(encoding="utf-8"))
    assert report["quality"]["samples"] == 0
    assert report["quality"]["needs"] == ["operators"]
    assert [item["name"] for item in report["candidates"] if item["chosen"]] == ["float, cleaned"]
    assert (own / "own.opt.onnx").exists()


@pytest.mark.parametrize("command", [("inspect",), ("compare", "own.onnx")])
def test_other_commands_say_it_too(run: Run, own: Path, command: tuple[str, ...]) -> None:
    result = run(*command, "own.onnx")
    assert result.returncode == 0
    assert result.stderr.startswith("graphopt: note: not ")
    assert result.stderr.endswith(f"{REASON}\n")


@pytest.mark.parametrize("command", [("inspect",), ("optimize",), ("bench",)])
def test_what_is_wrong_in_itself_is_refused(run: Run, own: Path, command: tuple[str, ...]) -> None:
    result = run(*command, "wrong.onnx")
    assert (result.returncode, result.stdout) == (3, "")
    assert result.stderr.startswith("graphopt: error: onnxruntime cannot load the model: ")
    assert not (own / "wrong.opt.onnx").exists()


def test_a_library_is_registered_in_every_process(run: Run, own: Path, library: Path) -> None:
    result = run("inspect", "own.onnx", "--ops-library", library.name)
    assert REASON in result.stderr  # it registers nothing of that name
    assert (own / "seen").read_text() == "registered\n"
    (own / "sound.onnx").write_bytes(
        model_from_text(OWN.replace("own.Filter", "Relu")).SerializeToString()
    )
    result = run("bench", "sound.onnx", "--rounds", "3", "--ops-library", library.name)
    assert (result.returncode, result.stderr) == (0, "")
    assert len((own / "seen").read_text().split()) >= 3  # and by sessions of one thread


@pytest.mark.parametrize(
    ("library", "words"),
    [
        ("own.onnx", "its operators cannot be registered: "),
        ("nowhere.so", "nowhere.so: no library of operators: No such file or directory"),
        (".", "it is a folder, not a regular file"),
    ],
)
def test_what_is_no_library_is_a_line(run: Run, own: Path, library: str, words: str) -> None:
    result = run("optimize", "own.onnx", "--ops-library", library)
    assert (result.returncode, result.stdout) == (2, "")
    assert result.stderr.count("\n") == 1
    assert words in result.stderr


def test_a_library_is_not_written_over(run: Run, own: Path, library: Path) -> None:
    before = library.read_bytes()
    result = run("optimize", "own.onnx", "--ops-library", library.name, "-o", library.name)
    assert result.returncode == 2
    assert "is read by this run" in result.stderr
    assert library.read_bytes() == before
