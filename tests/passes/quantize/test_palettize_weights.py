from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray

from graphopt import testing
from graphopt.facts.layers import Layer, layers
from graphopt.graph.graph import Graph
from graphopt.numerics import sqnr
from graphopt.passes.prune import MaskWeights, PruneChannels
from graphopt.passes.quantize import (
    PalettizeWeights,
    QuantizeStatic,
    QuantizeWeights,
    RoundWeights,
)
from graphopt.runtime.optimized import optimize
from graphopt.runtime.session import Session
from graphopt.testing import MODELS, apply_passes, model_from_text

ApplyPass = Callable[..., Any]

RNG = np.random.default_rng(4)


def product(weight: NDArray[np.float32], opset: int = 17) -> onnx.ModelProto:
    text = f"""<ir_version: 8, opset_import: ["" : {opset}]>
      g (float[N,{weight.shape[0]}] x) => (float[N,{weight.shape[1]}] y) {{ y = MatMul(x, w) }}"""
    return model_from_text(text, {"w": weight})


def read(graph: Graph) -> list[Layer]:
    return [each for each in layers(graph) if isinstance(each, Layer)]


def weight_db(weight: NDArray[Any], found: NDArray[Any]) -> float:
    value = sqnr.sqnr_db(weight, found)
    assert value is not None
    return value


def every(**options: Any) -> PalettizeWeights:
    """The pass for every layer, small or not."""
    return PalettizeWeights(**{"eight_bits": (), "min_size": 0, **options})


def test_more_bits_are_nearer_and_all_are_folded(apply_pass: ApplyPass) -> None:
    weight = RNG.standard_normal((64, 32)).astype(np.float32)
    model = product(weight)
    before, size = -1.0, 0
    for bits in range(1, 9):
        graph, record = apply_pass(model, every(bits=bits))
        (one,) = read(graph)
        assert one.weight.form == "codebook"
        assert all(len(np.unique(column)) <= 2**bits for column in one.weight.values().T)
        found = weight_db(weight, one.weight.values())
        assert found > before and found > 4 * bits
        assert [node.op_type for node in optimize(graph, 1).node] == ["MatMul"]
        before = found
        assert one.weight.constant.nbytes == 64 * 32 * bits // 8 > size
        size = one.weight.constant.nbytes
        assert record.changes[0].what.startswith(f"stored as {bits}-bit codes of {2**bits} centres")
        x = RNG.standard_normal((3, 64)).astype(np.float32)
        answer = Session(graph).run({"x": x})["y"]
        np.testing.assert_allclose(answer, x @ one.weight.values(), rtol=1e-4, atol=1e-4)


def test_one_codebook_beats_even_steps(apply_pass: ApplyPass) -> None:
    weight = RNG.laplace(size=(96, 64)).astype(np.float32)  # long tails, as weights have
    model = product(weight, opset=21)
    found = {
        item.name: weight_db(weight, read(apply_pass(model, item)[0])[0].weight.values())
        for item in (every(), QuantizeWeights(weight_type="int4", min_size=0))
    }
    assert found["palettize-weights"] > found["quantize-weights"]


def test_inputs_that_matter_are_met_better_and_means_are_kept(apply_pass: ApplyPass) -> None:
    weight = RNG.standard_normal((32, 48)).astype(np.float32)
    text = """<ir_version: 8, opset_import: ["" : 17]>
      g (float[N,32] x) => (float[N,48] y) { y = Gemm(x, w, b) }"""
    model = model_from_text(text, {"w": weight, "b": np.zeros(48, np.float32)})
    sizes = np.where(np.arange(32) < 8, 10.0, 0.1)
    samples = ((RNG.standard_normal((200, 32)) + 0.5) * sizes).astype(np.float32)
    exact = samples @ weight
    errors = {}
    for told in (None, {"x": samples}):
        item = every(bits=2)
        graph, _ = apply_pass(model, item, calibration=told)
        errors[told is None] = Session(graph).run({"x": samples})["y"] - exact
    assert np.square(errors[False]).mean() < 0.8 * np.square(errors[True]).mean()
    assert np.abs(errors[False].mean(0)).max() < 0.1 * np.abs(errors[True].mean(0)).max()


def test_zeros_stay_where_there_are_many(apply_pass: ApplyPass) -> None:
    weight = RNG.standard_normal((64, 32)).astype(np.float32)
    weight[RNG.uniform(size=weight.shape) < 0.6] = 0
    graph, _ = apply_pass(product(weight), every(bits=3))
    (one,) = read(graph)
    assert not one.weight.values()[weight == 0].any()
    assert one.weight.values().any()


