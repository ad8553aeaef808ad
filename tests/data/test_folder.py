"""Folders of ``.npy`` and ``.npz`` files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx.parser
import pytest

from graphopt.data import open_data
from graphopt.data.feeds import CheckedSamples, told_of
from graphopt.errors import DataError
from graphopt.graph.graph import Graph


def graph_of(inputs: str) -> Graph:
    text = f"""<ir_version: 8, opset_import: ["" : 17]>
    g ({inputs}) => (float[1] out) {{ out = Constant<value_floats: floats = [1.0]>() }}"""
    return Graph(onnx.parser.parse_model(text))


def rows(count: int, *shape: int) -> np.ndarray[Any, np.dtype[np.float32]]:
    return np.arange(count * int(np.prod(shape)), dtype=np.float32).reshape(count, *shape)


def test_one_sample_a_file_is_joined_in_the_order_of_names(tmp_path: Path) -> None:
    for number in (2, 0, 1):
        np.save(tmp_path / f"{number}.npy", np.array([number, 10], np.float32))
    (tmp_path / "README.txt").write_text("left alone")
    (tmp_path / ".hidden.npy").write_bytes(b"left alone")
    samples = open_data(tmp_path, graph_of("float[N, 2] x"))
    assert samples.count == 3
    assert [(f["x"].tolist(), r) for f, r in samples.feeds(2)] == [
        ([[0, 10], [1, 10]], 2),
        ([[2, 10]], 1),
    ]


def test_batches_are_cut_and_joined_across_files(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", rows(3, 2))
    np.save(tmp_path / "b.npy", rows(4, 2))
    found = list(open_data(tmp_path, graph_of("float[N, 2] x")).feeds(2))
    assert [r for _, r in found] == [2, 2, 2, 1]
    joined = np.concatenate([f["x"] for f, _ in found])
    assert np.array_equal(joined, np.concatenate([rows(3, 2), rows(4, 2)]))


def test_fixed_batch_is_filled_across_files(tmp_path: Path) -> None:
    for number in range(5):
        np.save(tmp_path / f"{number}.npy", np.array([number], np.float32))
    found = list(open_data(tmp_path, graph_of("float[4, 1] x")).feeds())
    assert [(f["x"][:, 0].tolist(), r) for f, r in found] == [([0, 1, 2, 3], 4), ([4] * 4, 1)]


def test_samples_of_other_lengths_are_not_joined(tmp_path: Path) -> None:
    for number, length in enumerate((3, 3, 5)):
        np.savez(tmp_path / f"{number}.npz", ids=np.arange(length), mask=np.ones(length, bool))
    found = list(open_data(tmp_path, graph_of("int64[N, S] ids, bool[N, S] mask")).feeds(8))
    assert [f["ids"].shape for f, _ in found] == [(2, 3), (1, 5)]


def test_subfolders_belong_to_it(tmp_path: Path) -> None:
    (tmp_path / "b").mkdir()
    np.save(tmp_path / "b" / "0.npy", np.array([1], np.float32))
    np.save(tmp_path / "a.npy", np.array([0], np.float32))
    found = open_data(tmp_path, graph_of("float[N, 1] x")).feeds(2)
    assert [f["x"].tolist() for f, _ in found] == [[[0], [1]]]


def test_labels_in_the_files_or_beside_them(tmp_path: Path) -> None:
    for number in range(3):
        np.savez(tmp_path / f"{number}.npz", x=np.array([number], np.float32), labels=number)
    samples = open_data(tmp_path, graph_of("float[N, 1] x"))
    assert samples.labels is not None
    assert samples.labels.tolist() == [0, 1, 2]
    np.save(tmp_path / "labels.npy", np.array([7, 8, 9]))
    samples = open_data(tmp_path, graph_of("float[N, 1] x"))
    assert samples.labels is not None
    assert samples.labels.tolist() == [7, 8, 9]


def test_npy_file_alone(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", rows(3, 2))
    assert open_data(tmp_path / "x.npy", graph_of("float[N, 2] x")).count == 3


def refusal(folder: Path, inputs: str = "float[N, 2] x") -> str:
    with pytest.raises(DataError) as caught:
        open_data(folder, graph_of(inputs))
    return str(caught.value)


def test_refusals_name_the_file(tmp_path: Path) -> None:
    assert "no .npy, .npz or image file" in refusal(tmp_path)
    np.save(tmp_path / "0.npy", rows(2, 2))
    assert "give .npz files with 'x', 'y'" in refusal(tmp_path, "float[N, 2] x, float[N] y")
    np.save(tmp_path / "1.npy", rows(2, 3))
    assert "1.npy: 'x' has shape [2, 3]" in refusal(tmp_path)
    np.save(tmp_path / "1.npy", np.array([None]))
    assert "1.npy is a pickled object array" in refusal(tmp_path)
    np.save(tmp_path / "1.npy", np.array([[0, np.nan]], np.float32))
    assert "1.npy: sample 0 of 'x' holds NaN" in refusal(tmp_path)
    (tmp_path / "1.npy").write_bytes(b"")
    assert "1.npy: cannot be read" in refusal(tmp_path)
    (tmp_path / "1.npy").unlink()
    (tmp_path / "0.png").write_bytes(b"")
    assert "holds arrays (0.npy) and images (0.png)" in refusal(tmp_path)


def test_file_that_vanishes_after_it_was_checked(tmp_path: Path) -> None:
    np.save(tmp_path / "0.npy", rows(2, 2))
    samples = open_data(tmp_path / "0.npy", graph_of("float[N, 2] x"))
    (tmp_path / "0.npy").unlink()
    with pytest.raises(DataError, match="no such file"):
        list(samples.feeds())


def arrays(folder: Path, names: str) -> None:
    """Writes a sample at each of the places, which are given without suffix."""
    for name in names.split():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        np.save(folder / f"{name}.npy", np.array([1, 2], np.float32))


@pytest.mark.parametrize(
    ("places", "labels", "classes"),
    [
        ("cat/0 cat/1 dog/0", "cat cat dog", "cat dog"),
        ("val/cat/0 val/dog/0 val/dog/1", "cat dog dog", "cat dog"),
        ("cat/a/0 cat/b/0 dog/0", "cat cat dog", "cat dog"),
        ("train/0 cat/0", "cat train", "cat train"),
        ("cat/0 dog/0 0", "", ""),
        ("cat/0 cat/1", "", ""),
        ("train/0 val/0", "", ""),
        ("Images/0 Masks/0", "", ""),
        ("0 1", "", ""),
    ],
)
def test_subfolders_are_classes(tmp_path: Path, places: str, labels: str, classes: str) -> None:
    arrays(tmp_path, places)
    samples = open_data(tmp_path, graph_of("float[N, 2] x"))
    assert isinstance(samples, CheckedSamples)
    assert (None if samples.labels is None else " ".join(samples.labels)) == (labels or None)
    assert " ".join(samples.classes) == classes
    told = told_of(samples)
    if not classes:
        assert told == []
        return
    number, listed = len(classes.split()), classes.replace(" ", ", ")
    assert told == [f"{tmp_path}: {number} classes from subfolders: {listed}"]
    assert told_of(samples.part(np.ones(samples.count, bool))) == []


def test_labels_that_are_given_count_more_than_subfolders(tmp_path: Path) -> None:
    arrays(tmp_path, "cat/0 dog/0")
    np.save(tmp_path / "labels.npy", np.array([7, 8]))
    assert opened_labels(tmp_path) == [7, 8]
    (tmp_path / "labels.npy").unlink()
    for name in ("cat", "dog"):
        (tmp_path / name / "0.npy").unlink()
        np.savez(tmp_path / name / "0.npz", x=rows(2, 2), labels=np.array([3, 4]))
    assert opened_labels(tmp_path) == [3, 4, 3, 4]


def test_a_file_of_several_samples_has_a_label_for_each(tmp_path: Path) -> None:
    arrays(tmp_path, "cat/0")
    (tmp_path / "dog").mkdir()
    np.save(tmp_path / "dog" / "0.npy", rows(3, 2))
    assert opened_labels(tmp_path) == ["cat", "dog", "dog", "dog"]


def opened_labels(folder: Path) -> list[Any]:
    labels = open_data(folder, graph_of("float[N, 2] x")).labels
    assert labels is not None
    return list(labels.tolist())


def test_many_classes_are_not_all_listed(tmp_path: Path) -> None:
    arrays(tmp_path, " ".join(f"c{number:02}/0" for number in range(20)))
    (line,) = told_of(open_data(tmp_path, graph_of("float[N, 2] x")))
    assert line.endswith(
        "20 classes from subfolders: c00, c01, c02, c03, c04, c05, c06, c07, c08, "
        "c09, c10, c11, ... c19"
    )


@pytest.mark.parametrize(
    ("labels", "joined"),
    [
        ([[[1, 2]], [[3, 4, 5]]], [[1, 2, -100], [3, 4, 5]]),
        ([[[True]], [[False, True]]], [[1, -100], [0, 1]]),
        ([[[[0.5, 1, 2, 3]]], [[[0, 1, 2, 3], [4, 5, 6, 7]]]],
         [[[0.5, 1, 2, 3], [-100] * 4], [[0, 1, 2, 3], [4, 5, 6, 7]]]),
    ],
)  # fmt: skip
def test_labels_of_fewer_are_filled_up(tmp_path: Path, labels: list[Any], joined: Any) -> None:
    for number, each in enumerate(labels):
        np.savez(tmp_path / f"{number}.npz", x=rows(1, 2), labels=np.array(each))
    assert opened_labels(tmp_path) == joined


def test_labels_of_other_ranks_are_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "0.npz", x=rows(1, 2), labels=np.array([1]))
    np.savez(tmp_path / "1.npz", x=rows(1, 2), labels=np.array([[1]]))
    with pytest.raises(DataError, match="the labels differ in shape"):
        opened_labels(tmp_path)
