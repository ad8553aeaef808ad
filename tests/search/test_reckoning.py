"""Times of a target that is elsewhere, from its table."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import onnx
import pytest

from graphopt import targets
from graphopt.contract.passes import Pass
from graphopt.data import SyntheticSamples
from graphopt.graph.graph import Graph
from graphopt.passes.quantize import QuantizeDynamic, QuantizeStatic, QuantizeWeights
from graphopt.run.judge import Judge
from graphopt.run.means import Means
from graphopt.run.stage import Stage
from graphopt.search.reckoning import reckoned
from graphopt.testing import apply_pass, model_from_text

MACS = 16 * 3 * 9 * 64 + 16 * 16 * 9 * 64
XNNPACK = replace(targets.find("xnnpack"), integer_time=0.25, crossing=2.0, overhead=100.0)


def model() -> onnx.ModelProto:
    text = """<ir_version: 8, opset_import: ["" : 13]>
        g (float[1, 3, 8, 8] x) => (float[1, 16, 8, 8] y) {
            a = Conv<pads = [1, 1, 1, 1]>(x, w)  r = Relu(a)  y = Conv<pads = [1, 1, 1, 1]>(r, v)
        }"""
    return model_from_text(text, {"w": (16, 3, 3, 3), "v": (16, 16, 3, 3)})


def stage(item: Pass | None = None, target: targets.Target = XNNPACK) -> Stage:
    samples = {"x": np.random.default_rng(0).normal(size=(4, 3, 8, 8)).astype(np.float32)}
    if item is None:
        return staged(Graph(model()))
    return staged(apply_pass(item, model(), target=target, samples=samples, judge=False)[0])


def staged(graph: Graph) -> Stage:
    judge = Judge(graph, SyntheticSamples(graph, count=1), "random", threads=1)
    return Stage(graph, Means(reference=graph, target=XNNPACK, judge=judge))


def test_integers_and_crossings_are_counted() -> None:
    ratio = reckoned(stage(QuantizeStatic()), stage(), XNNPACK)
    crossed = 2.0 * (3 * 64 + 16 * 64) + 2 * 100  # the input to integers, the result to floats
    assert ratio.clock == "table"
    assert ratio.median == pytest.approx((0.25 * MACS + crossed) / MACS)


def test_weights_alone_change_nothing() -> None:
    assert reckoned(stage(QuantizeWeights(min_size=0)), stage(), XNNPACK).median == 1.0


def test_what_the_target_computes_in_floats_is_no_faster() -> None:
    openvino = replace(targets.find("openvino"), calls=True)
    text = """<ir_version: 8, opset_import: ["" : 13]>
        g (float[1, 64] x) => (float[1, 64] y) { y = MatMul(x, w) }"""
    linear = model_from_text(text, {"w": (64, 64)})
    made = staged(apply_pass(QuantizeDynamic(min_size=0), linear, target=openvino)[0])
    plain = staged(Graph(linear))
    assert (
        reckoned(made, plain, openvino).median
        < reckoned(made, plain, targets.find("openvino")).median
    )
