from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray

from graphopt.analysis.audit import audit
from graphopt.errors import PassError
from graphopt.graph.graph import Graph
from graphopt.numerics import sqnr
from graphopt.passes.quantize import QuantizeWeights
from graphopt.runtime.session import Session

ApplyPass = Callable[..., Any]

RNG = np.random.default_rng(3)
SQNR_DB = 38.0  # int8 by channel gives 40 dB and more; a wrong scale or axis gives none


def filled(text: str, **values: NDArray[Any]) -> onnx.ModelProto:
    """A model from text, its initializers put in from arrays."""
    model = onnx.parser.parse_model(text)
    for name, array in values.items():
        model.graph.initializer.append(onnx.numpy_helper.from_array(array, name))
    return model


def spread(*shape: int) -> NDArray[np.float32]:
    """Values whose size differs from row to row."""
    sizes = RNG.uniform(0.01, 10, size=(shape[0],) + (1,) * (len(shape) - 1))
    return (RNG.normal(size=shape) * sizes).astype(np.float32)


def operators(graph: Graph) -> Counter[str]:
    return Counter(node.op_type for scope in graph.scopes() for node in scope.nodes)


def agree(before: onnx.ModelProto, after: Graph, feeds: dict[str, NDArray[Any]]) -> bool:
    expected, actual = Session(Graph(before)).run(feeds), Session(after).run(feeds)
    values = [sqnr.sqnr_db(expected[name], actual[name]) for name in expected]
    return all(value is not None and value > SQNR_DB for value in values)


LOOKUP = """
<ir_version: 8, opset_import: ["" : 17]>
agraph (int64[a, b] ids) => (float[a, b, 16] y) { y = Gather(table, ids) }
"""
IDS = np.array([[0, 99, 5], [7, 7, -1]])


def test_only_the_rows_looked_up_are_dequantized(apply_pass: ApplyPass) -> None:
    model = filled(LOOKUP, table=spread(100, 16))
    graph, record = apply_pass(model, QuantizeWeights())
    assert operators(graph) == {"Gather": 2, "Cast": 1, "Mul": 1}
    shapes = {t.name: list(t.dims) for t in graph.main.initializers.values()}
    assert shapes == {"table_quantized": [100, 16], "table_scale": [100, 1]}
    assert record.changes[0].what == "table stored as int8, 100 scales along axis 0"
    assert agree(model, graph, {"ids": IDS})
    for row in range(100):  # small rows are as exact as large ones
        assert agree(model, graph, {"ids": np.array([[row]])})


def test_several_lookups_share_one_table(apply_pass: ApplyPass) -> None:
    text = LOOKUP.replace("y = Gather(table, ids)", "p = Gather(table, ids) q = Gather(table, k)")
    text = text.replace("=> (float[a, b, 16] y)", "=> (float[a, b, 16] p, float[2, 16] q)")
    model = filled(text, table=spread(100, 16), k=np.array([3, 4]))
    graph, record = apply_pass(model, QuantizeWeights())
    assert set(graph.main.initializers) == {"table_quantized", "table_scale", "k"}
    assert len(record.changes) == 1
    assert agree(model, graph, {"ids": IDS})


LAYERS = {
    "conv": ("y = Conv(x, w)", (1, 8, 9, 9), (32, 8, 3, 3), [32, 1, 1, 1]),
    "deconv": ("y = ConvTranspose(x, w)", (1, 8, 9, 9), (8, 32, 3, 3), [1, 32, 1, 1]),
    "matmul": ("y = MatMul(x, w)", (4, 64), (64, 48), [1, 48]),
    "left": ("y = MatMul(w, x)", (64, 4), (48, 64), [48, 1]),
    "gemm": ("y = Gemm<transB=1>(x, w)", (4, 64), (48, 64), [48, 1]),
    "left of a gemm": ("y = Gemm<transA=1>(w, x)", (64, 4), (64, 48), [1, 48]),
    "turned": ("t = Transpose(w) y = MatMul(x, t)", (4, 64), (48, 64), [48, 1]),
}


