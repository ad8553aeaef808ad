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
from graphopt.numerics import saturation, sqnr
from graphopt.passes.quantize import QuantizeDynamic
from graphopt.runtime.session import Session

ApplyPass = Callable[..., Any]
Floats = NDArray[np.float32]

RNG = np.random.default_rng(7)
X: Floats = RNG.normal(size=(3, 32)).astype(np.float32)
SQNR_DB = 30.0  # 8 bits give about 40 dB on normal data; a wrong scale or axis gives none


def filled(text: str, **values: NDArray[Any]) -> onnx.ModelProto:
    """A model from text, its initializers put in from arrays."""
    model = onnx.parser.parse_model(text)
    for name, array in values.items():
        model.graph.initializer.append(onnx.numpy_helper.from_array(array, name))
    return model


def weight(rows: int, columns: int) -> Floats:
    values = RNG.normal(size=(rows, columns)) * RNG.uniform(0.1, 10, size=columns)
    return values.astype(np.float32)


def operators(graph: Graph) -> Counter[str]:
    return Counter(node.op_type for scope in graph.scopes() for node in scope.nodes)


def close(before: onnx.ModelProto, after: Graph, feeds: dict[str, NDArray[Any]]) -> bool:
    expected, actual = Session(Graph(before)).run(feeds), Session(after).run(feeds)
    assert expected.keys() == actual.keys()
    values = [sqnr.sqnr_db(expected[name], actual[name]) for name in expected]
    return all(value is not None and value > SQNR_DB for value in values)


def kernels(graph: Graph) -> list[str]:
    """What onnxruntime runs for the layers."""
    found = audit(graph)
    return [entry.kernel for entry in (*found.integer, *found.float_)]


MATMUL = """
<ir_version: 8, opset_import: ["" : 17]>
agraph (float[n, 32] x) => (float[n, 48] y) { y = MatMul(x, w) }
"""


def test_matmul_becomes_the_form_that_onnxruntime_fuses(apply_pass: ApplyPass) -> None:
    model = filled(MATMUL, w=weight(32, 48))
    graph, record = apply_pass(model, QuantizeDynamic())
    assert operators(graph) == {
        "DynamicQuantizeLinear": 1, "MatMulInteger": 1, "Cast": 1, "Mul": 2,
    }  # fmt: skip
    assert {t.name for t in graph.main.initializers.values()} == {"w_quantized", "w_scale"}
    assert graph.main.initializers["w_quantized"].data_type == onnx.TensorProto.INT8
    assert list(graph.main.initializers["w_scale"].dims) == [48]
    assert [edit.node for edit in record.changes] == ["MatMul(y)"]
    assert close(model, graph, {"x": X})
    assert kernels(graph) == ["DynamicQuantizeMatMul"]


def test_layers_that_read_one_tensor_share_its_quantization(apply_pass: ApplyPass) -> None:
    model = filled(
        """
        <ir_version: 8, opset_import: ["" : 17]>
        agraph (float[n, 32] x) => (float[n, 48] q, float[n, 64] k) {
            q = MatMul(x, a)
            k = MatMul(x, b)
        }
        """,
        a=weight(32, 48),
        b=weight(32, 64),
    )
    graph, _ = apply_pass(model, QuantizeDynamic())
    assert operators(graph)["DynamicQuantizeLinear"] == 1
    assert close(model, graph, {"x": X})
    assert kernels(graph) == ["MatMulIntegerToFloat"] * 2


@pytest.mark.parametrize("trans_b", [0, 1])
@pytest.mark.parametrize(("alpha", "beta"), [(1.0, 1.0), (-0.5, 3.0)])
@pytest.mark.parametrize("bias", [True, False])
def test_gemm(apply_pass: ApplyPass, trans_b: int, alpha: float, beta: float, bias: bool) -> None:
    text = f"""
        <ir_version: 8, opset_import: ["" : 17]>
        agraph (float[n, 32] x) => (float[n, 48] y) {{
            y = Gemm<transB={trans_b}, alpha={alpha}, beta={beta}>(x, w{", b" if bias else ""})
        }}
        """
    values = {"w": weight(32, 48).T.copy() if trans_b else weight(32, 48)}
    if bias:
        values["b"] = RNG.normal(size=48).astype(np.float32)
    model = filled(text, **values)
    graph, _ = apply_pass(model, QuantizeDynamic())
    assert operators(graph)["MatMulInteger"] == 1
    assert not {"w", "b" if beta != 1 else ""} & set(graph.main.initializers)
    assert list(graph.main.initializers["w_quantized"].dims) == [32, 48]
    assert close(model, graph, {"x": X})


