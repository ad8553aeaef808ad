"""graphopt beside other tools: each in an environment of its own, one table, one picture."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from xml.etree import ElementTree as ET

import onnx
import peers
import pytest
from networks import mobilenetv2
from peer_tools import TOOLS
from peers_picture import Mark, picture

from graphopt.facts.layers import Layer, layers
from graphopt.graph.graph import Graph


def _environment(folder: Path, name: str) -> None:
    """An environment that is there already: this one."""
    python = folder / name / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.write_text(f'#!/bin/sh\nexec "{sys.executable}" "$@"\n')
    python.chmod(0o755)
    (folder / name / "complete").touch()


def test_a_model_of_the_repository_beside_onnxruntime(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("onnxruntime", "onnxsim"):
        _environment(tmp_path, name)
    output = tmp_path / "peers"
    models = str(Path(peers.__file__).parents[1] / "models")
    command = [models, "--models", "digits-cnn", "--presets", "int8-static", "--rounds", "5"]
    command += ["--tools", "onnxruntime", "onnxsim", "--limit", "200"]
    assert peers.main([*command, "--venvs", str(tmp_path), "--output", str(output)]) == 0
    printed = capsys.readouterr().out.splitlines()
    assert output.with_suffix(".md").read_text().splitlines() == printed
    ours, theirs, missing = json.loads(output.with_suffix(".json").read_text())
    assert ours["tool"] == "graphopt int8-static"
    assert 9 <= ours["integer"] <= ours["layers"]
    assert ours["score"]["metric"] == theirs["score"]["metric"] == "top1"
    assert 0.1 < ours["bytes_ratio"] < 0.5
    assert theirs["to_best"] == pytest.approx(1.0)
    assert ours["to_best"] > 0
    assert "No module named 'onnxsim'" in missing["error"]
    assert printed[4].startswith("| digits-cnn | onnxsim | ModuleNotFoundError: No module named")
    svg = ET.fromstring(output.with_suffix(".svg").read_text())
    titles = [each.text for each in svg.iter("{http://www.w3.org/2000/svg}title")]
    assert titles == ["graphopt int8-static", "onnxruntime"]


def test_the_picture_has_a_mark_for_each_file_within_its_chart() -> None:
    marks = [Mark(f"model {at % 4}", f"tool <{at % 5}>", at / 8, 40.0 - 5 * at) for at in range(20)]
    svg = ET.fromstring(picture(marks))
    _, _, width, height = map(float, svg.attrib["viewBox"].split())
    circles = list(svg.iter("{http://www.w3.org/2000/svg}circle"))
    assert len(circles) == 20 + 5
    for each in circles:
        assert 0 < float(each.attrib["cx"]) < width
        assert 0 < float(each.attrib["cy"]) < height
    assert "tool <1>" in [each.text for each in svg.iter("{http://www.w3.org/2000/svg}text")]


def test_every_tool_says_what_is_installed_for_it() -> None:
    assert {"onnxruntime", "NNCF", "onnxsim"} <= TOOLS.keys()
    assert all("onnx" in needs for needs, _ in TOOLS.values())


def test_mobilenetv2_has_its_layers() -> None:
    model = mobilenetv2(size=64)
    onnx.checker.check_model(model, full_check=True)
    found = [each for each in layers(Graph(model)) if isinstance(each, Layer)]
    assert len(found) == 53
    assert sum(each.depthwise for each in found) == 17
    assert 3.4e6 < sum(each.values().size for each in found) < 3.5e6
