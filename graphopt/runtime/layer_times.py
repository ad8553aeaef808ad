"""What a layer would take at other widths: copies of it, side by side in one graph, profiled."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import NodeProto, TensorProto, helper

from graphopt.graph.graph import Graph
from graphopt.graph.tensors import Array, from_array
from graphopt.runtime.profile import node_times

__all__ = ["TimedLayer", "layer_times", "rounding_ms"]

_RUNS = 15
_CALM = 0.2
"""What a quarter of the runs beats: others slow down the rest."""
_STEP = 0.02
_OPSET = 17


@dataclass(frozen=True)
class TimedLayer:
    """A layer without its weights.

    Attributes:
        op_type: ``Conv``, or ``MatMul`` for what multiplies rows with a matrix.
        data: Shape of what it reads, the channels along axis 1 of a Conv, else along the last.
        kernel: Of a Conv.
        attributes: Of a Conv: strides, pads and dilations.
        depthwise: Whether each channel of a Conv has a kernel of its own.
    """

    op_type: Literal["Conv", "MatMul"]
    data: tuple[int, ...]
    kernel: tuple[int, ...] = ()
    attributes: tuple[tuple[str, tuple[int, ...]], ...] = ()
    depthwise: bool = False

    def shapes(self, read: int, made: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Of the data and of the weight at other widths."""
        if self.op_type == "MatMul":
            return (*self.data[:-1], read), (read, made)
        data = (self.data[0], read, *self.data[2:])
        return data, (made, 1 if self.depthwise else read, *self.kernel)


def layer_times(
    layer: TimedLayer,
    widths: tuple[Sequence[int], Sequence[int]],
    *,
    form: Literal["float", "int8"] = "float",
    threads: int = 0,
) -> NDArray[np.float64]:
    """Milliseconds of a layer at each pair of widths: ``(read, made)``.

    Of a depthwise layer both are the same: only the diagonal is measured, the rest is that of what
    it makes.

    Args:
        layer: It.
        widths: Channels that it reads, and that it makes.
        form: What its kernel computes in; activations are uint8 then, weights int8.
        threads: Threads of the session; 0 for all cores.

    Raises:
        ModelError: onnxruntime does not run it.
    """
    pairs = list(itertools.product(*widths))
    if layer.depthwise:
        pairs = [(made, made) for made in widths[1]]
    names = {pair: f"{pair[0]}_{pair[1]}" for pair in pairs}
    graph = _probes(layer, names, form)
    kind = np.uint8 if form == "int8" else np.float32
    feeds = {
        value.name: np.ones([dim.dim_value for dim in value.type.tensor_type.shape.dim], kind)
        for value in graph.main.proto.input
    }
    found = node_times(graph, feeds, threads=threads, runs=_RUNS, quantile=_CALM)
    times = [
        [found[names[(made, made) if layer.depthwise else (read, made)]] for made in widths[1]]
        for read in widths[0]
    ]
    return np.array(times)


def rounding_ms(values: int, threads: int = 0) -> float:
    """Milliseconds to put one value of a tensor on a grid of 8 bits and back.

    Args:
        values: Of the tensor.
        threads: Threads of the session; 0 for all cores.

    Raises:
        ModelError: onnxruntime does not run it.
    """
    rank = helper.make_tensor_value_info("x", TensorProto.FLOAT, [values])
    codes = helper.make_tensor_value_info("q", TensorProto.UINT8, [values])
    back = helper.make_tensor_value_info("y", TensorProto.FLOAT, [values])
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "scale", "zero"], ["q"], "to"),
        helper.make_node("DequantizeLinear", ["c", "scale", "zero"], ["y"], "back"),
    ]
    given = helper.make_tensor_value_info("c", TensorProto.UINT8, [values])
    constants = [
        from_array("scale", np.array(_STEP, np.float32)),
        from_array("zero", np.array(0, np.uint8)),
    ]
    graph = helper.make_graph(nodes, "rounding", [rank, given], [codes, back], constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", _OPSET)], ir_version=8)
    feeds: dict[str, Array] = {"x": np.ones(values, np.float32), "c": np.ones(values, np.uint8)}
    made = Graph(model, take_over=True)
    found = node_times(made, feeds, threads=threads, runs=_RUNS, quantile=_CALM)
    return sum(found.values()) / values


def _probes(layer: TimedLayer, names: dict[tuple[int, int], str], form: str) -> Graph:
    """A graph of one copy for each pair of widths."""
    rng = np.random.default_rng(0)
    kind = TensorProto.UINT8 if form == "int8" else TensorProto.FLOAT
    inputs: dict[int, onnx.ValueInfoProto] = {}
    nodes: list[NodeProto] = []
    constants: list[TensorProto] = []
    outputs = []
    if form == "int8":
        constants += [from_array("scale", np.array(_STEP, np.float32))]
        constants += [from_array("zero", np.array(0, np.uint8))]
        constants += [from_array("middle", np.array(0, np.int8))]
    for (read, made), name in names.items():
        data, weight = layer.shapes(read, made)
        inputs[read] = helper.make_tensor_value_info(f"x{read}", kind, data)
        values = rng.normal(size=weight)
        stored = np.rint(40 * values).clip(-127, 127).astype(np.int8)
        constants.append(
            from_array(f"w{name}", stored if form == "int8" else values.astype(np.float32))
        )
        nodes.append(_probe(layer, f"x{read}", name, read, form))
        outputs.append(helper.make_tensor_value_info(f"y{name}", kind, None))
    made_graph = helper.make_graph(nodes, "probes", list(inputs.values()), outputs, constants)
    return Graph(
        helper.make_model(
            made_graph, opset_imports=[helper.make_opsetid("", _OPSET)], ir_version=8
        ),
        take_over=True,
    )


def _probe(layer: TimedLayer, data: str, name: str, read: int, form: str) -> NodeProto:
    attributes: dict[str, Any] = {key: list(values) for key, values in layer.attributes}
    if layer.op_type == "Conv":
        attributes |= {"kernel_shape": list(layer.kernel)}
        attributes |= {"group": read if layer.depthwise else 1}
    names = [data, f"w{name}"]
    operator: str = layer.op_type
    if form == "int8":
        operator = f"QLinear{layer.op_type}"
        names = [data, "scale", "zero", f"w{name}", "scale", "middle", "scale", "zero"]
    return helper.make_node(operator, names, [f"y{name}"], name, **attributes)
