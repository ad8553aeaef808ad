"""How the time of a pass grows with the graph: doubling the layers should double it.

    python benchmarks/growth.py [CASE ...] [--layers 1000 2000 4000]

Prints the processor seconds of each pass alone on generated chains, the least of three runs, and
the last over the one before. Calibration is made up, so that nothing but the pass is measured.
"""

from __future__ import annotations

import argparse
import gc
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import ModelProto, NodeProto, TensorProto, helper

from graphopt import targets
from graphopt.contract import registry
from graphopt.contract.passes import Changes, Context, Pass
from graphopt.facts.shapes import infer
from graphopt.graph.graph import Graph

WIDTH = 32
OPSET = 18
_TIMES = 3


def matmuls(layers: int) -> ModelProto:
    """``x -> MatMul -> Relu -> MatMul -> ...``, all weights ``(WIDTH, WIDTH)``."""
    nodes, weights, rng = list[NodeProto](), dict[str, NDArray[Any]](), np.random.default_rng(0)
    for i in range(layers):
        weights[f"w{i}"] = rng.normal(size=(WIDTH, WIDTH)).astype(np.float32)
        nodes.append(helper.make_node("MatMul", [f"h{i}", f"w{i}"], [f"p{i}"], f"matmul{i}"))
        nodes.append(helper.make_node("Relu", [f"p{i}"], [f"h{i + 1}"], f"relu{i}"))
    return _chain(nodes, weights, (1, WIDTH))


def convolutions(layers: int) -> ModelProto:
    """``x -> Conv -> BatchNormalization -> ...``; the moments are shared, as after clean-up."""
    nodes, rng = list[NodeProto](), np.random.default_rng(0)
    parts = ("gamma", "beta", "mean", "variance")
    weights: dict[str, NDArray[Any]] = {name: np.ones(4, np.float32) for name in parts}
    for i in range(layers):
        weights[f"w{i}"] = rng.normal(size=(4, 4, 1, 1)).astype(np.float32)
        inputs = [f"p{i}", *parts]
        nodes.append(helper.make_node("Conv", [f"h{i}", f"w{i}"], [f"p{i}"], f"conv{i}"))
        nodes.append(helper.make_node("BatchNormalization", inputs, [f"h{i + 1}"], f"norm{i}"))
    return _chain(nodes, weights, (1, 4, 2, 2))


def constants(layers: int) -> ModelProto:
    """``h + (c * two)`` again and again: each product can be computed; ``two`` is shared."""
    nodes = list[NodeProto]()
    weights: dict[str, NDArray[Any]] = {"two": np.full(4, 2, np.float32)}
    for i in range(layers):
        weights[f"c{i}"] = np.full(4, i, np.float32)
        nodes.append(helper.make_node("Mul", [f"c{i}", "two"], [f"p{i}"], f"mul{i}"))
        nodes.append(helper.make_node("Add", [f"h{i}", f"p{i}"], [f"h{i + 1}"], f"add{i}"))
    return _chain(nodes, weights, (1, 4))


def identities(layers: int) -> ModelProto:
    """``x -> Identity -> Relu -> ...``, each tensor with a quantization annotation."""
    nodes = list[NodeProto]()
    for i in range(layers):
        nodes.append(helper.make_node("Identity", [f"h{i}"], [f"p{i}"], f"identity{i}"))
        nodes.append(helper.make_node("Relu", [f"p{i}"], [f"h{i + 1}"], f"relu{i}"))
    model = _chain(nodes, {}, (1, 4))
    for node in nodes:
        model.graph.quantization_annotation.add(tensor_name=node.output[0])
    return model


