"""The same answers in float32 as in floats of other widths; ports and other Casts as they were."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto

from graphopt.facts.shapes import infer
from graphopt.graph import check, io
from graphopt.graph.graph import Graph
from graphopt.numerics.floats import to_float32
from graphopt.rewrite.to_float32 import NotConverted, compute_in_float32
from graphopt.runtime.session import Session
from graphopt.testing import model_from_text

RNG = np.random.default_rng(3)
KINDS = {"float16": TensorProto.FLOAT16, "double": TensorProto.DOUBLE}
VALUES = {
    "w": RNG.normal(size=(8, 8)),
    "b": RNG.normal(size=(8,)),
}
BODIES = {
    "a layer": "m = MatMul(x, w) s = Add(m, b) y = Relu(s)",
    "an output that others read": "[a] z = MatMul(x, w) y = Relu(z)",
    "an input as output": "y = MatMul(x, w) z = Identity(x)",
    "a constant as output": "y = MatMul(x, w) z = Identity(w)",
    "a constant node": "c = Constant<value = KIND[8] {1, 2, 3, 4, 5, 6, 7, 8}> () y = Mul(x, c)",
    "other Casts": "f = Cast<to = 1>(x) e = Exp(f) h = Cast<to = NUMBER>(e) y = MatMul(h, w)",
    "an input cast to integers": """
        i = Cast<to = 7>(x) k = Cast<to = NUMBER>(i) y = MatMul(k, w)""",
    "a result cast to integers": "m = MatMul(x, w) z = Cast<to = 7>(m) y = Relu(m)",
    "a constant cast to integers": """
        v = Cast<to = 7>(w) k = Cast<to = NUMBER>(v) m = MatMul(x, w) y = Add(m, k)""",
    "a Cast at the end": "f = Cast<to = 1>(x) t = Tanh(f) y = Cast<to = NUMBER>(t)",
    "made constants": """
        s = Shape(x) o = ConstantOfShape<value = KIND[1] {2}> (s) e = EyeLike<dtype = NUMBER>(x)
        p = Add(o, e) q = CastLike(p, x) y = MatMul(q, w)""",
    "branches": """
        r = ReduceSum<keepdims = 0>(x) q = Cast<to = 1>(r) zero = Constant<value = float {0}> ()
        c = Greater(q, zero)
        y = If(c) <
            then_branch = t () => (KIND[8, 8] p) { p = MatMul(x, w) },
            else_branch = e () => (KIND[8, 8] n) {
                k = Constant<value = KIND[1] {3}> () n = Mul(w, k) } >""",
    "a loop": """
        count = Constant<value = int64 {3}> () go = Constant<value = bool {1}> ()
        y, all = Loop(count, go, x) <
            body = l (int64 at, bool on, KIND[8, 8] h)
                => (bool on2, KIND[8, 8] n, KIND[8, 8] seen) {
                on2 = Identity(on) m = MatMul(h, w) n = Tanh(m) seen = Identity(n) } >""",
    "a sequence": """
        m = MatMul(x, w) s = SequenceConstruct(m, x) one = Constant<value = int64 {1}> ()
        y = SequenceAt(s, one)""",
}


def graph_of(body: str, kind: str) -> Graph:
    """A graph of one body, with ``z`` as a second output where the body makes it."""
    typed = body.replace("KIND", kind).replace("NUMBER", str(int(KINDS[kind])))
    integers = ", int64[8, 8] z" if "z = Cast" in body else f", {kind}[8, 8] z"
    second = integers if "z = " in body else ""
    ports = f"({kind}[8, 8] x) => ({kind}[8, 8] y{second})"
    text = f'<ir_version: 10, opset_import: ["" : 19]> g {ports} {{ {typed} }}'
    dtype = onnx.helper.tensor_dtype_to_np_dtype(KINDS[kind])
    words = set(typed.replace("(", " ").replace(")", " ").replace(",", " ").split())
    return io.load(
        model_from_text(text, {n: v.astype(dtype) for n, v in VALUES.items() if n in words})
    )


def types(graph: Graph) -> dict[str, int]:
    """Type of each tensor that a node of the graph or its bodies makes."""
    made = {name for scope in graph.scopes() for node in scope.nodes for name in node.output}
    known = infer(graph)
    return {name: info.data_type for name in made if (info := known.get(name)) is not None}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("what", BODIES)
def test_answers_stay_and_nothing_between_keeps_the_type(what: str, kind: str) -> None:
    before = graph_of(BODIES[what], kind)
    after = before.copy()
    compute_in_float32(after, {KINDS[kind]}, infer(before))
    assert check.problems(after) == check.problems(before)
    x = RNG.normal(size=(8, 8)).astype(onnx.helper.tensor_dtype_to_np_dtype(KINDS[kind]))
    expected, found = (Session(each, threads=1).run({"x": x}) for each in (before, after))
    for name, values in expected.items():
        assert found[name].dtype == values.dtype
        room = 2e-2 if kind == "float16" else 1e-5
        np.testing.assert_allclose(
            found[name].astype(float), values.astype(float), rtol=room, atol=room
        )
    constants = {"k", "w", "c"}
    left = {name for name, one in types(after).items() if one == KINDS[kind]} - constants
    assert left <= set(after.main.outputs)
    ports = [(v.name, v.type) for v in (*before.main.proto.input, *before.main.proto.output)]
    assert ports == [(v.name, v.type) for v in (*after.main.proto.input, *after.main.proto.output)]


def test_half_floats_stay_in_the_file_and_doubles_do_not() -> None:
    for kind, factor in (("float16", 1.6), ("double", 0.75)):
        graph = graph_of(BODIES["a layer"], kind)
        before = io.size(graph)
        compute_in_float32(graph, {KINDS[kind]}, infer(graph))
        stored = graph.main.initializers["w"].data_type
        assert stored == (TensorProto.FLOAT16 if kind == "float16" else TensorProto.FLOAT)
        assert graph.main.initializers["b"].data_type == TensorProto.FLOAT
        assert io.size(graph) < factor * before


def test_casts_between_float32_and_what_becomes_float32_go() -> None:
    graph = graph_of(BODIES["other Casts"], "float16")
    compute_in_float32(graph, {TensorProto.FLOAT16}, infer(graph))
    assert [n.op_type for n in graph.main.nodes] == ["Cast", "Exp", "Cast", "MatMul", "Cast"]
    assert graph.main.nodes[1].input[0] == "f"  # the Cast of the input that was there


REFUSED = {
    "own.Filter": (
        "m = own.Filter(x) y = MatMul(m, w)",
        "'Filter.m.' .own:Filter. may take no float32",
    ),
    "sequence": (
        "m = MatMul(x, w) y = SequenceConstruct(m, x)",
        "'y' is no tensor but holds float16",
    ),
}


@pytest.mark.parametrize("what", REFUSED)
def test_what_takes_no_other_type_is_left_alone(what: str) -> None:
    body, reason = REFUSED[what]
    output = "seq(float16[8, 8]) y" if what == "sequence" else "float16[8, 8] y"
    text = f"""<ir_version: 10, opset_import: ["" : 19, "own" : 1]>
        g (float16[8, 8] x, float16[8, 8] w) => ({output}) {{ {body} }}"""
    graph = Graph(onnx.parser.parse_model(text))
    before = graph.to_model().SerializeToString(deterministic=True)
    with pytest.raises(NotConverted, match=reason):
        compute_in_float32(graph, {TensorProto.FLOAT16}, infer(graph))
    assert graph.to_model().SerializeToString(deterministic=True) == before


FUNCTION = """<ir_version: 10, opset_import: ["" : 19, "own" : 1]>
    g (float16[2, 2] x) => (float16[2, 2] y) { y = own.Twice(x) }
    <opset_import: ["" : VERSION], domain: "own">
    Twice (a) => (c) { two = Constant<value = float16[1] {2}> () b = Softmax(a) c = Mul(b, two) }"""


def test_a_function_with_such_a_constant_is_put_where_it_is_called() -> None:
    graph = Graph(onnx.parser.parse_model(FUNCTION.replace("VERSION", "19")))
    x = {"x": np.array([[1, -2], [3, -4]], np.float16)}
    before = Session(graph, threads=1).run(x)["y"]
    edits = compute_in_float32(graph, {TensorProto.FLOAT16}, infer(graph))
    assert edits[0] == ("model", "local functions put where they are called")
    np.testing.assert_array_equal(Session(graph, threads=1).run(x)["y"], before)
    assert TensorProto.FLOAT16 not in {types(graph)[name] for name in types(graph) if name != "y"}


def test_a_function_that_has_to_stay_is_refused() -> None:
    graph = Graph(onnx.parser.parse_model(FUNCTION.replace("VERSION", "12")))
    with pytest.raises(NotConverted, match="the local function own:Twice holds float16"):
        compute_in_float32(graph, {TensorProto.FLOAT16}, infer(graph))


@pytest.mark.parametrize(
    ("value", "near"),
    [(1e300, 3.4028235e38), (-1e300, -3.4028235e38), (1e-300, 1.1754944e-38), (0.0, 0.0)],
)
def test_doubles_beyond_float32_stay_finite_and_what_is_not_zero_stays_so(
    value: float, near: float
) -> None:
    assert to_float32(np.array([value]))[0] == np.float32(near)
    special: Any = to_float32(np.array([np.inf, -np.inf, np.nan, 0.1]))
    np.testing.assert_array_equal(special, np.array([np.inf, -np.inf, np.nan, 0.1], np.float32))
