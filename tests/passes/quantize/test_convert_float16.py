from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto

from graphopt.errors import PassError
from graphopt.graph.graph import Graph
from graphopt.numerics.sqnr import sqnr_db
from graphopt.passes.quantize import ConvertFloat16
from graphopt.runtime.session import Session
from graphopt.testing import model_from_text

ApplyPass = Callable[..., Any]

RNG = np.random.default_rng(5)
DATA = {"x": RNG.normal(size=(24, 16)).astype(np.float32)}


def small(
    body: str,
    outputs: str = "float[n,16] y",
    opset: int = 17,
    inputs: str = "float[n,16] x",
    **constants: Any,
) -> onnx.ModelProto:
    parts = {"w": (16, 16), "v": (16, 16), **constants}
    return model_from_text(
        f"""<ir_version: 8, opset_import: ["" : {opset}]>
        g ({inputs}) => ({outputs}) {{ {body} }}""",
        {name: value for name, value in parts.items() if name in body.replace("(", " ( ")},
    )


def operators(graph: Graph) -> Counter[str]:
    return Counter(node.op_type for scope in graph.scopes() for node in scope.nodes)


def kinds(graph: Graph) -> dict[str, int]:
    return {name: int(tensor.data_type) for name, tensor in graph.main.initializers.items()}


def answers(model: Graph | onnx.ModelProto, data: dict[str, Any]) -> dict[str, Any]:
    return Session(Graph(model) if isinstance(model, onnx.ModelProto) else model).run(data)


def level(expected: Any, found: Any) -> float:
    value = sqnr_db(expected, found)
    assert value is not None
    return value


def skips(record: Any) -> dict[str, str]:
    return {item.node: item.reason for item in record.skipped}


def test_a_chain_has_one_cast_at_each_end(apply_pass: ApplyPass) -> None:
    model = small("h = MatMul(x, w)  r = Relu(h)  s = Add(r, h)  y = MatMul(s, v)")
    graph, record = apply_pass(model, ConvertFloat16(), calibration=DATA)
    assert operators(graph) == {"Cast": 2, "MatMul": 2, "Relu": 1, "Add": 1}
    assert set(kinds(graph).values()) == {TensorProto.FLOAT16}
    expected, found = answers(model, DATA)["y"], answers(graph, DATA)["y"]
    assert found.dtype == np.float32
    assert level(expected, found) > 55
    (told,) = [item.what for item in record.changes if item.node == "model"]
    assert told.startswith("every tensor rounded to float16 leaves ")
    assert 50 < float(told.split()[-5]) < 75


def test_inputs_and_outputs_change_with_the_rest_if_asked(apply_pass: ApplyPass) -> None:
    model = small("h = MatMul(x, w)  y = Relu(h)")
    graph, _ = apply_pass(model, ConvertFloat16(io="convert"), calibration=DATA)
    ports = (*graph.main.proto.input, *graph.main.proto.output)
    assert [value.type.tensor_type.elem_type for value in ports] == [TensorProto.FLOAT16] * 2
    assert operators(graph) == {"MatMul": 1, "Relu": 1}
    found = answers(graph, {"x": DATA["x"].astype(np.float16)})["y"]
    assert found.dtype == np.float16
    assert level(answers(model, DATA)["y"], found.astype(np.float32)) > 55


def test_what_overflows_on_the_samples_stays(apply_pass: ApplyPass) -> None:
    model = small(
        "h = MatMul(x, w)  b = Mul(h, large)  l = Mul(b, small)  y = MatMul(l, v)",
        large=np.array(3e4, np.float32),
        small=np.array(1e-3, np.float32),
    )
    graph, record = apply_pass(model, ConvertFloat16(), calibration=DATA)
    reasons = skips(record)
    assert "ends at 65504" in reasons["Mul(b)"]
    assert "ends at 65504" in reasons["Mul(l)"]
    assert operators(graph)["Cast"] == 4  # in, out, and around what stays
    assert kinds(graph)["large"] == TensorProto.FLOAT
    assert kinds(graph)["w"] == TensorProto.FLOAT16
    assert level(answers(model, DATA)["y"], answers(graph, DATA)["y"]) > 55


