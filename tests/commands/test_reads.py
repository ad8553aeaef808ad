"""All roles of files that are read against all places that are written, under every spelling."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

import graphopt
from graphopt.commands.reads import files_read, kept, model_read
from graphopt.commands.sources import Data
from graphopt.contract.recipe import Recipe
from graphopt.contract.spec import parse_passes
from graphopt.errors import UsageError
from graphopt.graph import io
from graphopt.run.files import Read, Written, refuse_overlaps


def write_model(path: Path, location: str) -> None:
    weight = numpy_helper.from_array(np.eye(4, dtype=np.float32), "w")
    inputs, outputs = ([helper.make_tensor_value_info(n, 1, ["b", 4])] for n in "xy")
    graph = helper.make_graph([helper.make_node("MatMul", ["x", "w"], ["y"])], "g", inputs, outputs)
    graph.initializer.append(weight)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save_model(model, path, save_as_external_data=True, location=location, size_threshold=0)


@pytest.fixture(scope="module")
def held(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a file in every role."""
    folder = tmp_path_factory.mktemp("held")
    for name in ("samples/deep", "pictures", "kept", "sub", "package"):
        (folder / name).mkdir(parents=True)
    write_model(folder / "model.onnx", "model.bin")
    write_model(folder / "sub" / "teacher.onnx", "teacher.bin")
    for name in ("calib.npz", "samples/a.npy", "samples/deep/b.npz", "samples/labels.npy"):
        (folder / name).write_bytes(b"samples")
    for name in ("pictures/a.png", "kept/distill-0123456789abcdef.npz", "recipe.toml"):
        (folder / name).write_bytes(b"bytes")
    for name in ("feeds.py", "judge_of_reads.py", "step.py", "package/__init__.py", "package/m.py"):
        (folder / name).write_text("raise ImportError('nothing is imported')\n")
    return folder


ROLES = {
    "model.onnx": "the model",
    "model.bin": "external data of the model",
    "sub/teacher.onnx": "the teacher",
    "sub/teacher.bin": "external data of the teacher",
    "calib.npz": "the calibration data",
    "samples/a.npy": "the evaluation data",
    "samples/deep/b.npz": "the evaluation data",
    "samples/labels.npy": "the evaluation data",
    "feeds.py": "the training data",
    "recipe.toml": "the recipe",
    "judge_of_reads.py": "the metric",
    "step.py": "the function of apply-function",
    "kept/distill-0123456789abcdef.npz": "the checkpoints",
}


def reads_of(held: Path, **changed: Any) -> tuple[Read, ...]:
    data = Data(calibration="calib.npz", evaluation="samples", training="feeds.py:samples")
    models = [
        *model_read("the model", held / "model.onnx", io.load(held / "model.onnx")),
        *model_read("the teacher", "sub/teacher.onnx", io.load(held / "sub" / "teacher.onnx")),
    ]
    passes = tuple(parse_passes('apply-function{function="step.py:f"}'))
    return files_read(
        models,
        Recipe(passes=passes),
        replace(data, **changed),
        recipe_file="recipe.toml",
        metric="judge_of_reads:accuracy",
        checkpoints="kept",
    )


def same(place: Path, _: Path) -> Path:
    return place


def other_spelling(place: Path, _: Path) -> Path:
    return Path("sub") / ".." / place.parent / ".." / place.parent.resolve().name / place.name


def symlink(place: Path, link: Path) -> Path:
    link.symlink_to(place.resolve())
    return link


def hard_link(place: Path, link: Path) -> Path:
    link.hardlink_to(place)
    return link


def through_folder(place: Path, link: Path) -> Path:
    link.symlink_to(place.resolve().parent, target_is_directory=True)
    return link / place.name


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("way", [same, other_spelling, symlink, hard_link, through_folder])
@pytest.mark.parametrize("written", ["the output", "the report", "second report"])
def test_nothing_that_is_read_is_written(
    held: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    written: str,
    way: Callable[[Path, Path], Path],
) -> None:
    monkeypatch.chdir(held)
    reads, before = reads_of(held), contents(held)
    for number, (name, role) in enumerate(ROLES.items()):
        place = way(Path(name), tmp_path / f"link{number}")
        writes = [Written(written, place)]
        if written == "second report":
            writes = [Written("the output", tmp_path / "o"), Written("r", tmp_path / "r"), *writes]
        with pytest.raises(UsageError, match="is read by this run") as caught:
            refuse_overlaps(reads, [*writes, *kept("kept")])
        message = str(caught.value)
        assert message.startswith(f"{written} {place} ")
        assert role in message
        assert "\n" not in message
    assert contents(held) == before


@pytest.mark.parametrize(
    ("place", "data"),
    [
        ("samples/new.npy", "samples"),
        ("samples/new.NPZ", "samples"),
        ("samples/deep/new.npz", "samples"),
        ("sub/../samples/new.npy", "samples"),
        ("pictures/new.jpg", "pictures"),
        ("kept/new.npz", "calib.npz"),
        ("kept/new.part", "calib.npz"),
        ("imported_by_feeds.py", "calib.npz"),
    ],
)
def test_nothing_becomes_a_sample_a_checkpoint_or_a_module(
    held: Path, monkeypatch: pytest.MonkeyPatch, place: str, data: str
) -> None:
    monkeypatch.chdir(held)
    reads = reads_of(held, evaluation=data)
    with pytest.raises(UsageError, match=r"would be among the files of .* give a place outside"):
        refuse_overlaps(reads, [Written("the output", Path(place)), *kept("kept")])


