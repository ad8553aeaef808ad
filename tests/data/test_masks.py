"""Folders of pictures with masks: which belong together, and what labels they make."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import parser

from graphopt.data import open_data
from graphopt.data.feeds import CheckedSamples, told_of
from graphopt.data.folder import files_below
from graphopt.data.masks import mask_pairs
from graphopt.errors import DataError
from graphopt.graph.graph import Graph
from graphopt.graph.tensors import Array

Image = pytest.importorskip("PIL.Image")
GRAPH = "g (float[n, 3, h, w] x) => (float[n, 3, h, w] y) { y = Relu (x) }"
RNG = np.random.default_rng(0)


def picture(path: Path, height: int = 4, width: int = 6) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(RNG.integers(0, 255, (height, width, 3)).astype(np.uint8)).save(path)


def mask(path: Path, values: Array, mode: str = "L") -> Array:
    path.parent.mkdir(parents=True, exist_ok=True)
    made = Image.fromarray(values)
    if mode == "P":
        made = made.convert("L")
        made = Image.frombytes("P", made.size, made.tobytes())
        made.putpalette([255, 0, 7] * 256)
    made.save(path)
    return values


def numbers(height: int = 4, width: int = 6, most: int = 5) -> Array:
    return RNG.integers(0, most, (height, width)).astype(np.uint8)


def opened(folder: Path, **images: Any) -> CheckedSamples:
    samples = open_data(folder, Graph(parser.parse_model(HEAD + GRAPH)), images)
    assert isinstance(samples, CheckedSamples)
    return samples


HEAD = '<ir_version: 8, opset_import: ["" : 17]> '


@pytest.mark.parametrize(
    ("pictures", "masks"),
    [
        (["images/a.png", "images/b.jpg"], ["masks/a.png", "masks/b.png"]),
        (["val/img/a.png", "val/img/b.png"], ["val/labels/a_mask.png", "val/labels/b.png"]),
        (["Img/x/a.png", "Img/y/a.png"], ["Annotations/x/a.png", "Annotations/y/a.bmp"]),
        (["images/a.png"], []),
    ],
)
def test_folders_side_by_side_make_pairs(pictures: list[str], masks: list[str]) -> None:
    folder = Path("/data")
    files = [str(folder / name) for name in (*pictures, *masks)]
    wanted = {str(folder / a): str(folder / b) for a, b in zip(pictures, masks, strict=False)}
    assert mask_pairs(folder, files) == wanted


@pytest.mark.parametrize(
    "files",
    [
        ["cats/a.png", "dogs/a.png"],
        ["images/a.png", "masks/a.png", "readme.png"],
        ["masks/a.png"],
    ],
)
def test_other_folders_have_no_masks(files: list[str]) -> None:
    assert mask_pairs(Path("/data"), [f"/data/{name}" for name in files]) == {}


@pytest.mark.parametrize(
    ("files", "words"),
    [
        (["images/a.png", "images/b.png", "masks/a.png"], "/data/images/b.png: a picture without"),
        (["images/a.png", "masks/a.png", "masks/b.png"], "/data/masks/b.png: a mask without a pi"),
        (["images/a.png", "masks/a.png", "masks/a_mask.png"], "a_mask.png: of the same name as /d"),
        (["images/a.png", "images/a.jpg", "masks/a.png"], "a.jpg: of the same name as /data/image"),
    ],
)
def test_what_has_no_counterpart_is_refused(files: list[str], words: str) -> None:
    with pytest.raises(DataError, match=words):
        mask_pairs(Path("/data"), [f"/data/{name}" for name in files])


@pytest.mark.parametrize("mode", ["L", "P", "1", "RGB", "16 bits"])
def test_masks_are_labels_by_the_number_of_each_pixel(tmp_path: Path, mode: str) -> None:
    wanted = []
    for name in "ab":
        picture(tmp_path / "images" / f"{name}.png")
        values = numbers(most=2 if mode == "1" else 5)
        wanted.append(values.astype(np.uint16) * 1000 if mode == "16 bits" else values)
        stored = {"1": wanted[-1] > 0, "RGB": np.repeat(values[..., None], 3, 2)}.get(
            mode, wanted[-1]
        )
        mask(tmp_path / "masks" / f"{name}.png", stored, mode)
    samples = opened(tmp_path)
    assert samples.count == 2
    assert samples.labels is not None
    assert np.array_equal(samples.labels, np.stack(wanted))
    assert sorted({name for feed, _ in samples.feeds() for name in feed}) == ["x"]
    assert told_of(samples) == []


def test_masks_go_through_the_same_resizing_and_crop(tmp_path: Path) -> None:
    picture(tmp_path / "images" / "a.png", 8, 12)
    values = mask(tmp_path / "masks" / "a.png", numbers(8, 12))
    samples = opened(tmp_path, size=4, crop=[2, 4])
    assert samples.labels is not None
    assert np.array_equal(samples.labels, values[1::2, 1::2][None, 1:3, 1:5])
    (feed, _), *_ = samples.feeds()
    assert feed["x"].shape == (1, 3, 2, 4)


def test_a_mask_of_another_size_is_brought_to_its_picture_and_told(tmp_path: Path) -> None:
    picture(tmp_path / "images" / "a.png", 8, 12)
    values = mask(tmp_path / "masks" / "a.png", numbers())
    samples = opened(tmp_path)
    assert samples.labels is not None
    assert np.array_equal(samples.labels, np.kron(values, np.ones((2, 2), int))[None])
    (told,) = told_of(samples)
    assert told.endswith(
        ": 1 of 1 masks were brought to the size of their pictures, nearest neighbour"
    )


def test_what_is_no_mask_is_refused(tmp_path: Path) -> None:
    picture(tmp_path / "images" / "a.png")
    picture(tmp_path / "masks" / "a.png")
    with pytest.raises(DataError, match=r"masks/a.png: has colours, where a mask has one number a"):
        opened(tmp_path)
    (tmp_path / "masks" / "a.png").unlink()
    mask(tmp_path / "masks" / "a.jpg", numbers())
    with pytest.raises(DataError, match=r"a.jpg: a JPEG does not keep the numbers of classes"):
        opened(tmp_path)


def test_labels_beside_them_are_the_labels(tmp_path: Path) -> None:
    picture(tmp_path / "images" / "a.png")
    mask(tmp_path / "masks" / "a.png", numbers())
    np.save(tmp_path / "labels.npy", np.arange(2))
    assert len(files_below(tmp_path)) == 3
    assert opened(tmp_path).count == 2
