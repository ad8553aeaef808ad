"""The table of pruned models runs on what the repository holds."""

import argparse
import json
from pathlib import Path

import pruning
import pytest
from zoo import Entry


def test_passes_of_a_row() -> None:
    assert pruning.passes(0.5, "float").endswith("prune-channels{macs=0.5},reconstruct-weights")
    whole, both = pruning.passes(1.0, "int8"), pruning.passes(0.75, "int8")
    assert "prune-channels" not in whole
    assert "reconstruct-weights,fuse-activations" in both
    assert whole.endswith(pruning.INT8)
    assert both.endswith(pruning.INT8)


def test_a_model_of_the_repository_is_pruned_and_scored(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "table"
    assert pruning.main(["--models", "digits-mlp", "--macs", "0.6", "--output", str(output)]) == 0
    printed = capsys.readouterr().out.splitlines()
    assert output.with_suffix(".md").read_text().splitlines() == printed
    (row,) = json.loads(output.with_suffix(".json").read_text())
    assert (row["model"], row["macs"], row["form"]) == ("digits-mlp", 0.6, "float")
    left = row["report"]["output"]["macs"] / row["report"]["input"]["macs"]
    assert left <= 0.6 == pytest.approx(left, abs=0.1)
    assert row["score"]["metric"] == "top1"
    assert row["score"]["after"] > 80
    assert row["cpu_seconds"] > 0
    cells = [cell.strip() for cell in printed[2].split("|")]
    assert cells[1:5] == ["digits-mlp", "x0.6", "float", f"{left:.3f}x"]
    assert cells[-2] == f"{row['report']['peak_rss_bytes'] / 2**20:.0f}"


def test_int8_comes_behind_each_share_and_behind_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def told(entry: Entry, macs: float, form: str, options: argparse.Namespace) -> pruning.Row:
        return pruning.Row(entry.name, macs, form, error="not run")

    monkeypatch.setattr(pruning, "run", told)
    arguments = ["--models", "digits-cnn", "--macs", "0.7", "--int8"]
    assert pruning.main([*arguments, "--output", str(tmp_path / "table")]) == 1
    rows = [line.split("|")[2:4] for line in capsys.readouterr().out.splitlines()[2:]]
    assert [[cell.strip() for cell in row] for row in rows] == [
        ["x0.7", "float"],
        ["all", "int8"],
        ["x0.7", "int8"],
    ]


def test_a_run_that_fails_is_a_line_of_the_table(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("kind-eval.npz", "kind-calib.npz", "kind-net.onnx"):
        (tmp_path / name).write_bytes(b"junk")
    assert pruning.main([str(tmp_path), "--macs", "0.5", "--output", str(tmp_path / "t")]) == 1
    last = capsys.readouterr().out.splitlines()[-1]
    assert last.startswith("| kind-net | x0.5 | float | ")
    assert "kind-net.onnx is not an ONNX model" in last


def test_a_folder_without_models(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert pruning.main([str(tmp_path)]) == 2
    assert "no such model in it" in capsys.readouterr().out