def test_gemm_with_a_computed_bias_and_beta(apply_pass: ApplyPass) -> None:
    model = filled(
        """
        <ir_version: 8, opset_import: ["" : 17]>
        agraph (float[n, 32] x, float[48] c) => (float[n, 48] y) { y = Gemm<beta=2.0>(x, w, c) }
        """,
        w=weight(32, 48),
    )
    graph, _ = apply_pass(model, QuantizeDynamic())
    assert close(model, graph, {"x": X, "c": np.arange(48, dtype=np.float32)})


def test_the_integer_node_inherits_name_and_metadata(apply_pass: ApplyPass) -> None:
    model = filled(MATMUL, w=weight(32, 48))
    node = model.graph.node[0]
    node.name, node.doc_string = "/dense", "of the head"
    node.metadata_props.add(key="scope", value="head")
    graph, _ = apply_pass(model, QuantizeDynamic())
    (made,) = (node for node in graph.main.nodes if node.op_type == "MatMulInteger")
    assert (made.name, made.doc_string) == ("/dense", "of the head")
    assert made.metadata_props[0].value == "head"


TIED = """
<ir_version: 8, opset_import: ["" : 17]>
agraph (int64[n] ids) => (float[n, 96] y) {
    x = Gather(table, ids)
    t = Transpose<perm=[1, 0]>(table)
    y = MatMul(x, t)
}
"""


def test_an_output_layer_tied_to_an_embedding_is_stored_once(apply_pass: ApplyPass) -> None:
    model = filled(TIED, table=weight(32, 96).T.copy())
    graph, _ = apply_pass(model, QuantizeDynamic())
    large = [t.name for t in graph.main.initializers.values() if np.prod(t.dims) > 96]
    assert large == ["table_quantized"]
    ids = np.array([0, 5, 95, 5])
    assert close(model, graph, {"ids": ids})
    assert kernels(graph) == ["DynamicQuantizeMatMul"]


def test_a_weight_of_several_layers_is_stored_once(apply_pass: ApplyPass) -> None:
    model = filled(
        """
        <ir_version: 8, opset_import: ["" : 17]>
        agraph (float[n, 32] x) => (float[n, 32] y) {
            h = MatMul(x, w)
            y = MatMul(h, w)
        }
        """,
        w=weight(32, 32),
    )
    graph, record = apply_pass(model, QuantizeDynamic())
    assert len(record.changes) == 2
    assert set(graph.main.initializers) == {"w_quantized", "w_scale"}
    assert close(model, graph, {"x": X})


def test_inside_a_body_with_the_weight_outside(apply_pass: ApplyPass) -> None:
    model = filled(
        """
        <ir_version: 8, opset_import: ["" : 17]>
        agraph (float[n, 32] x, bool c) => (float[n, 48] y) {
            y = If (c) <
                then_branch = g1 () => (float[n, 48] a) { a = MatMul(x, w) },
                else_branch = g2 () => (float[n, 48] b) { h = Relu(x) b = MatMul(h, w) }
            >
        }
        """,
        w=weight(32, 48),
    )
    graph, record = apply_pass(model, QuantizeDynamic())
    assert len(record.changes) == 2
    assert set(graph.main.initializers) == {"w_quantized", "w_scale"}
    for condition in (True, False):
        assert close(model, graph, {"x": X, "c": np.array(condition)})


def test_options_per_channel_and_weights(apply_pass: ApplyPass) -> None:
    model = filled(MATMUL, w=weight(32, 48))
    graph, _ = apply_pass(model, QuantizeDynamic(per_channel=False))
    assert list(graph.main.initializers["w_scale"].dims) == []
    graph, _ = apply_pass(model, QuantizeDynamic(weights="uint8"))
    assert graph.main.initializers["w_quantized"].data_type == onnx.TensorProto.UINT8
    assert close(model, graph, {"x": X})
    assert kernels(graph) == ["DynamicQuantizeMatMul"]


def test_ranges_may_clip(apply_pass: ApplyPass) -> None:
    model = filled(MATMUL.replace("32", "4096"), w=RNG.normal(size=(4096, 48)).astype(np.float32))
    largest = stored(apply_pass(model, QuantizeDynamic(ranges="max"))[0], "w_scale")
    clipped = stored(apply_pass(model, QuantizeDynamic(ranges="mse"))[0], "w_scale")
    assert (clipped <= largest).all()
    assert (clipped < largest).any()


