"""What a command lacks is told with the option that gives it, and in JSON by its name."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

Run = Callable[..., subprocess.CompletedProcess[str]]

STATIC = ("-p", "quantize-static", "--calib", "calib.npz")
NO_SAMPLES = "quantize-static needs calibration samples"
TOO_LARGE = "the memory limit leaves 0.005 MB"


@pytest.mark.parametrize(
    ("arguments", "code", "line"),
    [
        (
            "-p quantize-static --strict",
            4,
            f"{NO_SAMPLES}; give them with --calib DATA",
        ),
        (
            "-p quantize-static --calib calib.npz --memory-limit 20KB --strict",
            4,
            f"{TOO_LARGE}; give a larger --memory-limit",
        ),
        (
            "-p mask-weights --max-drop 1",
            2,
            "max-drop needs evaluation samples with labels; give them with --eval DATA",
        ),
        (
            "-p mask-weights --max-drop 1 --eval calib.npz",
            3,
            "max-drop needs labels, and the evaluation samples have none; add an array 'labels' "
            "(labels.npy in a folder)",
        ),
        (
            "-p mask-weights --metric top1",
            2,
            "a metric needs evaluation samples with labels; give them with --eval DATA",
        ),
        (
            "-p mask-weights --metric top1 --eval calib.npz",
            3,
            "a metric needs labels, and the evaluation samples have none; add an array 'labels' "
            "(labels.npy in a folder)",
        ),
        (
            "-p mask-weights --train calib.npz",
            2,
            "training is given and no pass trains; add distill or another one",
        ),
        (
            "--train calib.npz",
            2,
            "training is given, and auto trains only what a limit allows to prune; give "
            "--max-drop, --min-agreement or --min-sqnr",
        ),
    ],
)
def test_an_error_names_the_option(run: Run, arguments: str, code: int, line: str) -> None:
    result = run("optimize", "model.onnx", *arguments.split())
    assert result.returncode == code
    assert result.stderr.startswith("graphopt: error: ")
    assert result.stderr.endswith(f"{line}\n")


def test_pictures_of_another_size(run: Run, folder: Path) -> None:
    image = pytest.importorskip("PIL.Image")
    (folder / "pictures").mkdir()
    image.fromarray(np.zeros((5, 6, 3), np.uint8)).save(folder / "pictures" / "a.png")
    given = ("-p", "quantize-static", "--calib", "pictures")
    for more, words in (
        ((), "set size and crop, layout and color to fit"),
        (("--image-crop", "7"), "fewer than the crop of 7 x 7; set size to at least that"),
    ):
        result = run("optimize", "model.onnx", *given, *more)
        assert result.returncode == 3
        assert f"{words}; the options are --image-size and --image-crop\n" in result.stderr


@pytest.mark.parametrize(
    ("arguments", "status", "reason", "need", "advice"),
    [
        (STATIC[:2], "refused", NO_SAMPLES, "calibration", "give them with --calib DATA"),
        (
            (*STATIC, "--memory-limit", "20KB"),
            "rolled back",
            TOO_LARGE,
            "memory_limit",
            "give a larger --memory-limit",
        ),
    ],
)
def test_a_record_keeps_the_name_and_its_readers_see_the_option(
    run: Run,
    folder: Path,
    arguments: tuple[str, ...],
    status: str,
    reason: str,
    need: str,
    advice: str,
) -> None:
    reports = ("--report", "r.json", "--report", "r.html")
    result = run("optimize", "model.onnx", *arguments, *reports)
    assert result.returncode == (4 if status == "refused" else 0)
    (record,) = json.loads((folder / "r.json").read_text(encoding="utf-8"))["passes"]
    assert (record["status"], record["needs"]) == (status, [need])
    assert record["reason"].endswith(reason)
    assert f"{reason}; {advice}\n" in result.stdout
    assert f"{reason}; {advice}</span>" in (folder / "r.html").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("arguments", "note", "need", "advice"),
    [
        ((), "measured on random feeds", "samples", "give them with --calib or --eval DATA"),
        (("--memory-limit", "1KB"), "not run", "memory_limit", "give a larger --memory-limit"),
    ],
)
def test_a_note_on_the_figures_does_so_too(
    run: Run, folder: Path, arguments: tuple[str, ...], note: str, need: str, advice: str
) -> None:
    reports = ("--report", "r.json", "--report", "r.html")
    result = run("optimize", "model.onnx", "-p", "eliminate-dead", *arguments, *reports)
    assert result.returncode == 0
    quality = json.loads((folder / "r.json").read_text(encoding="utf-8"))["quality"]
    assert quality["needs"] == [need]
    assert quality["note"].startswith(note)
    told = f"graphopt: note: {quality['note']}; {advice}\n" if note == "not run" else ""
    assert result.stderr == told
    for text in (result.stdout, (folder / "r.html").read_text(encoding="utf-8")):
        assert f"{quality['note']}; {advice}" in " ".join(text.split())  # a terminal wraps it


def test_a_candidate_does_so_too(run: Run, folder: Path) -> None:
    given = ("--calib", "calib.npz", "--memory-limit", "20KB", "--report", "r.json")
    result = run("optimize", "model.onnx", *given)
    assert (result.returncode, result.stderr) == (0, "")
    table = json.loads((folder / "r.json").read_text(encoding="utf-8"))["candidates"]
    static = next(item for item in table if item["name"] == "int8 static")
    assert static["needs"] == ["memory_limit"]
    assert static["verdict"].endswith(TOO_LARGE)
    assert "give a larger" in " ".join(result.stdout.split())


def test_compare_says_what_gives_figures_that_count(run: Run) -> None:
    result = run("compare", "model.onnx", "model.onnx")
    assert "random feeds; figures that count need samples; give them with --data DATA" in (
        result.stdout
    )
    assert json.loads(run("compare", "model.onnx", "model.onnx", "--json").stdout)["needs"] == [
        "data"
    ]
