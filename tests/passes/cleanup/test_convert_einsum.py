from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from graphopt.graph import io
from graphopt.graph.graph import Graph
from graphopt.passes.cleanup import ConvertEinsum
from graphopt.run.record import PassRecord
from graphopt.runtime.session import Session
from graphopt.testing import apply_pass, model_from_text

HEAD = '<ir_version: 8, opset_import: ["" : 17]>'
SIZES = dict(zip("abcdefgh", (2, 3, 4, 5, 3, 2, 4, 2), strict=True))


def einsum(equation: str, data: str, weight: tuple[int, ...], *, first: bool = False) -> Graph:
    """A model of one Einsum whose data is of this type."""
    operands = "W, x" if first else "x, W"
    text = f'g (float{data} x) => (float y) {{ y = Einsum <equation = "{equation}"> ({operands}) }}'
    return io.load(model_from_text(f"{HEAD} {text}", {"W": weight}))


def applied(graph: Graph) -> tuple[list[str], Graph, PassRecord]:
    after, record = apply_pass(ConvertEinsum(), graph.to_model())
    return [node.op_type for node in after.main.nodes], after, record


def answers(graph: Graph, x: np.ndarray) -> np.ndarray:
    answer: np.ndarray = Session(graph, threads=1).run({"x": x})["y"]
    return answer


EXPECTED = {
    ("bd,df->bf", "[N,4]", (4, 3)): ["MatMul"],
    ("db,df->bf", "[4,N]", (4, 3)): ["Transpose", "MatMul"],
    ("bd,df->fb", "[N,4]", (4, 3)): ["MatMul", "Transpose"],
    ("bd,fd->bf", "[N,4]", (3, 4)): ["MatMul"],
    ("...d,df->...f", "[N,S,4]", (4, 3)): ["MatMul"],
    ("bsd,dhk->bshk", "[N,S,4]", (4, 2, 3)): ["MatMul", "Reshape"],
    ("bsd,dhk->bhsk", "[N,S,4]", (4, 2, 3)): ["MatMul", "Reshape", "Transpose"],
    ("bshk,hkd->bsd", "[N,S,2,3]", (2, 3, 4)): ["Reshape", "MatMul"],
    ("bhsk,hkd->bsd", "[N,2,S,3]", (2, 3, 4)): ["Transpose", "Reshape", "MatMul"],
    ("bchw,oc->bohw", "[N,4,H,V]", (3, 4)): ["Conv"],
    ("bct,co->bot", "[N,4,T]", (4, 3)): ["Conv"],
    ("bhsd,hde->bhse", "[N,3,S,4]", (3, 4, 2)): ["MatMul"],
    ("d,df->f", "[4]", (4, 3)): ["MatMul"],
}


@pytest.mark.parametrize(("equation", "data", "weight"), EXPECTED)
def test_becomes_the_product_that_it_is(equation: str, data: str, weight: tuple[int, ...]) -> None:
    graph = einsum(equation, data, weight)
    ops, after, record = applied(graph)
    assert ops == EXPECTED[equation, data, weight]
    assert [edit.what.split(" written")[0] for edit in record.changes] == [f"Einsum {equation}"]
    shape = [int(part) if part.isdigit() else 5 for part in data.strip("[]").split(",")]
    x = np.random.default_rng(0).standard_normal(shape, np.float32)
    np.testing.assert_allclose(answers(after, x), answers(graph, x), rtol=1e-4, atol=1e-5)


STAYS = {
    ("bhd,hde->bhe", "[N,3,4]", (3, 4, 2)): "its weight is another one along h",
    ("bd,bd->bd", "[3,4]", (3, 4)): "it sums nothing up",
    ("bd,ed->b", "[N,4]", (3, 4)): "it sums up its weight alone",
    ("bd,df->bf", "[N,1]", (4, 3)): "an axis of one element is repeated",
    ("bd,df->bf", "[N,4]", (1, 3)): "an axis of one element is repeated",
    ("bd,d->b", "[N,4]", (4,)): "its constant operand is a vector",
}


@pytest.mark.parametrize(("equation", "data", "weight"), STAYS)
def test_what_is_no_product_stays_with_a_reason(
    equation: str, data: str, weight: tuple[int, ...]
) -> None:
    ops, _, record = applied(einsum(equation, data, weight))
    assert ops == ["Einsum"]
    assert STAYS[equation, data, weight] in record.skipped[0].reason