@pytest.mark.parametrize("layer", LAYERS)
def test_layers_read_floats_that_onnxruntime_folds(apply_pass: ApplyPass, layer: str) -> None:
    body, shape, weight_shape, scale_shape = LAYERS[layer]
    text = f"""
        <ir_version: 8, opset_import: ["" : 17]>
        agraph (float[{", ".join(map(str, shape))}] x) => (float[{"?, " * (len(shape) - 1)}?] y)
        {{ {body} }}
        """.replace("?", "n")
    model = filled(text, w=spread(*weight_shape))
    graph, record = apply_pass(model, QuantizeWeights())
    assert list(graph.main.initializers["w_scale"].dims) == scale_shape
    assert "w" not in graph.main.initializers
    assert record.bytes < Graph(model).weight_bytes / 3
    assert agree(model, graph, {"x": RNG.normal(size=shape).astype(np.float32)})
    (entry,) = audit(graph).float_
    assert entry.kernel in ("Conv", "ConvTranspose", "FusedConv", "MatMul", "Gemm")


def test_gates_of_an_lstm_have_their_own_scales(apply_pass: ApplyPass) -> None:
    model = filled(
        """
        <ir_version: 8, opset_import: ["" : 17]>
        agraph (float[5, 1, 16] x) => (float[5, 2, 1, 24] y) {
            y = LSTM<hidden_size=24, direction="bidirectional">(x, w, r)
        }
        """,
        w=RNG.normal(size=(2, 96, 16)).astype(np.float32),
        r=RNG.normal(size=(2, 96, 24)).astype(np.float32),
    )
    graph, _ = apply_pass(model, QuantizeWeights())
    assert list(graph.main.initializers["r_scale"].dims) == [2, 96, 1]
    assert set(graph.main.initializers) == {"w_quantized", "w_scale", "r_quantized", "r_scale"}
    session = Session(graph).run({"x": RNG.normal(size=(5, 1, 16)).astype(np.float32)})
    assert np.isfinite(session["y"]).all()


TIED = """
<ir_version: 8, opset_import: ["" : 17]>
agraph (int64[n] ids) => (float[n, 96] y) {
    x = Gather(table, ids)
    t = Transpose<perm=[1, 0]>(table)
    y = MatMul(x, t)
}
"""


def test_a_table_that_a_layer_reads_too_is_stored_once(apply_pass: ApplyPass) -> None:
    model = filled(TIED, table=spread(96, 32))
    graph, record = apply_pass(model, QuantizeWeights())
    assert set(graph.main.initializers) == {"table_quantized", "table_scale"}
    assert record.changes[0].node == "Gather(x), MatMul(y)"
    assert agree(model, graph, {"ids": np.array([0, 95])})


def test_weights_in_constant_nodes_and_outside_of_bodies(apply_pass: ApplyPass) -> None:
    model = onnx.parser.parse_model(
        """
        <ir_version: 8, opset_import: ["" : 17]>
        agraph (float[n, 32] x, bool c) => (float[n, 48] y) {
            w = Constant()
            y = If (c) <
                then_branch = g1 () => (float[n, 48] a) { a = MatMul(x, w) },
                else_branch = g2 () => (float[n, 48] b) { h = Relu(x) b = MatMul(h, w) }
            >
        }
        """
    )
    value = onnx.numpy_helper.from_array(RNG.normal(size=(32, 48)).astype(np.float32))
    model.graph.node[0].attribute.append(onnx.helper.make_attribute("value", value))
    graph, record = apply_pass(model, QuantizeWeights())
    assert len(record.changes) == 1
    assert "Constant" not in operators(graph)
    x = RNG.normal(size=(3, 32)).astype(np.float32)
    for condition in (True, False):
        assert agree(model, graph, {"x": x, "c": np.array(condition)})


