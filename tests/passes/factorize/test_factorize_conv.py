from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from graphopt.graph.graph import Graph
from graphopt.graph.ops import attribute
from graphopt.passes.factorize import FactorizeConv
from graphopt.pipeline.record import PassRecord
from graphopt.testing import MODELS, apply_pass, model_from_text


def _apply(
    conv: str, options: dict[str, Any], shape: str = "N,12,9,11", **weights: Any
) -> tuple[Graph, PassRecord]:
    text = f"""<ir_version: 8, opset_import: ["" : 13]>
      g (float[{shape}] x) => (float y) {{ y = Conv {conv} }}"""
    return apply_pass(FactorizeConv(**options), model_from_text(text, weights))


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
        ("(x, W)", {}, (4, 12, 3, 3), "432 elements, min_size is 1024"),
    ],
)
def test_skips_with_a_reason(
    conv: str, options: dict[str, Any], weight: tuple[int, ...], words: str
) -> None:
    _, record = _apply(conv, options, W=weight)
    assert record.status == "nothing to do"
    assert words in record.skipped[0].reason


def test_macs_fall_as_said() -> None:
    model = MODELS["fixed-batch"]()
    _, before = apply_pass(FactorizeConv(min_size=10**6), model)
    _, after = apply_pass(FactorizeConv(macs=0.4, nodes=("conv_3",)), model)
    assert before.macs is not None
    assert after.macs is not None
    share = float(after.changes[0].what.split(" at ")[1].split("%")[0]) / 100
    dense = 2 * 16 * 16 * 9 * 8 * 8
    assert after.macs == pytest.approx(before.macs - (1 - share) * dense, rel=0.01)