def test_first_and_depthwise_layers_get_integers(apply_pass: ApplyPass) -> None:
    text = """<ir_version: 8, opset_import: ["" : 17]>
      g (float[1,3,9,9] x) => (float[1,32,5,5] y) {
        a = Conv<kernel_shape = [3,3]>(x, first)
        b = Conv<kernel_shape = [3,3], group = 64>(a, deep)
        y = Conv(b, thin)
      }"""
    shapes = {"first": (64, 3, 3, 3), "deep": (64, 1, 3, 3), "thin": (32, 64, 1, 1)}
    values = {name: RNG.standard_normal(each).astype(np.float32) for name, each in shapes.items()}
    graph, record = apply_pass(model_from_text(text, values), PalettizeWeights())
    assert [each.weight.form for each in read(graph)] == ["expanded", "expanded", "codebook"]
    assert "stored as int8, 64 scales" in record.changes[1].what
    graph, _ = apply_pass(model_from_text(text, values), PalettizeWeights(eight_bits=()))
    assert [each.weight.form for each in read(graph)] == ["codebook"] * 3


def test_a_bias_becomes_half_floats_where_that_costs_nothing(apply_pass: ApplyPass) -> None:
    text = """<ir_version: 8, opset_import: ["" : 17]>
      g (float[N,32] x) => (float[N,48] y) { y = Gemm(x, w, b) }"""
    weight = RNG.standard_normal((32, 48)).astype(np.float32)
    stored = {}
    for name, size in (("small", 1.0), ("large", 1e4)):
        bias = (RNG.standard_normal(48) * size).astype(np.float32)
        graph, _ = apply_pass(model_from_text(text, {"w": weight, "b": bias}), every())
        (one,) = read(graph)
        assert one.bias is not None and one.refusal("float32 bias") is None
        stored[name] = one.bias.constant.values.dtype
        np.testing.assert_allclose(one.bias.values(), bias, rtol=1e-3)
    assert stored == {"small": np.float16, "large": np.float32}


STAYS: dict[str, tuple[str, dict[str, NDArray[Any]], str]] = {
    "it is small": (
        "y = MatMul(x, w)",
        {"w": np.ones((8, 4), np.float32)},
        "codes of 4 bits and what expands them take",
    ),
    "half floats": (
        "c = Cast<to = 1>(w) y = MatMul(x, c)",
        {"w": np.full((8, 64), np.nan, np.float16)},
        "the weight holds NaN or infinity",
    ),
    "NaN": (
        "y = MatMul(x, w)",
        {"w": np.full((8, 64), np.nan, np.float32)},
        "the weight holds NaN or infinity",
    ),
    "double": (
        "d = Cast<to = 11>(x) p = MatMul(d, w) y = Cast<to = 1>(p)",
        {"w": np.ones((8, 64))},
        "the weight is double, not float; put convert-to-float32 before",
    ),
}


@pytest.mark.parametrize("body, constants, reason", STAYS.values(), ids=STAYS)
def test_what_stays_says_why(
    body: str, constants: dict[str, NDArray[Any]], reason: str, apply_pass: ApplyPass
) -> None:
    text = f"""<ir_version: 8, opset_import: ["" : 17]>
      g (float[N,8] x) => (float[N,M] y) {{ {body} }}"""
    _, record = apply_pass(model_from_text(text, constants), every())
    assert record.status == "nothing to do"
    assert any(reason in each.reason for each in record.skipped), record.skipped


def test_what_it_leaves_and_what_it_made_are_told_apart(apply_pass: ApplyPass) -> None:
    graph, _ = apply_pass(MODELS["embedding"](), every())
    kinds = {each.kind: each.weight.form for each in read(graph)}
    assert kinds["table"] == "float"
    again, record = apply_pass(graph.to_model(), QuantizeWeights(min_size=0))
    after = {each.kind: each.weight.form for each in read(again)}
    assert after["linear"] == "codebook" or "linear" not in kinds
    assert record.status == "done"