def stored(graph: Graph, name: str) -> NDArray[Any]:
    return graph.read(graph.main.initializers[name])


def test_no_pair_can_overflow_where_the_target_saturates(apply_pass: ApplyPass) -> None:
    model = filled(MATMUL, w=weight(32, 48))
    exact = stored(apply_pass(model, QuantizeDynamic())[0], "w_quantized")
    assert saturation.unsafe_channels(exact).any()
    graph, record = apply_pass(model, QuantizeDynamic(), target="x86-avx2")
    assert not saturation.unsafe_channels(stored(graph, "w_quantized")).any()
    assert "raised against saturation" in record.changes[0].what
    assert close(model, graph, {"x": X})
    graph, _ = apply_pass(model, QuantizeDynamic(per_channel=False), target="x86-avx2")
    assert not saturation.unsafe_channels(stored(graph, "w_quantized")).any()


REFUSED = {
    "both operands are computed": ("y = MatMul(x, x)", None),
    "left operand": ("y = MatMul(w, x)", weight(32, 32)),
    "rank 3": ("y = MatMul(x, w)", weight(32, 96).reshape(3, 32, 32)),
    "double, not float": ("z = Cast<to=11>(x) y = MatMul(z, w)", weight(32, 32).astype(float)),
    "transA": ("y = Gemm<transA=1>(x, w)", weight(32, 40)),
    "NaN": ("y = MatMul(x, w)", np.full((32, 32), np.nan, np.float32)),
    "fewer than min_size=1024 elements": ("y = MatMul(x, w)", weight(32, 8)),
}


@pytest.mark.parametrize("reason", REFUSED)
def test_what_stays_float_says_why(apply_pass: ApplyPass, reason: str) -> None:
    body, values = REFUSED[reason]
    output = "double" if "Cast" in body else "float"
    shape = {"rank 3": "3, a, b"}.get(reason, "a, b")
    text = f"""
        <ir_version: 8, opset_import: ["" : 17]>
        agraph (float[32, 32] x) => ({output}[{shape}] y) {{ {body} }}
        """
    model = filled(text) if values is None else filled(text, w=values)
    graph, record = apply_pass(model, QuantizeDynamic())
    assert record.status == "nothing to do"
    assert [reason in skip.reason for skip in record.skipped] == [True]
    assert "MatMulInteger" not in operators(graph)


def test_a_weight_that_the_caller_may_replace_stays(apply_pass: ApplyPass) -> None:
    model = filled(MATMUL, w=weight(32, 48))
    model.graph.input.append(onnx.helper.make_tensor_value_info("w", 1, [32, 48]))
    _, record = apply_pass(model, QuantizeDynamic())
    assert "freeze-initializers" in record.skipped[0].reason


def test_patterns_choose(apply_pass: ApplyPass) -> None:
    model = filled(MATMUL, w=weight(32, 48))
    _, record = apply_pass(model, QuantizeDynamic(exclude=("Mat*",)))
    assert "exclude" in record.skipped[0].reason
    _, record = apply_pass(model, QuantizeDynamic(nodes=("head",)))
    assert record.status == "nothing to do"
    assert "no node of this name or type is left" in record.skipped[-1].reason


def test_an_old_opset_is_refused(apply_pass: ApplyPass) -> None:
    model = filled(MATMUL.replace('"" : 17', '"" : 10'), w=weight(32, 48))
    with pytest.raises(PassError, match="upgrade-opset"):
        apply_pass(model, QuantizeDynamic())


def test_a_second_time_there_is_nothing_to_do(apply_pass: ApplyPass) -> None:
    model = filled(MATMUL, w=weight(32, 48))
    graph, _ = apply_pass(model, QuantizeDynamic())
    _, record = apply_pass(graph.to_model(), QuantizeDynamic())
    assert record.status == "nothing to do"


def test_a_bias_of_zeros_is_not_added(apply_pass: ApplyPass) -> None:
    text = """<ir_version: 8, opset_import: ["" : 17]>
        g (float[n, 32] x) => (float[n, 48] y) { y = Gemm(x, w, b) }"""
    model = filled(text, w=weight(32, 48), b=np.zeros(48, np.float32))
    graph, _ = apply_pass(model, QuantizeDynamic())
    assert "Add" not in operators(graph)
    assert "b" not in graph.main.initializers
    assert close(model, graph, {"x": X})
