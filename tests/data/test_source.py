"""Samples from arrays in memory and from ``.npz``: what fits, what is refused, in which words."""

from __future__ import annotations

import tracemalloc
import zipfile
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import onnx.parser
import pytest

from graphopt.data import Feeds, open_data
from graphopt.data.npy import npy_column
from graphopt.errors import DataError, GraphoptError, UsageError
from graphopt.graph.graph import Graph


def graph_of(inputs: str) -> Graph:
    """A model that takes ``inputs`` and reads none of them."""
    text = f"""<ir_version: 8, opset_import: ["" : 17]>
    g ({inputs}) => (float[1] out) {{ out = Constant<value_floats: floats = [1.0]>() }}"""
    return Graph(onnx.parser.parse_model(text))


def feeds_of(
    inputs: str, arrays: dict[str, Any], batch: int = 1, limit: int | None = None
) -> list[tuple[Feeds, int]]:
    return list(open_data(arrays, graph_of(inputs)).feeds(batch, limit))


def refusal(inputs: str, arrays: dict[str, Any]) -> str:
    with pytest.raises(DataError) as caught:
        open_data(arrays, graph_of(inputs))
    assert "\n" not in str(caught.value)
    return str(caught.value)


def rows(count: int, *shape: int) -> np.ndarray[Any, np.dtype[np.float32]]:
    return np.arange(count * int(np.prod(shape)), dtype=np.float32).reshape(count, *shape)


def test_dynamic_batch_gives_up_to_batch_samples_a_feed() -> None:
    found = feeds_of("float[N, 2] x", {"x": rows(5, 2)}, batch=2)
    assert [real for _, real in found] == [2, 2, 1]
    assert np.array_equal(np.concatenate([f["x"] for f, _ in found]), rows(5, 2))


def test_samples_start_anew_at_each_iteration() -> None:
    samples = open_data({"x": rows(3, 2)}, graph_of("float[N, 2] x"))
    assert samples.count == 3
    for _ in range(2):
        assert [int(f["x"][0, 0]) for f, _ in samples.feeds()] == [0, 2, 4]


def test_fixed_batch_fills_the_ragged_end_with_the_last_sample() -> None:
    found = feeds_of("float[4, 2] x", {"x": rows(6, 2)}, batch=1)
    assert [real for _, real in found] == [4, 2]
    last = found[1][0]["x"]
    assert last.shape == (4, 2)
    assert np.array_equal(last[1:], np.repeat(rows(6, 2)[5:], 3, axis=0))


def test_batch_fixed_to_one_stays_one() -> None:
    found = feeds_of("float[1, 2] x", {"x": rows(3, 2)}, batch=16)
    assert [(f["x"].shape, real) for f, real in found] == [((1, 2), 1)] * 3


@pytest.mark.parametrize(
    ("inputs", "counts"), [("float[N, 2] x", [2, 1]), ("float[2, 2] x", [2, 1])]
)
def test_limit_counts_samples(inputs: str, counts: list[int]) -> None:
    assert [r for _, r in feeds_of(inputs, {"x": rows(5, 2)}, batch=2, limit=3)] == counts


def test_several_inputs_of_other_dtypes_keep_step() -> None:
    arrays = {"ids": np.arange(6).reshape(3, 2), "mask": np.array([[True, False]] * 3)}
    found = feeds_of("int64[N, S] ids, bool[N, S] mask", arrays, batch=2)
    assert [f["ids"].tolist() for f, _ in found] == [[[0, 1], [2, 3]], [[4, 5]]]
    assert found[0][0]["mask"].dtype == np.bool_


def test_input_that_no_node_reads_must_be_given() -> None:
    assert "no array 'y' (float32[N])" in refusal("float[N] x, float[N] y", {"x": rows(2)})


def test_input_with_a_default_may_be_given_or_not() -> None:
    text = """<ir_version: 8, opset_import: ["" : 17]>
    g (float[N] x, float[1] w = {2.0}) => (float[N] y) { y = Mul(x, w) }"""
    graph = Graph(onnx.parser.parse_model(text))
    assert list(next(open_data({"x": rows(2)}, graph).feeds())[0]) == ["x"]
    given = open_data({"x": rows(2), "w": np.array([3], np.float32)}, graph)
    assert [f["w"].tolist() for f, _ in given.feeds()] == [[3.0], [3.0]]
    assert given.count == 2


def test_scalar_input_holds_for_all_samples_or_comes_one_a_sample() -> None:
    inputs = "float[N, 2] x, int64 length"
    shared = feeds_of(inputs, {"x": rows(3, 2), "length": np.int64(7)}, batch=2)
    assert [(r, int(f["length"])) for f, r in shared] == [(2, 7), (1, 7)]
    each = feeds_of(inputs, {"x": rows(3, 2), "length": np.array([7, 8, 9])}, batch=2)
    assert [(f["x"].shape, f["length"].shape, int(f["length"])) for f, _ in each] == [
        ((1, 2), (), 7),
        ((1, 2), (), 8),
        ((1, 2), (), 9),
    ]


