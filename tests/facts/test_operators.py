from __future__ import annotations

import ast
from pathlib import Path
from typing import Any

import onnx
import onnx.parser
import pytest
from onnx import NodeProto, helper

from graphopt.facts.axes import Nest, Piece
from graphopt.facts.axis_rules import Call
from graphopt.facts.operators import CONTRIB, find, is_kind, nest, nest_of, operators
from graphopt.facts.shapes import infer
from graphopt.graph.graph import Graph

ONNX = {schema.name for schema in onnx.defs.get_all_schemas_with_history() if not schema.domain}
ONNXRUNTIME = {"SimplifiedLayerNormalization"}  # which its optimizer writes among ONNX's own
TOOLS = """FusedConv FusedGemm FusedMatMul Gelu FastGelu BiasGelu QuickGelu SkipLayerNormalization
    SkipSimplifiedLayerNormalization SimplifiedLayerNormalization EmbedLayerNormalization Attention
    MultiHeadAttention GroupQueryAttention RotaryEmbedding QAttention QGemm QLinearAdd QLinearMul
    QLinearSigmoid QLinearLeakyRelu QLinearConcat QLinearAveragePool QLinearGlobalAveragePool
    QLinearSoftmax QLinearReduceMean QLinearWhere DynamicQuantizeMatMul MatMulIntegerToFloat
    MatMulNBits GatherBlockQuantized NhwcMaxPool Rfft Irfft DynamicQuantizeLSTM"""


ROOT = Path(__file__).parents[2]
TABLES = (
    "graphopt/facts/operator",
    "graphopt/targets/",
    "graphopt/bridge/ops/",
    "graphopt/testing/",
)
DISPATCH = {
    "graphopt/facts/expansion.py": ["_COMPUTED"],
    "passes/cleanup/eliminate_identity.py": ["_RULES"],
    "graphopt/rewrite/opsets.py": ["_CHANGES"],
}
"""Not facts about operators, but the function of the file that takes care of each of them."""


def lists_of_operators(tree: ast.Module) -> list[str]:
    """Names of module-level values that spell out two operator types or more."""
    names = {row.name for row in operators()}
    found = []
    for statement in tree.body:
        if isinstance(statement, ast.Assign | ast.AnnAssign) and statement.value is not None:
            texts = (
                each.value for each in ast.walk(statement.value) if isinstance(each, ast.Constant)
            )
            if len(names & {text for text in texts if isinstance(text, str)}) > 1:
                target = (
                    statement.targets[0] if isinstance(statement, ast.Assign) else statement.target
                )
                found.append(ast.unparse(target))
    return found


def test_no_file_holds_a_list_of_operators() -> None:
    found = {}
    for path in [*ROOT.glob("graphopt/**/*.py"), *ROOT.glob("passes/**/*.py")]:
        name = path.relative_to(ROOT).as_posix()
        if not name.startswith((*TABLES, "graphopt/passes/")):
            lists = lists_of_operators(ast.parse(path.read_text(encoding="utf-8")))
            found.update({name: lists} if lists else {})
    assert found == DISPATCH


@pytest.mark.parametrize(
    ("text", "lists"),
    [
        ('A = ("Relu", "Clip")', ["A"]),
        ('A: dict[str, int] = {"Conv": 1, "Gemm": 2}', ["A"]),
        ('A = "Relu"', []),
        ('def f():\n    return ("Relu", "Clip")', []),
    ],
)
def test_lists_are_seen(text: str, lists: list[str]) -> None:
    assert lists_of_operators(ast.parse(text)) == lists


def shaped(op: str, *shapes: Any, result: Any, domain: str = "", **attributes: Any) -> Nest:
    node = helper.make_node(
        op, [f"i{k}" for k in range(len(shapes))], ["o"], domain=domain, **attributes
    )
    return nest_of(Call(node, shapes, (result,), lambda index: None, 17))


def test_every_operator_of_onnx_has_a_row_and_no_row_is_made_up() -> None:
    own = {row.name for row in operators() if not row.domain}
    assert own == ONNX | ONNXRUNTIME


