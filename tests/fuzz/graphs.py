"""Random small graphs that are sound: whatever is refused, lost or changed is a finding."""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from tests.fuzz.case import Case, dice

__all__ = ["MODES", "counted_graph", "fresh", "make", "random_graph"]

_FUNCTION_DOMAIN = "local"


@dataclass
class _Builder:
    """A graph as it grows, and the one value that goes on: its name, channels and side.

    Attributes:
        rng: Chooses.
        opset: Of the model.
        channels: Of the value: its axis 1, or its last one where it is no picture.
        side: Height and width of a picture, 0 for a row of features.
        current: Name of the value.
        macs: Multiply-accumulates for one sample, counted as the graph grows.
    """

    rng: random.Random
    opset: int
    channels: int
    side: int
    current: str = "x"
    macs: int = 0
    nodes: list[onnx.NodeProto] = field(default_factory=list)
    weights: dict[str, NDArray[Any]] = field(default_factory=dict)
    functions: list[onnx.FunctionProto] = field(default_factory=list)

    def name(self, stem: str) -> str:
        return f"{stem}{len(self.nodes)}_{len(self.weights)}"

    def constant(self, values: Any) -> str:
        name = self.name("k")
        self.weights[name] = np.asarray(values)
        return name

    def weight(self, *shape: int) -> str:
        """A weight; one in four is shared with another layer, or its channels differ much."""
        alike = [
            name for name, old in self.weights.items() if old.shape == shape and name[0] == "w"
        ]
        if alike and self.rng.random() < 0.25:
            return self.rng.choice(alike)
        values = np.random.default_rng(self.rng.getrandbits(32))
        drawn = values.standard_normal(shape) / max(1, math.prod(shape[1:])) ** 0.5
        if self.rng.random() < 0.25:
            drawn *= np.exp(values.standard_normal((shape[0],) + (1,) * (len(shape) - 1)))
        name = self.name("w")
        self.weights[name] = drawn.astype(np.float32)
        return name

    def add(self, operator: str, *inputs: str, domain: str = "", **attributes: Any) -> str:
        """A node with one output, which is handed back."""
        output = self.name("t")
        self.nodes.append(
            helper.make_node(
                operator, inputs, [output], name=f"n{len(self.nodes)}", domain=domain, **attributes
            )
        )
        return output


Step = Callable[[_Builder], None]


