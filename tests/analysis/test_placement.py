"""Where Q and DQ go: one rule after another, on graphs that a reader sees."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
import pytest

from graphopt import targets
from graphopt.analysis.placement import place
from graphopt.facts import shapes
from graphopt.facts.layers import Layer
from graphopt.graph.graph import Graph
from graphopt.graph.node import label
from graphopt.rewrite.quantized_activations import Placement
from graphopt.testing import model_from_text

IMAGE = "float[1, 4, 8, 8]"
SAME = {"w": (4, 4, 1, 1), "v": (4, 4, 1, 1), "u": (4, 4, 1, 1)}
SIX: dict[str, Any] = {"zero": np.float32(0), "six": np.float32(6)}


def planned(
    body: str,
    weights: dict[str, Any] | None = None,
    *,
    ports: str = f"({IMAGE} x) => ({IMAGE} y)",
    opset: int = 13,
    target: str = "x86-vnni",
    float_nodes: Sequence[str] = (),
    listed: Sequence[str] = (),
) -> Placement:
    """The plan for a graph; ``float_nodes`` are refused, ``listed`` weights are inputs too."""
    text = f'<ir_version: 8, opset_import: ["" : {opset}]> g {ports} {{ {body} }}'
    model = model_from_text(text, {**SAME, **(weights or {})})
    read = {name for node in model.graph.node for name in node.input}
    for tensor in list(model.graph.initializer):
        if tensor.name not in read:
            model.graph.initializer.remove(tensor)
        elif tensor.name in listed:
            kind = onnx.helper.make_tensor_value_info(tensor.name, 1, list(tensor.dims))
            model.graph.input.append(kind)
    graph = Graph(model)
    return place(
        graph.main,
        shapes.infer(graph),
        targets.find(target),
        lambda node: "on request" if label(node) in float_nodes else None,
    )


def names(nodes: Sequence[onnx.NodeProto | Layer]) -> list[str]:
    return [label(each.node if isinstance(each, Layer) else each) for each in nodes]


def reasons(plan: Placement) -> dict[str, str]:
    return {label(each.node): each.reason for each in plan.refused}


def own(*tensors: str) -> dict[str, str]:
    """Every tensor with parameters of its own."""
    return {name: name for name in tensors}


def test_a_chain_of_convolutions_is_quantized_behind_the_activations() -> None:
    plan = planned("[a] c = Conv(x, w) r = Relu(c) [b] y = Conv(r, v)")
    assert names(plan.layers) == ["a", "b"]
    assert plan.roots == own("x", "r", "y")
    assert plan.produced == {"r", "y"}
    assert (plan.moved, plan.refused, plan.guarded) == ([], [], [])
    assert id(plan.nodes[0]) in plan.integer_nodes()


@pytest.mark.parametrize("shape", [(), (1,)])
def test_a_clip_at_zero_is_swallowed(shape: tuple[int, ...]) -> None:
    bounds = {name: np.reshape(value, shape) for name, value in SIX.items()}
    plan = planned("c = Conv(x, w) r = Clip(c, zero, six) y = Conv(r, v)", bounds)
    assert plan.roots == own("x", "r", "y")
    plan = planned("c = Conv(x, w) r = Clip(c, zero) y = Conv(r, v)", bounds)
    assert plan.roots == own("x", "r", "y")


@pytest.mark.parametrize(
    ("clip", "ports"),
    [
        ("Clip(c, one, six)", ""),
        ("Clip(c, , six)", ""),
        ("Clip(c)", ""),
        ("Clip(c, zero, m)", f"({IMAGE} x, float m) => ({IMAGE} y)"),
    ],
    ids=["at one", "only above", "without bounds", "computed bound"],
)
def test_other_clips_stay_float_between_integers(clip: str, ports: str) -> None:
    plan = planned(
        f"c = Conv(x, w) r = {clip} y = Conv(r, v)",
        {**SIX, "one": np.float32(1)},
        ports=ports or f"({IMAGE} x) => ({IMAGE} y)",
    )
    assert plan.roots == own("x", "c", "r", "y")
    assert plan.produced == {"c", "y"}  # r is what a float node makes


def test_the_add_of_a_residual_block_joins() -> None:
    plan = planned("r = Conv(x, w) c = Conv(r, v) s = Add(r, c) t = Relu(s) y = Conv(t, u)")
    assert names(plan.moved) == ["Add(s)"]
    assert plan.roots == own("x", "r", "c", "t", "y")
    assert plan.produced == {"r", "c", "t", "y"}


def test_an_add_whose_sum_no_integer_kernel_reads_stays_float() -> None:
    plan = planned("r = Conv(x, w) c = Conv(r, v) y = Add(r, c)")
    assert plan.moved == []
    assert plan.produced == {"r", "c"}


def test_an_add_of_a_float_branch_stays_float() -> None:
    plan = planned("c = Conv(x, w) f = Tanh(x) s = Add(c, f) y = Conv(s, v)")
    assert plan.moved == []
    assert plan.roots == own("x", "c", "s", "y")
    assert plan.produced == {"c", "y"}


def test_an_add_of_a_constant_stays_float() -> None:
    plan = planned("c = Conv(x, w) s = Add(c, k) y = Conv(s, v)", {"k": np.float32(3)})
    assert plan.moved == []


def test_a_concat_joins_with_parameters_of_its_own() -> None:
    plan = planned(
        "a = Conv(x, w) b = Conv(x, v) c = Concat<axis = 1>(a, b) y = Conv(c, wide)",
        {"wide": (4, 8, 1, 1)},
    )
    assert names(plan.moved) == ["Concat(c)"]
    assert plan.roots == own("x", "a", "b", "c", "y")


def test_a_max_pool_keeps_the_parameters_from_opset_12() -> None:
    body = "c = Conv(x, w) r = Relu(c) m = MaxPool<kernel_shape = [1, 1]>(r) y = Conv(m, v)"
    plan = planned(body, opset=12)
    assert names(plan.moved) == ["MaxPool(m)"]
    assert plan.roots == {"x": "x", "r": "r", "m": "r", "y": "y"}
    old = planned(body, opset=11)
    assert old.moved == []
    assert old.roots == own("x", "r", "m", "y")
    assert "m" not in old.produced


def test_movers_carry_the_quantization_upstream() -> None:
    plan = planned(
        "t = Tanh(x) a = Transpose<perm = [0, 1, 3, 2]>(t) b = Reshape(a, s) y = Conv(b, w)",
        {"s": np.array([1, 4, 8, 8])},
    )
    assert names(plan.moved) == ["Transpose(a)", "Reshape(b)"]
    assert plan.roots == {"t": "t", "a": "t", "b": "t", "y": "y"}
    assert plan.produced == {"a", "b", "y"}


def test_movers_that_no_integer_kernel_reads_stay_float() -> None:
    plan = planned("c = Conv(x, w) y = Transpose<perm = [0, 1, 3, 2]>(c)")
    assert plan.moved == []
    assert plan.roots == own("x", "c")


def test_a_mover_swallows_no_activation() -> None:
    # the range of x reaches below zero, where the Relu behind the pool cuts
    plan = planned("m = MaxPool<kernel_shape = [1, 1]>(x) r = Relu(m) y = Conv(r, w)")
    assert plan.moved == []
    assert plan.roots == own("r", "y")
    assert plan.produced == {"y"}


def test_silu_runs_on_integers() -> None:
    plan = planned("c = Conv(x, w) s = Sigmoid(c) m = Mul(c, s) y = Conv(m, v)")
    assert names(plan.moved) == ["Sigmoid(s)", "Mul(m)"]
    assert plan.roots == own("x", "c", "s", "m", "y")


def test_a_classifier_head_runs_on_integers_up_to_its_float_result() -> None:
    plan = planned(
        "c = Conv(x, w) r = Relu(c) p = GlobalAveragePool(r) f = Flatten(p) y = Gemm(f, g)",
        {"g": (4, 10)},
        ports=f"({IMAGE} x) => (float[1, 10] y)",
    )
    assert names(plan.moved) == ["GlobalAveragePool(p)", "Flatten(f)"]
    assert plan.roots == {"x": "x", "r": "r", "p": "p", "f": "p"}
    assert plan.produced == {"r", "p", "f"}  # the Gemm gives floats: y is not rounded


def test_a_float_reader_gets_no_integers_of_its_own() -> None:
    plan = planned(
        "c = Conv(x, w) r = Relu(c) z = Tanh(r) y = Conv(r, v)",
        ports=f"({IMAGE} x) => ({IMAGE} y, {IMAGE} z)",
    )
    assert plan.roots == own("x", "r", "y")


def test_a_result_that_is_an_output_too_is_not_fused_with_the_activation() -> None:
    plan = planned(
        "c = Conv(x, w) r = Relu(c) y = Conv(r, v)", ports=f"({IMAGE} x) => ({IMAGE} y, {IMAGE} c)"
    )
    assert plan.roots == own("x", "c", "r", "y")
    assert plan.produced == {"c", "y"}


@pytest.mark.parametrize("transposed", [0, 1])
def test_gemm_and_matmul_give_floats_unless_an_integer_kernel_reads(transposed: int) -> None:
    plan = planned(
        f"a = Gemm<transB = {transposed}>(x, p) b = MatMul(a, q) y = Softmax(b)",
        {"p": (16, 16), "q": (16, 16)},
        ports="(float[n, 16] x) => (float[n, 16] y)",
    )
    assert names(plan.layers) == ["Gemm(a)", "MatMul(b)"]
    assert plan.roots == own("x", "a")
    assert plan.produced == {"a"}


def test_a_matmul_with_a_bias_keeps_its_sum_exact_for_the_next_one() -> None:
    plan = planned(
        "m = MatMul(x, p) a = Add(m, b) y = MatMul(a, q)",
        {"p": (16, 16), "q": (16, 16), "b": (16,)},
        ports="(float[n, 16] x) => (float[n, 16] y)",
    )
    assert plan.roots == own("x", "a")
    assert plan.produced == set()
    assert plan.moved == []


def test_attention_products_stay_float() -> None:
    plan = planned(
        "q = MatMul(x, p) k = MatMul(x, r) t = Transpose<perm = [1, 0]>(k) s = MatMul(q, t)"
        " y = Softmax(s)",
        {"p": (16, 16), "r": (16, 16)},
        ports="(float[8, 16] x) => (float[8, 8] y)",
    )
    assert names(plan.layers) == ["MatMul(q)", "MatMul(k)"]
    assert reasons(plan) == {"MatMul(s)": "both operands are computed, so there is no weight"}
    assert plan.roots == own("x")


@pytest.mark.parametrize("groups", [2, 16])
def test_grouped_and_depthwise_convolutions_take_part(groups: int) -> None:
    plan = planned(
        f"c = Conv<group = {groups}>(x, g) y = Conv(c, k)",
        {"g": (16, 16 // groups, 1, 1), "k": (4, 16, 1, 1)},
        ports="(float[1, 16, 8, 8] x) => (float[1, 4, 8, 8] y)",
    )
    assert names(plan.layers) == ["Conv(c)", "Conv(y)"]


def test_a_shared_weight_serves_both_layers() -> None:
    plan = planned("c = Conv(x, w) r = Relu(c) y = Conv(r, w)")
    assert names(plan.layers) == ["Conv(c)", "Conv(y)"]


@pytest.mark.parametrize(
    "body",
    [
        "k = Constant<value = float[4, 4, 1, 1] {"
        + ", ".join(["1.0"] * 16)
        + "}>() y = Conv(x, k)",
        "i = Identity(w) y = Conv(x, i)",
    ],
    ids=["Constant", "Identity"],
)
def test_weights_are_found_wherever_the_file_keeps_them(body: str) -> None:
    assert names(planned(body).layers) == ["Conv(y)"]


NAN = np.full((4, 4, 1, 1), np.nan, np.float32)
MATRIX = "(float[4, 4] x) => (float[4, 4] y)"
REFUSED: dict[str, tuple[str, dict[str, Any], str]] = {
    "not a float constant": ("h = Relu(w) y = Conv(x, h)", {}, ""),
    "freeze-initializers": ("y = Conv(x, listed)", {"listed": (4, 4, 1, 1)}, ""),
    "freeze-initializers before": ("y = Conv(x, w, listed)", {"listed": (4,)}, ""),
    "NaN or infinity": ("y = Conv(x, nan)", {"nan": NAN}, ""),
    "holds NaN or infinity": ("y = Conv(x, w, nan)", {"nan": NAN.ravel()[:4]}, ""),
    "is double, not float": (
        "d = Cast<to = 11>(x) e = Conv(d, k) y = Cast<to = 1>(e)",
        {"k": np.ones((4, 4, 1, 1))},
        "",
    ),
    "left operand": ("y = MatMul(k, x)", {"k": (4, 4)}, MATRIX),
    "rank 3": ("y = MatMul(x, k)", {"k": (2, 4, 4)}, "(float[4, 4] x) => (float[2, 4, 4] y)"),
    "transA is set": ("y = Gemm<transA = 1>(x, k)", {"k": (4, 4)}, MATRIX),
    "bias is not a constant": (
        "y = Gemm(x, k, c)",
        {"k": (4, 4)},
        "(float[4, 4] x, float[4] c) => (float[4, 4] y)",
    ),
    "one value per output": ("y = Gemm(x, k, c)", {"k": (4, 4), "c": (4, 1)}, MATRIX),
    "its input is constant": ("y = Conv(k, w)", {"k": (1, 4, 8, 8)}, ""),
}


@pytest.mark.parametrize("reason", REFUSED)
def test_what_stays_float_says_why(reason: str) -> None:
    body, weights, ports = REFUSED[reason]
    plan = planned(body, weights, ports=ports or f"({IMAGE} x) => ({IMAGE} y)", listed=["listed"])
    assert plan.layers == []
    assert [reason in text for text in reasons(plan).values()] == [True]
    assert (plan.roots, plan.produced) == ({}, set())


@pytest.mark.parametrize("shape", [(), (1,), (1, 1), (4,), (1, 4)])
def test_a_bias_of_one_value_per_channel_may_have_any_form(shape: tuple[int, ...]) -> None:
    plan = planned("y = Gemm(x, k, c)", {"k": (4, 4), "c": shape}, ports=MATRIX)
    assert names(plan.layers) == ["Gemm(y)"]


def test_an_excluded_layer_between_integer_ones_is_guarded() -> None:
    body = "c = Conv(x, w) r = Relu(c) [b] d = Conv(r, v) y = Conv(d, u)"
    plan = planned(body, float_nodes=["b"])
    assert reasons(plan) == {"b": "on request"}
    assert names(plan.guarded) == ["b"]
    assert plan.roots == own("x", "r", "d", "y")
    assert plan.produced == {"r", "y"}


@pytest.mark.parametrize(
    "mover",
    ["MaxPool<kernel_shape = [1, 1]>(c)", "Transpose<perm = [0, 1, 3, 2]>(c)", "Identity(c)"],
)
def test_onnxruntime_looks_through_movers_and_so_does_the_guard(mover: str) -> None:
    plan = planned(f"c = Conv(x, w) m = {mover} [b] d = Conv(m, v) y = Conv(d, u)", float_nodes="b")
    assert names(plan.guarded) == ["b"]


def test_no_guard_where_the_float_layer_reads_floats() -> None:
    plan = planned("[a] c = Conv(x, w) t = Tanh(c) [b] y = Conv(t, v)", float_nodes=["a", "b"])
    assert plan.guarded == []
    assert plan.roots == {}
    plan = planned("c = Conv(x, w) t = Tanh(c) [b] d = Conv(t, v) y = Conv(d, u)", float_nodes="b")
    assert plan.guarded == []


def test_the_generic_target_knows_only_what_onnx_defines() -> None:
    plan = planned(
        "c = Conv(x, w) d = Conv(c, v) s = Add(c, d) m = MaxPool<kernel_shape = [1, 1]>(d)"
        " e = Conv(m, u) y = Add(e, s)",
        target="generic",
    )
    assert names(plan.layers) == ["Conv(c)", "Conv(d)", "Conv(e)"]
    assert names(plan.moved) == ["MaxPool(m)"]


def test_a_resize_moves_values_only_in_mode_nearest() -> None:
    body = "r = Resize<mode = {}>(x, , k) y = Conv(r, w)"
    scales = {"k": np.ones(4, np.float32)}
    assert names(planned(body.format('"nearest"'), scales).moved) == ["Resize(r)"]
    assert planned(body.format('"linear"'), scales).moved == []


def test_integers_and_lookups_are_left_alone() -> None:
    plan = planned(
        "e = Gather(table, ids) y = MatMul(e, k)",
        {"table": (9, 4), "k": (4, 4)},
        ports="(int64[n] ids) => (float[n, 4] y)",
    )
    assert plan.moved == []
    assert plan.roots == own("e")


def test_an_operator_of_another_domain_is_none_of_ours() -> None:
    plan = planned(
        "c = Conv(x, w) s = com.example.Add(c, c) y = Conv(s, v)",
        opset=13,
    )
    assert plan.moved == []


@pytest.mark.parametrize(
    ("group", "target", "refused"),
    [
        (1, "x86-vnni", False),
        (2, "x86-vnni", False),
        (4, "x86-vnni", True),
        (16, "x86-vnni", False),
        (4, "generic", False),
    ],
)
def test_narrow_groups_stay_float(group: int, target: str, refused: bool) -> None:
    plan = planned(
        f"y = Conv<group: int = {group}>(x, g)",
        {"g": (16, 16 // group, 3, 3)},
        ports="(float[1, 16, 8, 8] x) => (float[1, 16, 6, 6] y)",
        target=target,
    )
    reason = "4 channels a group; its integer kernel is slower than the float one"
    assert [each.reason for each in plan.refused] == [reason] * refused
    assert len(plan.layers) == (not refused)


GELU = """d = Div (a, root)  e = Erf (d)  p = Add (e, one)  m = Mul (a, p)  g = Mul (m, half)"""
NORM = """u = ReduceMean <axes = [-1]> (a)  c = Sub (a, u)  q = Mul (c, c)
          v = ReduceMean <axes = [-1]> (q)  t = Add (v, half)  o = Sqrt (t)  g = Div (c, o)"""
SWISH = "d = Add (a, three)  c = Clip (d, zero, six)  m = Mul (a, c)  g = Div (m, six)"


@pytest.mark.parametrize("inside", [GELU, NORM, SWISH])
def test_what_the_runtime_fuses_is_not_cut_by_a_quantizer(inside: str) -> None:
    scalars = {"root": 2**0.5, "one": 1, "half": 0.5, "three": 3, "zero": 0, "six": 6}
    placement = planned(
        f"a = MatMul (x, M)  {inside}  y = MatMul (g, M)",
        {"M": (8, 8), **{name: np.array(value, np.float32) for name, value in scalars.items()}},
        ports="(float[N, 8] x) => (float[N, 8] y)",
    )
    assert sorted(placement.roots) == ["g", "x"]
    assert placement.moved == []
