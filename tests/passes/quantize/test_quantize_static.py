"""The QDQ graph, what onnxruntime makes of it, and the numbers that come out."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray

from graphopt.analysis.audit import audit
from graphopt.errors import PassError, UsageError
from graphopt.facts.operators import LINEAR
from graphopt.graph.graph import Graph
from graphopt.numerics import grids, ranges, saturation, sqnr
from graphopt.passes.quantize import QuantizeStatic
from graphopt.run.record import PassRecord
from graphopt.runtime.options import Level
from graphopt.runtime.session import Session
from graphopt.testing import model_from_text

ApplyPass = Callable[..., tuple[Graph, PassRecord]]
Floats = NDArray[np.float32]
Quantize = Callable[..., tuple[Graph, PassRecord]]

SQNR_DB = 28.0  # 8 bits give 35 dB and more through three layers; a wrong grid gives far less
LEVELS: tuple[Level, ...] = ("off", "all")
IMAGE = "(float[N, 3, 8, 8] x) => (float[N, 4, 8, 8] y)"
ROWS = "(float[N, 16] x) => (float[N, 8] y)"
SAME = {"w": (8, 3, 1, 1), "b": (8,), "v": (8, 8, 1, 1), "u": (4, 8, 1, 1)}


def samples(ports: str, count: int = 16) -> dict[str, Floats]:
    """Normal values for the input ``x`` of these ports."""
    shape = [int(size) for size in ports[: ports.index("]")].split(", ")[1:]]
    return {"x": np.random.default_rng(5).normal(size=(count, *shape)).astype(np.float32)}


def model_of(body: str, ports: str = IMAGE, opset: int = 13, **weights: Any) -> onnx.ModelProto:
    text = f'<ir_version: 8, opset_import: ["" : {opset}]> g {ports} {{ {body} }}'
    named = set(re.findall(r"\w+", body))
    constants = {**SAME, **weights}
    return model_from_text(text, {name: constants[name] for name in constants if name in named})


@pytest.fixture
def quantize(apply_pass: ApplyPass) -> Quantize:
    """``quantize(body, ports, item=..., **weights)``: the QDQ graph and the record."""

    def run(
        body: str,
        ports: str = IMAGE,
        item: QuantizeStatic | None = None,
        target: str = "x86-avx2",
        **weights: Any,
    ) -> tuple[Graph, PassRecord]:
        model = model_of(body, ports, **weights)
        made = apply_pass(
            model, item or QuantizeStatic(), target=target, calibration=samples(ports)
        )
        # What was made for kernels that saturate is exact on every machine, so that it can be run.
        assert close(model, made[0], ports, LEVELS if target == "x86-avx2" else LEVELS[:1])
        return made

    return run


def close(
    model: onnx.ModelProto, graph: Graph, ports: str, levels: tuple[Level, ...] = LEVELS
) -> bool:
    """Same outputs of the same type and shape, whatever onnxruntime optimizes."""
    feeds = {name: values[:4] for name, values in samples(ports).items()}
    expected = Session(Graph(model)).run(feeds)
    for level in levels:
        actual = Session(graph, level=level).run(feeds)
        assert list(actual) == list(expected)
        for name, right in expected.items():
            assert (actual[name].dtype, actual[name].shape) == (right.dtype, right.shape)
            found = sqnr.sqnr_db(right, actual[name])
            assert found is not None
            assert found > SQNR_DB, level
    return True


def operators(graph: Graph) -> Counter[str]:
    return Counter(node.op_type for scope in graph.scopes() for node in scope.nodes)


def running(graph: Graph, folder: Path) -> Counter[str]:
    """The operators that onnxruntime really runs."""
    path = folder / "optimized.onnx"
    Session(graph, level="extended", optimized=path)
    return Counter(node.op_type for node in onnx.load(path).graph.node)


def constant(graph: Graph, name: str) -> NDArray[Any]:
    return graph.read(graph.main.initializers[name])


CHAIN = "c = Conv(x, w, b) r = Relu(c) [mid] d = Conv(r, v) y = Conv(d, u)"


def test_the_form_of_the_graph(quantize: Quantize) -> None:
    graph, record = quantize(CHAIN, target="x86-vnni")
    assert operators(graph) == {
        "Conv": 3, "Relu": 1, "QuantizeLinear": 4, "DequantizeLinear": 8,
    }  # fmt: skip
    order = [node.op_type for node in graph.main.nodes if node.op_type != "DequantizeLinear"]
    assert order == [
        "QuantizeLinear", "Conv", "Relu", "QuantizeLinear", "Conv", "QuantizeLinear", "Conv",
        "QuantizeLinear",
    ]  # fmt: skip
    for tensor in ("x", "r", "d", "y_float"):
        assert constant(graph, f"{tensor}_scale").shape == ()
        assert constant(graph, f"{tensor}_zero_point").dtype == np.uint8
    assert constant(graph, "r_zero_point") == 0  # so that onnxruntime drops the Relu
    assert constant(graph, "w_quantized").dtype == np.int8
    assert constant(graph, "b_quantized").dtype == np.int32
    assert {edit.node: edit.what for edit in record.changes} == dict.fromkeys(
        ("Conv(c)", "mid", "Conv(y)"), "int8 weight, uint8 activation"
    )
    assert record.skipped == []


INTEGER: dict[str, tuple[str, str, dict[str, Any], dict[str, int]]] = {
    "chain": (CHAIN, IMAGE, {}, {"QLinearConv": 3}),
    "ReLU6": (
        "c = Conv(x, w, b) r = Clip(c, zero, six) y = Conv(r, u)",
        IMAGE,
        {"zero": np.zeros(1, np.float32), "six": np.full(1, 6, np.float32)},
        {"QLinearConv": 2},
    ),
    "split": (
        "c = Conv(x, w, b) p, q = Split<axis: int = 1>(c) r = Conv(p, k) "
        "s = Concat<axis: int = 1>(r, q) y = Conv(s, u)",
        IMAGE,
        {"k": (4, 4, 1, 1)},
        {"QLinearConv": 3, "QLinearConcat": 1, "Split": 1, "DequantizeLinear": 1},
    ),
    "low clip": (
        "c = Conv(x, w, b) r = Clip(c, zero, top) y = Conv(r, u)",
        IMAGE,
        {"zero": np.float32(0), "top": np.float32(0.3)},
        {"QLinearConv": 2},
    ),
    "residual": (
        "c = Conv(x, w, b) r = Relu(c) d = Conv(r, v) s = Add(r, d) t = Relu(s) y = Conv(t, u)",
        IMAGE,
        {},
        {"QLinearConv": 3, "QLinearAdd": 1},
    ),
    "concat": (
        "c = Conv(x, w, b) d = Conv(c, v) k = Concat<axis = 1>(c, d) y = Conv(k, wide)",
        IMAGE,
        {"wide": (4, 16, 1, 1)},
        {"QLinearConv": 3, "QLinearConcat": 1},
    ),
    "pools": (
        "c = Conv(x, w, b) m = MaxPool<kernel_shape = [3, 3], pads = [1, 1, 1, 1]>(c)"
        " a = AveragePool<kernel_shape = [3, 3], pads = [1, 1, 1, 1]>(m) y = Conv(a, u)",
        IMAGE,
        {},
        {"QLinearConv": 2, "MaxPool": 1, "QLinearAveragePool": 1},
    ),
    "SiLU": (
        "c = Conv(x, w, b) s = Sigmoid(c) m = Mul(c, s) y = Conv(m, u)",
        IMAGE,
        {},
        {"QLinearConv": 2, "QLinearSigmoid": 1, "QLinearMul": 1},
    ),
    "squeeze and excite": (
        "c = Conv(x, w, b) g = GlobalAveragePool(c) d = Conv(g, v) s = Sigmoid(d) m = Mul(c, s)"
        " y = Conv(m, u)",
        IMAGE,
        {},
        {"QLinearConv": 3, "QLinearGlobalAveragePool": 1, "QLinearSigmoid": 1, "QLinearMul": 1},
    ),
    "movers": (
        "c = Conv(x, w, b) t = Transpose<perm = [0, 1, 3, 2]>(c) l = LeakyRelu(t)"
        ' q = Reshape(l, shape) z = Resize<mode = "nearest">(q, , scales) y = Conv(z, u)',
        IMAGE.replace("8, 8] y", "16, 16] y"),
        {"shape": np.array([0, 8, 8, 8]), "scales": np.array([1, 1, 2, 2], np.float32)},
        {"QLinearConv": 2, "Transpose": 1, "QLinearLeakyRelu": 1, "Reshape": 1, "Resize": 1},
    ),
    "depthwise": (
        "c = Conv(x, w, b) r = Relu(c) d = Conv<group = 8, pads = [1, 1, 1, 1]>(r, dw)"
        " y = Conv(d, u)",
        IMAGE,
        {"dw": (8, 1, 3, 3)},
        {"QLinearConv": 3},
    ),
    "grouped": (
        "c = Conv(x, k) r = Relu(c) y = Conv<group = 2>(r, gw)",
        IMAGE,
        {"k": (16, 3, 1, 1), "gw": (4, 8, 1, 1)},
        {"QLinearConv": 2},
    ),
    "activation in front of a float operator": (
        "a = MatMul(x, p) r = Relu(a) e = Exp(r) f = MatMul(e, s) t = Clip(f, low, high)"
        " h = Exp(t) g = Gemm(h, q) y = Relu(g)",
        ROWS,
        {
            "p": (16, 8),
            "s": (8, 8),
            "q": (8, 8),
            "low": np.float32(-1),
            "high": np.float32(1),
        },
        {},
    ),
    "mlp": (
        "a = Gemm<transB = 1>(x, p, b) r = Relu(a) y = Gemm(r, q)",
        ROWS,
        {"p": (8, 16), "q": (8, 8)},
        {"QGemm": 2},
    ),
    "matmuls": (
        "m = MatMul(x, p) a = Add(m, b) r = Relu(a) y = MatMul(r, q)",
        ROWS,
        {"p": (16, 8), "q": (8, 8)},
        {},
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", INTEGER)
def test_onnxruntime_runs_it_on_integers(quantize: Quantize, tmp_path: Path, name: str) -> None:
    body, ports, weights, expected = INTEGER[name]
    graph, _ = quantize(body, ports, **weights)
    found = audit(graph)
    assert [entry.node for entry in found.float_ if entry.op_type in LINEAR] == []
    if expected:
        around = {"QuantizeLinear": 1} | ({} if name == "mlp" else {"DequantizeLinear": 1})
        assert running(graph, tmp_path) == expected | around


def test_a_head_gives_floats_without_rounding(quantize: Quantize, tmp_path: Path) -> None:
    graph, _ = quantize(
        "c = Conv(x, w, b) r = Relu(c) p = GlobalAveragePool(r) f = Flatten(p) y = Gemm(f, g, h)",
        "(float[N, 3, 8, 8] x) => (float[N, 10] y)",
        g=(8, 10),
        h=(10,),
    )
    assert running(graph, tmp_path) == {
        "QuantizeLinear": 1, "QLinearConv": 1, "QLinearGlobalAveragePool": 1, "Flatten": 1,
        "QGemm": 1,
    }  # fmt: skip


def reference(graph: Graph, x: Floats) -> Floats:
    """``CHAIN`` as its QDQ graph defines it, in float64."""

    def at(name: str) -> Any:
        return constant(graph, name)

    def rounded(values: NDArray[Any], tensor: str) -> NDArray[np.float64]:
        scale, zero = np.float64(at(f"{tensor}_scale")), int(at(f"{tensor}_zero_point"))
        codes = np.clip(np.rint(values / scale) + zero, 0, 255)
        return np.asarray((codes - zero) * scale)

    def weight(name: str) -> NDArray[np.float64]:
        return np.asarray(at(f"{name}_quantized")[..., 0, 0] * at(f"{name}_scale")[:, None], float)

    bias = at("b_quantized") * np.float64(at("b_scale"))
    h = np.einsum("nchw,oc->nohw", rounded(x, "x"), weight("w")) + bias[:, None, None]
    h = rounded(np.maximum(h, 0), "r")
    h = rounded(np.einsum("nchw,oc->nohw", h, weight("v")), "d")
    h = rounded(np.einsum("nchw,oc->nohw", h, weight("u")), "y_float")
    return h.astype(np.float32)


@pytest.mark.parametrize("level", LEVELS)
def test_numbers_are_those_of_the_definition(quantize: Quantize, level: Level) -> None:
    graph, _ = quantize(CHAIN)
    x = samples(IMAGE)["x"][:4]
    actual = Session(graph, level=level).run({"x": x})["y"]
    step = float(constant(graph, "y_float_scale"))
    error = np.abs(actual - reference(graph, x)) / step
    assert (error > 0.01).mean() < 0.02  # a code falls on the other side of a half
    assert error.max() < 3


GUARDED = {
    "Conv": ("d = Conv(r, v)", IMAGE, {}, {"Conv", "FusedConv"}),
    "Conv behind a pool": (
        "m = MaxPool<kernel_shape = [1, 1]>(r) d = Conv(m, v)",
        IMAGE,
        {},
        {"Conv", "FusedConv"},
    ),
    "Conv behind movers": (
        "m = Transpose<perm = [0, 1, 3, 2]>(r) i = Identity(m) d = Conv(i, v)",
        IMAGE,
        {},
        {"Conv", "FusedConv"},
    ),
    "ConvTranspose": ("d = ConvTranspose(r, v)", IMAGE, {}, {"ConvTranspose"}),
    "Gemm": (
        "d = Gemm(r, v)", ROWS, {"w": (16, 8), "v": (8, 8), "u": (8, 8)}, {"Gemm", "FusedGemm"},
    ),
    "Gemm transB": (
        "d = Gemm<transB = 1>(r, v)",
        ROWS,
        {"w": (16, 8), "v": (8, 8), "u": (8, 8)},
        {"Gemm", "FusedGemm"},
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", GUARDED)
def test_a_float_layer_between_integer_ones_stays_float(quantize: Quantize, name: str) -> None:
    layer, ports, weights, kernels = GUARDED[name]
    kind = "Gemm" if ports == ROWS else "Conv"
    # An integer layer reads r and another one d, so that both are quantized.
    body = (
        f"c = {kind}(x, w, b) r = Relu(c) {layer} e = {kind}(r, u) f = {kind}(d, u) y = Add(e, f)"
    )
    body = body.replace("d = ", "[mid] d = ")
    graph, record = quantize(body, ports, QuantizeStatic(exclude=("mid",)), **weights)
    skips = {skip.node: skip.reason for skip in record.skipped}
    if name != "ConvTranspose":
        assert skips == {"mid": "kept float by the options nodes and exclude"}
    found = {entry.node: entry for entry in audit(graph).float_}
    assert found["mid"].kernel in kernels
    assert "rounds" not in found["mid"].reason
    assert "dequantized at every run" not in found["mid"].reason
    x = {"x": samples(ports)["x"][:4]}
    plain = Session(graph, level="off", outputs=["d"]).run(x)["d"]
    fused = Session(graph, outputs=["d", "y"]).run(x)["d"]
    np.testing.assert_allclose(fused, plain, rtol=1e-4, atol=1e-4)
    off, on = (Session(graph, level=level).run(x)["y"] for level in LEVELS)
    step = off.max() / 100
    assert (np.abs(on - off) > step).mean() < 0.02


def test_a_guard_on_a_transposed_operand_lies_along_its_channels(quantize: Quantize) -> None:
    ports = "(float[4, 16] x) => (float[8, 8] y)"
    body = "a = Gemm(x, w) r = Relu(a) e = Gemm<transA = 1>(r, n) f = Gemm(r, k) g = Gemm(e, k)"
    graph, record = quantize(
        f"{body} h = Transpose<perm = [1, 0]>(f) i = Gemm(h, n) y = Add(g, i)",
        ports,
        w=(16, 8),
        k=(8, 8),
        n=(4, 8),
    )
    assert [skip.reason for skip in record.skipped] == [
        "transA is set, only plain left operands are supported"
    ]
    axes = [
        (constant(graph, node.input[1]).size, attribute.i)
        for node in graph.main.nodes
        for attribute in node.attribute
        if node.op_type == "DequantizeLinear" and node.output[0].endswith("per_channel")
    ]
    assert axes == [(4, 0)]


def test_two_float_layers_share_one_guard(quantize: Quantize) -> None:
    body = "c = Conv(x, w, b) r = Relu(c) [p] d = Conv(r, v) [q] e = Conv(r, v) a = Add(d, e)"
    graph, _ = quantize(
        f"{body} s = Add(a, r) f = Conv(r, v) t = Add(s, f) y = Conv(t, u)",
        item=QuantizeStatic(exclude=("p", "q")),
    )
    guards = [node for node in graph.main.nodes if node.output[0].endswith("_per_channel")]
    assert len(guards) == 1
    assert len(graph.main.uses(guards[0].output[0])) == 2


def test_outputs_keep_name_type_and_readers(quantize: Quantize, tmp_path: Path) -> None:
    body = "c = Conv(x, w, b) r = Relu(c) d = Conv(r, v) z = Sigmoid(r) y = Conv(d, u)"
    ports = (
        "(float[N, 3, 8, 8] x) => (float[N, 4, 8, 8] y, float[N, 8, 8, 8] r, float[N, 8, 8, 8] z)"
    )
    model = model_of(body, ports)
    graph, _ = quantize(body, ports)
    assert [v.name for v in graph.main.proto.output] == ["y", "r", "z"]
    assert list(graph.main.proto.output) == list(model.graph.output)
    relu = next(node for node in graph.main.nodes if node.op_type == "Relu")
    assert (relu.name, list(relu.output)) == ("Relu(r)", ["r_float"])  # called as before
    assert running(graph, tmp_path)["QLinearConv"] == 3
    assert running(graph, tmp_path)["Conv"] == 0


def test_a_float_reader_sees_what_the_integer_kernel_made(quantize: Quantize) -> None:
    ports = "(float[N, 3, 8, 8] x) => (float[N, 4, 8, 8] y, float[N, 8, 8, 8] z)"
    graph, _ = quantize("c = Conv(x, w, b) z = Tanh(c) y = Conv(c, u)", ports)
    tanh = next(node for node in graph.main.nodes if node.op_type == "Tanh")
    assert list(tanh.input) == ["c_dequantized"]
    graph, _ = quantize("h = Tanh(x) z = Neg(h) y = Conv(h, w2)", ports.replace(
        "float[N, 8, 8, 8] z", "float[N, 3, 8, 8] z"), w2=(4, 3, 1, 1))  # fmt: skip
    neg = next(node for node in graph.main.nodes if node.op_type == "Neg")
    assert list(neg.input) == ["h"]  # a float tensor is rounded for integer readers only


def test_weights_are_found_wherever_the_file_keeps_them(quantize: Quantize) -> None:
    values = ", ".join(str(0.1 * i) for i in range(-12, 12))
    body = (
        f"k = Constant<value = float[8, 3, 1, 1] {{{values}}}>() c = Conv(x, k)"
        " i = Identity(u) y = Conv(c, i)"
    )
    graph, record = quantize(body)
    assert [edit.node for edit in record.changes] == ["Conv(c)", "Conv(y)"]
    assert operators(graph)["Constant"] == 0


def test_a_shared_weight_is_quantized_for_each_layer(quantize: Quantize, tmp_path: Path) -> None:
    graph, _ = quantize("c = Conv(x, w, b) d = Conv(c, v) e = Conv(d, v) y = Conv(e, u)")
    assert "v" not in graph.main.initializers
    assert running(graph, tmp_path)["QLinearConv"] == 4


@pytest.mark.parametrize("per_channel", [True, False])
@pytest.mark.parametrize("groups", [1, 2])
def test_no_pair_can_overflow_where_the_target_saturates(
    quantize: Quantize, per_channel: bool, groups: int
) -> None:
    wide = np.random.default_rng(1).uniform(-1, 1, (8, 16 // groups, 1, 1)).astype(np.float32)
    body = f"c = Conv(x, k) d = Conv<group = {groups}>(c, wide) y = Conv(d, u)"
    item = QuantizeStatic(per_channel=per_channel)

    def unsafe(target: str) -> bool:
        graph, record = quantize(body, item=item, target=target, k=(16, 3, 1, 1), wide=wide)
        said = "raised against saturation" in record.changes[1].what
        assert said is (target == "x86-avx2")
        matrix = saturation.conv_matrix(constant(graph, "wide_quantized"))
        return bool(saturation.unsafe_channels(matrix).any())

    assert unsafe("x86-vnni")
    assert not unsafe("x86-avx2")


def test_option_per_channel(quantize: Quantize) -> None:
    graph, _ = quantize(CHAIN, item=QuantizeStatic(per_channel=False))
    assert constant(graph, "w_scale").shape == ()
    assert constant(graph, "b_scale").shape == ()
    graph, _ = quantize(CHAIN)
    assert constant(graph, "w_scale").shape == (8,)


def test_option_weight_ranges(quantize: Quantize) -> None:
    wide = np.random.default_rng(1).normal(size=(8, 3, 21, 21)).astype(np.float32)
    ports = "(float[N, 3, 24, 24] x) => (float[N, 4, 4, 4] y)"
    scales = [
        constant(
            quantize(
                "c = Conv(x, wide) y = Conv(c, u)",
                ports,
                item=QuantizeStatic(weight_ranges=method),
                target="x86-vnni",
                wide=wide,
            )[0],
            "wide_scale",
        )
        for method in ("max", "mse")
    ]
    assert (scales[1] < scales[0]).any()
    assert (scales[1] <= scales[0]).all()


def test_option_ranges(quantize: Quantize) -> None:
    x = samples(IMAGE)["x"]
    scales: dict[str, float] = {}
    for item in (
        QuantizeStatic(ranges="minmax"),
        QuantizeStatic(ranges="mse"),
        QuantizeStatic(ranges="entropy"),
        QuantizeStatic(ranges="percentile"),
        QuantizeStatic(ranges="percentile", percentile=100),
    ):
        graph, _ = quantize(CHAIN, item=item)
        name = f"{item.ranges} {item.percentile:g}"
        scales[name] = float(constant(graph, "x_scale"))
    whole, zero = grids.affine(float(x.min()), float(x.max()), 0, 255)
    assert scales.pop("minmax 99.99") == whole == pytest.approx(scales.pop("percentile 100"))
    assert all(0.5 * whole < scale < whole for scale in scales.values()), scales
    assert 0 < zero < 255


def test_options_nodes_and_exclude(quantize: Quantize) -> None:
    _, record = quantize(CHAIN, item=QuantizeStatic(nodes=("mid",)))
    assert [edit.node for edit in record.changes] == ["mid"]
    assert {skip.node for skip in record.skipped} == {"Conv(c)", "Conv(y)"}
    _, record = quantize(CHAIN, item=QuantizeStatic(exclude=("Conv(?)",)))
    assert [edit.node for edit in record.changes] == ["mid"]
    _, record = quantize(CHAIN, item=QuantizeStatic(exclude=("midd",)))
    assert record.skipped[-1].node == "midd"


def test_nothing_to_do(apply_pass: ApplyPass) -> None:
    ports = "(float[N, 3, 8, 8] x) => (float[N, 3, 8, 8] y)"
    model = model_of("y = Tanh(x)", ports)
    graph, record = apply_pass(model, QuantizeStatic(), calibration=samples(ports))
    assert (record.status, record.skipped) == ("nothing to do", [])
    assert operators(graph) == {"Tanh": 1}


def test_layers_in_bodies_are_left_with_a_reason(apply_pass: ApplyPass) -> None:
    ports = "(float[N, 16] x, bool flag) => (float[N, 8] y)"
    model = model_of(
        """[choice] h = If (flag) <
            then_branch = t () => (float[N, 8] a) { [inside] a = MatMul(x, p) },
            else_branch = e () => (float[N, 8] d) { d = Gemm(x, p) }
        >
        y = MatMul(h, q)""",
        ports,
        p=(16, 8),
        q=(8, 8),
    )
    calibration = samples("(float[N, 16] x)") | {"flag": np.zeros((), bool)}
    graph, record = apply_pass(model, QuantizeStatic(), calibration=calibration)
    assert [edit.node for edit in record.changes] == ["MatMul(y)"]
    assert {skip.node: skip.reason for skip in record.skipped} == dict.fromkeys(
        ("inside", "Gemm(d)"), "inside the body of choice; its tensors cannot be calibrated"
    )
    assert "p" in graph.main.initializers


@pytest.mark.parametrize("between", ["t = Transpose(p)", "t = Identity(q)"])
def test_what_stands_between_a_weight_and_its_layer_goes(quantize: Quantize, between: str) -> None:
    ports = "(float[N, 16] x) => (float[N, 8] y)"
    shape = (8, 16) if "Transpose" in between else (16, 8)
    graph, record = quantize(f"{between} y = MatMul(x, t)", ports, **{between[-2]: shape})
    assert record.skipped == []
    assert [node.op_type for node in graph.main.nodes][-1] == "MatMul"
    assert not {"Transpose", "Identity"} & {node.op_type for node in graph.main.nodes}
    assert {between[-2], "t"}.isdisjoint(graph.main.initializers)
    (codes,) = (t for t in graph.main.initializers.values() if len(t.dims) == 2)
    assert (list(codes.dims), codes.data_type) == ([16, 8], onnx.TensorProto.INT8)
    assert [entry.op_type for entry in audit(graph).integer] == ["MatMul"]


def test_a_weight_tied_to_a_table_stays_for_the_table_and_that_is_said(
    apply_pass: ApplyPass,
) -> None:
    text = """<ir_version: 8, opset_import: ["" : 17]>
    agraph (int64[n] ids) => (float[n, 96] y) {
        x = Gather(table, ids) h = Relu(x) t = Transpose(table) y = MatMul(h, t) }"""
    table = np.random.default_rng(2).normal(size=(96, 32)).astype(np.float32)
    model = model_from_text(text, {"table": table})
    ids = {"ids": np.arange(8)}
    graph, record = apply_pass(model, QuantizeStatic(), calibration=ids)
    (edit,) = [item for item in record.changes if item.node == "MatMul(y)"]
    assert edit.what.endswith("; the float weight stays beside it, for Gather(x)")
    sizes = {name: list(t.dims) for name, t in graph.main.initializers.items()}
    assert (sizes["table"], sizes["table_quantized"]) == ([96, 32], [32, 96])


def test_every_refusal_is_recorded(apply_pass: ApplyPass) -> None:
    ports = "(float[N, 16] x) => (float[N, 8] y)"
    body = "h = MatMul(x, p) s = Mul(x, x) [bad] z = MatMul(s, n) y = Add(h, z)"
    model = model_of(body, ports, p=(16, 8), n=np.full((16, 8), np.inf, np.float32))
    _, record = apply_pass(model, QuantizeStatic(), calibration=samples(ports))
    assert [(s.node, s.reason) for s in record.skipped] == [
        ("bad", "the weight holds NaN or infinity")
    ]


def test_a_listed_weight_is_left_to_freeze_initializers(apply_pass: ApplyPass) -> None:
    model = model_of("c = Conv(x, w) y = Conv(c, u)")
    model.graph.input.append(onnx.helper.make_tensor_value_info("w", 1, [8, 3, 1, 1]))
    graph, record = apply_pass(model, QuantizeStatic(), calibration=samples(IMAGE))
    assert "freeze-initializers" in record.skipped[0].reason
    assert [value.name for value in graph.main.proto.input] == ["x", "w"]


def test_an_old_opset_is_refused(apply_pass: ApplyPass) -> None:
    model = model_of(CHAIN, opset=12)
    with pytest.raises(PassError, match=r"opset 12 .* put upgrade-opset before .*needs 13"):
        apply_pass(model, QuantizeStatic(), calibration=samples(IMAGE))


def test_a_quantized_model_is_refused(quantize: Quantize, apply_pass: ApplyPass) -> None:
    graph, _ = quantize(CHAIN)
    with pytest.raises(PassError, match=r"quantized already \(x_quantized and"):
        apply_pass(graph.to_model(), QuantizeStatic(), calibration=samples(IMAGE))


def test_without_samples_it_is_refused(apply_pass: ApplyPass) -> None:
    with pytest.raises(PassError, match=r"^quantize-static needs calibration samples$"):
        apply_pass(model_of(CHAIN), QuantizeStatic())


def test_a_model_that_answers_zero_to_everything(apply_pass: ApplyPass) -> None:
    zero: dict[str, Any] = {name: np.zeros(shape, np.float32) for name, shape in SAME.items()}
    model = model_of(CHAIN, **zero)
    graph, _ = apply_pass(model, QuantizeStatic(), calibration=samples(IMAGE))
    assert not Session(graph).run({"x": samples(IMAGE)["x"][:2]})["y"].any()


def test_layers_that_share_a_weight_share_its_integers(quantize: Quantize, tmp_path: Path) -> None:
    body = "c = Conv(x, w, b) r = Relu(c) d = Conv(r, v) s = Relu(d) e = Conv(s, v) y = Conv(e, u)"
    graph, _ = quantize(body)
    assert sorted(n for n in graph.main.initializers if n.startswith("v_")) == [
        "v_quantized", "v_scale", "v_zero_point",
    ]  # fmt: skip
    assert running(graph, tmp_path)["QLinearConv"] == 4


def test_a_shared_weight_with_another_factor_has_integers_of_its_own(quantize: Quantize) -> None:
    graph, _ = quantize(
        "g = Gemm(x, w) r = Relu(g) h = Gemm<alpha: float = 0.5>(r, w) y = Gemm(h, v)",
        ROWS,
        w=(16, 16),
        v=(16, 8),
    )
    assert len([n for n in graph.main.initializers if re.fullmatch(r"w_quantized.*", n)]) == 2


FOUR_BITS = {
    "W4A8": (QuantizeStatic(weight_type="int4"), "uint8"),
    "W4A4": (QuantizeStatic(weight_type="int4", activation_type="uint4"), "uint4"),
    "W4A4 signed": (QuantizeStatic(weight_type="int4", activation_type="int4"), "int4"),
}


@pytest.fixture
def quantize_4_bits(apply_pass: ApplyPass) -> Quantize:
    """Without judging the numbers: 4 bits are far from float."""

    def run(
        body: str, ports: str = IMAGE, item: QuantizeStatic | None = None, **weights: Any
    ) -> Any:
        model = model_of(body, ports, 21, **weights)
        return apply_pass(model, item or QuantizeStatic(), calibration=samples(ports))

    return run


@pytest.mark.parametrize("case", FOUR_BITS)
def test_four_bits_between_edges_of_eight(case: str, quantize_4_bits: Quantize) -> None:
    item, kind = FOUR_BITS[case]
    graph, record = quantize_4_bits(CHAIN, item=item)
    types = {name: str(constant(graph, f"{name}_quantized").dtype) for name in ("w", "v", "u")}
    assert types == {"w": "int8", "v": "int4", "u": "int8"}
    wide = kind.replace("4", "8")
    zeros = {name: str(constant(graph, f"{name}_zero_point").dtype) for name in ("x", "r", "d")}
    assert zeros == {"x": wide, "r": kind, "d": wide}
    assert np.abs(constant(graph, "v_quantized").astype(int)).max() <= 7
    (middle,) = [each.what for each in record.changes if each.node == "mid"]
    assert middle.startswith(f"int4 weight, {kind} activation; onnxruntime has no kernel")


@pytest.mark.parametrize("case", FOUR_BITS)
def test_onnxruntime_computes_four_bits_alike_at_every_level(
    case: str, quantize_4_bits: Quantize
) -> None:
    graph, _ = quantize_4_bits(CHAIN, item=FOUR_BITS[case][0])
    feeds = samples(IMAGE)
    off, full = (Session(graph, level=level).run(feeds)["y"] for level in LEVELS)
    found = sqnr.sqnr_db(off, full)
    assert found is not None
    assert found > SQNR_DB
    reasons = {entry.node: entry.reason for entry in audit(graph).float_}
    assert "codes, the kernels" in reasons["mid"]


def test_edges_may_have_as_few_bits_as_the_others(quantize_4_bits: Quantize) -> None:
    item = QuantizeStatic(weight_type="int4", activation_type="uint4", edges="same")
    graph, _ = quantize_4_bits(CHAIN, item=item)
    types = {str(constant(graph, f"{name}_quantized").dtype) for name in ("w", "v", "u")}
    assert types == {"int4"}


def test_only_the_layers_that_are_named_have_few_bits(quantize_4_bits: Quantize) -> None:
    item = QuantizeStatic(weight_type="int4", narrow=("mid", "last"), activation_type="uint8")
    graph, record = quantize_4_bits(CHAIN, item=item)
    types = {name: str(constant(graph, f"{name}_quantized").dtype) for name in ("w", "v", "u")}
    assert types == {"w": "int8", "v": "int4", "u": "int4"}
    assert len(record.changes) >= 3


def test_scales_of_four_bits_have_the_least_squared_error(quantize_4_bits: Quantize) -> None:
    values = np.random.default_rng(0).standard_t(3, (8, 8, 1, 1)).astype(np.float32)
    graph, _ = quantize_4_bits(CHAIN, item=FOUR_BITS["W4A8"][0], v=values)
    expected = ranges.weight_scales(values, 0, 7, "mse")
    np.testing.assert_array_equal(constant(graph, "v_scale"), expected)
    assert (expected < np.abs(values).max((1, 2, 3)) / 7).any()


def test_biases_of_four_bit_layers_are_right(quantize_4_bits: Quantize) -> None:
    body = "c = Conv(x, w) d = Conv(c, v, b) y = Conv(d, u)"
    bias = np.linspace(-3, 3, 8).astype(np.float32)
    graph, _ = quantize_4_bits(body, item=FOUR_BITS["W4A4"][0], b=bias)
    steps = constant(graph, "c_scale") * constant(graph, "v_scale")
    np.testing.assert_array_equal(constant(graph, "b_scale"), steps)
    np.testing.assert_allclose(constant(graph, "b_quantized") * steps, bias, atol=steps.max())


def test_four_bits_want_opset_21(quantize: Quantize) -> None:
    with pytest.raises(PassError, match=r"put upgrade-opset\{opset=21\} before"):
        quantize(CHAIN, item=QuantizeStatic(weight_type="int4"))


@pytest.mark.parametrize("kind", ["uint4", "int4"])
def test_four_bit_activations_want_four_bit_weights(kind: Any) -> None:
    with pytest.raises(UsageError, match="needs weight_type=int4"):
        QuantizeStatic(activation_type=kind)


def test_signed_activations(quantize: Quantize) -> None:
    graph, record = quantize(CHAIN, item=QuantizeStatic(activation_type="int8"))
    assert constant(graph, "r_zero_point").dtype == np.int8
    assert constant(graph, "r_zero_point") == -128
    assert record.changes[0].what.startswith("int8 weight, int8 activation")