def test_fixed_first_axis_beside_a_free_one_is_no_batch_axis() -> None:
    found = feeds_of(
        "float[N, 2] x, float[4, 1] anchors", {"x": rows(3, 2), "anchors": rows(4, 1)}, 2
    )
    assert [(f["x"].shape, f["anchors"].shape, r) for f, r in found] == [
        ((2, 2), (4, 1), 2),
        ((1, 2), (4, 1), 1),
    ]


def test_one_more_axis_means_a_whole_feed_for_each_leading_index() -> None:
    found = feeds_of("float[S, 2] x", {"x": rows(3, 5, 2)}, batch=4)
    assert [(f["x"].shape, r) for f, r in found] == [((5, 2), 5)] * 3


def test_unknown_rank_takes_the_leading_axis_as_samples() -> None:
    graph = graph_of("float[N] x")
    graph.main.proto.input[0].type.tensor_type.ClearField("shape")
    found = list(open_data({"x": rows(3, 2, 2)}, graph).feeds(2))
    assert [f["x"].shape for f, _ in found] == [(2, 2, 2), (1, 2, 2)]


@pytest.mark.parametrize(
    ("inputs", "given", "dtype"),
    [
        ("float[N] x", np.array([1, 2], np.float64), np.float32),
        ("float[N] x", np.array([1, 2], np.float16), np.float32),
        ("float[N] x", np.array([1, 2], ">f4"), np.float32),
        ("float16[N] x", np.array([1, 2], np.float32), np.float16),
        ("bfloat16[N] x", np.array([1, 2], np.float32), ml_dtypes.bfloat16),
        ("bfloat16[N] x", np.array([1, 2], ml_dtypes.bfloat16), ml_dtypes.bfloat16),
        ("int64[N] x", np.array([1, -2], np.int32), np.int64),
        ("int32[N] x", np.array([1, -2], np.int64), np.int32),
        ("uint8[N] x", np.array([1, 255], np.int64), np.uint8),
        ("int64[N] x", np.array([True, False]), np.int64),
        ("bool[N] x", np.array([1, 0], np.uint8), np.bool_),
    ],
)
def test_casts_that_lose_nothing(inputs: str, given: Any, dtype: Any) -> None:
    (feeds, _), *_ = feeds_of(inputs, {"x": given}, batch=2)
    assert feeds["x"].dtype == np.dtype(dtype)
    assert feeds["x"].astype(np.float64).tolist() == given.astype(np.float64).tolist()


def test_strings_reach_a_string_input_as_objects() -> None:
    (feeds, _), *_ = feeds_of("string[N] x", {"x": np.array(["a", "bc"])}, batch=2)
    assert feeds["x"].dtype == object
    assert feeds["x"].tolist() == ["a", "bc"]


@pytest.mark.parametrize(
    ("inputs", "given", "words"),
    [
        (
            "float[N] x",
            np.array([1, 2], np.uint8),
            "'x' holds uint8 where the model takes float32; convert",
        ),
        (
            "int64[N] x",
            np.array([1, 2], np.float32),
            "'x' holds float32 where the model takes int64",
        ),
        (
            "bool[N] x",
            np.array([0, 2], np.uint8),
            "sample 1 of 'x' holds a value that bool cannot (0 to 1)",
        ),
        (
            "uint8[N] x",
            np.array([0, 1, -1], np.int64),
            "sample 2 of 'x' holds a value that uint8 cannot",
        ),
        (
            "float[N] x",
            np.array([0, 1e300], np.float64),
            "sample 1 of 'x' is too large for float32",
        ),
        ("float16[N] x", np.array([1e6], np.float32), "sample 0 of 'x' is too large for float16"),
        (
            "float[N] x",
            np.array([1], np.complex64),
            "'x' holds complex64 where the model takes float32",
        ),
        ("string[N] x", np.array([1], np.int64), "'x' holds int64 where the model takes string"),
        ("float[N] x", np.array(["a"]), "where the model takes float32"),
        ("int64[N] x", np.array(["a"]), "where the model takes int64"),
        ("float[N] x", np.array([{}], dtype=object), "'x' holds Python objects"),
        ("float[N] x", [[1.0], [1.0, 2.0]], "'x' is no array"),
    ],
)
def test_other_dtypes_are_refused(inputs: str, given: Any, words: str) -> None:
    assert words in refusal(inputs, {"x": given})


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_nan_and_infinity_are_refused_with_array_and_sample(bad: float, dtype: Any) -> None:
    values = rows(40, 2).astype(dtype)
    values[33, 1] = bad
    assert "sample 33 of 'x' holds NaN or infinity" in refusal("float[N, 2] x", {"x": values})


