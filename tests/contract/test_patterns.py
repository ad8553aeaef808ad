"""Patterns that choose nodes: a misspelt one ends the run, one whose node is gone is a skip."""

from __future__ import annotations

import numpy as np
import pytest

from graphopt import optimize
from graphopt.contract.passes import Changes
from graphopt.contract.patterns import check_patterns, skip_void
from graphopt.contract.spec import parse_passes
from graphopt.errors import UsageError
from graphopt.graph import io
from graphopt.testing import MODELS, model_from_text

HEAD = '<ir_version: 8, opset_import: ["" : 17]>'
GONE = "no node of this name or type is left: a pass before took it"


@pytest.mark.parametrize(
    "spec",
    [
        "mask-weights{nodes=conv_9}",
        "eliminate-dead,quantize-dynamic{exclude=[Conv,conv_9]}",
        "prune-iteratively{prune=conv_9}",
        "prune-iteratively{keep=conv_9}",
    ],
)
def test_a_pattern_that_matches_nothing_in_the_input_is_an_error(spec: str) -> None:
    graph = io.load(MODELS["cnn"]())
    with pytest.raises(UsageError, match="pattern 'conv_9' matches no node; nearest: 'conv_"):
        check_patterns(parse_passes(spec), graph)
    check_patterns(parse_passes(spec.replace("conv_9", "conv_*")), graph)


def test_defaults_may_match_nothing() -> None:
    graph = io.load(MODELS["mlp"]())  # which has no depthwise layer
    check_patterns(parse_passes("palettize-weights"), graph)
    with pytest.raises(UsageError, match="'depthwise' matches no node"):
        check_patterns(parse_passes("palettize-weights{eight_bits=[depthwise]}"), graph)


def test_the_label_that_an_unnamed_node_gets_from_its_tensor_may_come() -> None:
    text = f"""{HEAD} g (float[N,4] x) => (float[N,4] y) {{
      r = Relu (x)
      y = Identity (r)
    }}"""
    graph = io.load(model_from_text(text, {}))
    check_patterns(parse_passes("eliminate-identity,mask-weights{exclude=Relu(y)}"), graph)
    with pytest.raises(UsageError, match="matches no node"):
        check_patterns(parse_passes("mask-weights{exclude=Relu(z)}"), graph)


def test_what_a_pass_before_took_is_a_skip() -> None:
    graph, changes = io.load(MODELS["cnn"]()), Changes()
    skip_void(parse_passes("mask-weights{nodes=[Conv,gone],exclude=lost}")[0], graph, changes)
    assert [(each.node, each.reason) for each in changes.skips] == [("gone", GONE), ("lost", GONE)]


def test_a_misspelt_pattern_of_the_last_pass_ends_the_run_before_the_first() -> None:
    seen: list[str] = []
    with pytest.raises(UsageError, match="'batchnormalization_9' matches no node"):
        optimize(
            MODELS["cnn"](),
            "fuse-batchnorm,mask-weights{exclude=batchnormalization_9}",
            progress=lambda name, *_: seen.append(name),
        )
    assert seen == []


def test_a_pattern_whose_node_is_fused_away_leaves_the_run_going() -> None:
    data = {"x": np.random.default_rng(0).normal(size=(4, 3, 8, 8)).astype(np.float32)}
    model = MODELS["cnn"]()
    fused = next(node.name for node in model.graph.node if node.op_type == "BatchNormalization")
    result = optimize(
        model, f"fuse-batchnorm,mask-weights{{min_size=1,exclude={fused}}}", evaluation=data
    )
    assert [record.status for record in result.report.passes] == ["done", "done"]
    skips = {skip.node: skip.reason for skip in result.report.passes[1].skipped}
    assert skips[fused] == GONE
