from __future__ import annotations

from typing import Any, Literal

import numpy as np
import pytest

from graphopt.graph.graph import Graph
from graphopt.graph.node import attribute
from graphopt.numerics.lowrank_conv import ConvStage, compose
from graphopt.passes.factorize import FactorizeConv
from graphopt.run.record import PassRecord
from graphopt.testing import MODELS, apply_pass, model_from_text, run_model


def _text(conv: str, shape: str) -> str:
    return f"""<ir_version: 8, opset_import: ["" : 13]>
      g (float[{shape}] x) => (float y) {{ y = Conv {conv} }}"""


def _apply(
    conv: str, options: dict[str, Any], shape: str = "N,12,9,11", **weights: Any
) -> tuple[Graph, PassRecord]:
    model = model_from_text(_text(conv, shape), weights)
    return apply_pass(FactorizeConv(**{"allow_slower": True, **options}), model, samples=None)


def _spatial(out: int, channels: int, height: int, width: int, rank: int) -> Any:
    """A weight that two convolutions, height x 1 and 1 x width, make exactly."""
    rng = np.random.default_rng(0)
    first = rng.standard_normal((rank, channels, height))
    second = rng.standard_normal((out, rank, width))
    return np.einsum("rch,orw->ochw", first, second).astype(np.float32)


_FORMS = [
    "(x, W)",
    "(x, W, B)",
    "<pads = [1, 2, 0, 3]> (x, W, B)",
    "<strides = [2, 1], pads = [1, 1, 1, 1]> (x, W, B)",
    "<strides = [2, 3]> (x, W)",
    "<dilations = [2, 3], pads = [1, 1, 1, 1]> (x, W)",
    '<auto_pad = "SAME_UPPER", strides = [2, 2]> (x, W)',
    '<auto_pad = "SAME_LOWER"> (x, W)',
    '<auto_pad = "VALID"> (x, W)',
]


@pytest.mark.parametrize("conv", _FORMS)
def test_spatial_is_exact_where_the_weight_is(conv: str) -> None:
    weight = _spatial(20, 12, 3, 3, 4)
    weights = {"W": weight, "B": (20,)} if "B" in conv else {"W": weight}
    graph, record = _apply(conv, {"rank": 4, "scheme": "spatial"}, **weights)
    assert record.status == "done"
    assert record.sqnr_db is not None
    assert record.sqnr_db > 100
    first, second = graph.main.nodes
    assert attribute(first, "kernel_shape", []) == [3, 1]
    assert attribute(second, "kernel_shape", []) == [1, 3]
    assert len(first.input) == 2
    assert len(second.input) == (3 if "B" in conv else 2)


@pytest.mark.parametrize("conv", _FORMS)
def test_channel_is_exact_where_the_weight_is(conv: str) -> None:
    rng = np.random.default_rng(0)
    weight = np.tensordot(
        rng.standard_normal((20, 4)), rng.standard_normal((4, 12, 3, 3)), axes=1
    ).astype(np.float32)
    weights = {"W": weight, "B": (20,)} if "B" in conv else {"W": weight}
    graph, record = _apply(conv, {"rank": 4, "scheme": "channel"}, **weights)
    assert record.sqnr_db is not None
    assert record.sqnr_db > 100
    assert [tuple(t.dims) for n, t in graph.main.initializers.items() if n != "B"] == [
        (4, 12, 3, 3),
        (20, 4, 1, 1),
    ]


@pytest.mark.parametrize("conv", _FORMS)
@pytest.mark.parametrize("scheme", ["spatial", "channel", "tucker", "cp"])
def test_the_chain_answers_like_one_convolution_of_its_product(conv: str, scheme: str) -> None:
    given: dict[str, Any] = {"W": (20, 12, 3, 3), "B": (20,)}
    weights = given if "B" in conv else {"W": given["W"]}
    graph, record = _apply(conv, {"rank": 5, "scheme": scheme}, "2,12,9,11", **weights)
    assert record.status == "done"
    scope, nodes = graph.main, graph.main.nodes
    assert [len(node.input) for node in nodes[:-1]] == [2] * (len(nodes) - 1)
    assert nodes[-1].output[0] == "y"
    stages = []
    for node in nodes:
        constant = scope.constant(node.input[1])
        assert constant is not None
        stages.append(ConvStage(constant.values, depthwise=attribute(node, "group", 1) > 1))
    bias = scope.constant("B")
    product = {"W": compose(stages).astype(np.float32)}
    if bias is not None:
        product["B"] = bias.values
    whole = model_from_text(_text(conv, "2,12,9,11"), product)
    for seed in range(3):
        expected = run_model(whole, seed)["y"]
        found = run_model(graph.to_model(), seed)["y"]
        # float32 sums of 108 products in another order
        np.testing.assert_allclose(found, expected, atol=2e-6 * float(np.abs(expected).max()))


def test_tucker_is_exact_where_the_weight_is() -> None:
    rng = np.random.default_rng(0)
    shapes = (20, 4), (4, 3, 3, 3), (12, 3)
    outer, core, inner = (rng.standard_normal(shape) for shape in shapes)
    weight = np.einsum("op,pqhw,iq->oihw", outer, core, inner).astype(np.float32)
    graph, record = _apply("(x, W)", {"energy": 0.999999, "scheme": "tucker"}, W=weight)
    assert record.changes[0].what == (
        "tucker, rank 3 and 4: keeps 100.0% of the energy at 10% of the MACs"
    )
    assert record.sqnr_db is not None
    assert record.sqnr_db > 100
    assert [node.name for node in graph.main.nodes[:2]] == ["Conv(y)_first", "Conv(y)_second"]
    assert [attribute(node, "kernel_shape", []) for node in graph.main.nodes] == [
        [1, 1],
        [3, 3],
        [1, 1],
    ]