def test_the_margin_says_how_near_is_too_near(apply_pass: ApplyPass) -> None:
    model = small("h = MatMul(x, w)  b = Mul(h, large)  y = MatMul(b, v)",
                  large=np.array(1.0, np.float32))  # fmt: skip
    peak = float(np.abs(answers(small("y = MatMul(x, w)"), DATA)["y"]).max())
    scale = np.array(30000 / peak, np.float32)
    model.graph.initializer.remove(
        next(each for each in model.graph.initializer if each.name == "large")
    )
    model.graph.initializer.append(onnx.numpy_helper.from_array(scale, "large"))
    for margin, stays in ((2.0, False), (4.0, True)):
        _, record = apply_pass(model, ConvertFloat16(margin=margin), calibration=DATA)
        assert ("Mul(b)" in skips(record)) is stays


def test_small_values_that_are_lost_stay(apply_pass: ApplyPass) -> None:
    model = small(
        "h = MatMul(x, w)  t = Mul(h, tiny)  u = Div(t, tinier)  y = MatMul(u, v)",
        tiny=np.array(1e-4, np.float32),
        tinier=np.array(1e-7, np.float32),
    )
    graph, record = apply_pass(model, ConvertFloat16(), calibration=DATA)
    assert skips(record)["Div(u)"] == "constant 'tinier': values as small as 1e-07 would be lost"
    assert level(answers(model, DATA)["y"], answers(graph, DATA)["y"]) > 40


@pytest.mark.parametrize(
    ("body", "node"),
    [
        ("h = MatMul(x, w)  a = Mul(h, k)  y = Sin(a)", "Sin(y)"),
        ("h = MatMul(x, w)  a = Mul(h, d)  b = Mul(a, a)  c = Sqrt(b)  y = Mul(c, k)", "Sqrt(c)"),
        ("h = MatMul(x, w)  b = Add(h, k)  y = Sub(b, k)", "Sub(y)"),
    ],
)
def test_what_rounding_ruins_stays(apply_pass: ApplyPass, body: str, node: str) -> None:
    model = small(body, k=np.array(2000.0, np.float32), d=np.array(2e-4, np.float32))
    graph, record = apply_pass(model, ConvertFloat16(), calibration=DATA)
    assert "rounding to float16 would leave" in skips(record)[node]
    assert level(answers(model, DATA)["y"], answers(graph, DATA)["y"]) > 25


def test_what_becomes_integers_is_computed_in_float32(apply_pass: ApplyPass) -> None:
    model = small(
        "a = Mul(x, k)  b = Add(a, one)  i = Cast<to=7>(b)  h = MatMul(a, w)  y = MatMul(h, v)",
        outputs="float[n,16] y, int64[n,16] i",
        k=np.array(0.5, np.float32),
        one=np.array(1.0, np.float32),
    )
    data = {"x": RNG.integers(0, 9000, size=(24, 16)).astype(np.float32)}
    graph, record = apply_pass(model, ConvertFloat16(), calibration=data)
    assert "in 'Cast(i)', which comes of it" in skips(record)["Add(b)"]
    assert "Mul(a)" in skips(record)
    np.testing.assert_array_equal(answers(graph, data)["i"], answers(model, data)["i"])


def test_a_mask_does_not_keep_attention_in_float32(apply_pass: ApplyPass) -> None:
    model = small(
        "h = MatMul(x, w)  m = Where(seen, zero, low)  s = Add(h, m)  p = Softmax(s)"
        "  y = MatMul(p, v)",
        inputs="float[n,16] x, bool[n,16] seen",
        zero=np.array(0, np.float32),
        low=np.array(np.finfo(np.float32).min),
    )
    data = {**DATA, "seen": RNG.random((24, 16)) < 0.7}
    graph, record = apply_pass(model, ConvertFloat16(), calibration=data)
    assert not skips(record)
    assert operators(graph) == {"Cast": 3, "MatMul": 2, "Where": 1, "Add": 1, "Softmax": 1}
    assert level(answers(model, data)["y"], answers(graph, data)["y"]) > 55


def test_without_samples_weights_alone_are_stored_so(apply_pass: ApplyPass) -> None:
    model = small("h = MatMul(x, w)  y = MatMul(h, tiny)", tiny=np.full((16, 16), 1e-8, np.float32))
    graph, record = apply_pass(model, ConvertFloat16())
    assert kinds(graph)["w"] == TensorProto.FLOAT16
    assert kinds(graph)["tiny"] == TensorProto.FLOAT
    assert operators(graph) == {"Cast": 1, "MatMul": 2}
    assert "calibration samples tell what" in skips(record)["model"]
    assert skips(record)["tiny"] == "values as small as 1e-08 would be lost"


