"""Codes chosen by what layers read: nearer to the float model, in the form that they have."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray

from graphopt.contract.passes import Pass
from graphopt.contract.spec import parse_passes
from graphopt.facts.coded import CodedWeight, coded_weight
from graphopt.facts.layers import Layer, layers
from graphopt.graph import check
from graphopt.graph.graph import Graph
from graphopt.numerics.saturation import conv_matrix, unsafe_channels
from graphopt.numerics.sqnr import sqnr_db
from graphopt.passes.quantize import RoundWeights
from graphopt.runtime.session import Session
from graphopt.testing import Applied, apply_pass, model_from_text

Floats = NDArray[np.float32]

RNG = np.random.default_rng(0)
MIX = RNG.standard_normal((8, 3, 8, 8)).astype(np.float32)
IMAGES = np.einsum("nk,kchw->nchw", RNG.standard_normal((96, 8)), MIX).astype(np.float32)
OTHERS = np.einsum("nk,kchw->nchw", RNG.standard_normal((32, 8)), MIX).astype(np.float32)
CONVS = """<ir_version: 10, opset_import: ["" : 21]>
g (float[N, 3, 8, 8] x) => (float[N, 5] y) {
    [a] c = Conv<pads = [1, 1, 1, 1]>(x, w, b)
    r = Relu(c)
    [b] d = Conv<group = 12, pads = [1, 1, 1, 1]>(r, dw, db)
    q = Relu(d)
    [c] e = Conv(q, p, pb)
    s = Add(e, r)
    t = Relu(s)
    m = GlobalAveragePool(t)
    f = Flatten(m)
    [h] y = Gemm<transB = 1>(f, v, vb)
}"""
ROWS = (RNG.standard_normal((128, 3, 4)) @ RNG.standard_normal((4, 16))).astype(np.float32)
PRODUCTS = """<ir_version: 10, opset_import: ["" : 21]>
g (float[N, 3, 16] x) => (float[N, 3, 4] y) {
    [p] m = MatMul(x, w)
    [pa] a = Add(m, b)
    g = Tanh(a)
    [q] y = MatMul(g, v)
}"""


def convs() -> onnx.ModelProto:
    shapes = {"w": (12, 3, 3, 3), "b": (12,), "dw": (12, 1, 3, 3), "db": (12,)}
    more = {"p": (12, 12, 1, 1), "pb": (12,), "v": (5, 12), "vb": (5,)}
    return model_from_text(CONVS, shapes | more)


def products() -> onnx.ModelProto:
    return model_from_text(PRODUCTS, {"w": (16, 12), "b": (12,), "v": (12, 4)})


def applied(
    model: onnx.ModelProto, x: Floats, before: str, item: Pass | None = None, target: str = "host"
) -> Applied:
    return apply_pass(
        item or RoundWeights(),
        model,
        before=parse_passes(before),
        samples={"x": x},
        target=target,
        strict=True,
    )


def quantized(model: onnx.ModelProto, x: Floats, form: str) -> Graph:
    (item,) = parse_passes(form)
    return apply_pass(item, model, samples={"x": x}, target="host", strict=True)[0]


def quality(model: onnx.ModelProto, graph: Graph, x: Floats) -> float:
    right, now = (Session(each).run({"x": x})["y"] for each in (Graph(model), graph))
    found = sqnr_db(np.asarray(right), np.asarray(now))
    assert found is not None
    return found


def codes(graph: Graph) -> dict[str, CodedWeight]:
    found = [each for each in layers(graph) if isinstance(each, Layer)]
    views = [(each.node.name, coded_weight(each)) for each in found]
    return {name: view for name, view in views if isinstance(view, CodedWeight)}


@pytest.mark.parametrize(
    ("form", "gain"),
    [
        ("quantize-static", 1.0),
        ("quantize-static{per_channel=false}", 3.0),
        ("quantize-static{weight_type=int4,edges=same}", 6.0),
        ("quantize-weights{weight_type=int4,min_size=0}", 6.0),
    ],
)
def test_convolutions_come_nearer_on_samples_that_were_not_seen(form: str, gain: float) -> None:
    model = convs()
    before = quantized(model, IMAGES, form)
    graph, record = applied(model, IMAGES, form)
    assert check.problems(graph) == []
    assert quality(model, graph, OTHERS) > quality(model, before, OTHERS) + gain
    was, now = codes(before), codes(graph)
    assert list(was) == list(now) == [change.node for change in record.changes]
    for name, view in now.items():
        assert (view.scale.shape, view.block) == (was[name].scale.shape, was[name].block)
        assert view.codes.min() >= view.qmin
        assert view.codes.max() <= view.qmax


@pytest.mark.parametrize("form", ["quantize-dynamic{min_size=0}", "quantize-weights{min_size=0}"])
def test_products_of_every_form_come_nearer(form: str) -> None:
    model = products()
    before = quantized(model, ROWS, form)
    graph, _ = applied(model, ROWS, form)
    assert quality(model, graph, ROWS) > quality(model, before, ROWS) + 0.5
    assert list(codes(graph)) == ["p", "q"]


def test_weights_of_zero_stay_zero() -> None:
    model = convs()
    pruned = "mask-weights{sparsity=0.5,min_size=0,criterion=magnitude}"
    graph, _ = applied(model, IMAGES, f"{pruned},quantize-static{{weight_type=int4,edges=same}}")
    shares = {name: float((view.codes == 0).mean()) for name, view in codes(graph).items()}
    assert min(shares[name] for name in ("a", "c", "h")) >= 0.45


def test_kernels_that_saturate_are_spared() -> None:
    graph, _ = applied(convs(), IMAGES, "quantize-static", target="x86-avx2")
    views = codes(graph)
    assert list(views) == ["a", "b", "c", "h"]
    for view in views.values():
        values = view.codes if view.layer.kind == "conv" else view.codes[:, :, None, None]
        if not view.layer.depthwise:
            assert not unsafe_channels(conv_matrix(values)).any()


def test_channels_that_hardly_do_anything_keep_a_bias_that_fits() -> None:
    model = convs()
    weight = next(each for each in model.graph.initializer if each.name == "w")
    values = onnx.numpy_helper.to_array(weight).copy()
    values[2] *= 1e-14
    weight.CopyFrom(onnx.numpy_helper.from_array(values, "w"))
    graph, _ = applied(model, IMAGES, "quantize-static{weight_type=int4,edges=same}")
    bias = codes(graph)["a"].layer.bias
    assert bias is not None
    assert np.abs(bias.constant.values[2].astype(np.float64)) < 2**31 - 1
    before = onnx.numpy_helper.to_array(next(b for b in model.graph.initializer if b.name == "b"))
    assert bias.values()[2] == pytest.approx(before[2], rel=0.05)


def test_codes_that_the_file_came_with_stay() -> None:
    model = quantized(products(), ROWS, "quantize-weights{min_size=0}").to_model()
    graph, record = apply_pass(RoundWeights(), model, samples={"x": ROWS}, target="host")
    assert record.status == "nothing to do"
    assert {skip.node for skip in record.skipped} == {"p", "q"}
    assert all("no float weight of it" in skip.reason for skip in record.skipped)
    assert check.problems(graph) == []


def test_a_float_model_is_refused() -> None:
    _, record = apply_pass(RoundWeights(), convs(), samples={"x": IMAGES}, target="host")
    assert record.status == "refused"
    assert "put a quantize pass before it" in record.reason


def test_only_chosen_layers_change() -> None:
    form = "quantize-static{weight_type=int4,edges=same}"
    before = codes(quantized(convs(), IMAGES, form))
    graph, record = applied(convs(), IMAGES, form, RoundWeights(nodes=("h",)))
    assert [change.node for change in record.changes] == ["h"]
    for name, view in codes(graph).items():
        same = np.array_equal(view.codes, before[name].codes)
        assert same is (name != "h")


def test_what_is_behind_a_pooling_goes_by_the_rows_in_front_of_it() -> None:
    few = IMAGES[:12]  # as many pictures as the last layer has inputs
    form = "quantize-static{weight_type=int4,edges=same}"
    graph, _ = applied(convs(), few, form, RoundWeights(nodes=("h",)))
    plain = quality(convs(), quantized(convs(), few, form), OTHERS)
    assert quality(convs(), graph, OTHERS) > plain + 3
