"""Samples on disk, in any order."""

from __future__ import annotations

import resource
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import onnx.parser
import pytest

from graphopt.data import open_data
from graphopt.data.samples import bytes_of
from graphopt.data.staged import StagedSamples, staged
from graphopt.errors import DataError, SystemFailure
from graphopt.graph.graph import Graph
from graphopt.graph.tensors import Array


def graph_of(inputs: str) -> Graph:
    text = f"""<ir_version: 8, opset_import: ["" : 17]>
    g ({inputs}) => (float[1] out) {{ out = Constant<value_floats: floats = [1.0]>() }}"""
    return Graph(onnx.parser.parse_model(text))


def rows(*shape: int) -> Array:
    return np.arange(np.prod(shape), dtype=np.float32).reshape(shape)


def stage(folder: Path, inputs: str, source: Any) -> StagedSamples:
    with staged(open_data(source, graph_of(inputs)), folder) as found:
        return found


def test_samples_are_copied_in_any_order(tmp_path: Path) -> None:
    data = stage(tmp_path, "float[N, 2] x", {"x": rows(5, 2), "labels": np.arange(5)})
    (group,) = data.groups
    assert len(group) == 5
    assert group.per_feed == 1
    assert group.numbers.tolist() == [0, 1, 2, 3, 4]
    assert group.take([3, 0, 3])["x"].tolist() == [[[6, 7]], [[0, 1]], [[6, 7]]]
    assert data.labels is not None
    assert data.labels.tolist() == [0, 1, 2, 3, 4]


def test_what_is_taken_may_be_written_to(tmp_path: Path) -> None:
    (group,) = stage(tmp_path, "float[N, 2] x", {"x": rows(2, 2)}).groups
    group.take([0])["x"][:] = 7
    assert group.take([0])["x"].tolist() == [[[0, 1]]]


def test_samples_are_grouped_by_their_shapes(tmp_path: Path) -> None:
    def source() -> Iterator[Mapping[str, Any]]:
        for length in (3, 5, 3, 5, 5):
            yield {"ids": np.full((1, length), length), "mask": np.ones((1, length), bool)}

    data = stage(tmp_path, "int64[N, S] ids, bool[N, S] mask", source)
    assert [group.numbers.tolist() for group in data.groups] == [[0, 2], [1, 3, 4]]
    assert data.groups[1].take([2])["ids"].tolist() == [[[5] * 5]]
    assert data.groups[1].take([0])["mask"].dtype == bool


def test_a_thousand_shapes_need_no_thousand_open_files(tmp_path: Path) -> None:
    def source() -> Iterator[Mapping[str, Any]]:
        for length in range(1, 201):
            yield {"x": np.full((1, length), length, np.float32)}

    samples = open_data(source, graph_of("float[N, S] x"))
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (64, before[1]))
    try:
        with staged(samples, tmp_path) as data:
            assert [group.take([0])["x"].sum() for group in data.groups] == [
                length**2 for length in range(1, 201)
            ]
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


def test_of_a_fixed_batch_only_full_feeds_are_kept(tmp_path: Path) -> None:
    (group,) = stage(tmp_path, "float[4, 2] x", {"x": rows(11, 2)}).groups
    assert group.per_feed == 4
    assert group.numbers.tolist() == [0, 4]
    assert np.array_equal(group.take([1])["x"][0], rows(11, 2)[4:8])


def test_models_without_batch_axis_get_whole_feeds(tmp_path: Path) -> None:
    (group,) = stage(tmp_path, "float[H, W] x", {"x": rows(3, 4, 5)}).groups
    assert len(group) == 3
    assert group.take([1])["x"].shape == (1, 4, 5)


def test_inputs_that_hold_for_all_samples_stand_in_each(tmp_path: Path) -> None:
    data = stage(
        tmp_path,
        "float[N, 2] x, float t, float[77, 3] table",
        {"x": rows(3, 2), "t": np.float32(0.5), "table": rows(77, 3)},
    )
    taken = data.groups[0].take([0, 2])
    assert taken["t"].shape == (2,)
    assert taken["t"].tolist() == [0.5, 0.5]
    assert np.array_equal(taken["table"][1], rows(77, 3))


@pytest.mark.parametrize(
    ("kind", "dtype"),
    [
        ("uint8", np.uint8),
        ("bool", np.bool_),
        ("int32", np.int32),
        ("double", np.float64),
        ("float16", np.float16),
        ("bfloat16", ml_dtypes.bfloat16),
    ],
)
def test_every_type_comes_back(kind: str, dtype: Any, tmp_path: Path) -> None:
    values = np.array([[1, 0], [1, 1]]).astype(dtype)
    (group,) = stage(tmp_path, f"{kind}[N, 2] x", {"x": values}).groups
    taken = group.take([1, 0])["x"]
    assert taken.dtype == values.dtype
    assert taken[:, 0].tolist() == values[::-1].tolist()


def test_empty_axes_are_kept(tmp_path: Path) -> None:
    (group,) = stage(tmp_path, "float[N, S] past", {"past": np.zeros((3, 0), np.float32)}).groups
    assert group.take([0, 1])["past"].shape == (2, 1, 0)


def test_text_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="'x' is text; a model of text cannot be trained"):
        stage(tmp_path, "string[N] x", {"x": np.array(["a", "b"])})


def test_a_digest_follows_values_labels_and_shapes(tmp_path: Path) -> None:
    def digest(**arrays: Any) -> str:
        return stage(tmp_path, "float[N, S] x", arrays).digest()

    plain = digest(x=rows(4, 2))
    assert plain == digest(x=rows(4, 2))
    others = [
        digest(x=rows(4, 2) + 1),
        digest(x=rows(4, 2), labels=np.arange(4)),
        digest(x=rows(4, 2), labels=np.arange(4) + 1),
        digest(x=rows(2, 4)),
    ]
    assert len({plain, *others}) == 5


def test_a_full_disk_is_said_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "samples.raw").symlink_to("/dev/full")
    with pytest.raises(SystemFailure, match=r"do not fit .* No space left .* set TMPDIR"):
        stage(tmp_path, "float[N, 100] x", {"x": rows(1000, 100)})
    with pytest.raises(SystemFailure, match="No space left"):  # noticed when the file is closed
        stage(tmp_path, "float[N, 2] x", {"x": rows(1, 2)})


def test_room_on_the_disk_is_looked_at_before_anything_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=39))
    with pytest.raises(SystemFailure, match=r"take 40 bytes on disk and .* has 39 bytes"):
        stage(tmp_path, "float[N, 2] x", {"x": rows(5, 2)})
    assert list(tmp_path.iterdir()) == []
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=40))
    stage(tmp_path, "float[N, 2] x", {"x": rows(5, 2)})
    assert (tmp_path / "samples.raw").stat().st_size == 40


@pytest.mark.parametrize(
    ("inputs", "arrays"),
    [
        ("float[N, 2] x, float s", {"x": rows(5, 2), "s": np.float32(1)}),
        ("float[2, 3] x", {"x": rows(4, 3)}),
        ("float[3] x", {"x": rows(4, 3)}),
        ("float[N, 2] x", {"x": rows(5, 2).astype(np.float16)}),
    ],
)
def test_bytes_of_samples_are_those_on_disk(
    tmp_path: Path, inputs: str, arrays: Mapping[str, Any]
) -> None:
    stage(tmp_path, inputs, arrays)
    size = (tmp_path / "samples.raw").stat().st_size
    assert bytes_of(open_data(arrays, graph_of(inputs))) == size
