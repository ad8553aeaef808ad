"""The shapes of well-known networks with seeded random weights, built from nothing.

Weights are scaled after He et al. 2015, so that activations keep their size through the depth.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

__all__ = ["bert", "mobilenetv2", "resnet50"]

STAGES = ((3, 64), (4, 128), (6, 256), (3, 512))
INVERTED = (
    *((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2)),
    *((6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1)),
)
"""Of MobileNetV2: expansion, channels, blocks, stride of the first."""


class _Builder:
    """Nodes and weights in the making; ``add`` gives the name of the new node's output."""

    def __init__(self, seed: int) -> None:
        self.rng = np.random.default_rng(seed)
        self.nodes: list[onnx.NodeProto] = []
        self.weights: list[onnx.TensorProto] = []

    def add(self, operator: str, inputs: list[str], name: str, **attributes: Any) -> str:
        self.nodes.append(helper.make_node(operator, inputs, [name], name, **attributes))
        return name

    def constant(self, name: str, values: NDArray[Any] | float) -> str:
        array = np.asarray(values)
        array = array.astype(np.float32) if array.dtype.kind == "f" else array
        self.weights.append(numpy_helper.from_array(array, name))
        return name

    def normal(self, name: str, shape: tuple[int, ...], deviation: float) -> str:
        values = self.rng.standard_normal(shape, dtype=np.float32) * np.float32(deviation)
        return self.constant(name, values)

    def model(
        self, name: str, source: onnx.ValueInfoProto, result: onnx.ValueInfoProto
    ) -> onnx.ModelProto:
        graph = helper.make_graph(self.nodes, name, [source], [result], self.weights)
        opsets = [helper.make_opsetid("", 17)]
        return helper.make_model(graph, opset_imports=opsets, ir_version=8)


def resnet50(*, folded: bool, size: int = 224, seed: int = 0) -> onnx.ModelProto:
    """ResNet-50 (He et al. 2015) for one picture ``(1, 3, size, size)``; 53 Conv, 16 Add, 1 Gemm.

    Args:
        folded: The file has no BatchNormalization any more, as most exporters write it.
        size: Height and width of the picture.
        seed: Seed of the weights.
    """
    net = _Builder(seed)
    x = _conv(net, "image", (3, 64, 7, 2), "stem", folded=folded)
    x = net.add("MaxPool", [x], "pool", kernel_shape=[3, 3], strides=[2, 2], pads=[1] * 4)
    channels = 64
    for stage, (blocks, width) in enumerate(STAGES):
        for block in range(blocks):
            stride, name, out = 2 if stage and not block else 1, f"s{stage}b{block}", 4 * width
            y = _conv(net, x, (channels, width, 1, 1), f"{name}_a", folded=folded)
            y = _conv(net, y, (width, width, 3, stride), f"{name}_b", folded=folded)
            y = _conv(net, y, (width, out, 1, 1), f"{name}_c", folded=folded, relu=False)
            if channels != out:
                shape = (channels, out, 1, stride)
                x = _conv(net, x, shape, f"{name}_d", folded=folded, relu=False)
            x = net.add("Relu", [net.add("Add", [y, x], f"{name}_add")], f"{name}_out")
            channels = out
    x = net.add("Flatten", [net.add("GlobalAveragePool", [x], "mean")], "features")
    net.normal("fc_w", (1000, channels), channels**-0.5)
    net.normal("fc_b", (1000,), 0.1)
    net.add("Gemm", [x, "fc_w", "fc_b"], "logits", transB=1)
    picture = [1, 3, size, size]
    return net.model(
        "resnet50",
        helper.make_tensor_value_info("image", TensorProto.FLOAT, picture),
        helper.make_tensor_value_info("logits", TensorProto.FLOAT, [1, 1000]),
    )


def mobilenetv2(*, size: int = 224, seed: int = 0) -> onnx.ModelProto:
    """MobileNetV2 (Sandler et al. 2018) for one picture ``(1, 3, size, size)``; 52 Conv, 1 Gemm.

    BatchNormalization is folded, as most exporters write it; activations are Clip to 0 .. 6.

    Args:
        size: Height and width of the picture.
        seed: Seed of the weights.
    """
    net = _Builder(seed)
    net.constant("zero", 0.0)
    net.constant("six", 6.0)
    x = _conv(net, "image", (3, 32, 3, 2), "stem", folded=True, clip=True)
    channels = 32
    for stage, (expansion, out, blocks, first) in enumerate(INVERTED):
        for block in range(blocks):
            name, wide, y = f"s{stage}b{block}", expansion * channels, x
            if expansion > 1:
                y = _conv(net, y, (channels, wide, 1, 1), f"{name}_a", folded=True, clip=True)
            shape = (wide, wide, 3, 1 if block else first)
            y = _conv(net, y, shape, f"{name}_b", folded=True, clip=True, groups=wide)
            y = _conv(net, y, (wide, out, 1, 1), f"{name}_c", folded=True, relu=False)
            x = net.add("Add", [y, x], f"{name}_add") if block else y
            channels = out
    x = _conv(net, x, (channels, 1280, 1, 1), "top", folded=True, clip=True)
    x = net.add("Flatten", [net.add("GlobalAveragePool", [x], "mean")], "features")
    net.normal("fc_w", (1000, 1280), 1280**-0.5)
    net.normal("fc_b", (1000,), 0.1)
    net.add("Gemm", [x, "fc_w", "fc_b"], "logits", transB=1)
    return net.model(
        "mobilenetv2",
        helper.make_tensor_value_info("image", TensorProto.FLOAT, [1, 3, size, size]),
        helper.make_tensor_value_info("logits", TensorProto.FLOAT, [1, 1000]),
    )


