"""The text detector has the shape of an exported one, and what it computes is counted right."""

from __future__ import annotations

import math
from collections import Counter

import numpy as np
from text_detector import BLOCKS, pictures, text_detector

from graphopt.graph.graph import Graph
from graphopt.run.sizing import sized_run
from graphopt.runtime.session import Session


def test_it_has_some_seven_hundred_nodes_of_the_kinds_that_exports_have() -> None:
    kinds = Counter(node.op_type for node in text_detector().graph.node)
    assert 680 <= sum(kinds.values()) <= 720
    assert {"Conv", "BatchNormalization", "ConvTranspose", "Clip", "Div", "Resize"} <= kinds.keys()


def test_pictures_of_any_size_get_a_map_of_their_size_and_the_same_seed_the_same_model() -> None:
    model = text_detector(blocks=BLOCKS[:7], repeats=1)
    assert model == text_detector(blocks=BLOCKS[:7], repeats=1)
    session = Session(Graph(model), threads=1)
    for side in (64, 96):
        page = pictures(1, side)
        found = session.run({"x": page})["map"]
        assert found.shape == (1, 1, side, side)
        assert found.std() > 0.05


def test_its_macs_are_those_of_the_picture() -> None:
    graph = Graph(text_detector(blocks=BLOCKS[:7], repeats=1))
    page = pictures(1, 64)
    layers = [node for node in graph.main.nodes if "Conv" in node.op_type]
    tensors = [name for node in layers for name in (node.input[0], node.output[0])]
    found = Session(graph, threads=1, outputs=tensors).run({"x": page})
    expected = 0
    for node in layers:
        over = node.input[0] if node.op_type == "ConvTranspose" else node.output[0]
        weight = graph.main.constant(node.input[1])
        assert weight is not None
        expected += int(np.size(found[over])) * math.prod(weight.shape[1:])
    sizes = sized_run(graph, {"x": page})
    assert sizes.macs.total == expected
    assert sizes.inputs == {"x": (1, 3, 64, 64)}