def _conv(b: _Builder) -> None:
    out, kernel = b.rng.choice([3, 4, 8, 12]), b.rng.choice([1, 3])
    stride = b.rng.choice([1, 1, 2]) if b.side >= 6 else 1
    bias = [b.weight(out)] if b.rng.random() < 0.6 else []
    b.current = b.add(
        "Conv", b.current, b.weight(out, b.channels, kernel, kernel), *bias,
        pads=[kernel // 2] * 4, strides=[stride] * 2,
    )  # fmt: skip
    inputs, b.channels, b.side = b.channels, out, -(-b.side // stride)
    b.macs += out * inputs * kernel**2 * b.side**2


def _depthwise(b: _Builder) -> None:
    weight = b.weight(b.channels, 1, 3, 3)
    b.current = b.add("Conv", b.current, weight, pads=[1] * 4, group=b.channels)
    b.macs += b.channels * 9 * b.side**2


def _transposed(b: _Builder) -> None:
    if b.side > 8:
        return
    out = b.rng.choice([3, 4])
    b.current = b.add("ConvTranspose", b.current, b.weight(b.channels, out, 2, 2), strides=[2, 2])
    b.macs += b.channels * out * 4 * b.side**2
    b.channels, b.side = out, b.side * 2


def _norm(b: _Builder) -> None:
    values = np.random.default_rng(b.rng.getrandbits(32))
    made = [1 + 0.3 * values.standard_normal(b.channels), *values.standard_normal((2, b.channels))]
    made.append(np.exp(0.5 * values.standard_normal(b.channels)))
    ports = [b.constant(part.astype(np.float32)) for part in made]
    b.current = b.add("BatchNormalization", b.current, *ports, epsilon=b.rng.choice([1e-5, 1e-3]))


def _activation(b: _Builder) -> None:
    kinds = ["Relu", "LeakyRelu", "Sigmoid", "Tanh", "Elu", "Softplus"]
    b.current = b.add(b.rng.choice(kinds + ["HardSwish"] * (b.opset >= 14)), b.current)


def _branches(b: _Builder) -> None:
    """Two ways that meet again: a sum, a product, a gate, or both side by side."""
    linear = b.add("Conv", b.current, b.weight(b.channels, b.channels, 1, 1)) if b.side else b.add(
        "MatMul", b.current, b.weight(b.channels, b.channels)
    )  # fmt: skip
    b.macs += b.channels**2 * max(1, b.side) ** 2
    match b.rng.randrange(4):
        case 0:
            b.current = b.add("Add", linear, b.current)
        case 1:
            b.current = b.add("Mul", b.current, b.add("Sigmoid", linear))
        case 2:
            b.current = b.add("Max", linear, b.current)
        case _ if b.channels <= 12:
            b.current = b.add("Concat", b.current, linear, axis=1)
            b.channels *= 2
        case _:
            b.current = b.add("Sub", b.current, linear)


def _split(b: _Builder) -> None:
    if b.channels % 2:
        return
    half = b.channels // 2
    outputs = [b.name("s"), b.name("z")]
    sizes = b.constant(np.array([half, half]))
    b.nodes.append(helper.make_node("Split", [b.current, sizes], outputs, axis=1))
    b.current = b.add(b.rng.choice(["Add", "Mul", "Sub"]), *outputs)
    b.channels = half


def _scale(b: _Builder) -> None:
    shape = (1, b.channels, 1, 1) if b.side else (b.channels,)
    values = np.random.default_rng(b.rng.getrandbits(32)).standard_normal(shape)
    constant = b.constant((1 + 0.5 * values).astype(np.float32))
    b.current = b.add(b.rng.choice(["Mul", "Add", "Div", "Sub"]), b.current, constant)


def _resize(b: _Builder) -> None:
    if b.side >= 4 and b.rng.random() < 0.6:
        pool = b.rng.choice(["MaxPool", "AveragePool"])
        b.current = b.add(pool, b.current, kernel_shape=[2, 2], strides=[2, 2])
        b.side //= 2
    elif b.side <= 8:
        sizes = b.constant(np.array([1, 1, 2, 2], np.float32))
        mode = b.rng.choice(["nearest", "linear"])
        b.current = b.add("Resize", b.current, "", sizes, mode=mode)
        b.side *= 2


def _linear(b: _Builder) -> None:
    out = b.rng.choice([5, 8, 16, 24])
    b.macs += b.channels * out
    if b.rng.random() < 0.5:
        turned = b.rng.random() < 0.5
        weight = b.weight(out, b.channels) if turned else b.weight(b.channels, out)
        alpha = b.rng.choice([1.0, 1.0, 0.5])
        b.current = b.add("Gemm", b.current, weight, b.weight(out), transB=int(turned), alpha=alpha)
    else:
        b.current = b.add("MatMul", b.current, b.weight(b.channels, out))
        b.current = b.add("Add", b.current, b.weight(out))
    b.channels = out


def _choice(b: _Builder) -> None:
    """An If on the sign of a sum, with a layer in each branch."""
    b.macs += b.channels**2
    total = b.add("ReduceSum", b.current, keepdims=0)
    positive = b.add("Greater", total, b.constant(np.float32(0)))
    branches = []
    for operator in ("Relu", "Tanh"):
        inner, result = b.name("i"), b.name("r") + operator
        body = [
            helper.make_node("MatMul", [b.current, b.weight(b.channels, b.channels)], [inner]),
            helper.make_node(operator, [inner], [result]),
        ]
        value = helper.make_tensor_value_info(result, onnx.TensorProto.FLOAT, [None, None])
        branches.append(helper.make_graph(body, operator, [], [value]))
    b.current = b.add("If", positive, then_branch=branches[0], else_branch=branches[1])


def _loop(b: _Builder) -> None:
    names = [b.name(stem) for stem in ("n", "go", "state", "on", "next")]
    count, go, state, on, after = names
    body = [
        helper.make_node("MatMul", [state, b.weight(b.channels, b.channels)], [f"{after}m"]),
        helper.make_node("Tanh", [f"{after}m"], [after]),
        helper.make_node("Identity", [go], [on]),
    ]
    floats = [helper.make_tensor_value_info(name, 1, [None, None]) for name in (state, after)]
    switches = [helper.make_tensor_value_info(name, 9, []) for name in (go, on)]
    steps = helper.make_tensor_value_info(count, 7, [])
    graph = helper.make_graph(
        body, "body", [steps, switches[0], floats[0]], [switches[1], floats[1]]
    )
    rounds = b.rng.choice([1, 3])
    times, true = b.constant(np.int64(rounds)), b.constant(np.bool_(True))
    b.current = b.add("Loop", times, true, b.current, body=graph)
    b.macs += rounds * b.channels**2


def _called(b: _Builder) -> None:
    if not b.functions:
        body = [
            helper.make_node("MatMul", ["a", "w"], ["m"]),
            helper.make_node("Add", ["m", "c"], ["s"]),
            helper.make_node("Relu", ["s"], ["o"]),
        ]
        imports = [helper.make_opsetid("", b.opset)]
        made = helper.make_function(_FUNCTION_DOMAIN, "Lin", ["a", "w", "c"], ["o"], body, imports)
        b.functions.append(made)
    b.macs += b.channels**2
    weight, bias = b.weight(b.channels, b.channels), b.weight(b.channels)
    b.current = b.add("Lin", b.current, weight, bias, domain=_FUNCTION_DOMAIN)


def _clutter(b: _Builder) -> None:
    """What exporters leave: dead layers, identities, shapes that are computed."""
    match b.rng.randrange(3):
        case 0:
            b.add("MatMul", b.current, b.weight(b.channels, b.channels))
            b.macs += b.channels**2
        case 1:
            b.current = b.add("Identity", b.current)
        case _:
            first = b.add("Gather", b.add("Shape", b.current), b.constant(np.array([0])))
            shape = b.add("Concat", first, b.constant(np.array([-1])), axis=0)
            b.current = b.add("Reshape", b.current, shape)


_PICTURE_STEPS: tuple[Step, ...] = (
    _conv, _conv, _conv, _depthwise, _transposed, _norm, _activation, _activation, _branches, _split, _scale,
    _resize,
)  # fmt: skip
_ROW_STEPS: tuple[Step, ...] = (
    _linear, _linear, _activation, _branches, _split, _scale, _choice, _loop, _called, _clutter,
)  # fmt: skip


def random_graph(number: int) -> onnx.ModelProto:
    """A sound model with one input ``x`` and outputs ``y`` and, at times, the value before it."""
    return counted_graph(number)[0]


def counted_graph(number: int) -> tuple[onnx.ModelProto, int]:
    """The model, and the multiply-accumulates of one sample."""
    rng = dice("graph", number)
    picture = rng.random() < 0.6
    batch = "N" if rng.random() < 0.7 else rng.choice([1, 2, 4])
    b = _Builder(
        rng, rng.choice([13, 14, 17, 18, 21]), rng.choice([1, 3, 5, 8]), rng.choice([6, 7, 8, 12])
    )
    if not picture:
        b.channels, b.side = rng.choice([7, 8, 16]), 0
    shape = [batch, b.channels, b.side, b.side] if picture else [batch, b.channels]
    if picture:
        for _ in range(rng.randrange(2, 8)):
            rng.choice(_PICTURE_STEPS)(b)
        b.current, b.side = b.add("Flatten", b.add("GlobalAveragePool", b.current)), 0
    for _ in range(rng.randrange(1, 5)):
        rng.choice(_ROW_STEPS)(b)
    outputs = [b.current] if rng.random() < 0.3 and b.current not in {"x"} else []
    classes = rng.choice([5, 10])
    weight = b.weight(b.channels, classes)
    b.macs += b.channels * classes
    b.nodes.append(helper.make_node("MatMul", [b.current, weight], ["y"]))
    graph = helper.make_graph(
        b.nodes,
        "random",
        [helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info(name, 1, [None, None]) for name in ["y", *outputs]],
        [numpy_helper.from_array(values, name) for name, values in b.weights.items()],
    )
    imports = [helper.make_opsetid("", b.opset), helper.make_opsetid(_FUNCTION_DOMAIN, 1)]
    model = helper.make_model(
        graph, opset_imports=imports, ir_version=rng.choice([8, 9, 10]), functions=b.functions
    )
    return model, b.macs


def fresh(model: onnx.ModelProto, count: int, stream: int) -> NDArray[np.float32]:
    """``(count, ...)`` samples for ``x``, another draw of the same distribution for each stream."""
    dims = model.graph.input[0].type.tensor_type.shape.dim
    batch = dims[0].dim_value or 1
    shape = (count // batch * batch, *(dim.dim_value for dim in dims[1:]))
    return np.random.default_rng([stream, 1]).standard_normal(shape).astype(np.float32)


_MODES = (
    (("--preset", "clean"), True),
    (("--preset", "int8-static", "--calib", "calib.npz", "--eval", "eval.npz"), False),
    (("--preset", "int8-dynamic", "--eval", "eval.npz"), False),
    (("--preset", "int8-weights"), False),
    (("--calib", "calib.npz"), False),
)
MODES = len(_MODES)


def make(number: int, folder: Path) -> Case:
    """Write graph ``number // 5`` with samples; the rest of the number chooses the mode."""
    model = random_graph(number // MODES)
    onnx.save(model, folder / "m.onnx")
    np.save(folder / "fresh.npy", fresh(model, 256, 4))
    for name, stream in (("calib", 1), ("eval", 2)):
        np.savez(folder / f"{name}.npz", x=fresh(model, 16, stream))
    batch = model.graph.input[0].type.tensor_type.shape.dim[0].dim_value
    np.savez(folder / "feeds.npz", x=fresh(model, batch or 4, 3))
    arguments, lossless = _MODES[number % MODES]
    return Case(
        arguments=("optimize", "m.onnx", "-o", "o.onnx", *arguments),
        story=(f"graph {number // MODES}", *(node.op_type for node in model.graph.node)),
        model="m.onnx",
        feeds="feeds.npz",
        out="o.onnx",
        lossless=lossless,
        sound=True,
    )