def test_computed_operands_and_listed_weights_are_named() -> None:
    text = """g (float[N,4] x, float[4,4] L) => (float y) {
      s = Einsum <equation = "bd,cd->bc"> (x, x)
      t = Einsum <equation = "bc,cd,de->be"> (s, s, W)
      u = Einsum <equation = "bd,fd->bf"> (t, L)
      y = Identity (u) }"""
    model = model_from_text(f"{HEAD} {text}", {"W": (4, 4), "L": (4, 4)})
    after, record = apply_pass(ConvertEinsum(), model)
    assert [node.op_type for node in after.main.nodes] == ["Einsum"] * 3 + ["Identity"]
    reasons = [skip.reason for skip in record.skipped]
    assert reasons[0] == "all its operands are computed, so there is no weight"
    assert reasons[1] == "it multiplies 3 operands (Einsum bc,cd,de->be)"
    assert "listed as an input" in reasons[2]


def test_weights_that_are_stored_small() -> None:
    text = """g (float[N,4] x) => (float[N,3] y, float[N,3] z, float[N,3] t) {
      h = Cast <to = 1> (Half)
      y = Einsum <equation = "bd,fd->bf"> (x, h)
      c = DequantizeLinear (Codes, s)
      z = Einsum <equation = "bd,df->bf"> (x, c)
      d = DequantizeLinear (Deep, s)
      t = Einsum <equation = "bd,def->bf"> (x, d) }"""
    rng = np.random.default_rng(0)
    weights: dict[str, Any] = {
        "Half": rng.standard_normal((3, 4)).astype(np.float16),
        "Codes": rng.integers(-9, 9, (4, 3)).astype(np.int8),
        "Deep": rng.integers(-9, 9, (4, 2, 3)).astype(np.int8),
        "s": np.array(0.1, np.float32),
    }
    model = model_from_text(f"{HEAD} {text}", weights)
    after, _ = apply_pass(ConvertEinsum(), model)
    made = [node.op_type for node in after.main.nodes]
    assert made == ["Cast", "MatMul", "DequantizeLinear", "MatMul", "DequantizeLinear", "Einsum"]
    half = after.main.initializers["Half"]
    assert (half.data_type, list(half.dims)) == (onnx.TensorProto.FLOAT16, [4, 3])


def test_a_shared_weight_is_turned_or_left() -> None:
    text = """g (float[N,4] x, int64[M] i) => (float y, float z, float t) {
      t = Gather (W, i)
      y = Einsum <equation = "bd,vd->bv"> (x, W)
      z = Einsum <equation = "bd,vde->bve"> (x, V) }"""
    model = model_from_text(f"{HEAD} {text}", {"W": (6, 4), "V": (2, 4, 3)})
    model.graph.output.append(onnx.helper.make_tensor_value_info("V", 1, [2, 4, 3]))
    after, record = apply_pass(ConvertEinsum(), model)
    made = [(node.op_type, list(node.input)) for node in after.main.nodes]
    assert made[1:3] == [("Transpose", ["W"]), ("MatMul", ["x", "W_transposed"])]
    assert made[3][0] == "Einsum"
    assert "is not stored as it is read" in record.skipped[0].reason


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_any_equation_keeps_its_meaning(data: st.DataObject) -> None:
    pool = list(data.draw(st.permutations("abcdefgh")))
    parts = [
        [pool.pop() for _ in range(data.draw(st.integers(low, high)))]
        for low, high in ((0, 2), (0, 1), (1, 2), (1, 2))
    ]
    rows, batch, summed, columns = parts
    draw = data.draw
    x, w, y = (
        "".join(draw(st.permutations(letters)))
        for letters in (rows + batch + summed, batch + summed + columns, rows + batch + columns)
    )
    first, free = draw(st.booleans()), draw(st.booleans())
    equation = f"{w},{x}->{y}" if first else f"{x},{w}->{y}"
    shape = ",".join(f"{c.upper()}x" if free and c in rows else str(SIZES[c]) for c in x)
    graph = einsum(equation, f"[{shape}]", tuple(SIZES[c] for c in w), first=first)
    ops, after, record = applied(graph)
    if not batch:
        assert "Einsum" not in ops, record.skipped
        assert ops.count("Transpose") <= 2
    weight = graph.read(graph.main.initializers["W"])
    values = np.random.default_rng(0).standard_normal([SIZES[c] for c in x], np.float32)
    expected = np.einsum(equation, *((weight, values) if first else (values, weight)))
    np.testing.assert_allclose(answers(after, values), expected, rtol=1e-4, atol=1e-4)
