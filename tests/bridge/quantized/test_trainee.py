"""A quantized graph in torch: the same numbers as in onnxruntime, before and after training."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import ml_dtypes
import numpy as np
import onnx
import pytest
import torch
from onnx import NodeProto

from graphopt.bridge.quantized import QuantizedTrainee, agreement, find, quantized_trainee
from graphopt.bridge.quantized.fake import FakeBias, FakeWeight
from graphopt.bridge.tensors import to_tensor
from graphopt.graph import check
from graphopt.graph.graph import Graph
from graphopt.numerics import saturation
from graphopt.runtime.session import Session

Make = Callable[..., Any]
W4A4 = "quantize-static{weight_type=int4, activation_type=uint4}"
SPECS = {
    "W8A8": "quantize-static",
    "W4A8": "quantize-static{weight_type=int4}",
    "W4A4": W4A4,
    "A8 signed": "quantize-static{weight_type=int4, activation_type=int8}",
    "weights": "quantize-weights{min_size=1}",
    "weights of 4 bits": "quantize-weights{min_size=1, weight_type=int4}",
}
ONE_TIE = 0.02
"""What a value half-way between two integers may do to the outputs."""


def everything(node: NodeProto) -> bool:
    return True


def trainee_of(made: Any, **changed: Any) -> QuantizedTrainee:
    options = {"scales": "learned", **changed}
    chosen = options.pop("chosen", everything)
    return quantized_trainee(made.graph, chosen, made.reference, **options)


def feeds_of(made: Any) -> Iterator[dict[str, np.ndarray[Any, Any]]]:
    return (feeds for feeds, _ in made.samples.feeds(batch=8))


def train(trainee: QuantizedTrainee, made: Any, steps: int = 8, lr: float = 1e-2) -> None:
    """Towards other outputs, so that all values move."""
    optimizer = torch.optim.Adam(trainee.module.parameters(), lr=lr)
    feeds = {name: to_tensor(value) for name, value in next(feeds_of(made)).items()}
    with torch.no_grad():
        wanted = {name: value.flip(0) for name, value in trainee.module(feeds).items()}
    for step in range(steps):
        optimizer.zero_grad()
        answers = trainee.module(feeds)
        losses = [(answers[name] - wanted[name]).square().mean() for name in answers]
        torch.autograd.backward(losses)
        optimizer.step()
        trainee.limits.after_update(step)


def assert_same(trainee: QuantizedTrainee, graph: Graph, made: Any, most: float) -> None:
    session = Session(graph, threads=1, level="off")
    for feeds in feeds_of(made):
        expected = session.run(feeds)["y"]
        with torch.no_grad():
            found = trainee.module({"x": to_tensor(feeds["x"])})["y"].numpy()
        np.testing.assert_allclose(found, expected, atol=most * np.abs(expected).max())


def constants(graph: Graph) -> dict[str, bytes]:
    return {name: each.SerializeToString() for name, each in graph.main.initializers.items()}


@pytest.mark.parametrize("spec", SPECS.values(), ids=SPECS)
def test_untrained_it_is_the_graph_and_writing_back_changes_no_bit(
    spec: str, quantized: Make
) -> None:
    made = quantized(spec)
    trainee = trainee_of(made)
    assert trainee.from_float == len(trainee.found.weights) == 4
    assert_same(trainee, made.graph, made, ONE_TIE)
    before = made.graph.to_model()
    assert trainee.write_back(made.graph) == []
    assert made.graph.to_model() == before


@pytest.mark.parametrize("target", ["x86-vnni", "x86-avx2"])
@pytest.mark.parametrize("spec", SPECS.values(), ids=SPECS)
def test_trained_the_file_holds_what_torch_computes(
    spec: str, target: str, quantized: Make
) -> None:
    made = quantized(spec, target=target)
    before = made.graph.copy()
    trainee = trainee_of(made, saturates=target == "x86-avx2")
    train(trainee, made)
    changed = trainee.write_back(made.graph)
    assert {"W1_quantized", "V_quantized"} <= set(changed)
    assert made.graph.main.nodes == before.main.nodes
    assert check.problems(made.graph) == []
    old, new = constants(before), constants(made.graph)
    assert {name for name in old if old[name] != new[name]} == set(changed)
    for name, tensor in before.main.initializers.items():
        assert made.graph.main.initializers[name].data_type == tensor.data_type
        assert made.graph.main.initializers[name].dims == tensor.dims
    found = agreement(trainee, made.graph, made.samples, threads=1)
    assert found.tensors == len(trainee.found.activations)
    assert found.equal >= 0.995 * found.codes
    assert found.largest <= 1
    assert_same(trainee, made.graph, made, ONE_TIE)


def test_biases_are_in_steps_of_activation_times_weight(quantized: Make) -> None:
    made = quantized()
    trainee = trainee_of(made)
    train(trainee, made)
    trainee.write_back(made.graph)
    here = find(made.graph)
    assert all(point.layer is not None for point in here.biases)
    activations = {out: point for point in here.activations for out in point.outputs}
    weights = {point.output: point for point in here.weights}
    for point in here.biases:
        data, kernel = point.layer or ("", "")
        product = activations[data].scale * weights[kernel].scale
        np.testing.assert_array_equal(point.scale, product)
        module = trainee.stand_ins[point.output]
        assert isinstance(module, FakeBias)
        steps = np.abs(point.values - module.values.detach().numpy()) / point.scale
        assert steps.max() < 0.51


def test_tied_scales_stay_equal_and_the_ceiling_holds(quantized: Make) -> None:
    made = quantized()
    trainee = trainee_of(made)
    before = {point.source: float(point.scale) for point in trainee.found.activations}
    train(trainee, made)
    trainee.write_back(made.graph)
    after = {point.source: float(point.scale) for point in find(made.graph).activations}
    assert before["q"] != after["q"] == after["m"]
    assert after["k"] <= np.float32(2 / 255)


def test_fixed_scales_do_not_move(quantized: Make) -> None:
    made = quantized(W4A4)
    before = made.graph.copy()
    trainee = trainee_of(made, scales="fixed")
    train(trainee, made)
    changed = trainee.write_back(made.graph)
    assert "W2_quantized" in changed
    assert not [name for name in changed if "scale" in name]
    old, new = constants(before), constants(made.graph)
    assert all(old[name] == new[name] for name in old if "scale" in name)


def test_what_is_not_chosen_keeps_its_bits(quantized: Make) -> None:
    made = quantized(W4A4)
    trainee = trainee_of(made, chosen=lambda node: node.op_type == "Gemm")
    train(trainee, made)
    changed = trainee.write_back(made.graph)
    assert {name.split("_")[0] for name in changed} == {"V", "b", "f"}


def test_weights_before_a_frozen_tensor_are_not_trained(quantized: Make) -> None:
    made = quantized()
    trainee = trainee_of(made, frozen=("q_dequantized",))
    train(trainee, made)
    changed = {name.split("_")[0] for name in trainee.write_back(made.graph)}
    assert {"W3", "V"} <= changed
    assert not changed & {"W1", "W2", "B1", "B2", "x", "r"}


def test_the_same_seedless_steps_give_the_same_bytes(quantized: Make) -> None:
    written = []
    for _ in range(2):
        made = quantized(W4A4)
        trainee = trainee_of(made)
        train(trainee, made)
        trainee.write_back(made.graph)
        written.append(made.graph.to_model().SerializeToString(deterministic=True))
    assert written[0] == written[1]


def test_no_pair_of_a_safe_weight_overflows_after_training(quantized: Make) -> None:
    large = np.random.default_rng(0).choice([-1.0, 1.0], (8, 8, 3, 3)).astype(np.float32)
    made = quantized(target="x86-avx2", W2=large)
    trainee = trainee_of(made, saturates=True)
    train(trainee, made, steps=20)
    trainee.write_back(made.graph)
    for point in find(made.graph).weights:
        codes = np.asarray(point.constant.values)
        matrix = saturation.conv_matrix(codes) if codes.ndim == 4 else codes
        assert not saturation.unsafe_channels(matrix).any(), point.output


def test_a_scale_that_others_read_as_well_is_split(quantized: Make) -> None:
    made = quantized()
    scope = made.graph.main
    first = find(made.graph).activations[0]
    spare = scope.add_constant("spare", np.array(1.0, np.float32))
    shared = first.scales_at[0].name
    scope.add(onnx.helper.make_node("Mul", [shared, spare], ["unused"], name="other reader"))
    before = constants(made.graph)[shared]
    trainee = trainee_of(made)
    train(trainee, made)
    changed = trainee.write_back(made.graph)
    assert constants(made.graph)[shared] == before
    assert first.scales_at[0].name == first.scales_at[1].name != shared
    assert first.scales_at[0].name in changed


def test_pruned_weights_stay_zero_and_come_from_the_file_not_from_the_unpruned(
    quantized: Make,
) -> None:
    made = quantized("mask-weights{sparsity=0.75, min_size=64}, quantize-static")
    before = {point.output: point.constant.values == 0 for point in find(made.graph).weights}
    trainee = trainee_of(made)
    assert trainee.from_float < 4
    train(trainee, made)
    trainee.write_back(made.graph)
    for point in find(made.graph).weights:
        zero = before[point.output]
        if zero.mean() >= 0.5:
            assert not point.constant.values[zero].any()
            assert point.constant.values[~zero].any()


def test_a_weight_without_its_float_starts_from_what_its_integers_mean(quantized: Make) -> None:
    made = quantized(W4A4)
    made.reference = made.graph
    trainee = trainee_of(made)
    assert trainee.from_float == 0
    module = trainee.stand_ins["W2_dequantized"]
    assert isinstance(module, FakeWeight)
    torch.testing.assert_close(module(), module.values, rtol=0, atol=0)
    assert_same(trainee, made.graph, made, ONE_TIE)


BLOCKS = """
    f = Flatten (x)
    w = DequantizeLinear <axis = 0, block_size = 32> (W_quantized, W_scale, W_zero_point)
    y = MatMul (f, w)