def test_cp_is_exact_where_the_weight_is() -> None:
    rng = np.random.default_rng(0)
    factors = (rng.standard_normal((size, 4)) for size in (20, 12, 3, 3))
    weight = np.einsum("or,ir,hr,wr->oihw", *factors).astype(np.float32)
    graph, record = _apply("(x, W)", {"energy": 0.9999, "scheme": "cp"}, W=weight)
    assert record.changes[0].what.startswith("cp, rank 4: keeps 100.0% of the energy at 8%")
    assert record.sqnr_db is not None
    assert record.sqnr_db > 70  # the ridge costs some
    assert [attribute(node, "group", 1) for node in graph.main.nodes] == [1, 4, 1]


@pytest.mark.parametrize("scheme", ["spatial", "channel", "tucker", "cp"])
def test_what_is_factorized_stays(scheme: str) -> None:
    options = {"macs": 0.8, "scheme": scheme, "min_size": 0}
    once, _ = _apply("(x, W)", options, W=(20, 12, 3, 3))
    for again in ("auto", "tucker", "cp"):
        _, record = apply_pass(
            FactorizeConv(macs=0.5, scheme=again, min_size=0, allow_slower=True), once.to_model()
        )
        assert record.status == "nothing to do"
        for skip in record.skipped:
            assert "part of a low-rank product" in skip.reason or "depthwise" in skip.reason


def test_a_shared_weight_is_factorized_once() -> None:
    text = """<ir_version: 8, opset_import: ["" : 13]>
      g (float[1,16,9,9] x) => (float y) {
        a = Conv <pads = [1, 1, 1, 1]> (x, W)  r = Relu (a)  y = Conv (r, W)
      }"""
    for scheme in ("tucker", "cp"):
        item = FactorizeConv(rank=4, scheme=scheme, allow_slower=True)
        graph, record = apply_pass(item, model_from_text(text, {"W": (16, 16, 3, 3)}))
        assert len(record.changes) == 2
        assert len(graph.main.initializers) == 3


def test_auto_takes_the_scheme_that_loses_less() -> None:
    _, record = _apply("(x, W)", {"rank": 4}, W=_spatial(20, 12, 3, 3, 4))
    assert record.changes[0].what.startswith("spatial, rank 4: keeps 100.0% of the energy")
    _, record = _apply("(x, W)", {"energy": 0.95}, W=(24, 12, 3, 3))
    assert record.changes[0].what.startswith("channel")  # the models' weights decay over channels


@pytest.mark.parametrize(
    ("conv", "shape", "weight"),
    [("(x, W)", "N,32,50", (48, 32, 5)), ("(x, W)", "N,32,5,5", (48, 32, 1, 1))],
)
def test_one_dimension_and_pointwise(conv: str, shape: str, weight: tuple[int, ...]) -> None:
    graph, record = _apply(conv, {"rank": 6}, shape, W=weight)
    assert record.changes[0].what.startswith("channel, rank 6")
    assert len(graph.main.nodes) == 2


@pytest.mark.parametrize(
    ("conv", "options", "weight", "words"),
    [
        ("<group = 12> (x, W)", {}, (24, 1, 7, 7), "it is depthwise"),
        ("<group = 2> (x, W)", {}, (24, 6, 3, 3), "it is grouped"),
        ("(x, W)", {"rank": 40}, (24, 12, 3, 3), "no rank within rank 40 makes it cheaper"),
        ("(x, W)", {"scheme": "spatial"}, (96, 12, 1, 1), "a kernel of [1, 1] has no spatial form"),
        ("(x, W)", {"scheme": "tucker"}, (96, 12, 1, 1), "a kernel of [1, 1] has no tucker form"),
        ("(x, W)", {"scheme": "cp"}, (96, 12, 1, 1), "a kernel of [1, 1] has no cp form"),
        ("(x, W)", {"scheme": "cp", "energy": 0.9999}, (24, 12, 3, 3), "no rank within energy"),
        ("<group = 2> (x, W)", {"scheme": "tucker"}, (24, 6, 3, 3), "it is grouped"),
        ("(x, W)", {}, (4, 12, 3, 3), "fewer than min_size=1024 elements"),
    ],
)
def test_skips_with_a_reason(
    conv: str, options: dict[str, Any], weight: tuple[int, ...], words: str
) -> None:
    _, record = _apply(conv, options, W=weight)
    assert record.status == "nothing to do"
    assert words in record.skipped[0].reason


@pytest.mark.parametrize("scheme", ["auto", "tucker", "cp"])
def test_macs_fall_as_said(scheme: Literal["auto", "tucker", "cp"]) -> None:
    model = MODELS["fixed-batch"]()
    _, before = apply_pass(FactorizeConv(min_size=10**6), model)
    _, after = apply_pass(
        FactorizeConv(macs=0.4, scheme=scheme, nodes=("conv_3",), allow_slower=True), model
    )
    assert before.macs is not None
    assert after.macs is not None
    share = float(after.changes[0].what.split(" at ")[1].split("%")[0]) / 100
    dense = 2 * 16 * 16 * 9 * 8 * 8
    assert after.macs == pytest.approx(before.macs - (1 - share) * dense, rel=0.01)
