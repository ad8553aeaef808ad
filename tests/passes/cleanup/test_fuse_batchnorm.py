from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from graphopt.graph.graph import Graph
from graphopt.passes.cleanup import FuseBatchnorm
from graphopt.run.record import PassRecord
from graphopt.testing import apply_pass, model_from_text

_IMAGE = "(float[N,4,6,6] x) => (float y)"
_MATRIX = "(float[N,4] x) => (float y)"
_AFFINE = ("g", "b", "m", "v")


def _apply(
    signature: str, body: str, channels: int, shift: bool = True, opset: int = 13, **weights: Any
) -> tuple[Graph, PassRecord]:
    norm: dict[str, Any] = dict.fromkeys(_AFFINE, (channels,))
    if not shift:
        norm |= {"b": np.zeros(channels, np.float32), "m": np.zeros(channels, np.float32)}
    text = f'<ir_version: 8, opset_import: ["" : {opset}]> net {signature} {{ {body} }}'
    return apply_pass(FuseBatchnorm(), model_from_text(text, {**norm, **weights}))


def _ops(graph: Graph) -> list[str]:
    return [node.op_type for node in graph.main.nodes]


_NORM = "y = BatchNormalization (c, g, b, m, v)"


@pytest.mark.parametrize(
    ("signature", "body", "channels", "weights", "left"),
    [
        (_IMAGE, f"c = Conv (x, W) {_NORM}", 8, {"W": (8, 4, 3, 3)}, ["Conv"]),
        (_IMAGE, f"c = Conv (x, W, B) {_NORM}", 8, {"W": (8, 4, 3, 3), "B": (8,)}, ["Conv"]),
        (_IMAGE, f"c = Conv <group = 2> (x, W) {_NORM}", 8, {"W": (8, 2, 3, 3)}, ["Conv"]),
        (
            _IMAGE,
            f"c = ConvTranspose (x, W) {_NORM}",
            8,
            {"W": (4, 8, 3, 3)},
            ["ConvTranspose"],
        ),
        (
            _IMAGE,
            f"c = ConvTranspose <group = 2> (x, W, B) {_NORM}",
            6,
            {"W": (4, 3, 3, 3), "B": (6,)},
            ["ConvTranspose"],
        ),
        (
            _IMAGE,
            f"h = Conv (x, W) c = Add (h, A) {_NORM}",
            8,
            {"W": (8, 4, 1, 1), "A": (8, 1, 1)},
            ["Conv"],
        ),
        (_MATRIX, f"c = Gemm (x, W) {_NORM}", 8, {"W": (4, 8)}, ["Gemm"]),
        (
            _MATRIX,
            f"c = Gemm <transB = 1, alpha = 0.5, beta = 2.0> (x, W, B) {_NORM}",
            8,
            {"W": (8, 4), "B": (8,)},
            ["Gemm"],
        ),
        (_MATRIX, f"c = Gemm (x, W, B) {_NORM}", 8, {"W": (4, 8), "B": (1,)}, ["Gemm"]),
        (_MATRIX, f"c = MatMul (x, W) {_NORM}", 8, {"W": (4, 8)}, ["MatMul", "Add"]),
        (
            _MATRIX,
            f"t = Transpose (W) c = MatMul (x, t) {_NORM}",
            8,
            {"W": (8, 4)},
            ["Transpose", "MatMul", "Add"],
        ),
        (
            _MATRIX,
            f"h = MatMul (x, W) c = Add (B, h) {_NORM}",
            8,
            {"W": (4, 8), "B": (8,)},
            ["MatMul", "Add"],
        ),
    ],
)
def test_moves_into_the_layer_before(
    signature: str, body: str, channels: int, weights: dict[str, Any], left: list[str]
) -> None:
    graph, record = _apply(signature, body, channels, **weights)
    assert record.status == "done"  # the runner has compared the answers
    assert record.sqnr_db is not None
    assert record.sqnr_db > 100
    assert _ops(graph) == left
    assert not set(_AFFINE) & set(graph.main.initializers)
    assert graph.main.nodes[-1].output[0] == "y"


@pytest.mark.parametrize(
    ("body", "signature", "channels", "shift", "weights"),
    [
        ("y = Conv (n, W)", _IMAGE, 4, True, {"W": (8, 4, 3, 3)}),
        ("y = Conv <group = 2> (n, W, B)", _IMAGE, 4, True, {"W": (8, 2, 3, 3), "B": (8,)}),
        ("y = Conv <pads = [1, 1, 1, 1]> (n, W)", _IMAGE, 4, False, {"W": (8, 4, 3, 3)}),
        ("y = ConvTranspose (n, W)", _IMAGE, 4, False, {"W": (4, 8, 3, 3)}),
        (
            "y = Gemm <alpha = 0.5, beta = 3.0> (n, W, B)",
            _MATRIX,
            4,
            True,
            {"W": (4, 8), "B": (8,)},
        ),
        ("y = Gemm <transB = 1> (n, W)", _MATRIX, 4, True, {"W": (8, 4)}),
        ("y = MatMul (n, W)", _MATRIX, 4, False, {"W": (4, 8)}),
    ],
)
def test_moves_into_the_layer_behind(
    body: str, signature: str, channels: int, shift: bool, weights: dict[str, Any]
) -> None:
    text = f"n = BatchNormalization (x, g, b, m, v) {body}"
    graph, record = _apply(signature, text, channels, shift, **weights)
    assert record.status == "done"
    assert len(graph.main.nodes) == 1


