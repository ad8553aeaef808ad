"""The table of trainings: rows, recipes and what is missing."""

import shutil
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import onnx
import pytest
import training
from scoring import Score
from training_data import MissingError, Source

from graphopt.contract.recipe import read_recipe
from graphopt.families.training import TrainingPass

RECIPES = sorted((Path(training.__file__).parent / "recipes").glob("*.toml"))
SCORE = Score({"logits": 20.0}, 95.0, "top1", 81.03, 81.2, 1.0, 1.0, 0.0)


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_recipes_are_recipes_and_train(path: Path) -> None:
    passes = read_recipe(path).passes
    assert any(isinstance(each, TrainingPass) for each in passes)
    assert path.stem in {row.path.stem for row in training.ROWS}


def test_rows_have_teachers_before_them() -> None:
    names = [row.name for row in training.ROWS]
    assert len(set(names)) == len(names)
    for index, row in enumerate(training.ROWS):
        assert not row.teacher or row.teacher in ("float", *names[:index])


def test_what_is_missing_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = [str(tmp_path), "--work", str(tmp_path / "work"), "resnet20-half-macs"]
    assert training.main(arguments) == 0
    said = capsys.readouterr().out
    assert f"no cifar-resnet20/model.onnx in {tmp_path}" in said
    assert "0.000x" not in said


def test_the_list_needs_no_folder(capsys: pytest.CaptureFixture[str]) -> None:
    assert training.main(["--list"]) == 0
    assert ">= 81, <= 300 s" in capsys.readouterr().out
    with pytest.raises(SystemExit):
        training.main([])
    with pytest.raises(SystemExit):
        training.main(["folder", "resnet2"])
    assert "no row 'resnet2'" in capsys.readouterr().err


def test_lines_and_what_falls_short() -> None:
    row = training.ROWS[0]
    good = training.Outcome(row.name, 1, 47.0, SCORE, 0.5, 0.0, 150.4, 290.0)
    assert training.line(row, good) == (
        "| resnet20-half-macs | 1 | >= 81, <= 300 s | 81.03 | 47.00 | 81.20 | 95.0 % | 0.500x |  "
        "| 150 | 290 |"
    )
    assert not training.failed(row, good)
    slow = training.Outcome(row.name, 1, 47.0, SCORE, 0.5, 0.9, 301.0, 290.0)
    assert training.failed(row, slow)
    assert "| 90.00% |" in training.line(row, slow)
    assert not training.failed(row, training.Outcome(row.name, 1, missing="no model"))


def test_zeros_are_counted_where_there_are_some(tmp_path: Path) -> None:
    model = onnx.parser.parse_model(
        '<ir_version: 8, opset_import: ["" : 18]> g (float[1, 2] x) => (float[1, 2] y) '
        "<float[2, 2] a = {0, 0, 0, 1}, float[2, 2] b = {1, 1, 1, 1}, float[2] c = {0, 0}> "
        "{ p = MatMul(x, a) q = MatMul(p, b) y = Add(q, c) }"
    )
    onnx.save(model, tmp_path / "model.onnx")
    assert training.zeros(tmp_path / "model.onnx") == 0.75


def test_pictures_are_normalized_once(tmp_path: Path) -> None:
    pictures = np.zeros((2, 4, 4, 3), np.uint8)
    pictures[1] = 255
    np.savez(tmp_path / "train.npz", images=pictures, labels=np.array([3, 1]))
    source = Source(tmp_path, tmp_path)
    with np.load(source.pictures(labelled=True)) as made:
        assert made["input"].shape == (2, 3, 4, 4)
        assert made["input"].dtype == np.float32
        np.testing.assert_allclose(made["input"][1, 0], (1 - 0.485) / 0.229, rtol=1e-5)
        np.testing.assert_array_equal(made["labels"], [3, 1])
    (tmp_path / "train.npz").unlink()
    assert source.pictures(labelled=True).exists()
    with pytest.raises(MissingError, match=r"no train\.npz"):
        source.pictures(labelled=False)


@pytest.mark.skipif(find_spec("torch") is None, reason="needs the extra train")
def test_a_row_from_the_command_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    models = Path(__file__).parents[2] / "models"
    (tmp_path / "digits").mkdir()
    (tmp_path / "recipes").mkdir()
    for source, name in (("cnn.onnx", "model.onnx"), ("calib.npz",) * 2, ("eval.npz",) * 2):
        shutil.copy(models / f"digits-{source}", tmp_path / "digits" / name)
    (tmp_path / "recipes" / "quick.toml").write_text(
        '[[passes]]\nname = "factorize-conv"\nrank = 1\nallow_slower = true\n'
        '[[passes]]\nname = "distill"\nsteps = 3\nevaluations = 1\n'
    )
    monkeypatch.setattr(training, "HERE", tmp_path)
    row = training.Row("quick", "digits", "calib", least=101.0, calibrated=True)
    monkeypatch.setattr(training, "ROWS", (row,))
    work = tmp_path / "work"
    assert training.main([str(tmp_path), "--work", str(work), "--threads", "1"]) == 1
    cells = capsys.readouterr().out.splitlines()[2].strip("| ").split(" | ")
    assert cells[:4] == ["quick", "0", ">= 101", "99.12"]
    assert float(cells[4]) < 99.12
    assert float(cells[5]) > 0
    assert "distill" in (work / "quick-0.txt").read_text()
    assert "distill" not in (work / "quick-untrained.txt").read_text()
