"""Training of models in half precision: behind convert-to-float32, and as small as they came."""

from __future__ import annotations

import numpy as np
import onnx
import pytest

from graphopt.contract.spec import parse_passes
from graphopt.graph import io
from graphopt.testing import apply_passes, model_from_text
from graphopt.testing.text import random_weight

RNG = np.random.default_rng(6)
X = RNG.normal(size=(16, 16)).astype(np.float32)
LABELS = RNG.integers(0, 4, 16)


def model(kind: str) -> onnx.ModelProto:
    dtype = onnx.helper.tensor_dtype_to_np_dtype(getattr(onnx.TensorProto, kind.upper()))
    shapes = {"w": (16, 64), "v": (64, 4)}
    values = {name: random_weight(shape, RNG).astype(dtype) for name, shape in shapes.items()}
    text = f"""<ir_version: 8, opset_import: ["" : 17]> g ({kind}[N, 16] x) => ({kind}[N, 4] logits)
        {{ m = MatMul(x, w) r = Relu(m) logits = MatMul(r, v) }}"""
    return model_from_text(text, values)


@pytest.mark.parametrize("kind", ["float16", "bfloat16"])
def test_it_is_trained_in_float32_and_stored_in_half(kind: str) -> None:
    made = model(kind)
    dtype = np.float16 if kind == "float16" else np.float32
    data = {"x": X.astype(dtype), "labels": LABELS}
    passes = parse_passes("convert-to-float32,finetune{epochs=2, lr=0.01, held_out=0}")
    graph, records = apply_passes(passes, made, samples=data, train=data)
    assert [record.status for record in records] == ["done", "done"]
    assert len(records[1].changes) == 2
    assert io.size(graph) < 1.15 * len(made.SerializeToString())
    _, (record,) = apply_passes(parse_passes("finetune"), made, samples=data, train=data)
    assert record.status == "refused"
    assert record.reason.endswith("small gradients are lost; put convert-to-float32 before")
