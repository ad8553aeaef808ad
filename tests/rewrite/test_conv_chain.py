from __future__ import annotations

from onnx import helper

from graphopt.graph import io
from graphopt.graph.node import attribute
from graphopt.rewrite.conv_chain import Link, fits_kernel, replace_conv, strides
from graphopt.testing import model_from_text


def test_each_link_moves_along_its_own_axes() -> None:
    text = """<ir_version: 8, opset_import: ["" : 13]>
    g (float[1,8,9,9] x) => (float y) {
      y = Conv <strides = [2, 3], pads = [1, 2, 3, 4], dilations = [1, 2]> (x, W, B)
    }"""
    shapes = {"W": (8, 8, 3, 3), "B": (8,), "P": (4, 8, 1, 1), "Q": (4, 1, 3, 3), "R": (8, 4, 1, 1)}
    graph = io.load(model_from_text(text, shapes))
    scope, node = graph.main, graph.main.nodes[0]
    assert strides(node, 2) == [2, 3]
    links = [
        Link("P", (1, 1), ()),
        Link("Q", (3, 3), (0, 1), groups=4),
        Link("R", (1, 1), ()),
    ]
    replace_conv(scope, node, links)
    first, second, third = scope.nodes
    assert third is node
    assert [list(n.input) for n in scope.nodes] == [
        ["x", "P"],
        [first.output[0], "Q"],
        [second.output[0], "R", "B"],
    ]
    assert [attribute(n, "strides", []) for n in scope.nodes] == [[1, 1], [2, 3], [1, 1]]
    assert [attribute(n, "pads", []) for n in scope.nodes] == [[0] * 4, [1, 2, 3, 4], [0] * 4]
    assert [attribute(n, "dilations", []) for n in scope.nodes] == [[1, 1], [1, 2], [1, 1]]
    assert [attribute(n, "group", 1) for n in scope.nodes] == [1, 4, 1]
    assert "W" not in scope.initializers


def test_automatic_padding_stays_automatic() -> None:
    text = """<ir_version: 8, opset_import: ["" : 13]>
    g (float[1,8,9,9] x) => (float y) { y = Conv <auto_pad = "SAME_LOWER"> (x, W) }"""
    shapes = {"W": (8, 8, 3, 3), "P": (4, 8, 3, 1), "Q": (8, 4, 1, 3)}
    graph = io.load(model_from_text(text, shapes))
    scope, node = graph.main, graph.main.nodes[0]
    assert strides(node, 2) == [1, 1]
    replace_conv(scope, node, [Link("P", (3, 1), (0,)), Link("Q", (1, 3), (1,))])
    for item in scope.nodes:
        assert attribute(item, "auto_pad", "") == "SAME_LOWER"
        assert attribute(item, "pads", []) == []


def test_lists_that_do_not_fit_the_kernel() -> None:
    node = helper.make_node("Conv", ["x", "w"], ["y"], strides=[1, 1], pads=[1, 1, 1, 1])
    assert fits_kernel(node, 2)
    node.attribute[1].ints.pop()
    assert not fits_kernel(node, 2)