def residuals(layers: int) -> ModelProto:
    """``h + MatMul(h)`` again and again: no constants that could take up factors."""
    nodes, weights, rng = list[NodeProto](), dict[str, NDArray[Any]](), np.random.default_rng(0)
    for i in range(layers):
        weights[f"w{i}"] = rng.normal(size=(WIDTH, WIDTH)).astype(np.float32)
        nodes.append(helper.make_node("MatMul", [f"h{i}", f"w{i}"], [f"p{i}"], f"matmul{i}"))
        nodes.append(helper.make_node("Add", [f"h{i}", f"p{i}"], [f"h{i + 1}"], f"add{i}"))
    return _chain(nodes, weights, (1, WIDTH))


def twins(layers: int) -> ModelProto:
    """``x -> MatMul -> Relu -> ...`` with as many copies of one weight."""
    model = matmuls(layers)
    first = model.graph.initializer[0]
    for tensor in model.graph.initializer[1:]:
        tensor.raw_data = first.raw_data
    return model


def leftovers(layers: int) -> ModelProto:
    """``x -> Relu -> ...``, and an Exp of each result that nobody reads."""
    nodes = list[NodeProto]()
    for i in range(layers):
        nodes.append(helper.make_node("Exp", [f"h{i}"], [f"p{i}"], f"exp{i}"))
        nodes.append(helper.make_node("Relu", [f"h{i}"], [f"h{i + 1}"], f"relu{i}"))
    return _chain(nodes, {}, (1, 4))


def branches(layers: int) -> ModelProto:
    """``x -> If -> If -> ...``, each with the same condition and the same names in its bodies."""
    nodes = list[NodeProto]()
    for i in range(layers):
        bodies = {
            f"{kind}_branch": helper.make_graph(
                [helper.make_node("Relu", [f"h{i}"], ["p"]), helper.make_node(op, ["p"], ["q"])],
                kind,
                [],
                [helper.make_tensor_value_info("q", TensorProto.FLOAT, (1, 4))],
            )
            for kind, op in (("then", "Abs"), ("else", "Neg"))
        }
        nodes.append(helper.make_node("If", ["yes"], [f"h{i + 1}"], f"if{i}", **bodies))
    return _chain(nodes, {"yes": np.array(True)}, (1, 4))


def contractions(layers: int) -> ModelProto:
    """The chain of ``matmuls`` written as Einsum, weights the other way round."""
    model = matmuls(layers)
    for node in model.graph.node:
        if node.op_type == "MatMul":
            node.op_type = "Einsum"
            node.attribute.append(helper.make_attribute("equation", "bi,oi->bo"))
    return model


def calls(layers: int) -> ModelProto:
    """The chain of ``matmuls``, each MatMul in a local function of its own."""
    model, imports = matmuls(layers), [helper.make_opsetid("", OPSET)]
    for node in model.graph.node:
        if node.op_type == "MatMul":
            node.domain, node.op_type = "local", f"F{node.name}"
            inner = helper.make_node("MatMul", ["a", "w"], ["b"])
            model.functions.append(
                helper.make_function("local", node.op_type, ["a", "w"], ["b"], [inner], imports)
            )
    model.opset_import.append(helper.make_opsetid("local", 1))
    return model


def gates(layers: int) -> ModelProto:
    """``h * clip(h + 3, 0, 6) / 6`` again and again."""
    nodes = list[NodeProto]()
    for i in range(layers):
        for op_type, inputs, output in (
            ("Add", [f"h{i}", "three"], f"a{i}"),
            ("Clip", [f"a{i}", "zero", "six"], f"c{i}"),
            ("Mul", [f"h{i}", f"c{i}"], f"m{i}"),
            ("Div", [f"m{i}", "six"], f"h{i + 1}"),
        ):
            nodes.append(helper.make_node(op_type, inputs, [output], output))
    values = {"zero": 0, "three": 3, "six": 6}
    return _chain(nodes, {n: np.array(v, np.float32) for n, v in values.items()}, (1, 4))


