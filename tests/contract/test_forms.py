"""Forms of layers, and what a choice of them comes to."""

from __future__ import annotations

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
        LayerFigures("a", "Conv", {"int8-static": FormFigures(1.0, 10, None, (SHARED,))}),
        LayerFigures("b", "Conv", {"int8-static": FormFigures(2.0, 10, None, (SHARED,))}),
    ),
    grids={SHARED: 4.0},
)


def test_a_grid_that_layers_share_makes_its_noise_once() -> None:
    assert FIGURES.noise({}) == 0.0
    assert FIGURES.noise({"a": "int8-static"}) == FIGURES.alone("a", "int8-static") == 5.0
    assert FIGURES.noise({"a": "int8-static", "b": "int8-static"}) == 7.0


@pytest.mark.parametrize("form", FORMS, ids=lambda form: form.name)
def test_the_passes_of_each_form_exist(form: LayerForm) -> None:
    assert form_named(form.name) is form
    if form.spec:
        assert parse_passes(form.spec)[-1].quantizes


def test_a_form_that_there_is_not() -> None:
    with pytest.raises(UsageError, match="unknown form 'int8-weight'; did you mean 'int8-weights'"):
        form_named("int8-weight")
