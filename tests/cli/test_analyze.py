"""``graphopt analyze`` through real processes: table, JSON, resuming, and what is refused."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import jsonschema
import pytest

from graphopt.report.layer_forms import analysis_schema

Run = Callable[..., subprocess.CompletedProcess[str]]

FAST = ("--threads", "1", "--no-trial")


def analyzed(run: Run, *arguments: str) -> dict[str, object]:
    done = run("analyze", "model.onnx", "--data", "calib.npz", "--json", *FAST, *arguments)
    assert done.returncode == 0, done.stderr
    found: dict[str, object] = json.loads(done.stdout)
    jsonschema.Draft202012Validator(analysis_schema()).validate(found)
    return found


def test_each_layer_is_told_in_each_form(run: Run, folder: Path) -> None:
    drawn = ("--target", "x86-vnni", "--plot", "forms.svg")
    done = run("analyze", "model.onnx", "--data", "calib.npz", *FAST, *drawn)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[0].split()[:3] == ["layer", "bytes", "time"]
    assert {"int8-weights", "int8-static", "int4-static"} <= set(lines[0].split())
    (conv,) = (line.split() for line in lines if line.startswith("Conv(conv)"))
    assert conv[1:3] == ["1.8", "kB"]
    (whole,) = (line.split() for line in lines if line.startswith("int8-static"))
    assert whole[1] == "2"
    assert float(whole[4].removesuffix("x")) < 1.0
    assert "16 samples (calib)" in done.stdout
    assert "Conv(conv) as int4-static" in (folder / "forms.svg").read_text()
    assert "measure layers in " in done.stderr
    assert "quantize-static" not in done.stderr


def test_a_run_goes_on_from_what_was_measured(run: Run, folder: Path) -> None:
    first = analyzed(run, "--forms", "int8-static", "--resume", "kept.json")
    text = (folder / "kept.json").read_text()
    document = json.loads(text)
    name, _ = document["measured"].popitem()
    assert "on the grid" in name or "with weights" in name
    document["measured"] = dict.fromkeys(document["measured"], 0.125)
    (folder / "kept.json").write_text(json.dumps(document))
    again = analyzed(run, "--forms", "int8-static", "--resume", "kept.json")
    assert first["layers"] != again["layers"]  # what is kept is taken as it is
    kept = json.loads((folder / "kept.json").read_text())["measured"]
    assert kept[name] == json.loads(text)["measured"][name]
    assert sum(value == 0.125 for value in kept.values()) == len(kept) - 1


def test_when_the_time_is_over_what_is_known_is_told(run: Run) -> None:
    found = analyzed(run, "--time-limit", "0.001", "--forms", "int8-weights")
    assert found["unmeasured"] == 2
    layers = found["layers"]
    assert isinstance(layers, list)
    assert [list(each["forms"]) for each in layers] == [["float32"], ["float32"]]


def kept_by_another_model(folder: Path) -> None:
    (folder / "kept.json").write_text(
        json.dumps({"schema": "graphopt-measured/1", "model": "other", "measured": {}})
    )


def cut_off(folder: Path) -> None:
    (folder / "kept.json").write_text('{"schema": "graphopt-meas')


def something_else(folder: Path) -> None:
    (folder / "kept.json").write_text('{"layers": []}')


def nothing(_: Path) -> None:
    """Leave the folder as it is."""


@pytest.mark.parametrize(
    ("arguments", "prepare", "code", "words"),
    [
        ([], nothing, 2, "there are no samples to measure errors on; give them with --data DATA"),
        (["--data", "no.npz"], nothing, 3, "no.npz"),
        (
            ["--data", "calib.npz", "--forms", "int8-statik"],
            nothing,
            2,
            "unknown form 'int8-statik'; did you mean 'int8-static'?",
        ),
        (
            ["--data", "calib.npz", "--forms", "int8-dynamic,"],
            nothing,
            2,
            "unknown form ''",
        ),
        (
            ["--data", "calib.npz", "--resume", "kept.json"],
            kept_by_another_model,
            3,
            "kept.json: holds what was measured with another model",
        ),
        (
            ["--data", "calib.npz", "--resume", "kept.json"],
            cut_off,
            3,
            "kept.json: not read: it is no JSON, or cut off; give another name, or remove it",
        ),
        (
            ["--data", "calib.npz", "--resume", "kept.json"],
            something_else,
            3,
            "kept.json: no file of what was measured; give another name",
        ),
        (["--data", "calib.npz", "--resume", "model.onnx"], nothing, 2, "model.onnx"),
        (["--data", "calib.npz", "--resume", "no/kept.json"], nothing, 5, "no/kept.json"),
        (["--data", "calib.npz", "--target", "toaster"], nothing, 2, "toaster"),
        (["--data", "calib.npz", "--plot", "a.png"], nothing, 2, "plot a.png: name it .svg"),
        (["--data", "calib.npz", "--plot", "no/a.svg"], nothing, 5, "there is no folder no"),
    ],
)
def test_what_is_wrong_is_one_line(
    run: Run,
    folder: Path,
    arguments: list[str],
    prepare: Callable[[Path], None],
    code: int,
    words: str,
) -> None:
    prepare(folder)
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    done = run("analyze", "model.onnx", *arguments, *FAST)
    assert (done.returncode, done.stdout) == (code, "")
    (line,) = [line for line in done.stderr.splitlines() if ": error: " in line]
    assert words in line
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


def test_a_model_that_is_quantized_already_is_refused(run: Run) -> None:
    made = run(
        *("optimize", "model.onnx", "-o", "int8.onnx", "--calib", "calib.npz", "--no-trial"),
        *("-p", "quantize-static"),
    )
    assert made.returncode == 0, made.stderr
    done = run("analyze", "int8.onnx", "--data", "calib.npz", *FAST)
    assert done.returncode == 3
    assert "no layer has any of these forms" in done.stderr
