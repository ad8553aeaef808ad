"""Operators as older opsets have them, and corners of newer ones, against onnxruntime."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import onnx
import pytest

from graphopt.bridge import GraphModule, to_torch
from graphopt.graph import io
from graphopt.graph.graph import Graph
from graphopt.graph.tensors import Array

Compare = Callable[[Graph, GraphModule, Mapping[str, Array]], None]

PICTURE = (2, 4, 6, 6)
CASES: list[tuple[int, tuple[int, ...], str]] = [
    (7, PICTURE, "y = Clip <min = -0.5, max = 0.5> (x)"),
    (7, PICTURE, "y = Clip (x)"),
    (7, PICTURE, "y = Pad <pads = [0,0,1,2,0,0,0,1], value = 2.0> (x)"),
    (7, PICTURE, 'y = Pad <pads = [0,0,1,2,0,0,0,1], mode = "reflect"> (x)'),
    (7, PICTURE, 'y = Pad <pads = [0,0,1,2,0,0,0,1], mode = "edge"> (x)'),
    (7, PICTURE, "y = Slice <starts = [1,-3], ends = [9,-1], axes = [1,3]> (x)"),
    (7, PICTURE, "y = Slice <starts = [0,1], ends = [1,3]> (x)"),
    (7, (2, 1, 3, 1), "y = Squeeze <axes = [1]> (x)"),
    (7, (2, 1, 3, 1), "y = Squeeze (x)"),
    (7, (2, 3), "y = Unsqueeze <axes = [0,3]> (x)"),
    (7, PICTURE, "y, z = Split <axis = 3, split = [2,4]> (x)"),
    (7, PICTURE, "y, z = Split <axis = 1> (x)"),
    (7, PICTURE, "y = Dropout <ratio = 0.4> (x)"),
    (10, PICTURE, "y = Dropout <ratio = 0.4> (x)"),
    (7, (3, 7), "y, z = TopK <k = 3> (x)"),
    (10, (3, 7), "k = Constant <value = int64[1] {2}> ()  y, z = TopK <axis = 0> (x, k)"),
    (7, PICTURE, "y = Softmax <axis = 2> (x)"),
    (11, PICTURE, "y = LogSoftmax <axis = 1> (x)"),
    (7, PICTURE, "y = Hardmax <axis = 3> (x)"),
    (7, PICTURE, "y = ReduceMean <axes = [1,3], keepdims = 0> (x)"),
    (7, PICTURE, "y = ReduceSum (x)"),
    (7, PICTURE, "y = ReduceLogSumExp <axes = [-1]> (x)"),
    (7, PICTURE, "y = ReduceL2 <axes = [2,3]> (x)"),
    (7, PICTURE, "y = ReduceProd <axes = [2]> (x)"),
    (13, PICTURE, "y = ReduceMax <axes = [0,2]> (x)"),
    (7, PICTURE, "y = ArgMax <axis = 2, keepdims = 0> (x)"),
    (7, PICTURE, "y = Upsample <scales = [1.0,1.0,2.0,3.0]> (x)"),
    (9, PICTURE, UP := "s = Constant <value = float[4] {1.0,1.0,1.5,2.0}> ()  y = Upsample (x, s)"),
    (9, PICTURE, UP.replace("Upsample", 'Upsample <mode = "linear">')),
    (10, PICTURE, UP.replace("Upsample", "Resize")),
    (10, PICTURE, UP.replace("Upsample", 'Resize <mode = "linear">')),
    (7, PICTURE, "y = MaxPool <kernel_shape = [3,2], strides = [2,2], pads = [1,0,0,1]> (x)"),
    (8, PICTURE, "y, z = MaxPool <kernel_shape = [3,3], strides = [2,2], pads = [1,1,1,1]> (x)"),
    (10, PICTURE, "y = MaxPool <kernel_shape = [3,3], strides = [2,2], ceil_mode = 1> (x)"),
    (10, PICTURE, "y = MaxPool <kernel_shape = [2,2], dilations = [2,3]> (x)"),
    (7, PICTURE, "y = AveragePool <kernel_shape = [3,3], pads = [1,1,1,1]> (x)"),
    (7, PICTURE, 'y = AveragePool <kernel_shape = [3,3], auto_pad = "SAME_UPPER"> (x)'),
    (
        7,
        PICTURE,
        "y = AveragePool <kernel_shape = [3,3], pads = [1,0,2,1], count_include_pad = 1> (x)",
    ),
    (10, PICTURE, "y = AveragePool <kernel_shape = [3,3], strides = [2,2], ceil_mode = 1> (x)"),
    (7, PICTURE, "y = LpPool <kernel_shape = [2,2], p = 3> (x)"),
    (7, PICTURE, "y = GlobalLpPool <p = 2> (x)"),
    (7, PICTURE, "y = GlobalMaxPool (x)"),
    (7, PICTURE, "y = LRN <size = 3, alpha = 0.1> (x)"),
    (7, (3, 5), "y = LpNormalization <axis = 0, p = 1> (x)"),
    (7, PICTURE, "y = DepthToSpace <blocksize = 2> (x)"),
    (11, PICTURE, 'y = DepthToSpace <blocksize = 2, mode = "CRD"> (x)'),
    (7, PICTURE, "y = SpaceToDepth <blocksize = 3> (x)"),
    (7, PICTURE, "z = Shape (x)  y = Flatten <axis = 2> (x)"),
    (7, PICTURE, "i = Cast <to = 7> (x)  y = Cast <to = 1> (i)"),
    (9, PICTURE, "s = Shape (x)  y = ConstantOfShape <value = float[1] {2.5}> (s)"),
    (9, (3, 4), "y = EyeLike <k = 1> (x)"),
    (9, (3, 4), "y = Shrink <lambd = 0.3, bias = 0.1> (x)"),
    (9, (3, 4), "z = NonZero (x)  y = Identity (x)"),
    (9, (3, 4), "y = MeanVarianceNormalization <axes = [0]> (x)"),
    (11, (3, 4), "a = Constant <value = int64 {1}> ()  y = CumSum <exclusive = 1> (x, a)"),
    (7, (3, 4), "y = Transpose (x)"),
    (7, (3, 4), "y = Mean (x, x, x)"),
    (7, (3, 4), "y = Gemm <transA = 1, alpha = 0.5, beta = 2.0> (x, A, B)"),
    (7, PICTURE, 'y = Conv <auto_pad = "SAME_LOWER", strides = [2,2]> (x, W)'),
    (7, PICTURE, "y = Conv <pads = [2,0,1,1], dilations = [2,1]> (x, W)"),
    (7, PICTURE, "y = ConvTranspose <strides = [2,2], output_padding = [1,0]> (x, T)"),
    (7, PICTURE, "y = ConvTranspose <strides = [2,2], pads = [1,0,0,1]> (x, T)"),
    (11, PICTURE, "y = ConvTranspose <strides = [2,2], output_shape = [13,12]> (x, T)"),
    (11, PICTURE, 'y = ConvTranspose <strides = [2,2], auto_pad = "SAME_UPPER"> (x, T)'),
    (16, PICTURE, 'y = GridSample <mode = "bicubic"> (x, G)'),
    (16, PICTURE, 'y = GridSample <padding_mode = "border", align_corners = 1> (x, G)'),
    (7, (5, 2, 3), "y, z = RNN <hidden_size = 4> (x, RW, RR)"),
    (7, (5, 2, 3), "y, z = GRU <hidden_size = 4> (x, GW, GR, GB)"),
    (7, (5, 2, 3), "y, z = GRU <hidden_size = 4, linear_before_reset = 1> (x, GW, GR, GB)"),
    (7, (5, 2, 3), 'y, z = RNN <hidden_size = 4, activations = ["Relu"], clip = 0.5> (x, RW, RR)'),
]
WEIGHTS = {
    "A": (3, 2),
    "B": (4, 2),
    "W": (3, 4, 3, 3),
    "T": (4, 3, 3, 3),
    "G": (2, 5, 5, 2),
    "RW": (1, 4, 3),
    "RR": (1, 4, 4),
    "GW": (1, 12, 3),
    "GR": (1, 12, 4),
    "GB": (1, 24),
}


@pytest.mark.parametrize(("opset", "shape", "body"), CASES)
def test_same_as_onnxruntime(
    opset: int, shape: tuple[int, ...], body: str, same_as_onnxruntime: Compare
) -> None:
    rng = np.random.default_rng(0)
    model = onnx.parser.parse_model(
        f"""<ir_version: 4, opset_import: ["" : {opset}]>
        net (float[{",".join(map(str, shape))}] x) => () {{ {body} }}"""
    )
    made = {name for node in model.graph.node for name in node.output}
    model.graph.output.extend(onnx.ValueInfoProto(name=name) for name in sorted(made & {"y", "z"}))
    for name in sorted({name for node in model.graph.node for name in node.input} & set(WEIGHTS)):
        values = 0.5 * rng.standard_normal(WEIGHTS[name]).astype(np.float32)
        model.graph.initializer.append(onnx.numpy_helper.from_array(values, name))
    graph = io.load(onnx.shape_inference.infer_shapes(model))
    feeds = {"x": rng.standard_normal(shape).astype(np.float32)}
    same_as_onnxruntime(graph, to_torch(graph), feeds)
