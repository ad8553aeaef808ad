"""Small sound models to change, and samples that fit them."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
import onnx
import onnx.helper
import onnx.numpy_helper
import onnx.parser
from numpy.typing import NDArray

from graphopt.testing import MODELS, model_from_text

__all__ = ["SEEDS", "externalize", "samples", "seed_model"]

Feeds = dict[str, NDArray[Any]]

_LEAST_BYTES = 64  # onnx looks into smaller ones for shapes
_BATCH = 2  # divides the fixed batches of the seeds


def _integer_operators() -> onnx.ModelProto:
    """Integer operators, as onnxruntime's own quantizer writes them."""
    grid: dict[str, NDArray[Any] | tuple[int, ...]] = {
        "xs": np.array(0.03, np.float32),
        "xz": np.array(128, np.uint8),
        "ws": np.array(0.01, np.float32),
        "wz": np.array(0, np.int8),
    }
    weight = np.random.default_rng(0).integers(-127, 128, (4, 3, 3, 3)).astype(np.int8)
    return model_from_text(
        """<ir_version: 8, opset_import: ["" : 13]>
        integers (float[N,3,6,6] x) => (float[N,4,4,4] y) {
          q = QuantizeLinear (x, xs, xz)
          c = QLinearConv (q, xs, xz, W, ws, wz, xs, xz)
          y = DequantizeLinear (c, xs, xz)
        }""",
        {**grid, "W": weight},
    )


def _nested() -> onnx.ModelProto:
    """A function that calls one, an If in a Loop, a weight held as a sparse tensor."""
    model = onnx.parser.parse_model(
        """<ir_version: 9, opset_import: ["" : 17, "local" : 1]>
        nested (float[N,4] x) => (float[N,4] y)
        <float[4,4] W = {1,0,0,2, 0,1,0,0, 0,0,1,0, 0,0,0,1}, int64 count = {2}, bool on = {1}> {
          h = local.outer <slope: float = 0.5> (x, W)
          y = Loop (count, on, h) <
            body = step (int64 n, bool go, float[N,4] state) => (bool again, float[N,4] next) {
              again = Identity (go)
              next = If (go) <
                then_branch = yes () => (float[N,4] t) { t = Relu (state) },
                else_branch = no () => (float[N,4] e) { e = MatMul (state, S) }
              >
            }
          >
        }
        <domain: "local", opset_import: ["" : 17, "local" : 1]>
        outer <slope> (a, w) => (b) {
          m = MatMul (a, w)
          k = local.inner <slope: float = @slope> (m)
          b = Add (k, a)
        }
        <domain: "local", opset_import: ["" : 17]>
        inner <slope> (a) => (b) { b = LeakyRelu <alpha: float = @slope> (a) }"""
    )
    values = onnx.numpy_helper.from_array(np.array([2.0, 3.0], np.float32), "S")
    places = onnx.numpy_helper.from_array(np.array([1, 14], np.int64), "S_places")
    sparse = onnx.helper.make_sparse_tensor(values, places, [4, 4])
    model.graph.sparse_initializer.append(sparse)
    return model


def _several_types() -> onnx.ModelProto:
    """Strings, sequences, an optional output, weights of four bits."""
    model = onnx.parser.parse_model(
        """<ir_version: 10, opset_import: ["" : 21]>
        types (float[N,8] x, int64[N] index) => (float[N,8] y, seq(float[N,4]) parts, int64[N] kept)
        <float s = {0.5}> {
          w = DequantizeLinear (W, s)
          h = MatMul (x, w)
          parts = SplitToSequence <axis = 1> (h, four)
          d, keep = Dropout (h)
          y = Clip (d, , s)
          kept = Abs (index)
        }"""
    )
    weight = onnx.helper.make_tensor("W", onnx.TensorProto.INT4, [8, 8], b"\x17" * 32, raw=True)
    four = onnx.numpy_helper.from_array(np.array(4, np.int64), "four")
    model.graph.initializer.extend([weight, four])
    return model


SEEDS: dict[str, Callable[[], onnx.ModelProto]] = {
    **MODELS,
    "integer-operators": _integer_operators,
    "nested": _nested,
    "several-types": _several_types,
}


@cache
def _serialized(name: str) -> bytes:
    serialized: bytes = SEEDS[name]().SerializeToString()
    return serialized


def seed_model(name: str) -> onnx.ModelProto:
    """A fresh copy of a seed."""
    return onnx.load_model_from_string(_serialized(name))


def samples(model: onnx.ModelProto, batches: int = 1) -> Feeds:
    """Seeded values for each input, ``batches`` times its first axis; free axes are 2 long."""
    rng = np.random.default_rng(0)
    constants = {tensor.name for tensor in model.graph.initializer}
    feeds: Feeds = {}
    for value in model.graph.input:
        if value.name in constants:
            continue
        kind = value.type.tensor_type
        shape = [dim.dim_value or _BATCH for dim in kind.shape.dim]
        if shape:
            shape[0] *= batches
        dtype = onnx.helper.tensor_dtype_to_np_dtype(kind.elem_type)
        if dtype.kind == "f":
            feeds[value.name] = rng.standard_normal(shape).astype(dtype)
        else:
            feeds[value.name] = rng.integers(0, 2, shape).astype(dtype)
    return feeds


def externalize(model: onnx.ModelProto, location: str) -> bytes:
    """Move the larger weights out of a model; returns what its data file is to hold."""
    data = b""
    for tensor in model.graph.initializer:
        if tensor.data_type != onnx.TensorProto.FLOAT or len(tensor.raw_data) < _LEAST_BYTES:
            continue
        place = {"location": location, "offset": len(data), "length": len(tensor.raw_data)}
        data += tensor.raw_data
        tensor.ClearField("raw_data")
        tensor.data_location = onnx.TensorProto.EXTERNAL
        for key, entry in place.items():
            tensor.external_data.add(key=key, value=str(entry))
    return data
