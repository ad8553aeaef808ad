"""Sparse initializers: what onnxruntime takes passes, an index outside is said."""

from collections.abc import Callable

import numpy as np
import onnx
import pytest
from numpy.typing import ArrayLike
from onnx import ModelProto, SparseTensorProto

from graphopt.errors import ModelError
from graphopt.graph import io

TEXT = '<ir_version: 8, opset_import: ["": 17]> g (float[N, 4] x) => (float[N, 4] y)'


def model(indices: ArrayLike, kind: str = "i8", dims: tuple[int, ...] = (4, 4)) -> ModelProto:
    message = onnx.parser.parse_model(TEXT + " { y = MatMul(x, w) }")
    sparse = message.graph.sparse_initializer.add(dims=dims)
    places = np.asarray(indices, kind)
    sparse.values.CopyFrom(onnx.numpy_helper.from_array(np.ones(len(places), np.float32), "w"))
    sparse.indices.CopyFrom(onnx.numpy_helper.from_array(places, "w_places"))
    return message


@pytest.mark.parametrize(
    ("indices", "kind"),
    [
        ([1, 5], "i8"),
        ([5, 1], "i8"),
        ([5, 5], "i8"),
        ([1, 5], "i4"),
        ([1, 5], "i1"),
        ([[1, 1], [0, 3]], "i8"),
        ([], "i8"),
    ],
)
def test_what_onnxruntime_loads_passes(indices: ArrayLike, kind: str) -> None:
    io.load(model(indices, kind))


@pytest.mark.parametrize(
    ("message", "words"),
    [
        (model([2**40]), "sparse tensor 'w': index 1099511627776 lies outside its shape [4, 4]"),
        (model([16]), "index 16 lies outside"),
        (model([-1]), "index -1 lies outside"),
        (model([[0, 4]]), "index 4 lies outside"),
        (model([[0, -1]]), "index -1 lies outside"),
        (model([[0], [1]]), "indices of shape [2, 1] for 2 values of rank 2"),
        (model([0, 1], "f4"), "its indices are no integers"),
        (model([0], dims=(-4, -4)), "has a negative dimension: [-4, -4]"),
        (model([0], dims=(2**40, 2**40)), "is larger than any memory"),
    ],
)
def test_faults(message: ModelProto, words: str) -> None:
    with pytest.raises(ModelError) as caught:
        io.load(message)
    assert words in str(caught.value)


def three_values(sparse: SparseTensorProto) -> None:
    sparse.values.CopyFrom(onnx.numpy_helper.from_array(np.ones(3, np.float32), "w"))


def square_values(sparse: SparseTensorProto) -> None:
    sparse.values.CopyFrom(onnx.numpy_helper.from_array(np.ones((2, 1), np.float32), "w"))


def no_indices(sparse: SparseTensorProto) -> None:
    sparse.ClearField("indices")


@pytest.mark.parametrize(
    ("edit", "words"),
    [
        (three_values, "indices of shape [2] for 3 values"),
        (square_values, "its values have shape [2, 1], not one dimension"),
        (no_indices, "is unknown to onnx"),
    ],
)
def test_parts_that_do_not_fit(edit: Callable[[SparseTensorProto], None], words: str) -> None:
    message = model([0, 1])
    edit(message.graph.sparse_initializer[0])
    with pytest.raises(ModelError) as caught:
        io.load(message)
    assert words in str(caught.value)


@pytest.mark.parametrize("indices", [[1, 7], [[0, 1], [1, 3]]])
def test_what_is_stored_sparse_is_read_in_full(indices: ArrayLike) -> None:
    graph = io.load(model(indices))
    held = graph.main.constant("w")
    assert held is not None
    assert held.shape == (4, 4)
    assert held.nbytes == 2 * 4 + np.asarray(indices).size * 8
    assert np.argwhere(held.values).tolist() == [[0, 1], [1, 3]]


@pytest.mark.parametrize(("zeros", "sparse"), [(14, True), (4, False), (16, False)])
def test_other_values_stay_sparse_where_that_is_smaller(zeros: int, sparse: bool) -> None:
    graph = io.load(model([1, 7]))
    held = graph.main.constant("w")
    assert held is not None
    values = np.arange(1, 17, dtype=np.float32).reshape(4, 4)
    values.reshape(-1)[:zeros] = 0
    held.set(values)
    assert (graph.main.sparse("w") is not None) is sparse
    assert ("w" in graph.main.initializers) is not sparse
    again = io.load(graph.to_model()).main.constant("w")
    assert again is not None
    np.testing.assert_array_equal(again.values, values)


def test_a_sparse_constant_of_a_node_is_read_and_changed() -> None:
    stored = model([1, 7]).graph.sparse_initializer[0]
    message = onnx.parser.parse_model(TEXT + " { y = MatMul(x, w) }")
    node = onnx.helper.make_node("Constant", [], ["w"], sparse_value=stored)
    message.graph.node.insert(0, node)
    graph = io.load(message)
    held = graph.main.constant("w")
    assert held is not None
    assert held.values.sum() == 2
    held.set(2 * held.values)
    again = graph.main.constant("w")
    assert again is not None
    assert again.values.sum() == 4