@pytest.mark.parametrize("place", ["samples", "samples/new/state", "./sub/../samples/deep"])
def test_checkpoints_do_not_become_samples(
    held: Path, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    monkeypatch.chdir(held)
    with pytest.raises(
        UsageError, match=r"the checkpoints .* would be among the files of the eval"
    ):
        refuse_overlaps(reads_of(held), kept(place))


@pytest.mark.parametrize(
    "place",
    [
        "new.onnx",
        "MODEL.data",
        "samples/new.onnx",
        "samples/.hidden.npy",
        "kept/new.onnx",
        "model.onnx.data",
        "package/m.py",
    ],
)
def test_other_places_are_free(held: Path, monkeypatch: pytest.MonkeyPatch, place: str) -> None:
    monkeypatch.chdir(held)
    refuse_overlaps(
        reads_of(held),
        [Written("the output", Path(place)), Written("the report", Path("r.json")), *kept("kept")],
    )


@pytest.mark.parametrize("reference", ["package.m:f", "package:f", "feeds:f", "feeds.py:f"])
def test_modules_are_read_too(held: Path, monkeypatch: pytest.MonkeyPatch, reference: str) -> None:
    monkeypatch.chdir(held)
    monkeypatch.setattr(sys, "path", [entry for entry in sys.path if entry])
    place = {"package.m:f": "package/m.py", "package:f": "package/__init__.py"}
    reads = reads_of(held, calibration=reference)
    with pytest.raises(UsageError, match=r"it is the (calibration|training) data"):
        refuse_overlaps(reads, [Written("the output", Path(place.get(reference, "feeds.py")))])


def test_what_names_no_file_is_no_role(held: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(held)
    for data in ("no.such.module:f", "sys:exit", "none.npz", "a" * 5000, "a\0b", "feeds.m:f"):
        refuse_overlaps(reads_of(held, calibration=data), [Written("the output", Path("o.onnx"))])


def test_links_in_a_circle(held: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(held)
    loop = tmp_path / "loop.npz"
    loop.symlink_to(loop)
    for data in (loop, loop / "below"):
        refuse_overlaps(reads_of(held, calibration=data), [Written("the output", Path("o.onnx"))])
    refuse_overlaps(reads_of(held), [Written("the output", loop), *kept(loop / "below")])
    with pytest.raises(UsageError, match="names of their own"):
        refuse_overlaps(reads_of(held), [Written("the output", loop), *kept(loop)])


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("o.json", "o.json"),
        ("o.json", "O.json"),
        ("o.json", "sub/../o.json"),
        ("o.json", "folder-link/o.json"),
        ("model.onnx", "link.json"),
        ("model.onnx", "hard.json"),
    ],
)
def test_two_places_are_two(
    held: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, one: str, other: str
) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(held, copy)
    monkeypatch.chdir(copy)
    Path("folder-link").symlink_to(copy)
    Path("link.json").symlink_to("model.onnx")
    os.link("model.onnx", "hard.json")
    with pytest.raises(UsageError, match="need names of their own"):
        refuse_overlaps([], [Written("the output", Path(one)), Written("the report", Path(other))])


@pytest.mark.parametrize("folder", ["out.onnx", "out.onnx/below", "sub/../out.onnx/a/b"])
def test_no_folder_is_made_where_the_output_goes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, folder: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "sub").mkdir()
    with pytest.raises(UsageError, match="names of their own"):
        refuse_overlaps([], [Written("the output", Path("out.onnx")), *kept(folder)])
    refuse_overlaps([], [Written("the output", Path("sub/out.onnx")), *kept("sub")])


def test_the_result_is_saved_over_nothing_else_that_was_read(
    held: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(held, copy)
    monkeypatch.chdir(copy)
    np.savez("calib.npz", x=np.ones((4, 4), np.float32))
    before = contents(copy)
    result = graphopt.optimize("model.onnx", "quantize-weights", calibration="calib.npz")
    for name in ("model.bin", "sub/../model.bin", "calib.npz"):
        with pytest.raises(UsageError, match="is read by this run"):
            result.save(name)
    assert contents(copy) == before
    result.save("model.onnx")  # as a whole, with data of its own
    after = contents(copy)
    assert after.pop(str(copy / "model.onnx")) != before.pop(str(copy / "model.onnx"))
    assert before.items() <= after.items()
    assert io.load("model.onnx").data_files
    assert result.graph.weight_bytes == io.load("model.onnx").weight_bytes


def test_a_place_that_is_read_is_refused_before_anything_runs(
    held: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(held)
    with pytest.raises(UsageError, match=r"the output feeds\.py is read by this run"):
        graphopt.optimize(
            "model.onnx",
            "quantize-weights",
            calibration="feeds.py:samples",  # importing it would raise
            writes=[Written("the output", Path("feeds.py"))],
        )