def test_round_weights_behind_it_refines_codes_and_centres(apply_pass: ApplyPass) -> None:
    weight = RNG.standard_normal((24, 32)).astype(np.float32)
    text = """<ir_version: 8, opset_import: ["" : 17]>
      g (float[N,24] x) => (float[N,32] y) { y = Gemm(x, w, b) }"""
    model = model_from_text(text, {"w": weight, "b": np.ones(32, np.float32)})
    mixed = RNG.standard_normal((24, 24)) * RNG.uniform(0.1, 3, 24)
    samples = (RNG.standard_normal((400, 24)) @ mixed).astype(np.float32)
    exact = samples @ weight + 1
    item = every(bits=3)
    graph, _ = apply_pass(model, item, calibration={"x": samples})
    graphs, _ = apply_passes([item, RoundWeights()], model, samples={"x": samples})
    errors = [
        np.square(Session(each).run({"x": samples})["y"] - exact).mean() for each in (graph, graphs)
    ]
    assert errors[1] < 0.8 * errors[0]
    (one,) = read(graphs)
    assert one.weight.form == "codebook"
    assert graphs.weight_bytes == graph.weight_bytes


def test_small_layers_get_more_bits_below_four(apply_pass: ApplyPass) -> None:
    text = """<ir_version: 8, opset_import: ["" : 17]>
      g (float[N,64] x) => (float[N,64] y) { a = MatMul(x, v) y = MatMul(a, w) }"""
    shapes = {"v": (64, 1024), "w": (1024, 64)}
    values = {name: RNG.standard_normal(each).astype(np.float32) for name, each in shapes.items()}
    values["v"] = values["v"][:, :64].copy()
    values["w"] = RNG.standard_normal((64, 1024)).astype(np.float32)
    model = model_from_text(text.replace("float[N,64] y", "float[N,1024] y"), values)
    told = {}
    for options in ({"bits": 3}, {"bits": 3, "extra": 0.2}, {"bits": 4}, {"bits": 4, "extra": 0.2}):
        _, record = apply_pass(model, every(**options))
        told[str(options)] = [int(each.what.split("-bit")[0][-1]) for each in record.changes]
    assert list(told.values()) == [[5, 3], [8, 3], [4, 4], [8, 4]]


@pytest.mark.parametrize("name", ["mask-weights", "prune-channels", "quantize-static", "round"])
def test_other_passes_leave_what_it_made(name: str, apply_pass: ApplyPass) -> None:
    model = MODELS["cnn"]()
    samples = {"x": RNG.standard_normal((8, 3, 8, 8)).astype(np.float32)}
    graph, _ = apply_pass(model, every(), calibration=samples)
    coded = {each.node.name for each in read(graph) if each.weight.form == "codebook"}
    assert coded
    item = {
        "mask-weights": MaskWeights(min_size=0),
        "prune-channels": PruneChannels(macs=0.5),
        "quantize-static": QuantizeStatic(),
        "round": RoundWeights(),
    }[name]
    again, record = testing.apply_pass(item, graph.to_model(), samples=samples)
    assert {each.node.name for each in read(again) if each.weight.form == "codebook"} == coded
    reasons = {"stored in less", "Reshape cuts across it", "no float weight"}
    assert any(part in each.reason for each in record.skipped for part in reasons), record.skipped


def test_scales_that_half_floats_do_not_hold_rise() -> None:
    text = """<ir_version: 8, opset_import: ["" : 17]>
      g (float[N,64,9,9] x) => (float[N,64,9,9] y) {
        y = Conv<kernel_shape = [3,3], group = 64, pads = [1,1,1,1]>(x, deep, b)
      }"""
    deep = RNG.standard_normal((64, 1, 3, 3)).astype(np.float32)
    deep[3] *= 1e-9
    deep[7] *= 1e-4
    values = {"deep": deep, "b": np.zeros(64, np.float32)}
    samples = {"x": RNG.standard_normal((8, 64, 9, 9)).astype(np.float32)}
    model, smallest = model_from_text(text, values), float(np.finfo(np.float16).tiny)
    for passes in ([PalettizeWeights()], [PalettizeWeights(), RoundWeights()]):
        graph, records = apply_passes(passes, model, samples=samples, judge=False)
        (one,) = read(graph)
        assert records[-1].changes and not records[-1].skipped
        scale = one.weight.scale
        assert scale is not None and scale.values.dtype == np.float16
        assert scale.values.min() >= smallest
        error = np.abs(one.weight.values() - deep).max(axis=(1, 2, 3))
        assert error[[3, 7]].max() <= 2 * smallest
        assert weight_db(deep, one.weight.values()) > 40