def _chain(
    nodes: Sequence[NodeProto], weights: dict[str, NDArray[Any]], shape: tuple[int, ...]
) -> ModelProto:
    """A model from ``h0`` to what the last node makes, every tensor declared."""

    def declared(name: str) -> onnx.ValueInfoProto:
        return helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)

    graph = helper.make_graph(
        nodes,
        "chain",
        [declared("h0")],
        [declared(nodes[-1].output[0])],
        [onnx.numpy_helper.from_array(values, name) for name, values in weights.items()],
        value_info=[declared(node.output[0]) for node in nodes[:-1] if node.op_type != "Mul"],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=9)


_Maker = Callable[[int], ModelProto]
CASES: dict[str, tuple[_Maker, dict[str, Any]]] = {
    "quantize-weights": (matmuls, {"min_size": 0}),
    "quantize-static": (matmuls, {"ranges": "minmax"}),
    "quantize-dynamic": (matmuls, {"min_size": 0}),
    "fuse-batchnorm": (convolutions, {}),
    "fuse-activations": (gates, {}),
    "convert-einsum": (contractions, {}),
    "inline-functions": (calls, {}),
    "fold-constants": (constants, {}),
    "fold-constants branches": (branches, {}),
    "eliminate-identity": (identities, {}),
    "eliminate-dead": (leftovers, {}),
    "deduplicate-initializers": (twins, {}),
    "mask-weights": (matmuls, {"min_size": 0, "criterion": "magnitude"}),
    "smooth-activations": (matmuls, {"min_size": 0}),
    "smooth-activations residuals": (residuals, {"min_size": 0, "min_gain": 0.1}),
}
"""The chain on which each pass has something to do at every layer, and its options."""


def _made_up(requests: Any, graph: Any = None, limit: Any = None) -> Any:  # noqa: ARG001
    """Answers as calibration would find them, with a channel that stands out."""
    peaks = np.where(np.arange(WIDTH) == 0, 40.0, 1.0)
    answers = {"ChannelAbsMax": peaks, "MeanSquare": peaks**2 / 3}
    return {each: answers.get(type(each).__name__, (-40.0, 40.0)) for each in requests}


def _refuse(*_: Any, **__: Any) -> Any:
    raise NotImplementedError("nothing is walked or timed here")


def prepared(name: str, layers: int) -> Callable[[], Changes]:
    """A call that runs the pass of a case, once, over a chain of so many layers."""
    make, options = CASES[name]
    graph, item = Graph(make(layers)), registry.find(name.split(maxsplit=1)[0])(**options)
    context = Context(
        target=targets.find("generic"),
        shapes=infer(graph),
        observe=_made_up,
        walk=_refuse,
        time_ratio=_refuse,
        rng=np.random.default_rng(0),
        reference=graph,
        unrounded=graph,
        calibrated=True,
    )
    return lambda: _run(item, graph, context)


def _run(item: Pass, graph: Graph, context: Context) -> Changes:
    item.check(graph, context)
    return item.run(graph, context)


def timed(name: str, layers: int) -> float:
    """Processor seconds of a case; the collector, which hits one run and not another, is off."""
    run = prepared(name, layers)
    gc.collect()
    gc.disable()
    try:
        started = time.process_time()
        run()
        return time.process_time() - started
    finally:
        gc.enable()


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("passes", nargs="*", default=list(CASES), metavar="CASE")
    parser.add_argument("--layers", nargs="+", type=int, default=[1000, 2000, 4000])
    given = parser.parse_args()
    print("| pass |", " | ".join(f"{count} layers" for count in given.layers), "| ratio |")
    print("|---|" + "---|" * (len(given.layers) + 1))
    for name in given.passes or CASES:
        seconds = [min(timed(name, count) for _ in range(_TIMES)) for count in given.layers]
        cells = " | ".join(f"{each:.2f} s" for each in seconds)
        print(f"| `{name}` | {cells} | {seconds[-1] / seconds[-2]:.2f} |", flush=True)


if __name__ == "__main__":
    main()