@pytest.mark.parametrize(
    ("inputs", "arrays", "words"),
    [
        (
            "float[N, 2] input",
            {"inptu": rows(2, 2)},
            "'inptu' is no input of the model; did you mean 'input'?",
        ),
        ("float[N, 2] x", {"quux": rows(2, 2)}, "it takes 'x'"),
        ("float[N, 2] x", {"x": rows(2, 2), "extra": rows(2)}, "'extra' is no input of the model"),
        ("float[N, 2] x", {}, "no array 'x' (float32[N, 2])"),
        ("float[N, 2] x", {"x": rows(3)}, "shape [3] where the model takes float32[N, 2]"),
        ("float[N, 2] x", {"x": rows(3, 3)}, "shape [3, 3] where the model takes float32[N, 2]"),
        ("float[N, 2] x", {"x": rows(3, 1, 1, 2)}, "shape [3, 1, 1, 2]"),
        ("float[N, 2] x", {"x": rows(2)}, "shape [2] where"),
        (
            "float[N] x, float[N] y",
            {"x": rows(2), "y": rows(3)},
            "different numbers of samples: 'x' 2, 'y' 3",
        ),
        ("float[N, 2] x", {"x": rows(0, 2)}, "empty"),
        ("float[2, 2] x, float[2] y", {"x": rows(4, 2), "y": rows(4, 2)}, "batches of 2 are fixed"),
        ("float[N] x", {"x": rows(4), "labels": np.arange(3)}, "3 labels for 4 samples"),
        (
            "float[N] x",
            {"x": rows(4), "labels": np.array([0, 1, np.nan, 1], np.float32)},
            "labels hold NaN",
        ),
    ],
)
def test_arrays_that_do_not_fit(inputs: str, arrays: dict[str, Any], words: str) -> None:
    assert words in refusal(inputs, arrays)


def test_labels_are_taken_out() -> None:
    samples = open_data({"x": rows(4), "labels": np.arange(4)}, graph_of("float[N] x"))
    assert samples.labels is not None
    assert samples.labels.tolist() == [0, 1, 2, 3]
    assert list(next(samples.feeds())[0]) == ["x"]
    pairs = open_data({"x": rows(4), "labels": np.arange(2)}, graph_of("float[N] x"))
    assert pairs.labels is not None
    assert len(pairs.labels) == 2


def test_labels_may_be_an_input() -> None:
    samples = open_data({"x": rows(4), "labels": rows(4)}, graph_of("float[N] x, float[N] labels"))
    assert samples.labels is None
    assert sorted(next(samples.feeds())[0]) == ["labels", "x"]


def test_input_that_is_no_tensor() -> None:
    with pytest.raises(DataError, match="input 'x' is of type sequence"):
        open_data({"x": rows(2)}, graph_of("seq(float[N]) x"))


def test_source_of_another_type() -> None:
    with pytest.raises(UsageError, match="samples cannot come from int"):
        open_data(3, graph_of("float[N] x"))  # type: ignore[arg-type]


