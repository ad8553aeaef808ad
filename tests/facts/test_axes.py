"""The loops of each operator against what it computes: an element is changed, or taken out."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import NodeProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from graphopt.facts.axes import Axis, Nest, loops_of
from graphopt.facts.axis_rules import Call
from graphopt.facts.operators import find, nest_of, operators
from graphopt.graph.graph import Graph
from graphopt.runtime.session import Session

Array = NDArray[Any]
ROUNDING = 1e-4  # relative and absolute; sums in another order
RANGE_MOVES = 0.3  # of DynamicQuantizeMatMul: the grid follows from all elements of its input


@dataclass
class Case:
    """A node, its inputs (``name[shape]`` drawn, else given and constant) and its free loops."""

    op: str
    shapes: str
    free: str
    given: dict[str, Array] = field(default_factory=dict)
    outputs: int = 1
    opset: int = 17
    domain: str = ""
    reference: bool = False
    attributes: dict[str, Any] = field(default_factory=dict)

    @property
    def tolerance(self) -> float:
        return RANGE_MOVES if self.op == "DynamicQuantizeMatMul" else ROUNDING

    def __str__(self) -> str:
        return f"{self.op}-{self.shapes.replace(' ', '_')}"


def f32(values: Any) -> Array:
    return np.array(values, np.float32)


def i8(values: Any) -> Array:
    return np.array(values, np.int8)


def u8(values: Any) -> Array:
    return np.array(values, np.uint8)


def case(op: str, shapes: str, free: str, **more: Any) -> Case:
    own = {"outputs", "opset", "domain", "reference"}
    given = {k: np.asarray(v) for k, v in more.pop("given", {}).items()}
    settings = {k: more.pop(k) for k in list(more) if k in own}
    return Case(op, shapes, free, given, attributes=more, **settings)


def contrib(op: str, shapes: str, free: str, **more: Any) -> Case:
    return case(op, shapes, free, domain="com.microsoft", **more)


CELL = "x[3,2,4] w[1,{0},4] r[1,{0},{1}] b[1,{2}] lens h[1,2,{1}]"
CODES = {"s": np.float32(0.1), "z": np.uint8(3), "t": np.float32(0.2), "y": np.uint8(4)}

CASES = [
    case("Gemm", "a[2,3] b[3,4] c[4]", "row out in"),
    case("Gemm", "a[3,2] b[4,3] c[2,1]", "row out in", transA=1, transB=1, alpha=0.5),
    case("MatMul", "a[2,3,4] b[4,5]", "in loop row out"),
    case("MatMul", "a[2,1,3,4] b[3,4,5]", "in loop loop_1 row out"),
    case("MatMul", "a[4] b[2,4,5]", "in loop out"),
    case("MatMul", "a[2,3,4] b[4]", "in loop row"),
    case("Einsum", "a[2,3,4] b[2,5,4]", "b i d j", equation="bid,bjd->bij"),
    case("Einsum", "a[2,3,4] b[4,5]", "loop loop_1 k n", equation="...k,kn"),
    case("Conv", "x[2,4,5,5] w[6,4,3,3] b[6]", "batch group in out", pads=[1, 1, 1, 1]),
    case("Conv", "x[1,4,5] w[6,2,3] b[6]", "batch group in out", group=2),
    case("Conv", "x[1,4,5,5] w[4,1,3,3]", "batch group in out", group=4),
    case("Conv", "x[1,4,5,5] w[8,1,1,1]", "batch group in out", group=4),
    case("ConvTranspose", "x[1,4,3,3] w[4,3,2,2] b[6]", "batch group in out", group=2),
    case("DeformConv", "x[1,4,3,3] w[6,2,2,2] o[1,8,2,2] b[6]", "batch group in out", group=2, opset=19, reference=True),
    case("LSTM", CELL.format(20, 5, 40) + " c[1,2,5] p[1,15]", "batch hidden in", hidden_size=5, outputs=3),
    case("GRU", CELL.format(15, 5, 30), "batch hidden in", hidden_size=5, outputs=2),
    case("RNN", CELL.format(5, 5, 10), "batch hidden in", hidden_size=5, outputs=2, activations=["Relu"]),
    case("Attention", "q[2,4,3,6] k[2,2,5,6] v[2,2,5,7]", "batch kv repeat value", opset=23),
    case("Attention", "q[2,4,3,6] k[2,2,5,6] v[2,2,5,7] m[1,4,3,5]", "batch kv repeat value", opset=23),
    case("Attention", "q[2,4,3,6] k[2,2,5,6] v[2,2,5,7] m[3,5]", "batch kv repeat value", opset=23),
    case("Attention", "q[2,3,24] k[2,5,12] v[2,5,14] m[2,4,3,5]", "batch kv repeat value", opset=23, q_num_heads=4, kv_num_heads=2),
    case("Attention", "q[2,3,24] k[2,5,12] v[2,5,14]", "batch kv repeat value", opset=23, q_num_heads=4, kv_num_heads=2),
    case("RotaryEmbedding", "x[1,3,8] c[1,3,2] s[1,3,2]", "batch heads", opset=23, num_heads=2),
    case("Relu", "x[2,3]", "loop loop_1"),
    case("Clip", "x[2,3] low high", "loop loop_1", given={"low": np.float32(0.2), "high": np.float32(0.9)}),
    case("Add", "a[2,3,4] b[3,1]", "loop loop_1 loop_2"),
    case("Sub", "a[1,3] b[2,3]", "loop loop_1"),
    case("Max", "a[2,3] b[3] c[1,1]", "loop loop_1"),
    case("Where", "m a[2,3] b[3]", "loop loop_1", given={"m": [[True], [False]]}),
    case("PRelu", "x[2,3,4] s[3,1]", "loop loop_1 loop_2"),
    case("Cast", "x[2,3]", "loop loop_1", to=onnx.TensorProto.DOUBLE),
    case("Dropout", "x[2,3]", "loop loop_1"),
    case("Identity", "x[2,3]", "loop loop_1"),
    case("Reshape", "x[2,6,5] n", "loop loop_1 loop_2", given={"n": [2, 30]}),
    case("Reshape", "x[2,12] n", "loop loop_1 loop_2", given={"n": [2, 3, 4]}),
    case("Reshape", "x[4,6] n", "loop loop_1 loop_2", given={"n": [8, 3]}),
    case("Reshape", "x[2,1,6] n", "loop loop_1", given={"n": [1, 2, 6, 1]}),
    case("Reshape", "x[6,5,2] n", "loop_4", given={"n": [10, 3, 2]}),
    case("Flatten", "x[2,3,4,5]", "loop loop_1 loop_2 loop_3", axis=2),
    case("Squeeze", "x[2,1,3] n", "loop loop_1", given={"n": [1]}),
    case("Unsqueeze", "x[2,3] n", "loop loop_1", given={"n": [0, 3]}),
    case("Transpose", "x[2,3,4]", "loop loop_1 loop_2", perm=[2, 0, 1]),
    case("Transpose", "x[2,3,4]", "loop loop_1 loop_2"),
    case("DepthToSpace", "x[2,12,2,3]", "batch channel high wide", blocksize=2),
    case("DepthToSpace", "x[1,12,2,3]", "batch channel high wide", blocksize=2, mode="CRD"),
    case("SpaceToDepth", "x[2,3,4,6]", "batch channel high wide", blocksize=2),
    case("Expand", "x[3,1] n", "loop loop_1 loop_2", given={"n": [2, 3, 4]}),
    case("Tile", "x[2,3] n", "loop loop_1 repeat repeat_1", given={"n": [2, 2]}),
    case("Gather", "x[3,5] i", "loop loop_1", given={"i": [3, 0, -1, 3]}, axis=1),
    case("Gather", "x[3,5] i", "loop part part_1", given={"i": np.int64(-2)}, axis=1),
    case("Gather", "x[5,3] i", "loop_1 loop_2 loop_3", given={"i": [[1, 2], [0, 4], [1, 1]]}),
    case("GatherElements", "x[2,3] i", "loop", given={"i": [[0, 2, 1], [1, 1, 0]]}, axis=1),
    case("Slice", "x[3,6] s e a", "loop part part_1 part_2", given={"s": [1], "e": [4], "a": [-1]}),
    case("Slice", "x[3,6] s e", "part part_1 part_2", given={"s": [1, 0], "e": [3, 2**31]}),
    case("Slice", "x[3,6] s e a t", "loop", given={"s": [0], "e": [6], "a": [1], "t": [2]}),
    case("Split", "x[2,6] n", "loop part part_1", given={"n": [2, 4]}, axis=1, outputs=2),
    case("Split", "x[2,6]", "loop part part_1", axis=1, outputs=2),
    case("Split", "x[2,6]", "loop part part_1", axis=1, outputs=2, opset=11),
    case("Split", "x[2,7]", "loop part part_1", axis=1, outputs=2, opset=18, num_outputs=2),
    case("Concat", "a[2,3] b[2,4] c[2,1]", "loop part part_1 part_2", axis=1),
    case("Pad", "x[2,3] p", "loop loop_1 pad pad_1", given={"p": [0, 1, 0, 2]}),
    case("Pad", "x[2,3] p", "loop", given={"p": [0, 1, 0, 2]}, mode="reflect"),
    case("Trilu", "x[2,3,3]", "loop"),
    case("BatchNormalization", "x[2,3,4] s[3] b[3] m[3] v[3]", "batch channel place0"),
    case("InstanceNormalization", "x[2,3,4] s[3] b[3]", "batch channel"),
    case("GroupNormalization", "x[2,6,4] s[6] b[6]", "batch group", num_groups=3, opset=21),
    case("LayerNormalization", "x[2,3,4] s[4] b[4]", "loop loop_1", outputs=3),
    case("LayerNormalization", "x[2,3,4] s[3,4]", "loop", axis=1),
    case("RMSNormalization", "x[2,3,4] s[4]", "loop loop_1", opset=23),
    case("LpNormalization", "x[2,3]", "loop_1", axis=0),
    case("MeanVarianceNormalization", "x[2,3,4,4]", "loop_1"),
    case("LRN", "x[2,5,3,2]", "loop loop_2 loop_3", size=3),
    case("Softmax", "x[2,3,4]", "loop loop_2", axis=1),
    case("LogSoftmax", "x[2,3,4]", "loop", axis=1, opset=11),
    case("ReduceSum", "x[2,3,4] a", "loop loop_1 loop_2", given={"a": [1]}, keepdims=0),
    case("ReduceL2", "x[2,3,4]", "loop loop_1 loop_2", axes=[0, 2]),
    case("ReduceMean", "x[2,3,4]", "loop loop_2", axes=[1]),
    case("ReduceMax", "x[2,3,4] a", "loop", given={"a": [1, 2]}, opset=18),
    case("ArgMax", "x[2,3,4]", "loop loop_2", axis=1),
    case("CumSum", "x[2,3] a", "loop", given={"a": np.int64(1)}),
    case("TopK", "x[2,5] k", "loop", given={"k": [3]}, outputs=2),
    case("MaxPool", "x[2,3,4,4]", "loop loop_1", kernel_shape=[2, 2]),
    case("AveragePool", "x[2,3,4,4]", "loop loop_1", kernel_shape=[2, 2], pads=[1, 0, 0, 1]),
    case("GlobalAveragePool", "x[2,3,4,4]", "loop loop_1"),
    case("GlobalMaxPool", "x[2,3,4,4]", "loop loop_1"),
    case("LpPool", "x[2,3,4,4]", "loop loop_1", kernel_shape=[2, 2]),
    case("Resize", "x[2,3,2,2] r f", "loop loop_1", given={"r": np.zeros(0, np.float32), "f": f32([1, 1, 2, 2])}),
    case("Resize", "x[2,3,2,2] r f n", "loop loop_1", given={"r": np.zeros(0, np.float32), "n": [2, 3, 4, 5]}, mode="linear"),
    case("GridSample", "x[2,3,4,4] g[2,5,5,2]", "batch channel", opset=16),
    case("RoiAlign", "x[2,3,4,4] r b", "channel region", given={"r": f32([[0, 0, 3, 3], [1, 1, 2, 3]]), "b": [0, 0]}, output_height=2, output_width=2),
    case("ConstantOfShape", "n", "loop loop_1", given={"n": [2, 3]}),
    case("QuantizeLinear", "x[2,3] s[3]", "loop loop_1"),
    case("QuantizeLinear", "x[2,3] s z", "loop loop_1", given=CODES),
    case("DequantizeLinear", "x s[2]", "loop loop_1", given={"x": i8([[1, 2, 3], [4, 5, 6]])}, axis=0),
    case("DequantizeLinear", "x s[2,3]", "loop block_number", given={"x": i8([[1] * 6, [2] * 6])}, axis=1, block_size=2, opset=21),
    case("MatMulInteger", "a b", "in row out", given={"a": u8([[1, 2, 3], [4, 5, 6]]), "b": i8([[1, 2], [3, 4], [5, 6]])}),
    case("QLinearMatMul", "a s z b s z t y", "in row out", given={"a": u8([[10, 20, 30], [40, 50, 60]]), "b": u8([[1, 20], [30, 4], [5, 60]]), **CODES}),
    case("ConvInteger", "x w", "batch group in out", given={"x": np.arange(32, dtype=np.uint8).reshape(1, 2, 4, 4), "w": np.arange(12, dtype=np.uint8).reshape(3, 2, 1, 2)}),
    contrib("FusedConv", "x[1,4,5,5] w[6,2,3,3] b[6]", "batch group in out", group=2, activation="Relu"),
    contrib("FusedMatMul", "a[2,4,3] b[2,5,4]", "in loop row out", transA=1, transB=1),
    contrib("FusedGemm", "a[2,3] b[3,4] c[4]", "row out in", activation="Relu"),
    contrib("BiasGelu", "x[2,3] b[3]", "loop loop_1"),
    contrib("QuickGelu", "x[2,3]", "loop loop_1"),
    contrib("SkipLayerNormalization", "x[2,3,4] y[2,3,4] g[4] b[4] c[4]", "lead0 lead1"),
    contrib("SkipSimplifiedLayerNormalization", "x[2,3,4] y[2,3,4] g[4]", "lead0 lead1"),
    contrib("Attention", "x[2,3,5] w[5,24] b[24]", "batch in heads", num_heads=2),
    contrib("Attention", "x[2,3,5] w[5,24] b[24] - - m[1,2,3,3]", "batch in heads", num_heads=2),
    contrib("MultiHeadAttention", "q[2,3,8] k[2,5,8] v[2,5,12] - - m[1,2,3,5]", "batch heads value", num_heads=2),
    contrib("MultiHeadAttention", "q[2,3,8] k[2,5,8] v[2,5,12]", "batch heads value", num_heads=2),
    contrib("QLinearAdd", "a s z b s z t y", "loop loop_1", given={"a": u8([[10, 20, 30], [40, 50, 60]]), "b": u8([1, 20, 30]), **CODES}),
    contrib("MatMulIntegerToFloat", "a b s[1] c[2]", "in row out", given={"a": u8([[1, 2, 3], [4, 5, 6]]), "b": i8([[1, 2], [3, 4], [5, 6]])}),
    case("QLinearConv", "x s z w s z t y c", "batch group in out", given={"x": np.arange(32, dtype=np.uint8).reshape(1, 2, 4, 4), "w": np.arange(12, dtype=np.uint8).reshape(3, 2, 1, 2), "c": np.array([1, 2, 3], np.int32), **CODES}),
    case("CausalConvWithState", "x[2,3,5] w[3,1,4] b[3] p[2,3,3]", "batch channel", opset=27, outputs=2, reference=True),
    contrib("EmbedLayerNormalization", "i - w[5,4] p[3,4] - g[4] b[4]", "batch", given={"i": np.array([[1, 2, 0], [4, 3, 1]], np.int32)}, outputs=2),
    contrib("GroupQueryAttention", "q[2,1,64] k[2,1,32] v[2,1,32] pk[2,2,3,16] pv[2,2,3,16] n t", "batch kv repeat", given={"n": np.array([3, 3], np.int32), "t": np.int32(4)}, num_heads=4, kv_num_heads=2, outputs=3),
    contrib("RotaryEmbedding", "x[1,3,8] i c[3,2] s[3,2]", "batch heads", given={"i": [0]}, num_heads=2),
    contrib("QGemm", "a s z b s z c", "row out in", given={"a": u8([[10, 20, 30], [40, 50, 60]]), "b": u8([[1, 20], [30, 4], [5, 60]]), "c": np.array([1, 2], np.int32), "s": np.float32(0.1), "z": np.uint8(0)}),
    contrib("MatMulNBits", "a[2,32] w s[3,1]", "lead0 out", given={"w": np.arange(48, dtype=np.uint8).reshape(3, 1, 16)}, K=32, N=3, bits=4, block_size=32),
    contrib("QAttention", "x w b[24] s s - z z", "batch in heads", given={"x": u8(np.arange(30).reshape(2, 3, 5)), "w": u8(np.arange(120).reshape(5, 24)), "s": np.float32(0.01), "z": np.uint8(0)}, num_heads=2),
    contrib("DynamicQuantizeMatMul", "a[2,3] b s[2]", "in row out", given={"b": i8([[10, 20], [30, 40], [50, 60]])}),
]  # fmt: skip


def drawn(one: Case) -> dict[str, Array]:
    """Values of all inputs, positive and apart from each other, so that changes show."""
    rng = np.random.default_rng(0)
    values: dict[str, Array] = {}
    for word in one.shapes.split():
        name, _, shape = re.sub(r"\]$", "", word).partition("[")
        if name in one.given:
            array = one.given[name]
            values[name] = array.astype(np.int64) if array.dtype == np.int_ else array
        elif shape:
            size = [int(each) for each in shape.split(",")]
            values[name] = rng.uniform(0.3, 1.3, size).astype(np.float32)
    return values


def node_of(one: Case, values: dict[str, Array]) -> NodeProto:
    names = [re.sub(r"\[.*", "", word) for word in one.shapes.split()]
    outputs = [f"out{k}" for k in range(one.outputs)]
    read = [name if name in values else "" for name in names]
    return helper.make_node(one.op, read, outputs, domain=one.domain, **one.attributes)


def run(one: Case, node: NodeProto, values: dict[str, Array]) -> list[Array]:
    """The outputs; whole numbers are initializers, as operators want their sizes constant."""
    kinds = {k: helper.np_dtype_to_tensor_dtype(v.dtype) for k, v in values.items()}
    constant = [k for k, v in values.items() if v.dtype == np.int64]
    graph = helper.make_graph(
        [node],
        "case",
        [
            helper.make_tensor_value_info(k, kinds[k], v.shape)
            for k, v in values.items()
            if k not in constant
        ],
        [onnx.ValueInfoProto(name=name) for name in node.output],
        [numpy_helper.from_array(values[k], k) for k in constant],
    )
    opsets = [helper.make_opsetid("", one.opset), helper.make_opsetid("com.microsoft", 1)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=10)
    feeds = {k: v for k, v in values.items() if k not in constant}
    if one.reference:
        return [np.asarray(v) for v in ReferenceEvaluator(model).run(None, feeds)]
    answers = Session(Graph(model)).run(feeds)
    return [np.asarray(answers[name]) for name in node.output]


def nested(one: Case, node: NodeProto, values: dict[str, Array], outputs: list[Array]) -> Nest:
    def constant(index: int) -> Array | None:
        name = node.input[index]
        return values[name] if name in one.given else None

    shapes = [values[name].shape if name else None for name in node.input]
    return nest_of(Call(node, tuple(shapes), tuple(o.shape for o in outputs), constant, one.opset))


def marked(nest: Nest, axes: tuple[Axis, ...], loop: str, value: int, array: Array) -> Array:
    """Which elements of an operand belong to a value of a loop, as a mask."""
    mask = np.zeros(array.shape, bool)
    for number, axis in enumerate(axes):
        places = nest.positions(axis, loop, value)
        mask[(slice(None),) * number + (places,)] = True
    return mask


def without(nest: Nest, axes: tuple[Axis, ...], loop: str, value: int, array: Array) -> Array:
    for number, axis in enumerate(axes):
        array = np.delete(array, nest.positions(axis, loop, value), number)
    return array


def rewritten(
    nest: Nest, node: NodeProto, values: dict[str, Array], loop: str, value: int
) -> tuple[NodeProto, dict[str, Array]]:
    """The node with all sizes that it states written anew for a loop that lost a value."""
    smaller = Nest({**nest.sizes, loop: int(str(nest.sizes[loop])) - 1}, nest.inputs, nest.outputs)
    node, values = NodeProto.FromString(node.SerializeToString()), dict(values)
    for place, axes in nest.counts.items():
        lengths = [int(str(smaller.length(axis))) for axis in axes]
        if isinstance(place, str):
            old = next((a for a in node.attribute if a.name == place), None)
            if old is not None:
                node.attribute.remove(old)
            plain = len(axes) == 1 and (old is None or old.type == onnx.AttributeProto.INT)
            node.attribute.append(helper.make_attribute(place, lengths[0] if plain else lengths))
            continue
        if len(node.input) <= place:
            node.input.append("counted")
            kept = [a for a in node.attribute if a.name != "num_outputs"]
            del node.attribute[:]
            node.attribute.extend(kept)
        known = values.get(node.input[place])
        shape = (-1,) if known is None else (() if known.ndim == 0 else (-1,))
        values[node.input[place]] = np.array(lengths, np.int64).reshape(shape)
    if nest.picks is not None:
        (axis,) = [a for axes in nest.outputs for a in axes or () if any(p.picks for p in a)]
        picks = [p for p in axis[0].picks or () if loop not in axis[0].loops or p != value]
        after = [p - (loop in axis[0].loops and p > value) for p in picks]
        values[node.input[nest.picks]] = np.array(after, np.int64)
    return node, values


@pytest.mark.parametrize("one", CASES, ids=str)
def test_free_loops_are_what_can_be_taken_out(one: Case) -> None:
    values = drawn(one)
    node = node_of(one, values)
    outputs = run(one, node, values)
    nest = nested(one, node, values, outputs)
    held = {
        loop
        for side in (nest.inputs, nest.outputs)
        for axes in side
        for a in axes or ()
        for loop in loops_of(a)
    }
    free = [loop for loop in nest.loops if loop not in nest.fixed and loop in held]
    assert sorted(free) == sorted(one.free.split()), nest
    for loop in free:
        size = int(str(nest.sizes[loop]))
        for value in sorted({0, size - 1}):
            changed(one, nest, node, values, outputs, loop, value)
            if size > 1:
                taken_out(one, nest, node, values, loop, value)


def changed(
    one: Case,
    nest: Nest,
    node: NodeProto,
    values: dict[str, Array],
    outputs: list[Array],
    loop: str,
    value: int,
) -> None:
    """A change of the inputs at one value of a loop shows there and nowhere else."""
    rng = np.random.default_rng(1)
    moved, touched, twice = dict(values), False, False
    for index in nest.read:
        name, axes = node.input[index], nest.inputs[index]
        if axes is None or not any(loop in loops_of(axis) for axis in axes):
            continue
        twice = twice or len(nest.axes_of(index, loop)) > 1
        if values[name].dtype in (np.int64, np.int32):
            continue  # sizes and indices
        touched = True
        mask = marked(nest, axes, loop, value, values[name])
        whole = values[name].dtype.kind in "iu"
        step = rng.integers(5, 20, mask.shape) if whole else rng.uniform(0.3, 0.9, mask.shape)
        moved[name] = np.where(mask, values[name] + step, values[name]).astype(values[name].dtype)
    if not touched or twice:
        return
    after = run(one, node, moved)
    differs = False
    for old, new, axes in zip(outputs, after, nest.outputs, strict=True):
        difference = ~np.isclose(old, new, one.tolerance, one.tolerance)
        differs = differs or bool(difference.any())
        if axes is not None and any(loop in loops_of(axis) for axis in axes):
            assert not difference[~marked(nest, axes, loop, value, old)].any(), (loop, value)
    picked = loop in {p for axes in nest.outputs for a in axes or () for p in loops_of(a)}
    insensitive = one.op in ("ArgMax", "Cast", "QuantizeLinear", "Clip", "QLinearMatMul")
    assert differs or insensitive or not picked or one.op == "Gather", (loop, value)


def taken_out(
    one: Case, nest: Nest, node: NodeProto, values: dict[str, Array], loop: str, value: int
) -> None:
    """Without one value of a loop the rest is as before; as with zeros there, where it is summed."""
    zeroed, smaller = dict(values), dict(values)
    zero = int(str(CODES["z"])) if one.op.startswith("QLinear") else 0
    for index in nest.read:
        name, axes = node.input[index], nest.inputs[index]
        if axes is None:
            continue
        numbers = nest.axes_of(index, loop)
        if loop in nest.summed or len(numbers) > 1:
            places = nest.positions(axes[numbers[-1]], loop, value) if numbers else []
            mask = np.zeros(values[name].shape, bool)
            if numbers:
                mask[(slice(None),) * numbers[-1] + (places,)] = True
            if values[name].dtype not in (np.int64, np.int32):
                zeroed[name] = np.where(mask, zero, values[name]).astype(values[name].dtype)
        smaller[name] = without(nest, axes, loop, value, values[name])
    if one.op in ("Gather", "Slice"):  # what they leave out is never read
        zeroed = values
    expected = run(one, node, zeroed)
    less, inputs = rewritten(nest, node, smaller, loop, value)
    found = run(one, less, inputs)
    for old, new, axes in zip(expected, found, nest.outputs, strict=True):
        assert axes is not None
        assert new == pytest.approx(
            without(nest, axes, loop, value, old), one.tolerance, one.tolerance
        )


NOT_RUN = {
    "If": "its bodies are looked at in test_operators",
    "Loop": "its bodies are looked at in test_operators",
    "Scan": "its bodies are looked at in test_operators",
}


def test_every_rule_of_axes_has_a_case() -> None:
    """Rules that fix everything, or whose operator reads nothing that counts, need none."""
    rules = {id(row.axes) for one in CASES if (row := find(node_of(one, {}))) is not None}
    untried = {
        row.name
        for row in operators()
        if id(row.axes) not in rules
        and row.kind not in ("make", "measure")
        and not row.axes.__qualname__.startswith("opaque")
    }
    same = {"CumProd": "CumSum", "QLinearSoftmax": "Softmax", "Trilu": "Trilu"}
    assert untried == {*NOT_RUN, *same}
