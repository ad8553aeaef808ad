from __future__ import annotations

from collections.abc import Iterable

import pytest

from graphopt.facts.layers import Layer, layers
from graphopt.facts.weights import WeightGroup, grouped, rank_of_product, weight_groups
from graphopt.graph import io
from graphopt.graph.node import label
from graphopt.testing import MODELS, model_from_text


def reasons(groups: Iterable[WeightGroup], min_size: int = 0) -> list[str]:
    refusals = [group.refusal(min_size) for group in groups]
    return ["" if refusal is None else refusal.reason for refusal in refusals]


def test_a_shared_weight_is_one_group() -> None:
    graph = io.load(MODELS["shared-weights"]())
    groups = list(weight_groups(graph, lambda node: True))
    assert [(g.name, len(g.layers)) for g in groups] == [("matmul_0", 3), ("matmul_5", 1)]
    assert reasons(groups) == ["", ""]


def test_bodies_share_with_what_is_around_them() -> None:
    graph = io.load(MODELS["bodies"]())
    groups = {g.constant.origin: g for g in weight_groups(graph, lambda node: True)}
    assert [layer.scope.path for layer in groups["W1"].layers] == ["if_3/", "loop_6/"]


def test_reasons() -> None:
    graph = io.load(MODELS["shared-weights"]())
    products = list(weight_groups(graph, lambda node: node.op_type == "MatMul"))
    assert reasons(products, min_size=10) == [
        "its weight is also read by another Gemm, which stays",
        "",
    ]
    small = weight_groups(graph, lambda node: True)
    assert reasons(small, 2000)[0] == "fewer than min_size=2000 elements"
    listed = io.load(MODELS["listed-inputs"]())
    found = reasons(weight_groups(listed, lambda node: True))
    assert found and all(reason.endswith("put freeze-initializers before") for reason in found)


TURNED = """<ir_version: 8, opset_import: ["" : 13]>
g (float[N,32] x, int64[2] i) => (float y, float[2,32] e) {
  t = Transpose (W)  y = MatMul (x, t)  e = Gather (W, i)
}"""


def test_a_weight_behind_a_transpose_has_all_its_readers() -> None:
    graph = io.load(model_from_text(TURNED, {"W": (16, 32)}))
    (group,) = weight_groups(graph, lambda node: True)
    assert (group.constant.origin, group.layers[0].out_axis) == ("W", 0)
    assert reasons([group]) == ["its weight is also read by another Gather, which stays"]
    (whole,) = grouped(each for each in layers(graph) if isinstance(each, Layer))
    assert [each.kind for each in whole.layers] == ["linear", "table"]
    assert reasons([whole]) == [""]


def test_an_output_and_integers_are_left_alone() -> None:
    text = """<ir_version: 8, opset_import: ["" : 13]>
    g (float[N,32] x) => (float y, float[16,32] W) { t = Transpose (W)  y = MatMul (x, t) }"""
    graph = io.load(model_from_text(text, {"W": (16, 32)}))
    groups = weight_groups(graph, lambda node: True)
    assert reasons(groups) == ["its weight is an output of the model"]
    quantized = weight_groups(io.load(MODELS["quantized"]()), lambda node: True)
    assert set(reasons(quantized)) == {"it is quantized already"}


def test_parts_of_a_product() -> None:
    graph = io.load(
        model_from_text(
            """<ir_version: 8, opset_import: ["" : 13]>
            g (float[N,32] x) => (float[N,32] y) {
              a = MatMul (x, A)  b = MatMul (a, B)  r = Relu (b)  c = MatMul (r, C)  y = Tanh (c)
            }""",
            {"A": (32, 4), "B": (4, 32), "C": (32, 32)},
        )
    )
    layers = [g.layers[0] for g in weight_groups(graph, lambda node: True)]
    assert [rank_of_product(layer) for layer in layers] == [4, 4, None]
    assert isinstance(layers[0], Layer)
    assert label(layers[0].node) == "MatMul(a)"


@pytest.mark.parametrize(
    ("middle", "shapes", "ranks"),
    [
        ("<group = 9>", {"A": (9, 8, 1, 1), "B": (9, 1, 3, 3), "C": (8, 9, 1, 1)}, [9, 9, 9]),
        ("", {"A": (7, 8, 1, 1), "B": (4, 7, 3, 3), "C": (16, 4, 1, 1)}, [4, 4, 4]),
        ("<group = 70>", {"A": (70, 8, 1, 1), "B": (70, 1, 3, 3), "C": (8, 70, 1, 1)}, [None] * 3),
        ("<group = 4>", {"A": (8, 8, 1, 1), "B": (8, 2, 3, 3), "C": (8, 8, 1, 1)}, [None] * 3),
    ],
)
def test_three_convolutions_in_a_row(
    middle: str, shapes: dict[str, tuple[int, ...]], ranks: list[int | None]
) -> None:
    text = f"""<ir_version: 8, opset_import: ["" : 13]>
    g (float[1,8,9,9] x) => (float y) {{
      a = Conv (x, A)  b = Conv {middle} (a, B)  y = Conv (b, C)
    }}"""
    graph = io.load(model_from_text(text, shapes))
    layers = [g.layers[0] for g in weight_groups(graph, lambda node: True)]
    assert [rank_of_product(layer) for layer in layers] == ranks


def test_what_stands_between_makes_it_no_product() -> None:
    shapes = {"A": (4, 8, 1, 1), "B": (4, 4, 3, 3), "C": (16, 4, 1, 1), "D": (4,)}
    rows = [
        "a = Conv (x, A, D)  b = Conv (a, B, D)  y = Conv (b, C)",  # biases
        "a = Conv (x, A)  r = Relu (a)  b = Conv (r, B)  s = Relu (b)  y = Conv (s, C)",
        "a = Conv (x, A)  b = Conv (a, B)  c = Conv (b, C)  s = Add (a, b)  y = Sum (c, s, D)",
    ]
    for row in rows:
        used = {name: shape for name, shape in shapes.items() if f" {name}" in row}
        text = f"""<ir_version: 8, opset_import: ["" : 13]>
        g (float[1,8,9,9] x) => (float y) {{ {row} }}"""
        graph = io.load(model_from_text(text, used))
        layers = [g.layers[0] for g in weight_groups(graph, lambda node: True)]
        assert [rank_of_product(layer) for layer in layers] == [None] * 3
