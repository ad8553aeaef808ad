"""Residual blocks that go: which, how many, and what the model gives then."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray

from graphopt.errors import Need, UsageError
from graphopt.facts.sized import single, sized
from graphopt.graph.graph import Graph
from graphopt.graph.node import label
from graphopt.numerics.sqnr import sqnr_db
from graphopt.passes.prune import DropBlocks, PruneChannels, ReconstructWeights
from graphopt.runtime.session import Session
from graphopt.testing import Applied, apply_pass, apply_passes, model_from_text

SCALES = {"1": 0.02, "2": 1.0, "3": 0.05, "4": 0.5}
"""How much each block adds to its input."""


def _images(count: int = 16) -> NDArray[np.float32]:
    return np.random.default_rng(0).normal(size=(count, 3, 8, 8)).astype(np.float32)


def _stages(relu: bool = True) -> onnx.ModelProto:
    """Four blocks of two layers, of which the last two are four times as large as the others."""
    rng = np.random.default_rng(1)
    weights: dict[str, Any] = {
        "W0": rng.normal(size=(8, 3, 3, 3)) / 5,
        "D": rng.normal(size=(16, 8, 1, 1)) / 3,
        "H": (5, 16, 1, 1),
    }
    lines = ["c0 = Conv <pads = [1, 1, 1, 1]> (x, W0)", "r0 = Relu (c0)"]
    stream = "r0"
    for at, scale in SCALES.items():
        width = 8 if at in "12" else 16
        if at == "3":
            lines += [f"t = Conv ({stream}, D)", "s = Relu (t)"]
            stream = "s"
        for part, factor in (("A", 1.0), ("B", scale)):
            kernel = factor * rng.normal(size=(width, width, 3, 3)) / np.sqrt(9 * width)
            weights[f"{part}{at}"] = kernel
            weights[f"b{part}{at}"] = 0.1 * factor * rng.normal(size=width)
        lines += [
            f"a{at} = Conv <pads = [1, 1, 1, 1]> ({stream}, A{at}, bA{at})",
            f"h{at} = Relu (a{at})",
            f"b{at} = Conv <pads = [1, 1, 1, 1]> (h{at}, B{at}, bB{at})",
            f"sum{at} = Add (b{at}, {stream})",
        ]
        stream = f"sum{at}"
        if relu:
            lines.append(f"r{at} = Relu (sum{at})")
            stream = f"r{at}"
    lines.append(f"y = Conv ({stream}, H)")
    kept = {
        name: value.astype(np.float32) if isinstance(value, np.ndarray) else value
        for name, value in weights.items()
    }
    head = '<ir_version: 8, opset_import: ["" : 17]>'
    text = "\n".join(lines)
    return model_from_text(
        f"{head} stages (float[N,3,8,8] x) => (float[N,5,8,8] y) {{ {text} }}", kept
    )


def _apply(**options: Any) -> Applied:
    return apply_pass(DropBlocks(**options), _stages(), samples={"x": _images()})


def _gone(graph: Graph) -> set[str]:
    names = {label(node) for node in graph.main.nodes}
    return {at for at in SCALES if f"Conv(b{at})" not in names}


@pytest.mark.parametrize(
    ("blocks", "gone"), [(1, {"1"}), (2, {"1", "3"}), (3, {"1", "3", "4"}), (4, set(SCALES))]
)
def test_those_go_that_add_least(blocks: int, gone: set[str]) -> None:
    graph, record = _apply(blocks=blocks)
    assert _gone(graph) == gone
    assert record.status == "done"
    assert len(record.changes) == blocks
    assert "2 layers gone" in record.changes[0].what


def test_one_block_goes_where_nothing_is_said() -> None:
    graph, _ = _apply()
    assert _gone(graph) == {"1"}


def test_the_mean_of_a_branch_stays() -> None:
    feeds = {"x": _images()}
    graph, _ = _apply(blocks=1)
    end = graph.main.producer("sum1")
    assert end is not None
    left = next(graph.main.constant(name) for name in end.input if graph.main.constant(name))
    model = _stages()
    model.graph.output.append(onnx.helper.make_tensor_value_info("b1", 1, None))
    branch = Session(Graph(model), threads=1).run(feeds)["b1"]
    assert left is not None
    np.testing.assert_allclose(
        left.values, branch.mean(axis=(0, 2, 3), keepdims=True), rtol=1e-4, atol=1e-6
    )


@pytest.mark.parametrize(("share", "gone"), [(0.9, {"1", "3"}), (0.65, {"3"}), (0.3, {"3", "4"})])
def test_macs_fall_as_asked(share: float, gone: set[str]) -> None:
    graph, record = _apply(macs=share)
    before, after = (_macs(each) for each in (Graph(_stages()), graph))
    assert after <= share * before
    assert _gone(graph) >= gone
    assert record.missed is None


def _macs(graph: Graph) -> int:
    total = sized(graph, single(graph)).macs.total
    assert total is not None
    return total


def test_parameters_fall_as_asked() -> None:
    graph, _ = _apply(params=0.7)
    assert _gone(graph) & {"3", "4"}


def test_what_is_large_and_small_alike_goes_first() -> None:
    """Block 3 hurts more than block 1, and saves four times as much."""
    graph, _ = _apply(macs=0.72)
    assert "3" in _gone(graph)


def test_the_same_again_changes_nothing() -> None:
    item = DropBlocks(blocks=2)
    graph, record = apply_pass(item, _stages(), [item], samples={"x": _images()})
    assert _gone(graph) == {"1", "3"}
    assert record.reason == "the model keeps to the budget already"


@pytest.mark.parametrize(
    ("options", "gone"),
    [
        ({"exclude": ("Conv(a1)",)}, {"3"}),
        ({"exclude": ("Add(sum1)", "Conv(b3)")}, {"4"}),
        ({"nodes": ("Conv(?2)", "Conv(?4)")}, {"4"}),
    ],
)
def test_only_chosen_blocks_go(options: dict[str, Any], gone: set[str]) -> None:
    graph, _ = _apply(blocks=1, **options)
    assert _gone(graph) == gone


def test_a_budget_out_of_reach_is_missed() -> None:
    graph, record = _apply(macs=0.01)
    assert _gone(graph) == set(SCALES)
    assert record.missed is not None
    assert record.missed.reason == "no more blocks can go"
    _, record = _apply(blocks=9)
    assert str(record.missed).startswith("blocks=9 is missed at 4")


def test_a_model_without_blocks_is_left_alone() -> None:
    model = model_from_text(
        '<ir_version: 8, opset_import: ["" : 17]> g (float[N,3,8,8] x) => (float[N,5,8,8] y) '
        "{ h = Conv(x, v) y = Conv(h, w) }",
        {"v": (4, 3, 1, 1), "w": (5, 4, 1, 1)},
    )
    graph, record = apply_pass(DropBlocks(), model, samples={"x": _images()})
    assert record.reason == "it has no residual blocks"
    assert [node.op_type for node in graph.main.nodes] == ["Conv", "Conv"]


@pytest.mark.parametrize(("opset", "gone"), [(17, True), (14, False)])
def test_a_sum_that_is_normalized_at_once_needs_an_operator_for_that(
    opset: int, gone: bool
) -> None:
    model = model_from_text(
        f"""<ir_version: 8, opset_import: ["" : {opset}, "com.microsoft" : 1]>
        g (float[N,5,8] x) => (float[N,5,8] y) {{
          e = Tanh(x) h = MatMul(e, v) r = Relu(h) b = MatMul(r, w)
          n = com.microsoft.SkipLayerNormalization(e, b, gamma, beta) y = MatMul(n, u)
        }}""",
        {"v": (8, 12), "w": (12, 8), "u": (8, 8), "gamma": (8,), "beta": (8,)},
    )
    x = np.random.default_rng(0).normal(size=(8, 5, 8)).astype(np.float32)
    graph, record = apply_pass(DropBlocks(), model, samples={"x": x})
    kinds = [node.op_type for node in graph.main.nodes]
    if gone:
        assert kinds == ["Tanh", "Add", "LayerNormalization", "MatMul"]
    else:
        assert "SkipLayerNormalization" in kinds
        assert "opset 14 has no operator" in record.skipped[0].reason


def test_channels_go_behind_it_by_the_same_original() -> None:
    passes = [DropBlocks(blocks=2), PruneChannels(macs=0.4, round_to=1)]
    graph, _ = apply_passes(passes, _stages(), samples={"x": _images()})
    assert _gone(graph) == {"1", "3"}
    whole, left = _macs(Graph(_stages())), _macs(graph)
    assert 0.35 * whole < left <= 0.4 * whole
    assert not np.isnan(Session(graph, threads=1).run({"x": _images()})["y"]).any()


def test_two_budgets_exclude_each_other() -> None:
    with pytest.raises(UsageError, match="blocks and macs exclude each other"):
        DropBlocks(blocks=1, macs=0.5)


def test_without_samples_nobody_knows_what_hurts() -> None:
    _, record = apply_pass(DropBlocks(), _stages(), samples=None)
    assert record.status == "refused"
    assert Need.CALIBRATION in record.needs


@pytest.mark.parametrize("relu", [True, False])
def test_what_is_left_makes_up_for_it(relu: bool) -> None:
    model, feeds = _stages(relu), {"x": _images(64)}
    wanted = Session(Graph(model), threads=1).run(feeds)["y"]
    found = []
    for passes in ([DropBlocks(blocks=3)], [DropBlocks(blocks=3), ReconstructWeights()]):
        graph, _ = apply_passes(passes, model, samples=feeds)
        found.append(sqnr_db(wanted, Session(graph, threads=1).run(feeds)["y"]))
    assert found[0] is not None and found[1] is not None
    assert found[1] > found[0] + 0.5
