"""Noise, bytes and time of each layer in each form: one at a time, all others float."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from graphopt.contract.forms import FORMS, ModelFigures, form_named
from graphopt.contract.spec import parse_passes
from graphopt.data import open_data
from graphopt.deadline import Deadline
from graphopt.errors import PassError
from graphopt.families.mixture import mixture_bytes
from graphopt.graph import io
from graphopt.run import layer_forms
from graphopt.run.drive import form_maker
from graphopt.run.form_twins import Made
from graphopt.run.layer_forms import Measured, measure_forms, with_times
from graphopt.run.means import Means
from graphopt.run.sequence import run_passes
from graphopt.run.stage import Stage
from graphopt.testing import model_from_text, networks, staged

TEXT = """<ir_version: 8, opset_import: ["" : 13]>
g (float[N, 4, 6, 6] x) => (float[N, 4, 6, 6] y) {
    [fine] a = Conv(x, w)
    r = Relu(a)
    b = Mul(r, outlier)
    [rough] c = Conv(b, v)
    s = Relu(c)
    [last] y = Conv(s, w)
}"""
STATIC = (form_named("int8-static"),)


def staged_of(text: str = TEXT, **options: Any) -> tuple[Stage, Means]:
    """``rough`` reads one channel that is 300 times as large as the others, and ignores it."""
    rng = np.random.default_rng(2)
    outlier = np.ones((1, 4, 1, 1), np.float32)
    outlier[0, 2] = 300
    v = rng.normal(size=(4, 4, 1, 1)).astype(np.float32)
    v[:, 2] = 1e-4
    w = np.eye(4, dtype=np.float32).reshape(4, 4, 1, 1) + np.float32(0.013)
    graph = io.load(model_from_text(text, {"w": w, "v": v, "outlier": outlier}))
    samples = open_data({"x": rng.normal(size=(8, 4, 6, 6)).astype(np.float32)}, graph)
    return staged(graph, samples=samples, target="x86-avx2", **options)


def figures_of(forms: Any = STATIC, **options: Any) -> ModelFigures:
    stage, means = staged_of(**options)
    return measure_forms(stage, means, forms, form_maker(stage, means))


def test_the_model_stays_as_it_is() -> None:
    stage, means = staged_of()
    before = io.whole(stage.graph).SerializeToString()
    measure_forms(stage, means, STATIC, form_maker(stage, means))
    assert io.whole(stage.graph).SerializeToString() == before


def test_the_noise_of_a_layer_is_that_of_the_model_with_it_alone_in_that_form() -> None:
    stage, means = staged_of()
    figures = measure_forms(stage, means, STATIC, form_maker(stage, means))
    after, _ = run_passes(stage, means, parse_passes("quantize-static{nodes=rough},correct-bias"))
    assert means.judge is not None
    close = means.judge.compare(after.answers).close_db
    predicted = -10 * math.log10(figures.alone("rough", "int8-static"))
    assert close == pytest.approx(predicted, abs=1.0)


def test_noises_of_several_layers_add_up_to_about_what_they_do_together() -> None:
    stage, means = staged_of()
    figures = measure_forms(stage, means, STATIC, form_maker(stage, means))
    after, _ = run_passes(stage, means, parse_passes("quantize-static,correct-bias"))
    assert means.judge is not None
    close = means.judge.compare(after.answers).close_db
    every = {each.node: "int8-static" for each in figures.layers}
    assert close == pytest.approx(-10 * math.log10(figures.noise(every)), abs=1.5)
    assert figures.noise(every) < sum(figures.alone(*pair) for pair in every.items())  # one grid


def test_fewer_bits_are_noisier_and_smaller() -> None:
    text = """<ir_version: 8, opset_import: ["" : 13]>
    g (float[N, 16, 6, 6] x) => (float[N, 16, 6, 6] y) {
        [one] a = Conv <pads = [1, 1, 1, 1]> (x, w)
        r = Relu(a)
        [two] y = Conv <pads = [1, 1, 1, 1]> (r, v)
    }"""
    graph = io.load(model_from_text(text, {"w": (16, 16, 3, 3), "v": (16, 16, 3, 3)}))
    x = np.random.default_rng(5).normal(size=(8, 16, 6, 6)).astype(np.float32)
    stage, means = staged(graph, samples=open_data({"x": x}, graph), target="x86-vnni")
    figures = measure_forms(stage, means, FORMS, form_maker(stage, means))
    assert figures.reasons == {"int8-dynamic": "found nothing in this model that it changes"}
    for each in figures.layers:
        eight, four = each.forms["int8-weights"], each.forms["int4-weights"]
        assert 0 < eight.noise < four.noise
        assert each.forms["float32"].bytes > eight.bytes > four.bytes
        assert each.forms["float32"].noise == 0.0
        assert each.forms["int8-static"].noise == eight.noise  # the same codes
        assert not eight.grids
        assert each.forms["int8-static"].grids
    assert figures.samples == 8


def test_bytes_add_up_to_those_of_the_file_where_a_layer_lacks_the_form() -> None:
    graph = io.load(networks.cnn())
    x = np.random.default_rng(5).normal(size=(8, 3, 8, 8)).astype(np.float32)
    stage, means = staged(graph, samples=open_data({"x": x}, graph), target="generic")
    make = form_maker(stage, means)
    figures = measure_forms(stage, means, STATIC, make)
    having = {each.node: "int8-static" for each in figures.layers if "int8-static" in each.forms}
    assert 0 < len(having) < len(figures.layers)
    made = make("quantize-static")
    assert not isinstance(made, str)
    assert mixture_bytes(figures, having) == pytest.approx(io.size(made), abs=len(having))


def test_a_linear_layer_has_a_form_whose_grid_each_run_finds() -> None:
    text = """<ir_version: 8, opset_import: ["" : 13]>
    g (float[N, 64] x) => (float[N, 8] y) { [fc] y = Gemm(x, w) }"""
    rng = np.random.default_rng(0)
    graph = io.load(model_from_text(text, {"w": (64, 8)}))
    samples = open_data({"x": rng.normal(size=(8, 64)).astype(np.float32)}, graph)
    stage, means = staged(graph, samples=samples, target="x86-vnni")
    figures = measure_forms(stage, means, FORMS, form_maker(stage, means))
    (layer,) = figures.layers
    assert layer.forms["int8-dynamic"].grids == (("x", True),)
    assert layer.forms["int8-dynamic"].noise == layer.forms["int8-weights"].noise
    after, _ = run_passes(stage, means, parse_passes("quantize-dynamic{min_size=0}"))
    assert means.judge is not None
    close = means.judge.compare(after.answers).close_db
    predicted = -10 * math.log10(figures.alone("fc", "int8-dynamic"))
    assert close == pytest.approx(predicted, abs=1.5)


def test_what_is_known_is_not_measured_again(monkeypatch: pytest.MonkeyPatch) -> None:
    stage, means = staged_of()
    kept: list[Measured] = []
    make = form_maker(stage, means)
    first = measure_forms(stage, means, STATIC, make, keep=lambda m: kept.append(dict(m)))
    assert [len(each) for each in kept] == list(range(1, len(kept) + 1))
    asked: list[object] = []

    def power(_: object, group: object) -> float:
        asked.append(group)
        return 1.0

    monkeypatch.setattr(layer_forms._Meter, "_power", power)
    assert measure_forms(stage, means, STATIC, make, known=kept[-1]) == first
    assert not asked
    measure_forms(stage, means, STATIC, make, known=kept[0])
    assert len(asked) == len(kept) - 1


def test_of_large_models_neighbours_are_measured_together_and_loud_ones_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    steps: list[tuple[str, int, int]] = []
    single = figures_of()
    monkeypatch.setattr(layer_forms, "_plan", lambda macs, parts: (16, 2))
    grouped = figures_of(progress=lambda *step: steps.append(step[:3]))
    told = [step for step in steps if step[0].startswith("measure")]
    assert told[-1] == ("measure layers alone", 1, 2)
    assert len([step for step in told if step[0] == "measure layers"]) == 4  # of 7 parts
    loudest = max(single.grids, key=lambda grid: single.grids[grid])
    assert grouped.grids[loudest] == pytest.approx(single.grids[loudest])


@pytest.mark.parametrize(
    ("macs", "parts", "plan"),
    [(1000, 10, (32, 1)), (10**10, 10, (1, 1)), (2 * 10**10, 10, (1, 2)), (10**12, 10, (1, 4))],
)
def test_what_is_measured_follows_from_what_the_model_computes(
    macs: int, parts: int, plan: tuple[int, int]
) -> None:
    assert layer_forms._plan(macs, parts) == plan


def test_when_the_time_is_over_the_rest_is_left_out_or_nothing_is_said(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    stage, means = staged_of(deadline=Deadline(60.0))
    made = form_maker(stage, means)("quantize-static")

    def make(_: str) -> Made:
        return made

    over = iter([False, False, False, False, True])
    monkeypatch.setattr(Deadline, "over", property(lambda _: next(over)))
    found = measure_forms(stage, means, STATIC, make, partly=True)
    assert found.unmeasured == 5
    monkeypatch.setattr(Deadline, "over", property(lambda _: True))
    with pytest.raises(PassError, match="was over before all layers were measured"):
        measure_forms(stage, means, STATIC, make)


def test_where_no_layer_has_a_form_the_reason_is_told() -> None:
    stage, means = staged_of()

    def refused(spec: str) -> Made:
        return f"{spec} does not suit"

    with pytest.raises(PassError, match="has any of these forms; quantize-static does not suit"):
        measure_forms(stage, means, STATIC, refused)


def test_times_are_those_of_the_layers_in_each_form() -> None:
    stage, means = staged_of()
    make = form_maker(stage, means)
    figures = measure_forms(stage, means, STATIC, make)
    assert all(form.ms is None for each in figures.layers for form in each.forms.values())
    timed = with_times(figures, stage, means, {"int8-static": make("quantize-static")})
    for each in timed.layers:
        assert all(form.ms is not None and form.ms >= 0 for form in each.forms.values())