def test_no_operator_stands_twice() -> None:
    keys = [(row.domain, row.name) for row in operators()]
    assert len(keys) == len(set(keys))


def test_what_tools_of_onnxruntime_write_has_a_row() -> None:
    contrib = {row.name for row in operators() if row.domain == CONTRIB}
    assert set(TOOLS.split()) <= contrib


def test_columns_of_rows_point_at_inputs_that_the_operator_has() -> None:
    for row in operators():
        if row.domain or row.name in ONNXRUNTIME:
            continue
        schema = onnx.defs.get_schema(row.name)
        named = (*(row.data or ()), *row.weights, *(row.factors or ()), *row.codes)
        assert max(named, default=-1) < schema.max_input, row.name


def test_exact_and_random_exclude_each_other() -> None:
    assert not [row.name for row in operators() if row.exact and row.random]
    assert {row.name for row in operators() if row.random} >= {"RandomNormal", "Bernoulli"}


def test_an_operator_is_found_by_domain_and_name() -> None:
    gelu = helper.make_node("Gelu", ["x"], ["y"], domain=CONTRIB)
    assert is_kind(gelu, "elementwise", "view")
    assert find(helper.make_node("FastGelu", ["x"], ["y"])) is None
    assert find(helper.make_node("Relu", ["x"], ["y"], domain="ai.onnx")) is not None
    assert not is_kind(helper.make_node("Mine", ["x"], ["y"], domain="me"), "elementwise")


def test_the_same_operator_in_a_layout_of_onnxruntime_keeps_all_but_its_axes() -> None:
    node = helper.make_node("QLinearConv", ["x"] * 8, ["y"], domain="com.ms.internal.nhwc")
    assert is_kind(node, "integer")
    made = nest_of(Call(node, ((1, 4, 4, 8),), ((1, 4, 4, 8),), lambda index: None, 1))
    assert set(made.fixed.values()) == {"its layout is onnxruntime's"}


def test_what_is_not_in_the_table_is_fixed_with_the_reason() -> None:
    made = shaped("Mine", (2, 3), result=(2, 3), domain="me")
    assert set(made.fixed) == set(made.loops)
    assert set(made.fixed.values()) == {"Mine is not in the table of operators"}


def test_shapes_that_do_not_fit_fix_everything() -> None:
    made = shaped("Relu", (2, 3), result=(2, 4))
    assert set(made.fixed.values()) == {"Relu: its shapes are not as they should be"}


def test_a_computed_bound_fixes_everything() -> None:
    made = shaped("Slice", (2, 6), (1,), (1,), result=(2, None))
    assert set(made.fixed.values()) == {"Slice: its starts are computed"}


def test_symbolic_sizes_are_followed() -> None:
    made = shaped("Reshape", ("batch", 64, 7, 7), (2,), result=(None, 3136))
    assert made.inputs[0] is not None
    first, channel, high, wide = made.inputs[0]
    assert made.outputs[0] == (first, (Piece((*_loops(channel), *_loops(high), *_loops(wide))),))
    assert made.sizes[_loops(first)[0]] == "batch"
    added = shaped("Add", ("batch", 8), ("batch", 8), result=("batch", 8))
    assert _free(added) == list(added.sizes)


def test_sizes_that_might_be_broadcast_are_fixed() -> None:
    made = shaped("Add", ("a", 8), ("b", 8), result=(None, 8))
    assert list(made.fixed.values()) == ["sizes are not known"]


def _loops(axis: tuple[Piece, ...]) -> tuple[str, ...]:
    return axis[0].loops


def _free(made: Nest) -> list[str]:
    return [loop for loop in made.loops if loop not in made.fixed]


def test_positions_of_a_value_in_a_product_of_loops() -> None:
    made = Nest({"heads": 2, "width": 3}, (), ())
    axis = (Piece(("heads", "width")), Piece(), Piece(("heads",), (1, 0, 1)))
    assert made.length(axis) == 10
    assert made.positions(axis, "heads", 1) == [3, 4, 5, 7, 9]
    assert made.positions(axis, "width", 2) == [2, 5]


