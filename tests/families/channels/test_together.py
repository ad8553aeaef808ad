"""Widths of all groups tried together, with layers solved again."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import onnx
import pytest

from graphopt.contract.passes import Changes, Walk
from graphopt.errors import PassError
from graphopt.families.channels import together
from graphopt.families.channels.curves import plain_curves
from graphopt.families.channels.narrowable import Narrowable
from graphopt.families.channels.together import Together, corrected_curves
from graphopt.graph.graph import Graph
from graphopt.numerics.narrowing import Curve, allocate
from graphopt.passes.prune import PruneChannels
from graphopt.testing import apply_pass, model_from_text

Blocks = tuple[Narrowable, list[Curve]]


def _residual() -> onnx.ModelProto:
    """Two residual blocks of 8 channels: three groups, of which one is the stream."""
    rng = np.random.default_rng(4)
    sizes = {"W0": (8, 3), "W1": (8, 8), "W2": (8, 8), "W3": (8, 8), "W4": (8, 8), "W5": (5, 8)}
    return model_from_text(
        """<ir_version: 8, opset_import: ["" : 17]>
        residual (float[N,3,8,8] x) => (float[N,5,8,8] y) {
          c = Conv <pads = [1, 1, 1, 1]> (x, W0)
          s = Relu (c)
          c1 = Conv <pads = [1, 1, 1, 1]> (s, W1)
          r1 = Relu (c1)
          c2 = Conv <pads = [1, 1, 1, 1]> (r1, W2)
          a = Add (s, c2)
          t = Relu (a)
          c3 = Conv <pads = [1, 1, 1, 1]> (t, W3)
          r3 = Relu (c3)
          c4 = Conv <pads = [1, 1, 1, 1]> (r3, W4)
          b = Add (t, c4)
          u = Relu (b)
          y = Conv <pads = [1, 1, 1, 1]> (u, W5)
        }""",
        {
            name: rng.normal(size=(*size, 3, 3), scale=0.15).astype(np.float32)
            for name, size in sizes.items()
        },
    )


@pytest.fixture
def blocks(monkeypatch: pytest.MonkeyPatch) -> Blocks:
    """The model as the pass looks at it, and curves that say nothing of the answers."""
    seen: list[Narrowable] = []

    def nothing(
        _: PruneChannels, model: Narrowable, changes: Changes
    ) -> tuple[list[object], float]:
        seen.append(model)
        return [], 1.0

    monkeypatch.setattr(PruneChannels, "_cuts", nothing)
    images = np.random.default_rng(0).normal(size=(32, 3, 8, 8)).astype(np.float32)
    apply_pass(PruneChannels(round_to=1), _residual(), samples={"x": images})
    return seen[0], plain_curves(seen[0].ways)


def _cost(widths: Sequence[int]) -> float:
    return float(sum(widths))


def test_nothing_cut_hurts_nothing(blocks: Blocks) -> None:
    model, _ = blocks
    assert Together(model).damage(model.whole) < 1e-4


def test_solving_again_makes_up_for_some_of_it(
    blocks: Blocks, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, _ = blocks
    widths = [6, 5, 5]
    repaired = Together(model).damage(widths)
    monkeypatch.setattr(Together, "_solve", lambda *_: None)
    assert 0 < repaired < Together(model).damage(widths)


def test_widths_are_no_worse_than_those_by_what_groups_do_alone(blocks: Blocks) -> None:
    model, curves = blocks
    corrected = corrected_curves(model, curves, _cost, 16.0, 10)
    before, after = (allocate(each, _cost, 16.0) for each in (curves, corrected))
    assert _cost(after) <= 16
    tried = Together(model)
    assert before != after
    assert tried.damage(after, 2) < tried.damage(before, 2)


def test_the_original_runs_once_for_all_tries(blocks: Blocks) -> None:
    model, curves = blocks
    walked: list[bool] = []

    def walk(graph: Graph, limit: int) -> Walk:
        walked.append(graph is model.context.reference)
        return model.context.walk(graph, limit)

    counted = replace(model, context=replace(model.context, walk=walk))
    corrected_curves(counted, curves, _cost, 16.0, 4)
    assert walked.count(True) == 2  # once more with care
    assert walked.count(False) > 4


@pytest.mark.parametrize("tries", [0, 1])
def test_one_try_decides_nothing(blocks: Blocks, tries: int) -> None:
    model, curves = blocks
    assert corrected_curves(model, curves, _cost, 16.0, tries) == curves


def test_what_takes_too_long_is_not_tried(blocks: Blocks, monkeypatch: pytest.MonkeyPatch) -> None:
    model, curves = blocks
    monkeypatch.setattr(together, "_MOST_MACS", 1e5)
    assert corrected_curves(model, curves, _cost, 16.0, 10) == curves


def test_where_layers_cannot_be_solved_again_curves_stay(blocks: Blocks) -> None:
    model, curves = blocks

    def walk(graph: Graph, limit: int) -> Walk:
        if graph is model.context.reference:
            raise PassError("the samples take more memory than is allowed")
        return model.context.walk(graph, limit)

    short = replace(model, context=replace(model.context, walk=walk))
    assert corrected_curves(short, curves, _cost, 16.0, 10) == curves
