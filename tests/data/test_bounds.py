"""What samples may claim: refused by their headers, before anything is read."""

from __future__ import annotations

import os
import struct
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx.parser
import pytest

from graphopt.data import bounds, function, npz, open_data
from graphopt.data.columns import Column, array_column
from graphopt.data.npy import bytes_on_disk
from graphopt.data.synthetic import SyntheticSamples
from graphopt.errors import DataError, Need
from graphopt.graph.graph import Graph

MEGABYTE = 10**6


def graph_of(inputs: str) -> Graph:
    text = f"""<ir_version: 8, opset_import: ["" : 17]>
    g ({inputs}) => (float[1] out) {{ out = Constant<value_floats: floats = [1.0]>() }}"""
    return Graph(onnx.parser.parse_model(text))


def header(shape: object, descr: object = "<f4", fortran: bool = False) -> bytes:
    text = repr({"descr": descr, "fortran_order": fortran, "shape": shape}).encode() + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text


def holes(path: Path, start: bytes, size: int) -> None:
    """A file that takes no room on the disk behind its start."""
    with path.open("wb") as file:
        file.write(start)
        file.truncate(len(start) + size)


def refusal(source: Any, inputs: str, memory_limit: int | None = None) -> DataError:
    with pytest.raises(DataError) as caught:
        open_data(source, graph_of(inputs), memory_limit=memory_limit)
    assert "\n" not in str(caught.value)
    return caught.value


@pytest.mark.parametrize(
    ("start", "size", "words"),
    [
        (header((2**62, 0)), 0, "claims the shape [4.61e+18, 0]; more than 1 TB are refused"),
        (header((10**8, 16)), 64 * 10**8, "more than 10,000,000 samples"),
        (header((2000, 0)), 0, "more than 1,000 samples without any element"),
        (header((16, 125 << 20)), 16 * (500 << 20), "one sample takes 524 MB, where 256 MB are"),
        (header((1 << 20, 1 << 20)), 1 << 42, "claims the shape [1048576, 1048576]"),
        (header((10**4, 10**5)), 4 * 10**9, "claims 4 GB with "),
        (header((10**4, 10**4), fortran=True), 4 * 10**8, "in Fortran order, which can only be"),
        (header((3, 10**9), "|b1"), 10, "is truncated"),
        (header((True, 4)), 16, "no size of an axis"),
        (header((10**30,)), 16, "no size of an axis"),
        (header((2, -1)), 16, "no size of an axis"),
        (header((2,), ("<f4", (2, 2))), 64, "plain numbers are needed"),
        (header((2,), "|S999999999"), 64, "is truncated"),
        (header((2,), "|O"), 64, "pickled"),
        (b"\x93NUMPY\x02\x00\xff\xff\xff\xf0", 64, "a header of 4043309055 bytes"),
        (b"\x93NUMPY\x03\x00\xff\xff\xff\xf0", 64, "cannot be read"),
        (b"\x93NUMPY\x01\x00\x20\x20" + b"-" * 8224, 0, "cannot be read"),
    ],
)
def test_array_that_claims_too_much(tmp_path: Path, start: bytes, size: int, words: str) -> None:
    holes(tmp_path / "x.npy", start, size)
    assert words in str(refusal(tmp_path / "x.npy", "float[N, M] x"))


def test_a_feed_is_held_against_the_memory_limit(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.zeros((2, 1000, 1000), np.float32))
    few, enough = 12 * MEGABYTE, 16 * MEGABYTE
    caught = refusal(tmp_path / "x.npy", "float[N, A, B] x", few)
    assert "one sample takes 4 MB, where 3 MB are allowed" in str(caught)
    assert caught.needs == (Need.MEMORY_LIMIT,)
    assert open_data(tmp_path / "x.npy", graph_of("float[N, A, B] x"), None, enough).count == 2


def test_at_least_a_megabyte_may_be_fed() -> None:
    assert bounds.feed_bound(1) == MEGABYTE
    assert bounds.feed_bound(None) == 256 * MEGABYTE


def test_feeds_join_only_as_many_samples_as_fit() -> None:
    arrays = {"x": np.zeros((7, 100_000), np.float32)}
    samples = open_data(arrays, graph_of("float[N, M] x"), memory_limit=4 * MEGABYTE)
    assert [real for _, real in samples.feeds(batch=5)] == [2, 2, 2, 1]


