"""Weights stored as half floats behind a Cast: passes see the float32 that is computed."""

from __future__ import annotations

import numpy as np
import onnx
import pytest

from graphopt.contract.spec import parse_passes
from graphopt.graph import io
from graphopt.testing import apply_passes, model_from_text, run_model
from graphopt.testing.text import random_weight

BODY = """
    c1 = Conv <pads = [1, 1, 1, 1]> (x, {w}1, {b}1) r1 = Relu (c1)
    c2 = Conv <pads = [1, 1, 1, 1], strides = [2, 2]> (r1, {w}2, {b}2) r2 = Relu (c2)
    g = GlobalAveragePool (r2) f = Flatten (g)
    m = MatMul (f, {w}3) y = Add (m, {b}3)
"""
SHAPES = {"w1": (32, 3, 3, 3), "w2": (64, 32, 3, 3), "w3": (64, 48)}
SHAPES |= {"b1": (32,), "b2": (64,), "b3": (48,)}
HALVES = {"float16": onnx.TensorProto.FLOAT16, "bfloat16": onnx.TensorProto.BFLOAT16}


def model(kind: str, *, cast: bool = True) -> onnx.ModelProto:
    """The network with weights of this type, behind Casts or as the float32 that they give."""
    rng = np.random.default_rng(2)
    dtype = onnx.helper.tensor_dtype_to_np_dtype(HALVES[kind])
    values = {name: random_weight(shape, rng).astype(dtype) for name, shape in SHAPES.items()}
    head = '<ir_version: 8, opset_import: ["" : 17]> g (float[N,3,8,8] x) => (float[N,48] y)'
    if not cast:
        plain = {name: each.astype(np.float32) for name, each in values.items()}
        return model_from_text(f"{head} {{ {BODY.format(w='w', b='b')} }}", plain)
    casts = " ".join(f"{name}_wide = Cast <to = 1> ({name})" for name in values)
    body = BODY
    for name in values:
        body = body.replace("{" + name[0] + "}" + name[1], f"{name}_wide")
    made = model_from_text(f"{head} {{ {casts} {body} }}")
    for name, each in values.items():
        made.graph.initializer.append(onnx.numpy_helper.from_array(each, name))
    return made


SPECS = {
    "quantize-static,correct-bias,quantize-weights": 0.65,
    "quantize-dynamic{min_size=0},quantize-weights": 0.65,
    "quantize-weights{min_size=0}": 0.65,
    "smooth-activations,quantize-dynamic{min_size=0}": 0.95,
    "mask-weights{sparsity=0.5,criterion=magnitude}": 1.0,
    "factorize-matmul{rank=4,allow_slower=true},factorize-conv{rank=4,allow_slower=true}": 1.2,
    "fuse-batchnorm,fold-constants,eliminate-identity": 1.0,
}


@pytest.mark.parametrize("kind", HALVES)
@pytest.mark.parametrize("spec", SPECS)
def test_it_does_what_it_does_with_float32(kind: str, spec: str) -> None:
    half, plain = model(kind), model(kind, cast=False)
    graph, records = apply_passes(parse_passes(spec), half)
    other, others = apply_passes(parse_passes(spec), plain)
    told = [(record.name, record.status, len(record.changes)) for record in records]
    assert told == [(record.name, record.status, len(record.changes)) for record in others]
    for name, values in run_model(graph).items():
        np.testing.assert_allclose(values, run_model(other)[name], rtol=1e-5, atol=1e-6)
    assert io.size(graph) <= SPECS[spec] * len(half.SerializeToString())


@pytest.mark.parametrize("kind", HALVES)
def test_a_normalization_of_half_floats_is_fused_and_the_weights_stay_small(kind: str) -> None:
    rng = np.random.default_rng(3)
    dtype = onnx.helper.tensor_dtype_to_np_dtype(HALVES[kind])
    shapes = {"w": (32, 16, 3, 3), "k": (32,), "s": (32,), "m": (32,), "v": (32,)}
    casts = " ".join(f"{name}f = Cast <to = 1> ({name})" for name in shapes)
    text = f"""<ir_version: 8, opset_import: ["" : 17]> g (float[N,16,8,8] x) => (float[N,32,6,6] y)
        {{ {casts} c = Conv (x, wf) y = BatchNormalization (c, kf, sf, mf, vf) }}"""
    values = {name: random_weight(shape, rng).astype(dtype) for name, shape in shapes.items()}
    made = model_from_text(text, values)
    graph, (record,) = apply_passes(parse_passes("fuse-batchnorm"), made)
    assert record.status == "done"
    assert [node.op_type for node in graph.main.nodes] == ["Cast", "Conv"]
    assert sorted(t.data_type for t in graph.main.initializers.values()) == [1, HALVES[kind]]
    assert io.size(graph) <= len(made.SerializeToString())
