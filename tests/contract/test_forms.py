"""Forms of layers, and what a choice of them comes to."""

from __future__ import annotations

import numpy as np
import pytest

from graphopt.contract.forms import (
    FORMS,
    FormFigures,
    LayerFigures,
    LayerForm,
    ModelFigures,
    form_named,
)
from graphopt.contract.spec import parse_passes
from graphopt.errors import UsageError

SHARED = ("t", False)
FIGURES = ModelFigures(
    layers=(
        LayerFigures("a", "Conv", {"int8-static": FormFigures(0.001, 10, None, (SHARED,))}),
        LayerFigures("b", "Conv", {"int8-static": FormFigures(0.002, 10, None, (SHARED,))}),
    ),
    grids={SHARED: 0.004},
)


def test_a_grid_that_layers_share_makes_its_noise_once() -> None:
    assert FIGURES.summed({}) == FIGURES.noise({}) == 0.0
    assert FIGURES.summed({"a": "int8-static"}) == FIGURES.alone("a", "int8-static") == 0.005
    both = {"a": "int8-static", "b": "int8-static"}
    assert FIGURES.summed(both) == pytest.approx(0.007)
    assert FIGURES.noise(both) == pytest.approx(0.007 / 1.0035)


@pytest.mark.parametrize("power", [0.01, 0.3, 10.0])
def test_answers_that_have_nothing_in_common_are_twice_their_power_apart(power: float) -> None:
    """An answer that is scaled back to its power after noise was added, as a classifier does."""
    rng = np.random.default_rng(0)
    right = rng.normal(size=100_000)
    noisy = right + np.sqrt(power) * rng.normal(size=right.shape)
    found = np.square(noisy / np.std(noisy) - right).mean()
    layers = (LayerFigures("a", "Conv", {"x": FormFigures(power, 1)}),)
    predicted = ModelFigures(layers, {}).noise({"a": "x"})
    assert predicted == pytest.approx(found, rel=0.35)
    assert predicted < power


@pytest.mark.parametrize("form", FORMS, ids=lambda form: form.name)
def test_the_passes_of_each_form_exist(form: LayerForm) -> None:
    assert form_named(form.name) is form
    if form.spec:
        assert parse_passes(form.spec)[-1].quantizes


def test_a_form_that_there_is_not() -> None:
    with pytest.raises(UsageError, match="unknown form 'int8-weight'; did you mean 'int8-weights'"):
        form_named("int8-weight")