def test_samples_that_become_larger_are_counted_as_the_model_takes_them() -> None:
    arrays = {"x": np.zeros((1, 200_000), np.int8)}
    caught = refusal(arrays, "int64[N, M] x", 4 * MEGABYTE)
    assert "one sample takes 1.6 MB, where 1 MB are allowed" in str(caught)


@pytest.mark.parametrize("shape", [(2, 16), (2, 0)])
def test_a_batch_of_the_model_is_not_filled_up_without_bound(shape: tuple[int, ...]) -> None:
    caught = refusal({"x": np.zeros(shape, np.float32)}, "float[1099511627776, N] x")
    assert "a feed of 1099511627776 samples takes" in str(caught)


def test_arrays_in_memory_without_elements() -> None:
    caught = refusal({"x": np.zeros((2**40, 0), np.float32)}, "float[N, M] x")
    assert "more than 10,000,000 samples" in str(caught)


def test_labels_are_counted_all_together(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("graphopt.data.claims.MOST_LABEL_BYTES", 100)

    def feeds() -> Iterator[Any]:
        for number in range(20):
            yield {"x": np.zeros((1, 2), np.float32), "labels": np.array([number])}

    assert "labels of shape [1] are too large" in str(refusal(feeds, "float[N, M] x"))


def test_texts_take_the_room_of_the_longest(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("graphopt.data.columns.MOST_TEXT_BYTES", 8000)
    texts = np.array(["a"] * 100 + ["b" * 21], object)
    assert "101 texts of up to 21 letters" in str(refusal({"x": texts}, "string[N] x"))


def test_a_function_has_a_bounded_number_of_feeds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(function, "MOST_FEEDS", 100)

    def feeds(count: int) -> Callable[[], Iterator[Any]]:
        return lambda: (np.zeros((2, 2), np.float32) for _ in range(count))

    assert open_data(feeds(100), graph_of("float[N, M] x")).count == 200
    assert "does it ever end?" in str(refusal(feeds(101), "float[N, M] x"))


def archive(path: Path, members: dict[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> Path:
    with zipfile.ZipFile(path, "w", method) as file:
        for name, content in members.items():
            file.writestr(name, content)
    return path


class TestArchives:
    def test_other_compressions(self, tmp_path: Path) -> None:
        content = {"x.npy": header((4, 4)) + bytes(64)}
        for method in (zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA):
            path = archive(tmp_path / "x.npz", content, method)
            assert "'x' is compressed otherwise" in str(refusal(path, "float[N, M] x"))

    def test_many_members(self, tmp_path: Path) -> None:
        members = {f"{number}.npy": b"" for number in range(10_001)}
        path = archive(tmp_path / "x.npz", members, zipfile.ZIP_STORED)
        assert "10,001 arrays; a model takes one" in str(refusal(path, "float[N, M] x"))

    def test_a_directory_is_not_read_whatever_its_length(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        path = archive(tmp_path / "x.npz", {f"{number}.npy": b"" for number in range(100)})
        monkeypatch.setattr(npz, "_DIRECTORY_BYTES", 1000)
        assert "its directory has more than" in str(refusal(path, "float[N, M] x"))

    def test_a_comment_is_no_hindrance(self, tmp_path: Path) -> None:
        path = archive(tmp_path / "x.npz", {"x.npy": header((2, 2)) + bytes(16)})
        with zipfile.ZipFile(path, "a") as file:
            file.comment = b"c" * 65_535
        assert open_data(path, graph_of("float[N, M] x")).count == 2

    def test_the_directory_is_parsed_once(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        path = archive(tmp_path / "x.npz", {"x.npy": header((2, 2)) + bytes(16)})
        monkeypatch.setattr(npz, "_KEEP_BYTES", 0)
        parsed = []
        real = zipfile.ZipFile._RealGetContents  # type: ignore[attr-defined]  # of CPython

        def parse(self: zipfile.ZipFile) -> None:
            parsed.append(self)
            real(self)

        monkeypatch.setattr(zipfile.ZipFile, "_RealGetContents", parse)
        samples = open_data(path, graph_of("float[N, M] x"))
        assert [real for _, real in samples.feeds(2)] == [2]
        assert len(parsed) == 1

    def test_what_is_kept_is_counted_over_all_arrays(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        content = header((2, 2)) + bytes(16)
        path = archive(tmp_path / "x.npz", {"x.npy": content, "y.npy": content})
        monkeypatch.setattr(npz, "_KEEP_BYTES", 16)
        kept = []

        def keep(values: Any, place: str, name: str) -> Column:
            kept.append(name)
            return array_column(values, place, name)

        monkeypatch.setattr(npz, "array_column", keep)
        assert open_data(path, graph_of("float[N, M] x, float[N, M] y")).count == 2
        assert kept == ["x"]

    def test_bomb(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(bounds, "_DENSE_BYTES", MEGABYTE)
        content = header((16, 1_000_000)) + bytes(64 * MEGABYTE)
        path = archive(tmp_path / "x.npz", {"x.npy": content})
        assert "claims 64 MB with 62" in str(refusal(path, "float[N, M] x"))


def test_holes_are_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("graphopt.data.npy._LARGE", 0)
    full = tmp_path / "full"
    full.write_bytes(os.urandom(1 << 20))
    assert bytes_on_disk(full) == 1 << 20
    holes(tmp_path / "holes", os.urandom(1 << 20), 1 << 30)
    assert 1 << 20 <= bytes_on_disk(tmp_path / "holes") < 2 << 20


class TestFolders:
    def test_number_of_files(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        for number in range(5):
            np.save(tmp_path / f"{number}.npy", np.zeros((1, 2), np.float32))
        assert open_data(tmp_path, graph_of("float[N, M] x")).count == 5
        monkeypatch.setattr("graphopt.data.folder.MOST_FILES", 4)
        assert "more than 4 files; give fewer" in str(refusal(tmp_path, "float[N, M] x"))

    def test_links_that_lead_in_circles(self, tmp_path: Path) -> None:
        (tmp_path / "a" / "b").mkdir(parents=True)
        np.save(tmp_path / "a" / "b" / "0.npy", np.zeros((1, 2), np.float32))
        (tmp_path / "a" / "b" / "up").symlink_to(tmp_path)
        (tmp_path / "self").symlink_to(tmp_path / "self")
        assert open_data(tmp_path, graph_of("float[N, M] x")).count == 1
        (tmp_path / "x.npy").symlink_to(tmp_path / "x.npy")
        assert "x.npy: cannot be read" in str(refusal(tmp_path, "float[N, M] x"))

    def test_labels_that_cannot_be_read_are_not_passed_over(self, tmp_path: Path) -> None:
        np.save(tmp_path / "0.npy", np.zeros((1, 2), np.float32))
        (tmp_path / "labels.npy").symlink_to(tmp_path / "nowhere")
        assert "labels.npy: no such file" in str(refusal(tmp_path, "float[N, M] x"))


class TestRandomFeeds:
    @pytest.mark.parametrize(
        ("inputs", "words"),
        [
            ("float[1099511627776, 4] x", "'x' (1099511627776, 4): a random feed takes 17.6 TB"),
            ("string[1099511627776] x", "a random feed takes 8.8 TB"),
            ("bool[1000, 300, 1000] x", "a random feed takes 300 MB"),
            ("float[40, 1000, 1000] x, float[40, 1000, 1000] y", "'y' (40, 1000, 1000): a random"),
        ],
    )
    def test_too_large(self, inputs: str, words: str) -> None:
        with pytest.raises(DataError) as caught:
            next(SyntheticSamples(graph_of(inputs)).feeds())
        assert words in str(caught.value)

    def test_an_axis_below_zero_is_free(self) -> None:
        graph = graph_of("float[2, 4] x")
        graph.main.proto.input[0].type.tensor_type.shape.dim[1].dim_value = -(2**40)
        feeds, _ = next(SyntheticSamples(graph).feeds())
        assert feeds["x"].shape == (2, 8)

    @pytest.mark.parametrize("kind", ["float", "double", "int8", "int64", "bool", "bfloat16"])
    def test_blocks_draw_what_the_whole_would(
        self, kind: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        samples = SyntheticSamples(graph_of(f"{kind}[7, 11] x"))
        whole, _ = next(samples.feeds())
        monkeypatch.setattr("graphopt.data.synthetic._BLOCK", 5)
        blocks, _ = next(samples.feeds())
        assert np.array_equal(whole["x"], blocks["x"])
