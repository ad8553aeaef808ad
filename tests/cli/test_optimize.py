"""``graphopt optimize`` in real processes: what each option does to files, stdout and stderr."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnx
import pytest

pty = pytest.importorskip("pty")

Run = Callable[..., subprocess.CompletedProcess[str]]
Start = Callable[..., subprocess.Popen[str]]

GONE = "no node of this name or type is left: a pass before took it"
STATIC = ("-p", "quantize-static", "--calib", "calib.npz")


def done(run: Run, *arguments: str, code: int = 0) -> subprocess.CompletedProcess[str]:
    result = run("optimize", "model.onnx", *arguments)
    assert result.returncode == code, result.stderr
    if code == 0:
        assert result.stderr == ""
    return result


def report(run: Run, *arguments: str, code: int = 0) -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads(done(run, "--json", *arguments, code=code).stdout)
    return loaded


def test_a_pattern_whose_node_a_pass_before_took_is_a_skip(run: Run, folder: Path) -> None:
    model = onnx.load(folder / "model.onnx")
    model.graph.node[1].op_type, model.graph.node[1].name = "Identity", "nothing"
    onnx.save(model, folder / "model.onnx")
    spec = "eliminate-identity,mask-weights{min_size=1,exclude=nothing}"
    first, second = report(run, "-p", spec)["passes"]
    assert (first["status"], second["status"]) == ("done", "done")
    assert {"node": "nothing", "reason": GONE} in second["skipped"]


def test_output_lies_beside_the_input(run: Run, folder: Path) -> None:
    before = (folder / "model.onnx").read_bytes()
    assert "model.opt.onnx" in done(run, *STATIC).stdout
    operators = [node.op_type for node in onnx.load(folder / "model.opt.onnx").graph.node]
    assert "QuantizeLinear" in operators
    assert (folder / "model.onnx").read_bytes() == before
    assert sorted(path.name for path in folder.iterdir()) == [
        "calib.npz",
        "eval.npz",
        "model.onnx",
        "model.opt.onnx",
    ]


def test_auto_is_what_runs_without_a_plan(run: Run, folder: Path) -> None:
    found = report(run, "--calib", "calib.npz", "--eval", "eval.npz", "-o", "out.onnx")
    assert found["candidates"]
    assert found["quality"]["metric"]["name"] == "top1"
    onnx.checker.check_model(onnx.load(folder / "out.onnx"), full_check=True)


def test_same_seed_gives_the_same_bytes(run: Run, folder: Path) -> None:
    for name in ("a.onnx", "b.onnx"):
        done(run, *STATIC, "--seed", "7", "-o", name)
    assert (folder / "a.onnx").read_bytes() == (folder / "b.onnx").read_bytes()


def test_reports_say_what_was_done(run: Run, folder: Path) -> None:
    printed = report(run, *STATIC, "--threads", "1", "--report", "r.json", "--report", "r.html")
    written = json.loads((folder / "r.json").read_text(encoding="utf-8"))
    assert written == printed
    assert written["environment"]["threads"] == 1
    assert [each["name"] for each in written["passes"]] == ["quantize-static"]
    assert (folder / "r.html").read_text(encoding="utf-8").lstrip().startswith("<!")


def test_dry_run_says_and_writes_nothing(run: Run, folder: Path) -> None:
    before = sorted(folder.iterdir())
    result = done(run, *STATIC, "--dry-run", "-o", "out.onnx", "--report", "r.json")
    assert "quantize-static" in result.stdout
    assert sorted(folder.iterdir()) == before


def test_broken_limit_is_exit_4_with_the_better_model_written(run: Run, folder: Path) -> None:
    result = done(run, *STATIC, "--min-sqnr", "250", "-o", "out.onnx", "--json", code=4)
    assert result.stderr.startswith("graphopt: error: not met: ")
    assert result.stderr.count("\n") == 1
    limit, *_ = json.loads(result.stdout)["limits"]
    assert not limit["met"]
    operators = [node.op_type for node in onnx.load(folder / "out.onnx").graph.node]
    assert "QuantizeLinear" not in operators


def test_strict_ends_at_the_first_refused_pass(run: Run, folder: Path) -> None:
    twice = ("-p", "quantize-static,quantize-static", "--calib", "calib.npz", "-o", "out.onnx")
    found = report(run, *twice, "--keep-going")
    assert [each["status"] for each in found["passes"]] == ["done", "refused"]
    (folder / "out.onnx").unlink()
    result = run("optimize", "model.onnx", "-p", "quantize-static", "--strict", "-o", "out.onnx")
    assert result.returncode == 4
    assert result.stderr.count("\n") == 1
    assert not (folder / "out.onnx").exists()


def test_a_refused_pass_ends_with_4_and_what_the_others_made_is_written(
    run: Run, folder: Path
) -> None:
    passes = ("-p", "mask-weights{min_size=0},quantize-static", "-o", "out.onnx")
    result = run("optimize", "model.onnx", *passes)
    assert result.returncode == 4
    assert result.stderr == (
        "graphopt: error: quantize-static refused: quantize-static needs calibration samples; "
        "give them with --calib DATA; what the other passes made was written; --keep-going makes "
        "that no failure\n"
    )
    weights = [
        onnx.numpy_helper.to_array(t) for t in onnx.load(folder / "out.onnx").graph.initializer
    ]
    assert any((each == 0).mean() == 0.5 for each in weights)
    (folder / "out.onnx").unlink()
    assert run("optimize", "model.onnx", *passes, "--keep-going").returncode == 0
    assert (folder / "out.onnx").exists()
    result = run("optimize", "model.onnx", "-p", "quantize-static", "-o", "same.onnx")
    assert result.returncode == 4
    assert "--calib DATA; the model is as it was; --keep-going" in result.stderr
    assert onnx.load(folder / "same.onnx").graph == onnx.load(folder / "model.onnx").graph


def test_when_the_time_is_over_auto_starts_nothing_new_and_says_so(run: Run) -> None:
    found = report(run, "--calib", "calib.npz", "--time-limit", "0", "-o", "out.onnx")
    assert [each["chosen"] for each in found["candidates"]] == [True]
    assert found["messages"][0] == (
        "not tried: int8 static, int8 weights only; the time limit of 0 s was over"
    )


def test_a_time_limit_is_for_auto(run: Run) -> None:
    result = run("optimize", "model.onnx", "-p", "fuse-batchnorm", "--time-limit", "5")
    assert result.returncode == 2
    assert result.stderr.count("\n") == 1
    assert "bounds the search of auto" in result.stderr


def test_memory_limit_is_taken_and_kept(run: Run) -> None:
    assert report(run, *STATIC, "--memory-limit", "1.5GiB")["passes"][0]["status"] == "done"


def test_verbose_says_more(run: Run) -> None:
    brief = done(run, *STATIC).stdout
    full = run("optimize", "model.onnx", *STATIC, "-v")
    assert full.returncode == 0
    assert len(full.stdout.splitlines()) > len(brief.splitlines())
    assert "conv" in full.stdout.lower()
    assert "MB beyond plain inference" in full.stderr


def test_recipe_in_the_output_repeats_the_run(run: Run, folder: Path) -> None:
    done(run, *STATIC, "-o", "a.onnx")
    recipe = {item.key: item.value for item in onnx.load(folder / "a.onnx").metadata_props}
    (folder / "r.toml").write_text(recipe["graphopt.recipe"], encoding="utf-8")
    done(run, "--recipe", "r.toml", "--calib", "calib.npz", "-o", "b.onnx")
    assert (folder / "a.onnx").read_bytes() == (folder / "b.onnx").read_bytes()


@pytest.mark.parametrize("command", ["inspect", "bench", "compare"])
def test_json_of_other_commands_is_nothing_but_json(run: Run, command: str) -> None:
    models = ["model.onnx"] * (2 if command == "compare" else 1)
    result = run(command, *models, "--json")
    assert (result.returncode, result.stderr) == (0, "")
    assert json.loads(result.stdout)


def test_passes_can_be_listed_and_shown_as_json(run: Run) -> None:
    names = [each["name"] for each in json.loads(run("passes", "--json").stdout)]
    assert "quantize-static" in names
    shown = json.loads(run("passes", "quantize-static", "--json").stdout)
    assert shown["name"] == "quantize-static"


def test_progress_is_drawn_on_a_terminal_only(start: Start) -> None:
    """On a terminal stderr shows what goes on, and stdout stays pure JSON."""
    terminal, inside = pty.openpty()
    process = start("optimize", "model.onnx", *STATIC, "--json", stderr=inside)
    os.close(inside)
    drawn = b""
    while True:
        try:
            part = os.read(terminal, 65536)
        except OSError:  # the other side closed it
            break
        if not part:
            break
        drawn += part
    os.close(terminal)
    assert process.stdout is not None
    stdout = process.stdout.read()
    assert process.wait(timeout=60) == 0
    assert json.loads(stdout)["passes"]
    assert b"\x1b[" in drawn
    assert b"calib" in drawn.lower() or b"observ" in drawn.lower()