def _conv(
    net: _Builder,
    x: str,
    shape: tuple[int, int, int, int],
    name: str,
    *,
    folded: bool,
    relu: bool = True,
    clip: bool = False,
    groups: int = 1,
) -> str:
    """Conv with its BatchNormalization or bias, and Relu or Clip.

    ``shape`` is in, out, kernel, stride.

    The branches of a block are scaled down so that the sum does not grow from block to block.
    """
    channels, out, kernel, stride = shape
    inside = channels // groups
    deviation = (2.0 / (inside * kernel**2)) ** 0.5 * (1.0 if relu else 0.5)
    inputs = [x, net.normal(f"{name}_w", (out, inside, kernel, kernel), deviation)]
    if folded:
        inputs.append(net.normal(f"{name}_bias", (out,), 0.1))
    window: dict[str, Any] = {"strides": [stride, stride], "pads": [kernel // 2] * 4}
    if groups > 1:
        window["group"] = groups
    x = net.add("Conv", inputs, name, **window)
    if not folded:
        scale = net.constant(f"{name}_gamma", net.rng.uniform(0.8, 1.2, out))
        shift = net.normal(f"{name}_beta", (out,), 0.1)
        mean = net.normal(f"{name}_mean", (out,), 0.1)
        variance = net.constant(f"{name}_variance", net.rng.uniform(0.8, 1.2, out))
        x = net.add("BatchNormalization", [x, scale, shift, mean, variance], f"{name}_bn")
    if clip:
        return net.add("Clip", [x, "zero", "six"], f"{name}_clip")
    return net.add("Relu", [x], f"{name}_relu") if relu else x


def bert(*, layers: int = 12, width: int = 768, heads: int = 12, seed: int = 0) -> onnx.ModelProto:
    """The encoder of BERT-base (Devlin et al. 2019) behind its embeddings, as torch exports it.

    Takes ``hidden (batch, tokens, width)`` float32 with free batch and tokens. Each layer has
    self-attention, LayerNormalization and a feed-forward part of four times the width with Gelu.

    Args:
        layers: Number of layers.
        width: Size of a token's vector.
        heads: Attention heads; they share ``width``.
        seed: Seed of the weights.
    """
    net = _Builder(seed)
    net.constant("split", np.array([0, 0, heads, width // heads], np.int64))
    net.constant("join", np.array([0, 0, width], np.int64))
    net.constant("root_two", 2.0**0.5)
    net.constant("one", 1.0)
    net.constant("half", 0.5)
    net.constant("scale", float(width // heads) ** -0.5)
    x = "hidden"
    for layer in range(layers):
        name = f"layer{layer}"
        attended = _attention(net, x, width, name)
        x = _norm(net, net.add("Add", [attended, x], f"{name}_sum1"), width, f"{name}_norm1")
        y = _gelu(net, _linear(net, x, width, 4 * width, f"{name}_up"), name)
        y = _linear(net, y, 4 * width, width, f"{name}_down")
        x = _norm(net, net.add("Add", [y, x], f"{name}_sum2"), width, f"{name}_norm2")
    net.add("Identity", [x], "encoded")
    shape: list[str | int | None] = ["batch", "tokens", width]
    return net.model(
        "bert",
        helper.make_tensor_value_info("hidden", TensorProto.FLOAT, shape),
        helper.make_tensor_value_info("encoded", TensorProto.FLOAT, shape),
    )


def _linear(net: _Builder, x: str, fan_in: int, out: int, name: str) -> str:
    weight = net.normal(f"{name}_w", (fan_in, out), fan_in**-0.5)
    product = net.add("MatMul", [x, weight], f"{name}_matmul")
    return net.add("Add", [net.normal(f"{name}_b", (out,), 0.02), product], name)


def _attention(net: _Builder, x: str, width: int, name: str) -> str:
    parts = []
    for part, order in (("query", [0, 2, 1, 3]), ("key", [0, 2, 3, 1]), ("value", [0, 2, 1, 3])):
        y = _linear(net, x, width, width, f"{name}_{part}")
        y = net.add("Reshape", [y, "split"], f"{name}_{part}_heads")
        parts.append(net.add("Transpose", [y], f"{name}_{part}_turned", perm=order))
    scores = net.add("MatMul", parts[:2], f"{name}_scores")
    scaled = net.add("Mul", [scores, "scale"], f"{name}_scaled")
    shares = net.add("Softmax", [scaled], f"{name}_shares", axis=-1)
    mixed = net.add("MatMul", [shares, parts[2]], f"{name}_mixed")
    turned = net.add("Transpose", [mixed], f"{name}_mixed_turned", perm=[0, 2, 1, 3])
    joined = net.add("Reshape", [turned, "join"], f"{name}_joined")
    return _linear(net, joined, width, width, f"{name}_out")


def _norm(net: _Builder, x: str, width: int, name: str) -> str:
    scale = net.constant(f"{name}_gamma", net.rng.uniform(0.8, 1.2, width))
    shift = net.normal(f"{name}_beta", (width,), 0.02)
    return net.add("LayerNormalization", [x, scale, shift], name, axis=-1, epsilon=1e-12)


def _gelu(net: _Builder, x: str, name: str) -> str:
    erf = net.add("Erf", [net.add("Div", [x, "root_two"], f"{name}_div")], f"{name}_erf")
    whole = net.add("Add", [erf, "one"], f"{name}_plus")
    return net.add("Mul", [net.add("Mul", [x, whole], f"{name}_mul"), "half"], f"{name}_gelu")