def test_which_keeps_to_embeddings(apply_pass: ApplyPass) -> None:
    model = filled(
        """
        <ir_version: 8, opset_import: ["" : 17]>
        agraph (int64[n] ids) => (float[n, 48] y) {
            x = Gather(table, ids)
            y = MatMul(x, w)
        }
        """,
        table=spread(100, 32),
        w=spread(32, 48),
    )
    graph, record = apply_pass(model, QuantizeWeights(which="embeddings"))
    assert set(graph.main.initializers) == {"table_quantized", "table_scale", "w"}
    assert [skip.node for skip in record.skipped] == ["MatMul(y)"]


def test_mse_is_no_worse(apply_pass: ApplyPass) -> None:
    table = spread(100, 256)
    model = filled(LOOKUP.replace("16", "256"), table=table)
    errors = []
    for item in (QuantizeWeights(ranges="max"), QuantizeWeights(ranges="mse")):
        graph, _ = apply_pass(model, item)
        result = Session(graph).run({"ids": np.arange(100)[None]})["y"][0]
        errors.append(np.square(result - table).sum())
    assert errors[1] < errors[0]


@pytest.mark.parametrize(
    ("shape", "reason"),
    [((100, 4), "fewer than min_size=1024 elements"), ((2000, 2), "hardly anything to gain")],
)
def test_what_stays_float_says_why(
    apply_pass: ApplyPass, shape: tuple[int, int], reason: str
) -> None:
    model = filled(LOOKUP.replace("16", str(shape[1])), table=spread(*shape))
    _, record = apply_pass(model, QuantizeWeights())
    assert record.status == "nothing to do"
    assert reason in record.skipped[0].reason


def test_shared_with_the_outside_stays(apply_pass: ApplyPass) -> None:
    model = filled(LOOKUP, table=spread(100, 16))
    model.graph.output.append(onnx.helper.make_tensor_value_info("table", 1, [100, 16]))
    _, record = apply_pass(model, QuantizeWeights())
    assert "also an output" in record.skipped[0].reason
    del model.graph.output[1]
    model.graph.input.append(onnx.helper.make_tensor_value_info("table", 1, [100, 16]))
    _, record = apply_pass(model, QuantizeWeights())
    assert "freeze-initializers" in record.skipped[0].reason
    model.graph.input.pop()
    model.graph.initializer[0].CopyFrom(
        onnx.numpy_helper.from_array(np.full((100, 16), np.inf, np.float32), "table")
    )
    _, record = apply_pass(model, QuantizeWeights())
    assert "NaN or infinity" in record.skipped[0].reason


def test_patterns_choose(apply_pass: ApplyPass) -> None:
    model = filled(LOOKUP, table=spread(100, 16))
    _, record = apply_pass(model, QuantizeWeights(exclude=("Gather",)))
    assert "exclude" in record.skipped[0].reason


def test_an_old_opset_is_refused(apply_pass: ApplyPass) -> None:
    model = filled(LOOKUP.replace('"" : 17', '"" : 6'), table=spread(100, 16))
    with pytest.raises(PassError, match="upgrade-opset"):
        apply_pass(model, QuantizeWeights())


def test_a_second_time_there_is_nothing_to_do(apply_pass: ApplyPass) -> None:
    graph, _ = apply_pass(filled(LOOKUP, table=spread(100, 16)), QuantizeWeights())
    _, record = apply_pass(graph.to_model(), QuantizeWeights())
    assert record.status == "nothing to do"


def test_four_bits(apply_pass: ApplyPass) -> None:
    text = """<ir_version: 10, opset_import: ["" : 21]>
    g (float[a, 32] x) => (float[a, 64] y) { y = MatMul(x, w) }"""
    model = filled(text, w=spread(32, 64))
    graph, record = apply_pass(model, QuantizeWeights(weight_type="int4"))
    codes = graph.read(graph.main.initializers["w_quantized"])
    assert str(codes.dtype) == "int4"
    assert (codes.min(), codes.max()) == (-8, 7)
    assert record.changes[0].what == "w stored as int4, 64 scales along axis 1, in float16"
    feeds = {"x": RNG.normal(size=(8, 32)).astype(np.float32)}
    scale = graph.read(graph.main.initializers["w_scale"])
    expected = feeds["x"] @ (codes.astype(np.float32) * scale)
    np.testing.assert_allclose(Session(graph).run(feeds)["y"], expected, rtol=1e-4, atol=1e-4)


