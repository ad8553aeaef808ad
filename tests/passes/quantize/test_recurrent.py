"""LSTM with integer weights against LSTM with floats, in onnxruntime."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray

from graphopt.analysis.audit import audit
from graphopt.facts import cost, shapes
from graphopt.facts.macs import count_macs
from graphopt.graph.graph import Graph
from graphopt.numerics import sqnr
from graphopt.passes.quantize import QuantizeDynamic, QuantizeWeights
from graphopt.runtime.session import Session

ApplyPass = Callable[..., Any]

IN, HIDDEN, STEPS, BATCH = 24, 32, 7, 3
LEAST_DB = 30.0  # 36 to 38 dB are usual; a wrong axis gives none
RNG = np.random.default_rng(5)
FEEDS = {"x": RNG.normal(size=(STEPS, BATCH, IN)).astype(np.float32)}


def values(*shape: int) -> NDArray[np.float32]:
    return np.asarray(RNG.normal(size=shape) / np.sqrt(shape[-1]), np.float32)


def network(
    op: str = "LSTM", directions: int = 1, inputs: int = 3, weights: int = 1, **attributes: Any
) -> onnx.ModelProto:
    """Recurrent layers in a row, each with the first ``inputs`` of its inputs.

    Args:
        op: LSTM, GRU or RNN.
        directions: 1 or 2.
        inputs: 3 for none but the weights, 4 with a bias, 8 with all.
        weights: How many layers read the same weights; more than one needs ``IN == HIDDEN``.
        attributes: Of the nodes.
    """
    gates = {"LSTM": 4, "GRU": 3, "RNN": 1}[op]
    wide = HIDDEN if weights > 1 else IN
    held = {
        "W": values(directions, gates * HIDDEN, wide),
        "R": values(directions, gates * HIDDEN, HIDDEN),
        "B": values(directions, 2 * gates * HIDDEN),
        "lens": np.array([STEPS, STEPS - 2, 4], np.int32),
        "h0": values(directions, BATCH, HIDDEN),
        "c0": values(directions, BATCH, HIDDEN),
        "P": values(directions, 3 * HIDDEN),
    }
    names = list(held)[: inputs - 1]
    if directions == 2:
        attributes["direction"] = "bidirectional"
    nodes, source = [], "x"
    for index in range(weights):
        result = "y" if index == weights - 1 else f"m{index}"
        outputs = [result, "last", "cell"] if result == "y" and op == "LSTM" else [result]
        made = onnx.helper.make_node(op, [source, *names], outputs, hidden_size=HIDDEN)
        made.attribute.extend(onnx.helper.make_attribute(k, v) for k, v in attributes.items())
        nodes.append(made)
        if result != "y":
            nodes.append(onnx.helper.make_node("Squeeze", [result, "one"], [f"s{index}"]))
            held["one"], source = np.array([1], np.int64), f"s{index}"
    ports = [onnx.helper.make_tensor_value_info("x", 1, [STEPS, BATCH, wide])]
    results = [
        onnx.helper.make_tensor_value_info(name, 1, [None] * (4 if name == "y" else 3))
        for name in nodes[-1].output
    ]
    used = {name for node in nodes for name in node.input}
    constants = [onnx.numpy_helper.from_array(v, k) for k, v in held.items() if k in used]
    graph = onnx.helper.make_graph(nodes, "g", ports, results, constants)
    return onnx.helper.make_model(
        graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=8
    )


def worst_db(before: onnx.ModelProto, after: Graph, feeds: dict[str, Any] = FEEDS) -> float:
    expected, actual = Session(Graph(before)).run(feeds), Session(after).run(feeds)
    found = [sqnr.sqnr_db(expected[name], actual[name]) for name in expected]
    return min(value for value in found if value is not None)


@pytest.mark.parametrize("target", ["x86-vnni", "x86-avx2", "arm"])
@pytest.mark.parametrize("directions", [1, 2])
@pytest.mark.parametrize("inputs", [3, 4, 8])
def test_the_answers_stay(apply_pass: ApplyPass, target: str, directions: int, inputs: int) -> None:
    model = network(directions=directions, inputs=inputs)
    graph, record = apply_pass(model, QuantizeDynamic(), target=target)
    assert [edit.what for edit in record.changes] == [
        "int8 weights, dynamic uint8 activations: DynamicQuantizeLSTM"
    ]
    assert [node.op_type for node in graph.main.nodes] == ["DynamicQuantizeLSTM"]
    assert worst_db(model, graph) > LEAST_DB
    found = audit(graph)
    assert [entry.op_type for entry in found.integer] == ["DynamicQuantizeLSTM"]
    assert not found.float_


@pytest.mark.parametrize(
    ("item", "attributes"),
    [
        (QuantizeDynamic(per_channel=False), {}),
        (QuantizeDynamic(ranges="mse"), {}),
        (QuantizeDynamic(), {"clip": 1.0}),
        (QuantizeDynamic(), {"input_forget": 1}),
        (QuantizeDynamic(), {"activations": ["Sigmoid", "Tanh", "Relu"]}),
    ],
)
def test_options_and_attributes(
    apply_pass: ApplyPass, item: QuantizeDynamic, attributes: dict[str, Any]
) -> None:
    model = network(inputs=4, **attributes)
    graph, _ = apply_pass(model, item, target="x86-vnni")
    assert worst_db(model, graph) > LEAST_DB - 5


def test_it_costs_and_counts_as_before(apply_pass: ApplyPass) -> None:
    model = network(inputs=8, directions=2)
    graph, _ = apply_pass(model, QuantizeDynamic(), target="x86-vnni")
    assert cost.params(graph) == cost.params(Graph(model))
    macs = [count_macs(each, shapes.infer(each)).total for each in (Graph(model), graph)]
    assert macs[0] == macs[1] is not None


def test_a_shared_weight_is_stored_once(apply_pass: ApplyPass) -> None:
    model = network(weights=2)
    graph, record = apply_pass(model, QuantizeDynamic(), target="x86-vnni")
    assert len(record.changes) == 2
    kinds = [graph.read(tensor) for tensor in graph.main.initializers.values()]
    assert sum(each.dtype == np.int8 and each.ndim == 3 for each in kinds) == 2
    assert "m0" in graph.main.value_infos  # no shape inference knows the operator
    feeds = {"x": RNG.normal(size=(STEPS, BATCH, HIDDEN)).astype(np.float32)}
    assert worst_db(model, graph, feeds) > LEAST_DB - 5


@pytest.mark.parametrize(
    ("model", "target", "reason"),
    [
        (network("GRU"), "x86-vnni", "onnxruntime has no integer GRU on target x86-vnni"),
        (network("RNN"), "arm", "onnxruntime has no integer RNN on target arm"),
        (network(), "generic", "onnxruntime has no integer LSTM on target generic"),
    ],
)
def test_what_has_no_integer_form(
    apply_pass: ApplyPass, model: onnx.ModelProto, target: str, reason: str
) -> None:
    graph, record = apply_pass(model, QuantizeDynamic(), target=target)
    assert [skip.reason for skip in record.skipped] == [reason]
    assert graph.to_model() == model
    stored, record = apply_pass(model, QuantizeWeights(), target=target)
    assert record.changes
    assert worst_db(model, stored) > LEAST_DB


@pytest.mark.parametrize(
    ("item", "reason"),
    [
        (QuantizeDynamic(exclude=("LSTM",)), "kept float by the options nodes and exclude"),
        (QuantizeDynamic(min_size=100_000), "fewer than min_size=100000 elements"),
    ],
)
def test_options_that_leave_it(apply_pass: ApplyPass, item: QuantizeDynamic, reason: str) -> None:
    _, record = apply_pass(network(), item, target="x86-vnni")
    assert [skip.reason for skip in record.skipped] == [reason]