@pytest.mark.parametrize(
    ("body", "channels", "weights", "words"),
    [
        ("n = BatchNormalization (x, g, b, m, v) y = Conv <pads = [1, 1, 1, 1]> (n, W)", 4,
         {"W": (8, 4, 3, 3)}, "pads with zeros"),
        ("n = BatchNormalization (x, g, b, m, v) y = Conv <auto_pad = \"SAME_UPPER\"> (n, W)", 4,
         {"W": (8, 4, 3, 3)}, "pads with zeros"),
        ("n = BatchNormalization (x, g, b, m, v) y = ConvTranspose (n, W)", 4,
         {"W": (4, 8, 3, 3)}, "unevenly at the border"),
        ("n = BatchNormalization (x, g, b, m, v) y = Relu (n)", 4, {},
         "no Conv, ConvTranspose, Gemm or MatMul before it that serves it alone; "
         "no Conv, ConvTranspose, Gemm or MatMul behind it"),
        ("c = Conv (x, W) n = BatchNormalization (c, g, b, m, v) y = Add (n, c)", 8,
         {"W": (8, 4, 3, 3)}, "that serves it alone"),
        ("c = Conv (x, W) n, mm, vv = BatchNormalization <training_mode = 1> (c, g, b, m, v) "
         "y = Relu (n)", 8, {"W": (8, 4, 3, 3)}, "training mode"),
        ("c = Conv (x, W) y = BatchNormalization (c, g, b, m, v)", 8,
         {"W": (8, 4, 3, 3), "v": np.full(8, -2, np.float32)}, "variance is negative"),
    ],
)  # fmt: skip
def test_leaves_alone_with_a_reason(
    body: str, channels: int, weights: dict[str, Any], words: str
) -> None:
    graph, record = _apply(_IMAGE, body, channels, opset=15, **weights)
    assert record.status == "nothing to do"
    assert words in record.skipped[0].reason
    assert "BatchNormalization" in _ops(graph)


def test_a_shared_weight_is_copied() -> None:
    graph, record = _apply(
        _IMAGE,
        "c = Conv (x, W) n = BatchNormalization (c, g, b, m, v) d = Conv (x, W) y = Add (n, d)",
        8,
        W=(8, 4, 3, 3),
    )
    assert record.changes[0].what == "moved into the Conv before it (its weight is shared: copied)"
    assert {"W", "W_copy"} <= set(graph.main.initializers)


def test_optional_inputs_are_left_alone() -> None:
    model = model_from_text(
        """<ir_version: 8, opset_import: ["" : 13]>
        net (float[N,4,6,6] x, float[8,4,1,1] W) => (float y) {
          c = Conv (x, W) y = BatchNormalization (c, g, b, m, v) }""",
        {"W": (8, 4, 1, 1), **dict.fromkeys(_AFFINE, (8,))},
    )
    _, record = apply_pass(FuseBatchnorm(), model)
    assert "put freeze-initializers before" in record.skipped[0].reason


@pytest.mark.parametrize(
    ("body", "weights"),
    [
        ("c = Conv (x, W) y = Add (c, A)", {"W": (8, 4, 3, 3), "A": (1, 8, 1, 1)}),
        ("c = Conv (x, W, B) y = Sub (c, A)", {"W": (8, 4, 3, 3), "B": (8,), "A": (8, 1, 1)}),
        ("c = Conv (x, W, B) y = Mul (A, c)", {"W": (8, 4, 3, 3), "B": (8,), "A": ()}),
        ("c = Conv <group = 2> (x, W) d = Mul (c, A) y = Add (E, d)",
         {"W": (8, 2, 3, 3), "A": (1, 8, 1, 1), "E": (1,)}),
        ("c = ConvTranspose <group = 2> (x, W) d = Div (c, A) y = Add (d, A)",
         {"W": (4, 3, 3, 3), "A": (1, 6, 1, 1)}),
    ],
)  # fmt: skip
def test_a_constant_scale_or_shift_moves_into_the_conv(body: str, weights: dict[str, Any]) -> None:
    graph, record = _apply(_IMAGE, body, 8, **weights)
    assert record.status == "done"
    assert record.sqnr_db is not None
    assert record.sqnr_db > 100
    assert len(graph.main.nodes) == 1
    assert not {"A", "E"} & set(graph.main.initializers)


@pytest.mark.parametrize(
    ("body", "weights"),
    [
        ("c = Conv (x, W) y = Sub (A, c)", {"A": (1, 8, 1, 1)}),
        ("c = Conv (x, W) y = Add (c, A)", {"A": (1, 1, 4, 4)}),
        ("c = Conv (x, W) y = Add (c, A)", {"A": (2, 8, 1, 1)}),
        ("c = Conv (x, W) y = Div (c, A)", {"A": np.zeros((1, 8, 1, 1), np.float32)}),
        ("c = Conv (x, W) d = Add (c, A) y = Mul (d, c)", {"A": (1, 8, 1, 1)}),
        ("c = Conv (x, W) d = Mul (c, A) e = Conv (x, W) y = Add (d, e)", {"A": (1, 8, 1, 1)}),
    ],
)
def test_other_constants_stay(body: str, weights: dict[str, Any]) -> None:
    text = f'<ir_version: 8, opset_import: ["" : 13]> net {_IMAGE} {{ {body} }}'
    model = model_from_text(text, {"W": (8, 4, 3, 3), **weights})
    before = [node.op_type for node in model.graph.node]
    graph, record = apply_pass(FuseBatchnorm(), model)
    assert record.status == "nothing to do"
    assert _ops(graph) == before


def test_a_shift_behind_a_shared_weight_copies_nothing() -> None:
    graph, _ = _apply(
        _IMAGE, "c = Conv (x, W) n = Add (c, A) d = Conv (x, W) y = Add (n, d)", 8,
        W=(8, 4, 3, 3), A=(1, 8, 1, 1),
    )  # fmt: skip
    assert set(graph.main.initializers) - set(_AFFINE) == {"W", "W_bias"}