def test_where_no_rows_of_four_bits_are_looked_up_they_get_eight(apply_pass: ApplyPass) -> None:
    model = filled(LOOKUP.replace("17", "21").replace("8,", "10,"), table=spread(100, 16))
    graph, record = apply_pass(model, QuantizeWeights(weight_type="int4"), target="generic")
    told = "table stored as int8, 100 scales along axis 0"
    assert record.changes[0].what == f"{told}; onnxruntime looks up no such rows of 4 bits"
    assert agree(model, graph, {"ids": IDS})


def test_four_bits_want_opset_21(apply_pass: ApplyPass) -> None:
    with pytest.raises(PassError, match=r"put upgrade-opset\{opset=21\} before"):
        apply_pass(filled(LOOKUP, table=spread(100, 16)), QuantizeWeights(weight_type="int4"))


@pytest.mark.parametrize(
    ("body", "shape", "axis"),
    [
        ("y = Slice(table, zero, n, zero)", (100, 16), 0),
        ("y = Slice(table, zero, n, one)", (1, 100, 16), 1),
        ("y = Slice(table, zero, n, back)", (4, 16, 100), 2),
        ("y = Gather <axis = 1> (table, n)", (16, 100), 1),
        ("y = Gather <axis = -1> (table, n)", (16, 100), 1),
    ],
)
def test_entries_of_tables_are_dequantized_where_they_are_picked(
    apply_pass: ApplyPass, body: str, shape: tuple[int, ...], axis: int
) -> None:
    out = ", ".join("abc"[: len(shape)])
    model = filled(
        f"""<ir_version: 8, opset_import: ["" : 17]>
        g (int64[1] n) => (float[{out}] y) {{ {body} }}""",
        table=RNG.normal(size=shape).astype(np.float32),
        zero=np.array([0]),
        one=np.array([1]),
        back=np.array([-1]),
    )
    graph, record = apply_pass(model, QuantizeWeights(which="embeddings"))
    assert record.changes[0].what == f"table stored as int8, 100 scales along axis {axis}"
    picking = body.split("= ")[1].split("(", maxsplit=1)[0].split(" ", maxsplit=1)[0]
    assert operators(graph) == {picking: 2, "Cast": 1, "Mul": 1}
    assert agree(model, graph, {"n": np.array([37])})


@pytest.mark.parametrize("axes", [np.array([0, 1]), None])
def test_a_slice_along_other_axes_reads_floats(
    apply_pass: ApplyPass, axes: NDArray[np.int64] | None
) -> None:
    body = "y = Slice(table, zeros, n, axes)" if axes is not None else "y = Slice(table, zeros, n)"
    constants = {} if axes is None else {"axes": axes}
    model = filled(
        f"""<ir_version: 8, opset_import: ["" : 17]>
        g (int64[2] n) => (float[a, b] y) {{ {body} }}""",
        table=spread(100, 16),
        zeros=np.array([0, 0]),
        **constants,
    )
    _, record = apply_pass(model, QuantizeWeights())
    assert not record.changes


def test_a_tied_table_has_the_scales_that_its_look_up_asks_for(apply_pass: ApplyPass) -> None:
    """Whoever comes first; the product reads what is expanded at load."""
    model = filled(
        """<ir_version: 8, opset_import: ["" : 17]>
        g (float[n, 100] x, int64[n] i) => (float[n, 16] y, float[n, 16] e) {
          y = MatMul(x, table) e = Gather(table, i)
        }""",
        table=spread(100, 16),
    )
    graph, record = apply_pass(model, QuantizeWeights())
    assert record.changes[0].what == "table stored as int8, 100 scales along axis 0"
    assert operators(graph) == {"Gather": 2, "Cast": 2, "Mul": 2, "MatMul": 1}
    feeds = {"x": RNG.normal(size=(2, 100)).astype(np.float32), "i": np.array([5, 99])}
    assert agree(model, graph, feeds)