def test_all_is_converted_unchecked(apply_pass: ApplyPass) -> None:
    model = small(
        "h = MatMul(x, w)  b = Mul(h, large)  y = Relu(b)", large=np.array(6e4, np.float32)
    )
    graph, _ = apply_pass(model, ConvertFloat16(activations="unchecked"))
    assert operators(graph) == {"Cast": 2, "MatMul": 1, "Mul": 1, "Relu": 1}


def test_constants_are_never_cast(apply_pass: ApplyPass) -> None:
    """What floats read as well is stored twice where it is small, and else cast once."""
    model = small(
        "h = MatMul(x, w)  b = Add(h, one)  c = Mul(b, k)  s = Sin(c)  u = Mul(s, one)"
        "  y = MatMul(u, v)",
        one=np.array(1.0, np.float32),
        k=np.array(4000.0, np.float32),
    )
    graph, _ = apply_pass(model, ConvertFloat16(), calibration=DATA)
    casts = [node for node in graph.main.nodes if node.op_type == "Cast"]
    assert not any(graph.main.constant(node.input[0]) for node in casts)


def test_bodies_stay_unless_unchecked(apply_pass: ApplyPass) -> None:
    text = """<ir_version: 8, opset_import: ["" : 17]>
    g (float[n,16] x, bool c) => (float[n,16] y) {
        h = MatMul(x, w)
        y = If(c) <
            then_branch = a () => (float[n,16] p) { r = MatMul(h, w)  p = Relu(r) },
            else_branch = b () => (float[n,16] q) { q = Identity(h) }
        >
    }"""
    model = model_from_text(text, {"w": (16, 16)})
    data = {**DATA, "c": np.array(True)}
    graph, _ = apply_pass(model, ConvertFloat16(activations="unchecked"))
    assert kinds(graph)["w"] == TensorProto.FLOAT16
    body = next(scope for scope in graph.scopes() if scope.path and "then" not in scope.path)
    assert body.proto.output[0].type.tensor_type.elem_type == TensorProto.FLOAT
    assert level(answers(model, data)["y"], answers(graph, data)["y"]) > 50


def test_halves_behind_casts_are_read_directly(apply_pass: ApplyPass) -> None:
    """What ``activations=float32`` left is taken further."""
    model = small("h = MatMul(x, w)  y = MatMul(h, v)")
    stored, _ = apply_pass(model, ConvertFloat16(activations="float32"))
    assert operators(stored) == {"Cast": 2, "MatMul": 2}
    graph, _ = apply_pass(stored.to_model(), ConvertFloat16(), calibration=DATA)
    assert operators(graph) == {"Cast": 2, "MatMul": 2}
    assert set(kinds(graph).values()) == {TensorProto.FLOAT16}


def test_a_table_that_is_the_last_layer_as_well_is_read_as_it_is_stored(
    apply_pass: ApplyPass,
) -> None:
    model = small(
        "e = Gather(w, x)  t = Transpose(w)  y = MatMul(e, t)", inputs="int64[n] x", w=(64, 16),
        outputs="float[n,64] y",
    )  # fmt: skip
    ids = {"x": np.arange(24)}
    graph, _ = apply_pass(model, ConvertFloat16(), calibration=ids)
    assert operators(graph) == {"Gather": 1, "Transpose": 1, "MatMul": 1, "Cast": 1}
    graph, _ = apply_pass(model, ConvertFloat16(activations="float32"))
    (turn,) = [node for node in graph.main.nodes if node.op_type == "Transpose"]
    assert list(turn.input) == ["w"]
    assert kinds(graph) == {"w": TensorProto.FLOAT16}


def test_nothing_to_do_without_a_layer(apply_pass: ApplyPass) -> None:
    graph, record = apply_pass(small("y = Sin(x)"), ConvertFloat16(), calibration=DATA)
    assert record.status == "nothing to do"
    assert skips(record) == {"Sin(y)": "no layer hangs together with it"}
    assert operators(graph) == {"Sin": 1}


def test_old_opsets_are_refused(apply_pass: ApplyPass) -> None:
    with pytest.raises(PassError, match=r"put upgrade-opset.* before convert-float16"):
        apply_pass(small("y = MatMul(x, w)", opset=9), ConvertFloat16())
