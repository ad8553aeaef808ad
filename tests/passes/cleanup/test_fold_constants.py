from __future__ import annotations

import numpy as np
import onnx

from graphopt.graph.graph import Graph
from graphopt.passes.cleanup import FoldConstants
from graphopt.run.record import PassRecord
from graphopt.testing import apply_pass, model_from_text

_HEAD = '<ir_version: 8, opset_import: ["" : 13]>'


def _fold(text: str, weights: dict[str, object] | None = None) -> tuple[Graph, PassRecord]:
    return apply_pass(FoldConstants(), model_from_text(f"{_HEAD} {text}", weights))  # type: ignore[arg-type]  # arrays and shapes


def _ops(graph: Graph) -> list[str]:
    return [node.op_type for node in graph.main.nodes]


def test_computes_a_chain_of_constants_and_drops_what_it_needed() -> None:
    graph, record = _fold(
        "g (float[N,2] x) => (float[N,2] y) { t = Transpose (A)  s = Mul (t, b)  y = Add (x, s) }",
        {"A": np.array([[1.0], [2.0]], np.float32), "b": np.array([3.0], np.float32)},
    )
    assert _ops(graph) == ["Add"]
    assert list(graph.main.initializers) == ["s"]
    np.testing.assert_array_equal(graph.read(graph.main.initializers["s"]), [[3.0, 6.0]])
    assert [edit.what for edit in record.changes] == ["computed, with 1 nodes before it"]


def test_a_fixed_dimension_is_constant_although_the_batch_is_free() -> None:
    graph, _ = _fold(
        """g (float[N,3,4] x) => (float[N,12] y) {
          s = Shape (x)  c = Gather (s, one)  d = Gather (s, two)  n = Mul (c, d)
          u = Unsqueeze (n, zero)  t = Concat <axis = 0> (minus, u)  y = Reshape (x, t) }""",
        {
            "one": np.array(1),
            "two": np.array(2),
            "zero": np.array([0]),
            "minus": np.array([-1]),
        },
    )
    assert _ops(graph) == ["Reshape"]
    np.testing.assert_array_equal(graph.read(graph.main.initializers["t"]), [-1, 12])


def test_a_free_dimension_stays_computed() -> None:
    graph, record = _fold(
        "g (float[N,3] x) => (int64 y) { s = Shape (x)  y = Gather (s, zero) }",
        {"zero": np.array(0)},
    )
    assert _ops(graph) == ["Shape", "Gather"]
    assert record.status == "nothing to do"


def test_stale_declarations_are_not_believed() -> None:
    model = model_from_text(
        f"{_HEAD} g (float[N,3] x) => (int64[2] y) {{ r = Relu (x)  y = Shape (r) }}"
    )
    model.graph.value_info.append(onnx.helper.make_tensor_value_info("r", 1, [1, 3]))
    graph, _ = apply_pass(FoldConstants(), model)
    assert _ops(graph) == ["Relu", "Shape"]


def test_never_grows_the_file() -> None:
    graph, record = _fold(
        "g (float[64,64] x) => (float[64,64] y) { e = Expand (one, shape)  y = Add (x, e) }",
        {"one": np.ones(1, np.float32), "shape": np.array([64, 64])},
    )
    assert _ops(graph) == ["Expand", "Add"]
    assert "would grow the file by" in record.skipped[0].reason


def test_a_large_intermediate_result_is_no_obstacle_to_a_small_one() -> None:
    graph, _ = _fold(
        """g (float[64] x) => (float[64] y) {
          e = Expand (one, shape)  r = ReduceSum <keepdims = 0> (e)  y = Add (x, r) }""",
        {"one": np.ones(1, np.float32), "shape": np.array([64, 64])},
    )
    assert _ops(graph) == ["Add"]


def test_huge_results_are_refused_before_they_are_made() -> None:
    graph, record = apply_pass(
        FoldConstants(max_bytes=1000),
        model_from_text(
            f"""{_HEAD} g (float[1] x) => (float[1] y) {{
              c = ConstantOfShape (shape)  r = ReduceSum (c)  y = Add (x, r) }}""",
            {"shape": np.array([1000])},
        ),
    )
    assert "ConstantOfShape" in _ops(graph)
    assert "takes 4000 bytes, max_bytes leaves 1000" in record.skipped[0].reason