def _nests(text: str) -> tuple[list[NodeProto], list[Nest]]:
    graph = Graph(onnx.parser.parse_model(text))
    shapes = infer(graph)
    nodes = list(graph.main.nodes)
    return nodes, [nest(graph.main, node, shapes) for node in nodes]


def test_constants_of_the_graph_are_read() -> None:
    _, (made,) = _nests(
        """<ir_version: 8, opset_import: ["" : 17]>
        g (float[4, 6] x) => (float[4, 2] y) <int64[1] s = {1}, int64[1] e = {3}, int64[1] a = {1}>
        { y = Slice(x, s, e, a) }"""
    )
    assert made.outputs[0] is not None
    assert made.inputs[0] is not None
    assert made.outputs[0][1] == made.inputs[0][1][1:2]
    assert [made.length(axis) for axis in (made.counts[1][0], made.counts[2][0])] == [1, 3]


def test_branches_of_an_if_end_in_its_results() -> None:
    _, (made,) = _nests(
        """<ir_version: 8, opset_import: ["" : 17]>
        g (bool c, float[2, 3] x) => (float[2, 3] y)
        {
            y = If (c) <
                then_branch = a () => (float[2, 3] p) { p = Relu(x) },
                else_branch = b () => (float[2, 3] q) { q = Neg(x) }
            >
        }"""
    )
    assert made.bodies["then_branch"] == ((), made.outputs) == made.bodies["else_branch"]
    assert _free(made) == list(made.sizes)


def test_states_of_a_loop_stay_and_its_results_are_stacked() -> None:
    _, (made,) = _nests(
        """<ir_version: 8, opset_import: ["" : 17]>
        g (int64 n, bool c, float[3] x) => (float[3] y, float[k, 3] all)
        {
            y, all = Loop (n, c, x) <body = b (int64 i, bool d, float[3] s)
                => (bool e, float[3] t, float[3] u)
                { e = Identity(d) t = Neg(s) u = Relu(s) }>
        }"""
    )
    inside, out = made.bodies["body"]
    assert inside[2] == out[1] == made.inputs[2] == made.outputs[0]
    assert made.outputs[1] is not None
    assert out[2] == made.outputs[1][1:]
    assert made.fixed == {_loops(made.outputs[1][0])[0]: "the rounds of a loop go over it"}


def test_a_scan_reads_slices() -> None:
    _, (made,) = _nests(
        """<ir_version: 8, opset_import: ["" : 17]>
        g (float[3] x, float[5, 3] rows) => (float[3] y, float[3, 5] all)
        {
            y, all = Scan <num_scan_inputs = 1, scan_output_axes = [1],
                body = b (float[3] s, float[3] r) => (float[3] t, float[3] u)
                { t = Add(s, r) u = Relu(t) }> (x, rows)
        }"""
    )
    inside, out = made.bodies["body"]
    assert made.inputs[1] is not None
    assert made.outputs[1] is not None
    assert inside[1] == made.inputs[1][1:]
    assert out[1] == made.outputs[1][:1]


def test_a_node_without_what_is_multiplied_is_not_in_the_table() -> None:
    for domain, op_type in (("com.microsoft", "MatMulNBits"), ("com.ms.internal.nhwc", "Conv")):
        assert find(helper.make_node(op_type, ["x", "w"], ["y"], domain=domain)) is not None
        assert find(helper.make_node(op_type, ["x"], ["y"], domain=domain)) is None
        assert find(helper.make_node(op_type, ["x", "w"], [], domain=domain)) is None


def test_operators_of_another_domain_are_not_those_of_their_name() -> None:
    for op_type in ("Conv", "MatMul", "MatMulNBits", "Identity"):
        assert find(helper.make_node(op_type, ["x", "w"], ["y"], domain="own")) is None
