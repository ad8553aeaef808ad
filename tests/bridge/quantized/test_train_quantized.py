"""The pass: what it refuses, what it says, and that it makes a quantized net better."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
import pytest

from graphopt.errors import DataError, PassError
from graphopt.graph import io
from graphopt.graph.graph import Graph
from graphopt.numerics import sqnr
from graphopt.runtime.session import Session
from graphopt.testing import model_from_text

Make = Callable[..., Any]
W4A4 = "quantize-static{weight_type=int4, activation_type=uint4}"
W4 = "quantize-weights{weight_type=int4, min_size=32}"
NORMED = """
    c = Conv (x, W1)
    n = BatchNormalization (c, s, t, u, v)
    r = Relu (n)
    g = GlobalAveragePool (r)
    f = Flatten (g)
    y = Gemm (f, V, b)
"""


def training(**options: Any) -> str:
    plain = {"steps": 30, "batch": 16, "lr": 0.002, "soft": "mse", "evaluations": 2, **options}
    return f"train-quantized{{{', '.join(f'{k}={v}' for k, v in plain.items())}}}"


def error_db(made: Any, graph: Graph) -> float:
    feeds = {"x": np.random.default_rng(9).normal(size=(64, 3, 8, 8)).astype(np.float32)}
    pair = [
        Session(each, threads=1, level="off").run(feeds)["y"] for each in (made.reference, graph)
    ]
    value = sqnr.sqnr_db(*pair)
    assert value is not None
    return value


@pytest.mark.parametrize("spec", [W4A4, W4])
def test_it_brings_a_quantized_net_closer_to_its_teacher(spec: str, quantized: Make) -> None:
    before, after = quantized(spec), quantized(f"{spec}, {training()}")
    record = after.records[-1]
    assert record.status == "done"
    assert record.curves.best_step > 0
    assert error_db(after, after.graph) > error_db(before, before.graph) + 1
    assert [n.name for n in after.graph.main.nodes] == [n.name for n in before.graph.main.nodes]
    notes = [each.what for each in record.changes if each.node == "integers"]
    assert len(notes) == (1 if spec == W4A4 else 0)
    for note in notes:
        equal, codes = map(int, re.findall(r"\d+", note)[:2])
        assert 0.995 * codes <= equal <= codes


def test_what_did_not_help_is_not_kept(quantized: Make) -> None:
    before, after = quantized(W4A4), quantized(f"{W4A4}, {training(lr=1.0, steps=2)}")
    assert after.records[-1].status == "nothing to do"
    assert after.graph.to_model() == before.graph.to_model()


def test_the_same_seed_gives_the_same_bytes(quantized: Make) -> None:
    spec = f"{W4A4}, {training(steps=4, held_out=0, flip='true')}"
    first, second = (quantized(spec).graph.to_model() for _ in range(2))
    assert first.SerializeToString(deterministic=True) == second.SerializeToString(
        deterministic=True
    )


def test_labels_may_be_mixed_in(quantized: Make) -> None:
    spec = f"{W4A4}, {training(alpha=1, steps=4, soft='kl', held_out=0)}"
    assert quantized(spec, labels=np.arange(48) % 5).records[-1].status == "done"
    with pytest.raises(DataError, match="labels"):
        quantized(spec)


def test_normalizations_that_were_not_folded_keep_their_statistics(quantized: Make) -> None:
    spec = f"quantize-static, {training(steps=4, held_out=0)}"
    made = quantized(spec, body=NORMED, **dict.fromkeys("stuv", (8,)))
    before, after = made.reference.main.initializers, made.graph.main.initializers
    assert (after["u"], after["v"]) == (before["u"], before["v"])
    assert after["s"] != before["s"]


def net(body: str, **weights: Any) -> Graph:
    text = '<ir_version: 10, opset_import: ["" : 21]> g (float[N,3,8,8] x) => (float[a,b] y)'
    return io.load(model_from_text(f"{text} {{ {body} }}", weights))


REFUSED = {
    "float": ("f = Flatten (x) y = Relu (f)", "put quantize-static or quantize-weights before it"),
    "by operators": (
        """f = Flatten (x) q, s, z = DynamicQuantizeLinear (f) m = MatMulInteger (q, W, z)
           g = Cast <to = 1> (m) y = Mul (g, s)""",
        "computes on integers by itself",
    ),
    "a table alone": (
        """r = Gather (W, i) t = Cast <to = 1> (r) p = Gather (R, i) e = Mul (t, p)
           f = Flatten (x) h = MatMul (f, e) y = Relu (h)""",
        "no constant behind DequantizeLinear",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refusals_say_what_to_do(case: str, quantized: Make) -> None:
    body, words = REFUSED[case]
    constants = {
        "W": np.ones((192, 6), np.int8),
        "R": np.ones((192, 1), np.float32),
        "i": np.arange(192),
    }
    used = {name: value for name, value in constants.items() if re.search(rf"\b{name}\b", body)}
    graph = net(body, **used)
    with pytest.raises(PassError, match=words):
        quantized(training(), graph=graph, teacher=net("f = Flatten (x) y = Exp (f)"))


def test_blocks_of_matmulnbits_are_refused(quantized: Make) -> None:
    graph = net("f = Flatten (x) y = Relu (f)")
    sizes: dict[str, Any] = {"K": 192, "N": 1, "bits": 4, "block_size": 32}
    node = onnx.helper.make_node(
        "MatMulNBits", ["f", "B", "s"], ["z"], "blocks", domain="com.microsoft", **sizes
    )
    graph.main.add(node)
    graph.main.add_constant("B", np.zeros((1, 6, 16), np.uint8))
    graph.main.add_constant("s", np.ones(6, np.float32))
    with pytest.raises(PassError, match="MatMulNBits 'blocks' computes on integers by itself"):
        quantized(training(), graph=graph)


def test_a_quantized_file_needs_another_teacher_than_itself(quantized: Make) -> None:
    made = quantized()
    with pytest.raises(PassError, match="its own teacher"):
        quantized(training(), graph=made.graph)
    spec = training(steps=4, held_out=0)
    again = quantized(spec, graph=made.graph, teacher=made.reference)
    assert again.records[-1].status == "done"