def test_random_and_quantizing_nodes_stay() -> None:
    graph, _ = _fold(
        """g (float[4] x) => (float[4] y) {
          r = RandomNormal <shape = [4], dtype = 1> ()  d = DequantizeLinear (q, s)
          a = Add (r, d)  n = Mul (a, zero)  y = Add (x, n) }""",
        {
            "q": np.ones(4, np.int8),
            "s": np.array(0.5, np.float32),
            "zero": np.zeros(1, np.float32),
        },
    )
    assert {"RandomNormal", "DequantizeLinear"} <= set(_ops(graph))


def test_optional_inputs_are_not_constants() -> None:
    model = model_from_text(
        f"{_HEAD} g (float[2] x, float[2] w) => (float[2] y) {{ e = Exp (w)  y = Add (x, e) }}",
        {"w": np.ones(2, np.float32)},
    )
    graph, record = apply_pass(FoldConstants(), model)
    assert _ops(graph) == ["Exp", "Add"]
    assert record.status == "nothing to do"


def test_integer_division_rounds_towards_zero_as_in_onnx() -> None:
    graph, _ = _fold(
        "g (int64[2] x) => (int64[2] y) { d = Div (a, b)  y = Add (x, d) }",
        {"a": np.array([-7, 7]), "b": np.array([2, -2])},
    )
    np.testing.assert_array_equal(graph.read(graph.main.initializers["d"]), [-3, -3])


def test_a_result_that_is_an_output_becomes_a_constant_output() -> None:
    graph, _ = _fold(
        "g (float[2] x) => (float[2] y, float[2] z) { y = Relu (x)  z = Exp (w) }",
        {"w": np.zeros(2, np.float32)},
    )
    assert _ops(graph) == ["Relu"]
    np.testing.assert_array_equal(graph.read(graph.main.initializers["z"]), [1, 1])


def test_an_if_with_a_constant_condition_is_replaced_by_its_branch() -> None:
    graph, record = _fold(
        """g (float[2] x) => (float[2] y, float[2] w) {
          yes = Constant <value = bool {1}> ()
          y, w = If (yes) <
            then_branch = a () => (float[2] p, float[2] q) {
              t = Exp (x)
              inner = Not (yes)
              p = If (inner) <
                then_branch = b () => (float[2] u) { u = Sin (t) },
                else_branch = c () => (float[2] v) { v = Cos (t) }
              >
              q = Identity (x)
            },
            else_branch = d () => (float[2] r, float[2] s) { r = Neg (x)  s = Abs (x) }
          > }"""
    )
    assert _ops(graph) == ["Constant", "Exp", "Cos", "Identity"] or "If" not in _ops(graph)
    assert "Cos" in _ops(graph)
    assert sum("then_branch" in edit.what for edit in record.changes) == 1
    assert graph.main.outputs == ["y", "w"]


def test_names_of_an_inlined_branch_give_way_to_those_outside() -> None:
    graph, _ = _fold(
        """g (float[2] x, bool z) => (float[2] y, float[2] w) {
          yes = Constant <value = bool {1}> ()
          y = If (yes) <
            then_branch = a () => (float[2] p) { t = Exp (x)  p = Neg (t) },
            else_branch = b () => (float[2] p) { t = Abs (x)  p = Neg (t) }
          >
          w = If (z) <
            then_branch = c () => (float[2] p) { t = Sin (x)  p = Neg (t) },
            else_branch = d () => (float[2] p) { t = Cos (x)  p = Neg (t) }
          > }"""
    )
    made = [name for scope in graph.scopes() for node in scope.nodes for name in node.output]
    assert _ops(graph)[:2] == ["Exp", "Neg"]
    assert "t_1" in made
    assert graph.main.producer("y") is not None