"""


@pytest.mark.parametrize("reference", [False, True], ids=["alone", "with the float weight"])
def test_weights_in_blocks(reference: bool, quantized: Make) -> None:
    rng = np.random.default_rng(0)
    codes = rng.integers(0, 16, (192, 5)).astype(ml_dtypes.uint4)
    scale = rng.uniform(0.01, 0.02, (6, 5)).astype(np.float32)
    zeros = rng.integers(6, 10, (6, 5)).astype(ml_dtypes.uint4)
    steps, offsets = np.repeat(scale, 32, 0), np.repeat(zeros.astype(int), 32, 0)
    floats = ((codes.astype(int) - offsets) * steps).astype(np.float32)
    made = quantized(
        "eliminate-dead", body=BLOCKS, W_quantized=codes, W_scale=scale, W_zero_point=zeros
    )
    made.reference = made.graph.copy()
    inner = np.where((codes.astype(int) > 0) & (codes.astype(int) < 15), 0.3 * steps, 0)
    if reference:
        made.reference.main.add_constant("W", np.asarray(floats + inner, np.float32))
    trainee = trainee_of(made)
    module = trainee.stand_ins["w"]
    assert isinstance(module, FakeWeight)
    assert trainee.from_float == reference
    expected = floats + inner if reference else floats
    np.testing.assert_allclose(module.values.detach(), expected, rtol=1e-6)
    assert trainee.write_back(made.graph) == []
    train(trainee, made, lr=1e-3)
    assert trainee.write_back(made.graph) == ["W_quantized", "W_scale"]
    assert_same(trainee, made.graph, made, 1e-5)
