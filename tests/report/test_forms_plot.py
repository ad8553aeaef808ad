"""The picture of an analysis."""

from __future__ import annotations

import re
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

from graphopt.contract.forms import FormFigures, LayerFigures, ModelFigures
from graphopt.errors import SystemFailure
from graphopt.report.forms_plot import bytes_curve, forms_picture, write_picture
from graphopt.report.layer_forms import Analysis

NAMES = ("conv", "<odd> & name", "out")
FIGURES = ModelFigures(
    tuple(
        LayerFigures(
            name,
            "Conv",
            {
                "float32": FormFigures(0.0, 400),
                "int8-weights": FormFigures(1e-4, 100),
                "int4-weights": FormFigures(1e-2 * (at + 1), 50),
            },
        )
        for at, name in enumerate(NAMES)
    ),
    {},
    bytes=30,
    samples=8,
)
FOUND = Analysis("model.onnx", "host", 1, FIGURES, "calib", 1.0)


def test_the_curve_rises_from_the_smallest_file_to_floats() -> None:
    curve = bytes_curve(FIGURES)
    assert curve[0][0] == 30 + 3 * 50
    assert curve[-1] == (30 + 3 * 400, 300.0)
    assert [size for size, _ in curve] == sorted({size for size, _ in curve})
    assert [db for _, db in curve] == sorted(db for _, db in curve)


def test_every_layer_and_form_is_drawn() -> None:
    root = ET.fromstring(forms_picture(FOUND))
    titles = [each.text for each in root.iter() if each.tag.endswith("title")]
    for name in NAMES:
        assert f"{name} as int8-weights" in titles
        assert f"{name} as int4-weights" in titles
    assert "all layers as int4-weights" in titles
    texts = [each.text for each in root.iter() if each.tag.endswith("text")]
    assert {"int8-weights", "int4-weights", "0.25x", "60"} <= set(texts)


def test_a_noisier_layer_stands_lower() -> None:
    circles = re.findall(r'cy="([\d.]+)"[^>]*><title>([^<]*) as int4', forms_picture(FOUND))
    heights = [float(y) for y, _ in circles]
    assert heights == sorted(heights)
    assert len(set(heights)) == 3


def test_a_place_that_cannot_be_written(tmp_path: Path) -> None:
    write_picture(FOUND, tmp_path / "a.svg")
    assert (tmp_path / "a.svg").read_text().startswith("<svg ")
    with pytest.raises(SystemFailure, match="cannot write"):
        write_picture(FOUND, tmp_path / "no" / "a.svg")