def test_a_buffer_of_all_parameters_is_split_to_the_weights() -> None:
    graph, record = _fold(
        """g (float[N,4] x) => (float[N,4] y) {
          p, q = Split <axis = 0> (flat, sizes)
          v = Reshape (p, s)  w = Reshape (q, s)  t = Transpose <perm = [1, 0]> (w)
          h = MatMul (x, v)  y = MatMul (h, t) }""",
        {
            "flat": np.arange(32, dtype=np.float32),
            "sizes": np.array([16, 16]),
            "s": np.array([4, 4]),
        },
    )
    assert _ops(graph) == ["MatMul", "MatMul"]
    assert sorted(graph.main.initializers) == ["t", "v"]
    np.testing.assert_array_equal(
        graph.read(graph.main.initializers["t"]), np.arange(16, 32).reshape(4, 4).T
    )
    told = [(edit.node, edit.what) for edit in record.changes]
    assert told == [
        ("Transpose(t)", "computed, with 2 nodes before it"),
        ("Reshape(v)", "computed, with 0 nodes before it"),
    ]


_PARTS = """p = Slice (flat, zero, some)  q = Slice (flat, some, most)
            v = Reshape (p, s)  w = Reshape (q, s)  h = MatMul (x, v)  y = MatMul (h, w)"""
_INDEXES = {
    "flat": np.arange(512, dtype=np.float32),
    "zero": np.array([0]),
    "some": np.array([256]),
    "most": np.array([512]),
    "s": np.array([16, 16]),
}


def test_a_buffer_that_stays_is_not_stored_twice() -> None:
    graph, _ = _fold(f"g (float[N,16] x) => (float[N,16] y) {{ {_PARTS} }}", {**_INDEXES})
    assert _ops(graph) == ["MatMul", "MatMul"]
    head = "g (float[N,16] x, float[512] r) => (float[N,16] y, float[512] z)"
    graph, record = _fold(f"{head} {{ {_PARTS} z = Add (flat, r) }}", {**_INDEXES})
    assert _ops(graph) == ["Slice", "Slice", "Reshape", "Reshape", "MatMul", "MatMul", "Add"]
    assert record.status == "nothing to do"
    assert all("would grow the file by " in skip.reason for skip in record.skipped)


def test_one_part_that_would_grow_does_not_keep_the_others() -> None:
    graph, record = _fold(
        f"""g (float[N,16] x, float[1000,16] u) => (float[N,16] y, float[1000,16] e) {{
          {_PARTS} m = Expand (r, t)  r = Slice (w, zero, one)  e = Add (m, u) }}""",
        {**_INDEXES, "one": np.array([1]), "t": np.array([1000, 16])},
    )
    assert _ops(graph) == ["MatMul", "MatMul", "Expand", "Add"]
    assert [skip.node for skip in record.skipped] == ["Expand(m)"]


def test_shapes_that_folding_fixes_are_folded_in_the_same_run() -> None:
    graph, _ = _fold(
        """g (float[2,6] x) => (int64[2] y) {
          a = Slice (sizes, zero, one)  b = Add (a, one)  c = Concat <axis = 0> (b, four)
          r = Reshape (x, c)  t = Tile (r, c)  s = Shape (t)  y = Add (s, s) }""",
        {
            "sizes": np.array([2, 7]),
            "zero": np.array([0]),
            "one": np.array([1]),
            "four": np.array([4]),
        },
    )
    assert _ops(graph) == []
    np.testing.assert_array_equal(graph.read(graph.main.initializers["y"]), [18, 32])


def test_nodes_of_known_value_that_nothing_reads_go_and_are_told() -> None:
    graph, record = _fold(
        "g (float[N] x) => (float[N] y) { t = Neg (A)  u = Abs (t)  y = Abs (x) }",
        {"A": np.arange(3, dtype=np.float32)},
    )
    assert _ops(graph) == ["Abs"]
    assert [edit.what for edit in record.changes] == ["removed: nothing needs what it computes"] * 2


def test_what_is_too_large_to_read_is_told() -> None:
    text = "g (float[N,8] x) => (float[N,8] y) { t = Transpose (A)  y = MatMul (x, t) }"
    model = model_from_text(f"{_HEAD} {text}", {"A": (8, 8)})
    graph, record = apply_pass(FoldConstants(max_bytes=100), model)
    assert _ops(graph) == ["Transpose", "MatMul"]
    assert [(skip.node, skip.reason) for skip in record.skipped] == [
        ("Transpose(t)", "not folded: it reads 256 bytes, max_bytes is less")
    ]
