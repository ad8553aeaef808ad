"""Which layers are worth to be kept float: by error, time and bytes of each."""

from __future__ import annotations

import numpy as np
import pytest

from graphopt.contract.forms import FormFigures, LayerFigures, ModelFigures, form_named
from graphopt.data import open_data
from graphopt.graph import io
from graphopt.run.drive import form_maker
from graphopt.run.layer_forms import measure_forms
from graphopt.run.quality import Quality
from graphopt.runtime.latency import Ratio
from graphopt.search.candidate import Candidate
from graphopt.search.mixing import MixedForecast, forecast_of, forecasts, worth_trying
from graphopt.testing import MODELS, model_from_text, staged

STAGE = staged(io.load(MODELS["no-layers"]()), judged=False)[0]


def static(db: float, ratio: float = 0.5) -> Candidate:
    quality = Quality(sqnr_db={"y": db})
    return Candidate("static", "int8", [], STAGE, [], 300, Ratio(ratio, 0.01), quality)


def layer_of(name: str, noise: float, ms: tuple[float, float]) -> LayerFigures:
    """A layer with its time in floats and on integers, and a grid in front of it."""
    grids = ((f"before {name}", False),)
    forms = {
        "float32": FormFigures(0.0, 40, ms[0]),
        "int8-static": FormFigures(noise, 10, ms[1], grids),
    }
    return LayerFigures(name, "Conv", forms)


def figures_of(*layers: LayerFigures, borders: float = 0.0) -> ModelFigures:
    grids = dict.fromkeys((form.grids[0] for each in layers for form in _integer(each)), 0.0)
    return ModelFigures(layers, grids, borders=dict.fromkeys(grids, borders))


def _integer(each: LayerFigures) -> list[FormFigures]:
    return [form for form in each.forms.values() if form.grids]


def test_of_two_loud_layers_the_one_that_gains_no_time_stays_float() -> None:
    """A depthwise layer is no faster on integers: to keep it float costs nothing."""
    figures = figures_of(
        layer_of("depthwise", 0.5, (1.0, 1.0)),
        layer_of("dense", 0.5, (4.0, 1.0)),
        layer_of("quiet", 0.001, (5.0, 1.0)),
    )
    first = forecasts(figures)[0]
    assert first.floats == ("depthwise",)
    assert first.gain_db == pytest.approx(3.0, abs=0.02)
    assert (first.slower, first.larger) == (0.0, 30)
    most = forecasts(figures)[-1]
    assert most.floats == ("depthwise", "dense")
    assert most.slower == pytest.approx(0.3)


def test_more_gain_takes_more_layers() -> None:
    figures = figures_of(*(layer_of(str(n), 2.0**-n, (2.0, 1.0)) for n in range(8)))
    found = forecasts(figures)
    gains, counts = [each.gain_db for each in found], [len(each.floats) for each in found]
    assert gains == sorted(gains)
    assert counts == sorted(set(counts))
    assert found[0].floats == ("0",)
    assert all(each.floats == tuple(map(str, range(len(each.floats)))) for each in found)


def test_without_times_bytes_decide() -> None:
    layers = [
        LayerFigures(
            name,
            "Conv",
            {"float32": FormFigures(0.0, size), "int8-static": FormFigures(0.5, 10, None, ())},
        )
        for name, size in (("large", 400), ("small", 40))
    ]
    assert forecasts(ModelFigures(tuple(layers), {}))[0].floats == ("small",)


def test_a_layer_that_is_faster_in_floats_takes_less_time() -> None:
    layers = (layer_of("depthwise", 0.5, (1.0, 2.0)), layer_of("dense", 0.1, (4.0, 1.0)))
    assert forecasts(figures_of(*layers))[0].slower == pytest.approx(-1 / 5)


def mixture(gain: float, slower: float) -> MixedForecast:
    return MixedForecast((f"gains {gain:g}",), gain, slower, 0)


@pytest.mark.parametrize(
    ("mixtures", "db", "needed", "gains"),
    [
        ([(2.0, 0.01)], 20.0, 0.0, [2.0]),
        ([(2.0, 0.01), (6.0, 0.02), (8.0, 0.3), (9.5, 0.04)], 18.0, 0.0, [9.5]),
        ([(2.0, 0.0), (6.0, 0.08)], 24.0, 0.0, [2.0, 6.0]),
        ([(2.0, 0.0), (4.0, 0.04), (6.0, 0.09)], 24.0, 0.0, [4.0]),  # costs hardly more than 2 dB
        ([(2.0, 0.01), (6.0, 0.02)], 8.0, 5.0, [6.0]),
        ([(2.0, 0.01), (6.0, 0.02)], 8.0, 30.0, []),  # what was asked is out of reach
        ([(2.0, 0.4)], 20.0, 0.0, []),  # too slow
        ([(1.5, 0.0)], 27.9, 0.0, []),  # close enough
    ],
)
def test_only_what_may_pay_is_tried(
    mixtures: list[tuple[float, float]], db: float, needed: float, gains: list[float]
) -> None:
    form = static(db)
    known = [mixture(*each) for each in mixtures]
    found, why = worth_trying(known, form, form.cost(1000), 1000, needed)
    assert [each.gain_db for each in found] == gains
    assert ("which does not pay" in why) == (not gains)


def test_a_model_without_a_choice_has_none() -> None:
    assert worth_trying([], static(10.0), 0.0, 1000) == ([], "")


TEXT = """<ir_version: 8, opset_import: ["" : 13]>
g (float[N, 32, 6, 6] x) => (float[N, 32, 6, 6] y) {
    [fine] a = Conv(x, w)
    r = Relu(a)
    b = Mul(r, outlier)
    [rough] c = Conv(b, v)
    s = Relu(c)
    [last] y = Conv(s, w)
}"""


def test_the_layer_behind_an_outlier_stays_float_first() -> None:
    """``rough`` reads one channel that is 300 times as large as the others, and ignores it."""
    rng = np.random.default_rng(2)
    outlier = np.ones((1, 32, 1, 1), np.float32)
    outlier[0, 2] = 300
    v = rng.normal(size=(32, 32, 1, 1)).astype(np.float32)
    v[:, 2] = 1e-4
    w = np.eye(32, dtype=np.float32).reshape(32, 32, 1, 1)
    graph = io.load(model_from_text(TEXT, {"w": w, "v": v, "outlier": outlier}))
    samples = open_data({"x": rng.normal(size=(8, 32, 6, 6)).astype(np.float32)}, graph)
    stage, means = staged(graph, samples=samples, target="x86-avx2")
    forms = [form_named("float32"), form_named("int8-static")]
    figures = measure_forms(stage, means, forms, form_maker(stage, means))
    found = forecasts(figures)  # times of so small a model say nothing
    assert found
    assert all("rough" in each.floats for each in found)
    assert found[0].gain_db > 10
    timed = forecast_of(stage, means)
    # clocks decide which layers, or that all had better be float; never that a mixture is no closer
    assert all(each.floats and each.gain_db >= 1 for each in timed)
