"""Codes of which several share a byte."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray

from graphopt.facts.cost import params, zeros
from graphopt.facts.layers import Layer, layers
from graphopt.facts.packed import packed_codes, packed_dims
from graphopt.graph.graph import Graph
from graphopt.numerics.packing import pack_rows


def model(
    op_type: str, codes: NDArray[np.uint8], bits: int, points: NDArray[np.uint8] | None
) -> Graph:
    """Rows of codes in blocks of 16 as MatMulNBits or GatherBlockQuantized reads them."""
    rows, length = codes.shape
    count, gathers = -(-length // 16), op_type == "GatherBlockQuantized"
    held = pack_rows(codes, bits)
    if not gathers:
        filled = np.pad(codes, ((0, 0), (0, count * 16 - length)))
        held = pack_rows(filled, bits).reshape(rows, count, -1)
    inits = {"codes": held, "scale": np.ones((rows, count), np.float32)}
    inputs = ["codes", "x", "scale"] if gathers else ["x", "codes", "scale"]
    if points is not None:
        inits["points"] = pack_rows(points, bits)
        inputs.append("points")
    own = {"gather_axis": 0, "quantize_axis": 1} if gathers else {"K": length, "N": rows}
    node = onnx.helper.make_node(
        op_type, inputs, ["y"], domain="com.microsoft", bits=bits, block_size=16, **own
    )
    kind = onnx.TensorProto.INT64 if gathers else onnx.TensorProto.FLOAT
    made = onnx.helper.make_graph(
        [node],
        "g",
        [onnx.helper.make_tensor_value_info("x", kind, ["n", length])],
        [onnx.helper.make_tensor_value_info("y", 1, None)],
        [onnx.numpy_helper.from_array(value, name) for name, value in inits.items()],
    )
    imports = [onnx.helper.make_opsetid("", 21), onnx.helper.make_opsetid("com.microsoft", 1)]
    return Graph(onnx.helper.make_model(made, opset_imports=imports, ir_version=10))


@pytest.mark.parametrize("op_type", ["MatMulNBits", "GatherBlockQuantized"])
@pytest.mark.parametrize("bits", [2, 4])
@pytest.mark.parametrize("pointed", [True, False])
def test_each_code_counts(op_type: str, bits: int, pointed: bool) -> None:
    rng = np.random.default_rng(2)
    codes = rng.integers(0, 1 << bits, (6, 40)).astype(np.uint8)
    points = rng.integers(0, 1 << bits, (6, 3)).astype(np.uint8) if pointed else None
    graph = model(op_type, codes, bits, points)
    constant = graph.main.constant("codes")
    assert constant is not None and packed_dims(constant) == (6, 40)
    found = packed_codes(constant)
    assert found is not None
    np.testing.assert_array_equal(found[0], codes)
    middle = np.full((6, 3), 1 << (bits - 1)) if points is None else points
    zero = np.repeat(middle, 16, axis=1)[:, :40]
    np.testing.assert_array_equal(np.broadcast_to(found[1], codes.shape), zero)
    assert params(graph) == codes.size
    assert (zeros(graph).count, zeros(graph).of) == (int((codes == zero).sum()), codes.size)


def test_a_lookup_is_a_table_and_a_product_a_layer() -> None:
    codes = np.zeros((6, 40), np.uint8)
    kinds = []
    for op_type in ("GatherBlockQuantized", "MatMulNBits"):
        (one,) = (
            each for each in layers(model(op_type, codes, 4, None)) if isinstance(each, Layer)
        )
        assert one.weight.form == "integer"
        kinds.append(one.kind)
    assert kinds == ["table", "linear"]


def test_a_byte_each_is_not_packed() -> None:
    graph = model("MatMulNBits", np.zeros((6, 40), np.uint8), 8, None)
    constant = graph.main.constant("codes")
    assert constant is not None and packed_dims(constant) is None and packed_codes(constant) is None