class TestNpz:
    @pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
    def test_is_read_in_order(self, tmp_path: Path, save: Any) -> None:
        save(tmp_path / "d.npz", x=rows(40, 3), labels=np.arange(40))
        samples = open_data(tmp_path / "d.npz", graph_of("float[N, 3] x"))
        read = np.concatenate([f["x"] for f, _ in samples.feeds(7)])
        assert np.array_equal(read, rows(40, 3))
        assert samples.labels is not None
        assert samples.labels.tolist() == list(range(40))

    def test_fortran_order_and_scalars(self, tmp_path: Path) -> None:
        np.savez(tmp_path / "d.npz", x=np.asfortranarray(rows(5, 3)), n=np.float32(2))
        found = list(open_data(tmp_path / "d.npz", graph_of("float[N, 3] x, float n")).feeds(2))
        assert np.array_equal(np.concatenate([f["x"] for f, _ in found]), rows(5, 3))
        assert float(found[0][0]["n"]) == 2

    def test_bfloat16_survives_numpy_format(self, tmp_path: Path) -> None:
        np.savez(tmp_path / "d.npz", x=np.array([1, 2], ml_dtypes.bfloat16))
        feeds, _ = next(open_data(tmp_path / "d.npz", graph_of("bfloat16[N] x")).feeds(2))
        assert feeds["x"].astype(float).tolist() == [1, 2]

    def refuse(self, path: Path, inputs: str = "float[N, 2] x") -> str:
        with pytest.raises(DataError) as caught:
            open_data(path, graph_of(inputs))
        assert path.name in str(caught.value)
        return str(caught.value)

    def test_missing(self, tmp_path: Path) -> None:
        assert "no such file" in self.refuse(tmp_path / "d.npz")

    @pytest.mark.parametrize("content", [b"", b"junk" * 100, b"PK\x03\x04" + b"\0" * 200])
    def test_not_an_npz(self, tmp_path: Path, content: bytes) -> None:
        (tmp_path / "d.npz").write_bytes(content)
        assert "cannot be read" in self.refuse(tmp_path / "d.npz")

    def test_fortran_order_is_read_whole_and_so_must_be_small(self, tmp_path: Path) -> None:
        np.save(tmp_path / "d.npy", np.asfortranarray(rows(5, 3)))
        with pytest.raises(DataError, match="Fortran order"):
            npy_column(tmp_path / "d.npy", 20)

    def test_truncated(self, tmp_path: Path) -> None:
        np.savez(tmp_path / "d.npz", x=rows(100, 2))
        whole = (tmp_path / "d.npz").read_bytes()
        (tmp_path / "d.npz").write_bytes(whole[: len(whole) // 2])
        assert "cannot be read" in self.refuse(tmp_path / "d.npz")

    @pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
    def test_damaged_values(self, tmp_path: Path, save: Any) -> None:
        save(tmp_path / "d.npz", x=np.random.default_rng(0).random((100, 2), np.float32))
        data = bytearray((tmp_path / "d.npz").read_bytes())
        data[len(data) // 2] ^= 0x55
        (tmp_path / "d.npz").write_bytes(data)
        assert "cannot be read" in self.refuse(tmp_path / "d.npz")

    def test_pickled(self, tmp_path: Path) -> None:
        np.savez(tmp_path / "d.npz", x=np.array([{"a": 1}, None], dtype=object))
        assert "'x' is a pickled object array; refused" in self.refuse(tmp_path / "d.npz")

    def test_structured(self, tmp_path: Path) -> None:
        np.savez(tmp_path / "d.npz", x=np.zeros(2, dtype=[("a", "f4"), ("b", "i4")]))
        assert "plain numbers are needed" in self.refuse(tmp_path / "d.npz")

    @pytest.mark.parametrize(
        ("header", "words"),
        [
            ("{'descr': '<f4', 'fortran_order': False, 'shape': (9999999999, 2)}", "is truncated"),
            ("{'descr': '<f4', 'fortran_order': False, 'shape': (2, -2)}", "no size of an axis"),
            (
                "{'descr': '<f4', 'fortran_order': False, 'shape': (0, 9999999999)}",
                "one sample takes 40 GB, where 256 MB are allowed",
            ),
            ("{'descr': '<f4', 'fortran_order': False, 'shape': 'no'}", "cannot be read"),
            ("{'descr': '<q9', 'fortran_order': False, 'shape': (2,)}", "cannot be read"),
            ("(" * 4000, "cannot be read"),
        ],
    )
    def test_header_that_lies(self, tmp_path: Path, header: str, words: str) -> None:
        text = header.encode() + b"\n"
        member = b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text + b"\0" * 16
        with zipfile.ZipFile(tmp_path / "d.npz", "w") as archive:
            archive.writestr("x.npy", member)
        assert words in self.refuse(tmp_path / "d.npz")

    def test_member_that_is_no_array(self, tmp_path: Path) -> None:
        with zipfile.ZipFile(tmp_path / "d.npz", "w") as archive:
            archive.writestr("../evil.txt", b"hello")
        assert "'../evil.txt' is no array" in self.refuse(tmp_path / "d.npz")

    def test_memory_does_not_grow_with_the_file(self, tmp_path: Path) -> None:
        np.savez(tmp_path / "d.npz", x=np.zeros((4096, 2048), np.float32))
        graph = graph_of("float[N, 2048] x")
        tracemalloc.start()
        for _ in open_data(tmp_path / "d.npz", graph).feeds(16):
            pass
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert peak < 4 << 20  # of 32 MB


def test_function_that_is_named_but_missing_is_told_apart_from_a_file(tmp_path: Path) -> None:
    for name, kind, words in [
        (f"{tmp_path}/none", DataError, "no such file or folder"),
        ("x" * 5000, DataError, "cannot be read: File name too long"),
        ("a\0b", DataError, "no such file or folder"),
        (f"{tmp_path}/none.py:feeds", UsageError, "there is no file"),
        ("no_such_module_x:feeds", UsageError, "cannot be imported"),
        ("math:no_such", UsageError, "has no function"),
    ]:
        with pytest.raises(kind, match=words) as caught:
            open_data(name, graph_of("float[N] x"))
        assert isinstance(caught.value, GraphoptError)


def test_file_of_another_kind(tmp_path: Path) -> None:
    (tmp_path / "d.csv").write_text("1,2")
    with pytest.raises(DataError, match="no kind of DATA"):
        open_data(tmp_path / "d.csv", graph_of("float[N] x"))
