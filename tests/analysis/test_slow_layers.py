"""Layers that are slower on integers stay in floats, by the table of the target."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from graphopt import targets
from graphopt.analysis.placement import place
from graphopt.facts import shapes
from graphopt.graph.graph import Graph
from graphopt.rewrite.quantized_activations import Placement
from graphopt.testing import model_from_text

LOSES = "to quantize and dequantize around it takes longer than its integer kernel saves"
SLOWER = "its integer kernel is slower than the float one"


def planned(body: str, weights: Mapping[str, Any], channels: int, side: int) -> Placement:
    head = '<ir_version: 8, opset_import: ["" : 13]>'
    ports = f"(float[N, {channels}, {side}, {side}] x) => (float[N, C, H, W] y)"
    graph = Graph(model_from_text(f"{head} g {ports} {{ {body} }}", weights))
    web = targets.find("web")
    return place(graph.main, shapes.infer(graph), web, lambda _: None)


def reasons(plan: Placement) -> dict[str, str]:
    return {each.node.name: each.reason for each in plan.refused}


def test_depthwise_and_grouped_layers_and_narrow_ones_stay_in_floats() -> None:
    plan = planned(
        """[dw] a = Conv<group = 64>(x, d)  [gr] b = Conv<group = 2>(a, g)
        [narrow] y = Conv(b, n)""",
        {"d": (64, 1, 3, 3), "g": (32, 32, 3, 3), "n": (256, 32, 1, 1)},
        channels=64,
        side=16,
    )
    assert reasons(plan) == {
        "dw": f"depthwise; {SLOWER}",
        "gr": f"32 channels a group; {SLOWER}",
        "narrow": f"1x1 of 32 channels; {SLOWER}",
    }


@pytest.mark.parametrize(
    ("into", "out", "side", "pays"),
    [
        (128, 128, 14, True),
        (256, 256, 7, True),
        (112, 672, 14, True),
        (144, 40, 8, False),
        (64, 64, 14, False),
        (128, 128, 2, False),
    ],
)
def test_a_layer_between_floats_pays_where_it_multiplies_enough(
    into: int, out: int, side: int, pays: bool
) -> None:
    weights = {"d": (into, 1, 3, 3), "w": (out, into, 1, 1), "e": (out, 1, 3, 3)}
    body = f"""[dw] a = Conv<group = {into}, pads = [1, 1, 1, 1]>(x, d)  [pw] b = Conv(a, w)
        [last] y = Conv<group = {out}, pads = [1, 1, 1, 1]>(b, e)"""
    plan = planned(body, weights, into, side)
    assert [layer.node.name for layer in plan.layers] == ["pw"] * pays
    assert reasons(plan).get("pw", LOSES) == LOSES


def test_what_loses_alone_pays_beside_integers_and_takes_its_neighbours_along() -> None:
    weights = {"d": (64, 1, 3, 3), "w": (64, 64, 1, 1), "v": (64, 64, 3, 3), "u": (64, 64, 1, 1)}
    chain = "[dw] a = Conv<group = 64>(x, d)  [pw] b = Conv(a, w)  "
    plan = planned(chain + "[dense] c = Conv(b, v)  [out] y = Conv(c, u)", weights, 64, 20)
    assert [layer.node.name for layer in plan.layers] == ["pw", "dense", "out"]
    tiny = {"d": (64, 1, 3, 3), "w": (64, 64, 1, 1), "u": (64, 64, 1, 1)}
    plan = planned(chain + "[out] y = Conv(b, u)", tiny, 64, 4)
    assert plan.layers == []
    assert reasons(plan)["pw"] == reasons(plan)["out"] == LOSES


def test_other_targets_ask_for_no_such_thing() -> None:
    assert [name for name in targets.names() if targets.find(name).slow.alone] == ["web"]
