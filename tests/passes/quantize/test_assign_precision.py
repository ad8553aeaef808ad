"""A form for each layer under one budget, measured as a whole."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from graphopt.contract.spec import parse_passes
from graphopt.data import open_data
from graphopt.errors import UsageError
from graphopt.facts.layers import Layer, layer
from graphopt.graph import io
from graphopt.graph.node import label
from graphopt.run.drive import Outcome, drive
from graphopt.testing import model_from_text, staged

TEXT = """<ir_version: 8, opset_import: ["" : 21]>
g (float[N, 16, 6, 6] x) => (float[N, 16, 6, 6] y) {
    [loud] a = Conv <pads = [1, 1, 1, 1]> (x, w)
    r = Relu(a)
    [quiet] b = Conv <pads = [1, 1, 1, 1]> (r, v)
    t = Mul(b, small)
    y = Add(a, t)
}"""


def assigned(options: str, **means: Any) -> Outcome:
    """``quiet`` hardly reaches the output, ``loud`` is most of it."""
    rng = np.random.default_rng(2)
    weights: dict[str, Any] = {"w": (16, 16, 3, 3), "v": (16, 16, 3, 3)}
    weights["small"] = np.array(0.01, np.float32)
    graph = io.load(model_from_text(TEXT, weights))
    x = rng.normal(size=(16, 16, 6, 6)).astype(np.float32)
    stage, found = staged(graph, samples=open_data({"x": x}, graph), target="x86-vnni", **means)
    (item,) = parse_passes(f"assign-precision{options}")
    return drive(item, stage, found)


def bits(outcome: Outcome) -> dict[str, int]:
    """Bits of the weight of each layer."""
    found = {}
    for node in outcome.stage.graph.main.nodes:
        one = layer(outcome.stage.graph.main, node)
        if isinstance(one, Layer):
            constant = one.weight.constant
            found[label(node)] = round(8 * constant.nbytes / math.prod(constant.shape))
    return found


WEIGHTS = "forms=[int8-weights,int4-weights],rounding=nearest"


def test_the_layer_that_the_answers_need_keeps_more_bits() -> None:
    assert bits(assigned(f"{{bytes=0.5,{WEIGHTS}}}")) == {"loud": 8, "quiet": 8}
    assert bits(assigned(f"{{bytes=0.27,{WEIGHTS}}}")) == {"loud": 8, "quiet": 4}
    assert bits(assigned(f"{{min_sqnr=36,{WEIGHTS}}}")) == {"loud": 8, "quiet": 4}
    assert bits(assigned(f"{{min_sqnr=10,{WEIGHTS}}}")) == {"loud": 4, "quiet": 4}


def test_what_came_of_it_is_told() -> None:
    outcome = assigned("{min_sqnr=36,forms=[int8-weights,int4-weights],rounding=nearest}")
    edits = {edit.node: edit.what for edit in outcome.changes.edits}
    assert edits["loud"].startswith("int8-weights, alone ")
    assert edits["quiet"].startswith("int4-weights, alone ")
    told = edits["the model"]
    assert told.startswith("1 int8-weights, 1 int4-weights; ")
    measured, predicted = (float(part.split()[0]) for part in told.split("; ")[1].split(", ")[:2])
    assert outcome.quality is not None
    assert outcome.quality.close_db == pytest.approx(measured, abs=0.1)
    assert predicted == pytest.approx(measured, abs=1.5)
    assert outcome.changes.missed is None


def test_layers_stay_float_where_a_limit_asks_for_it() -> None:
    outcome = assigned(f"{{min_sqnr=60,{WEIGHTS}}}")
    assert bits(outcome)["loud"] == 32
    assert bits(outcome)["quiet"] < 32
    assert [skip.node for skip in outcome.changes.skips] == ["loud"]
    assert outcome.quality is not None
    assert (outcome.quality.close_db or 0) > 60


def test_codes_by_data_come_closer_than_the_nearest() -> None:
    budget = "{bytes=0.5,forms=[int8-static,int4-static],rounding="
    nearest, data = assigned(budget + "nearest}"), assigned(budget + "data}")
    assert bits(nearest) == bits(data)
    assert nearest.quality is not None
    assert data.quality is not None
    assert (data.quality.close_db or 0) > (nearest.quality.close_db or 0)


def test_a_budget_that_cannot_be_kept_is_told() -> None:
    outcome = assigned(f"{{bytes=0.05,{WEIGHTS}}}")
    assert (outcome.status, outcome.reason) == (
        "nothing to do",
        "no choice of these forms keeps to the budget",
    )
    assert str(outcome.changes.missed).startswith("bytes=0.05 cannot be told to be kept")
    outcome = assigned("{min_sqnr=500}")
    assert outcome.reason == "all layers stay float: that spends the budget best"


def test_without_a_run_of_the_model_it_is_refused() -> None:
    outcome = assigned("", judged=False)
    assert (outcome.status, outcome.reason) == (
        "refused",
        "the model was not run, so nothing shows what forms do to its answers",
    )


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ("{bytes=0.5,min_sqnr=20}", "bytes and min_sqnr exclude each other; give one"),
        ("{forms=int8-statik}", "unknown form 'int8-statik'; did you mean 'int8-static'?"),
        ("{bytes=1.5}", "bytes"),
    ],
)
def test_options_that_make_no_sense(options: str, words: str) -> None:
    with pytest.raises(UsageError, match=words.replace("?", r"\?")):
        parse_passes(f"assign-precision{options}")
