from __future__ import annotations

from graphopt.graph import io
from graphopt.graph.graph import label
from graphopt.graph.weights import Layer, rank_of_product, weight_groups
from graphopt.testing import MODELS, model_from_text


def test_a_shared_weight_is_one_group() -> None:
    graph = io.load(MODELS["shared-weights"]())
    groups = list(weight_groups(graph, lambda node: True))
    assert [(g.name, len(g.layers), g.reason) for g in groups] == [
        ("matmul_0", 3, ""),
        ("matmul_5", 1, ""),
    ]


def test_bodies_share_with_what_is_around_them() -> None:
    graph = io.load(MODELS["bodies"]())
    groups = {g.constant.origin: g for g in weight_groups(graph, lambda node: True)}
    assert [layer.scope.path for layer in groups["W1"].layers] == ["if_3/", "loop_6/"]


def test_reasons() -> None:
    graph = io.load(MODELS["shared-weights"]())
    (group, other) = weight_groups(graph, lambda node: node.op_type == "MatMul", min_size=10)
    assert group.reason == "its weight 'W' is also read by gemm_4, which stays"
    assert other.reason == ""
    small = list(weight_groups(graph, lambda node: True, min_size=2000))
    assert small[0].reason == "1024 elements, min_size is 2000"
    listed = io.load(MODELS["listed-inputs"]())
    reasons = [g.reason for g in weight_groups(listed, lambda node: True)]
    assert all(reason.endswith("put freeze-initializers first") for reason in reasons)


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
