"""Which layers hurt most: one at a time on integers, all others float."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from graphopt.contract.spec import parse_passes
from graphopt.data import open_data
from graphopt.deadline import Deadline
from graphopt.errors import PassError
from graphopt.graph import io
from graphopt.run.means import Means
from graphopt.run.sequence import run_passes
from graphopt.run.stage import Stage
from graphopt.search import sensitivity
from graphopt.search.sensitivity import sensitive_layers
from graphopt.testing import model_from_text, staged

RNG = np.random.default_rng(2)
TEXT = """<ir_version: 8, opset_import: ["" : 13]>
g (float[N, 4, 6, 6] x) => (float[N, 4, 6, 6] y) {
    [fine] a = Conv(x, w)
    r = Relu(a)
    b = Mul(r, outlier)
    [rough] c = Conv(b, v)
    s = Relu(c)
    [last] y = Conv(s, w)
}"""


def staged_of(text: str = TEXT, **options: Any) -> tuple[Stage, Means]:
    """``rough`` reads one channel that is 300 times as large as the others, and ignores it."""
    outlier = np.ones((1, 4, 1, 1), np.float32)
    outlier[0, 2] = 300
    v = RNG.normal(size=(4, 4, 1, 1)).astype(np.float32)
    v[:, 2] = 1e-4
    w = np.eye(4, dtype=np.float32).reshape(4, 4, 1, 1)
    graph = io.load(model_from_text(text, {"w": w, "v": v, "outlier": outlier}))
    samples = open_data({"x": RNG.normal(size=(8, 4, 6, 6)).astype(np.float32)}, graph)
    return staged(graph, samples=samples, target="x86-avx2", **options)


def test_the_layer_behind_an_outlier_comes_first() -> None:
    stage, means = staged_of()
    before = io.whole(stage.graph).SerializeToString()
    found = list(sensitive_layers(stage, means))
    assert found[0] == "rough"
    assert sorted(found) == ["fine", "last", "rough"]
    assert io.whole(stage.graph).SerializeToString() == before


def test_a_layer_that_stays_float_anyway_comes_last() -> None:
    computed = TEXT.replace(
        "[last] y = Conv(s, w)", "[last] t = ConvTranspose(s, w) y = Conv(t, v)"
    )
    found = list(sensitive_layers(*staged_of(computed)))
    assert found[0] == "rough"
    assert found[-1] == "last"


def test_names_that_look_like_patterns_mean_their_own_layer() -> None:
    stage, means = staged_of()
    odd = {"fine": "a[0]*", "rough": 'r, "o" \\u', "last": "?"}
    for node in stage.graph.main.nodes:
        node.name = odd.get(node.name, node.name)
    assert next(iter(sensitive_layers(stage, means))) == 'r, "o" \\u'


def test_the_noise_of_a_layer_is_that_of_the_model_with_it_alone_on_integers() -> None:
    stage, means = staged_of()
    noise = sensitive_layers(stage, means)
    alone = "quantize-static{nodes=rough},correct-bias"
    after, _ = run_passes(stage, means, parse_passes(alone))
    assert means.judge is not None
    close = means.judge.compare(after.answers).close_db
    assert close == pytest.approx(-10 * math.log10(noise["rough"]), abs=1.0)


def test_of_large_models_neighbours_are_measured_together_and_loud_ones_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    steps: list[tuple[str, int, int]] = []
    stage, means = staged_of(progress=lambda *step: steps.append(step[:3]))
    single = sensitive_layers(stage, means)
    steps.clear()
    monkeypatch.setattr(sensitivity, "_plan", lambda macs, layers: (16, 2))
    grouped = sensitive_layers(stage, means)
    assert [step for step in steps if step[0].startswith("measure")] == [
        ("measure layers", 0, 2),
        ("measure layers", 1, 2),
        ("measure layers alone", 0, 2),
        ("measure layers alone", 1, 2),
    ]
    assert grouped["rough"] == pytest.approx(single["rough"])
    assert next(iter(grouped)) == "rough"


@pytest.mark.parametrize(
    ("macs", "layers", "plan"),
    [(1000, 10, (16, 1)), (10**10, 10, (1, 1)), (2 * 10**10, 10, (1, 2)), (10**12, 10, (1, 4))],
)
def test_what_is_measured_follows_from_what_the_model_computes(
    macs: int, layers: int, plan: tuple[int, int]
) -> None:
    assert sensitivity._plan(macs, layers) == plan


def test_when_the_time_is_over_nothing_is_ranked() -> None:
    stage, means = staged_of(deadline=Deadline(0.0))
    with pytest.raises(PassError, match="time limit of 0 s was over before all "):
        sensitive_layers(stage, means)


def test_progress_is_told() -> None:
    steps: list[tuple[str, int, int]] = []
    sensitive_layers(*staged_of(progress=lambda *step: steps.append(step[:3])))
    assert ("measure layers", 0, 3) in steps
    assert ("measure layers", 2, 3) in steps
