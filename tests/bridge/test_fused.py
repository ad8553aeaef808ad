"""Operators that onnxruntime's optimizer writes, against onnxruntime itself."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

from graphopt.bridge import to_torch
from graphopt.graph import io
from graphopt.graph.tensors import Array

RNG = np.random.default_rng(0)
X = ("B", "S", 8)
F = TensorProto.FLOAT


def weight(*shape: int) -> Array:
    return RNG.normal(size=shape).astype(np.float32)


def model_of(
    op_type: str,
    reads: dict[str, Any],
    outputs: int = 1,
    domain: str = "com.microsoft",
    **attributes: Any,
) -> onnx.ModelProto:
    """One node; inputs are arrays for constants, shapes (of integers if named so), or None."""
    inputs, constants = [], []
    for name, given in reads.items():
        if isinstance(given, np.ndarray):
            constants.append(numpy_helper.from_array(given, name))
        elif isinstance(given, tuple):
            kind = TensorProto.INT32 if name.startswith("ids") else F
            inputs.append(helper.make_tensor_value_info(name, kind, given))
    names = [name if given is not None else "" for name, given in reads.items()]
    made = [f"y{number}" for number in range(outputs)]
    node = helper.make_node(op_type, names, made, domain=domain, **attributes)
    graph = helper.make_graph(
        [node],
        "g",
        inputs,
        [helper.make_tensor_value_info("y0", F, None)],
        constants,
    )
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("com.microsoft", 1)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=8)


CASES: dict[str, onnx.ModelProto] = {
    "Gelu": model_of("Gelu", {"x": X}),
    "BiasGelu": model_of("BiasGelu", {"x": X, "b": weight(8)}),
    "FastGelu": model_of("FastGelu", {"x": X}),
    "FastGelu and bias": model_of("FastGelu", {"x": X, "b": weight(8)}),
    "QuickGelu": model_of("QuickGelu", {"x": X}),
    "QuickGelu by another": model_of("QuickGelu", {"x": X}, alpha=1.0),
    "FusedMatMul": model_of("FusedMatMul", {"x": X, "w": weight(8, 4)}, alpha=0.5),
    "FusedMatMul turned": model_of("FusedMatMul", {"x": X, "w": weight(4, 8)}, transB=1),
    "FusedMatMul of two": model_of(
        "FusedMatMul", {"x": ("B", 2, 6, 8), "z": ("B", 2, 6, 8)}, alpha=0.25, transB=1
    ),
    "FusedMatMul of two, both turned": model_of(
        "FusedMatMul", {"x": ("B", 2, 6, 8), "z": ("B", 2, 8, 6)}, transA=1, transB=1
    ),
    "FusedMatMul with batches turned": model_of(
        "FusedMatMul",
        {"x": (2, "S", 6, 8), "z": (8, "S", 6, 4)},
        transBatchA=1,
        transBatchB=1,
    ),
    "FusedMatMul with a batch and rows turned": model_of(
        "FusedMatMul", {"x": (2, "S", 6, 8), "z": ("S", 6, 2, 5)}, transA=1, transBatchA=1
    ),
    "FusedGemm": model_of(
        "FusedGemm", {"x": ("B", 8), "w": weight(8, 4), "b": weight(4)}, activation="Relu"
    ),
    "FusedGemm leaking": model_of(
        "FusedGemm",
        {"x": ("B", 8), "w": weight(4, 8), "b": weight(4)},
        activation="LeakyRelu",
        activation_alpha=0.3,
        transB=1,
    ),
    "FusedConv": model_of(
        "FusedConv",
        {"x": ("B", 3, 6, 6), "w": weight(4, 3, 3, 3), "b": weight(4)},
        activation="Relu",
        pads=[1, 1, 1, 1],
    ),
    "FusedConv of a sum, clipped": model_of(
        "FusedConv",
        {"x": ("B", 3, 6, 6), "w": weight(4, 3, 3, 3), "b": weight(4), "z": ("B", 4, 4, 4)},
        activation="Clip",
        activation_params=[-0.5, 0.75],
    ),
    "FusedConv hard": model_of(
        "FusedConv",
        {"x": ("B", 3, 6, 6), "w": weight(4, 3, 3, 3)},
        activation="HardSigmoid",
        activation_params=[0.3, 0.4],
    ),
    "SkipLayerNormalization": model_of(
        "SkipLayerNormalization",
        {"x": X, "s": X, "g": weight(8), "b": weight(8), "a": weight(8)},
        epsilon=1e-5,
    ),
    "SkipLayerNormalization and no more": model_of(
        "SkipLayerNormalization", {"x": X, "s": X, "g": weight(8)}
    ),
    "SkipSimplifiedLayerNormalization": model_of(
        "SkipSimplifiedLayerNormalization", {"x": X, "s": X, "g": weight(8), "a": weight(8)}
    ),
    "SimplifiedLayerNormalization": model_of(
        "SimplifiedLayerNormalization", {"x": X, "g": weight(8)}, domain="", axis=-1, epsilon=1e-5
    ),
    "Attention": model_of("Attention", {"x": X, "w": weight(8, 24), "b": weight(24)}, num_heads=2),
    "Attention of raw masks": model_of(
        "Attention",
        {"x": X, "w": weight(8, 24), "b": weight(24), "ids_mask": ("B", "S")},
        num_heads=2,
    ),
    "Attention of lengths": model_of(
        "Attention",
        {"x": X, "w": weight(8, 24), "b": weight(24), "ids_lengths": ("B",)},
        num_heads=4,
        scale=0.3,
    ),
    "Attention of ends and starts": model_of(
        "Attention",
        {"x": X, "w": weight(8, 24), "b": weight(24), "ids_mask": (6,)},
        num_heads=2,
    ),
    "Attention that looks back": model_of(
        "Attention",
        {"x": X, "w": weight(8, 20), "b": weight(20), "no_mask": None},
        num_heads=2,
        unidirectional=1,
        qkv_hidden_sizes=[6, 6, 8],
    ),
    "Attention with a past": model_of(
        "Attention",
        {
            "x": X,
            "w": weight(8, 24),
            "b": weight(24),
            "no_mask": None,
            "past": (2, "B", 2, 3, 4),
        },
        outputs=2,
        num_heads=2,
        unidirectional=1,
    ),
    "Attention with a bias": model_of(
        "Attention",
        {
            "x": X,
            "w": weight(8, 24),
            "b": weight(24),
            "no_mask": None,
            "no_past": None,
            "bias": ("B", 2, "S", "S"),
        },
        num_heads=2,
    ),
    "MultiHeadAttention": model_of(
        "MultiHeadAttention",
        {"q": X, "k": ("B", 4, 8), "v": ("B", 4, 6), "b": weight(22), "ids_mask": ("B", 4)},
        num_heads=2,
    ),
    "MultiHeadAttention with heads apart": model_of(
        "MultiHeadAttention",
        {"q": X, "k": ("B", 2, 3, 4), "v": ("B", 2, 3, 4)},
        num_heads=2,
    ),
    "EmbedLayerNormalization": model_of(
        "EmbedLayerNormalization",
        {
            "ids": ("B", "S"),
            "ids_of_kinds": ("B", "S"),
            "w": weight(9, 8),
            "p": weight(16, 8),
            "k": weight(2, 8),
            "g": weight(8),
            "b": weight(8),
            "ids_mask": ("B", "S"),
        },
        outputs=2,
        epsilon=1e-5,
    ),
    "EmbedLayerNormalization without kinds": model_of(
        "EmbedLayerNormalization",
        {
            "ids": ("B", "S"),
            "no_kinds": None,
            "w": weight(9, 8),
            "p": weight(16, 8),
            "no_table": None,
            "g": weight(8),
            "b": weight(8),
        },
        outputs=2,
    ),
}


def feeds_of(model: onnx.ModelProto) -> dict[str, Array]:
    rng = np.random.default_rng(1)
    sizes = {"B": 3, "S": 5}
    found: dict[str, Array] = {}
    for value in model.graph.input:
        dims = value.type.tensor_type.shape.dim
        shape = [dim.dim_value or sizes[dim.dim_param] for dim in dims]
        if value.type.tensor_type.elem_type == F:
            found[value.name] = rng.normal(size=shape).astype(np.float32)
        else:
            high = 6 if value.name == "ids_lengths" else 2
            found[value.name] = rng.integers(high > 2, high, shape).astype(np.int32)
    if found.get("ids_mask", np.zeros(0)).shape == (6,):
        found["ids_mask"] = np.array([5, 4, 3, 0, 1, 2], np.int32)
    return found


@pytest.mark.parametrize("name", CASES)
def test_it_is_what_onnxruntime_computes_and_gradients_arrive(name: str) -> None:
    model = CASES[name]
    feeds = feeds_of(model)
    session = onnxruntime.InferenceSession(model.SerializeToString())
    (expected,) = session.run(["y0"], feeds)
    module = to_torch(io.load(model))
    found = module({key: torch.from_numpy(value) for key, value in feeds.items()})["y0"]
    np.testing.assert_allclose(found.detach().numpy(), expected, rtol=2e-4, atol=2e-5)
    weights = [weight for _, weight in module.weights()]
    if weights:
        gradients = torch.autograd.grad(found.square().sum(), weights)
        assert all(bool(each.any()) for each in gradients)
    floats = [entry for entry in model.graph.initializer if entry.data_type == F]
    assert len(weights) == len(floats), "all of them are trained"


def test_an_activation_that_nobody_knows_is_named() -> None:
    model = model_of("FusedConv", {"x": ("B", 3, 6, 6), "w": weight(4, 3, 3, 3)}, activation="Odd")
    with pytest.raises(Exception, match="activation 'Odd' is not supported in training"):
        to_torch(io.load(model))({"x": torch.zeros(1, 3, 6, 6)})
