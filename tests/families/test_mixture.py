"""A form for each layer under one budget, and the passes that make it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import pytest

from graphopt.contract.forms import FLOAT, FORMS, FormFigures, LayerFigures, ModelFigures
from graphopt.contract.spec import parse_passes
from graphopt.families.mixture import mixture_bytes, mixture_ms, mixture_spec, quietest, smallest

T = ("t", False)
U = ("u", False)


def layer_of(name: str, eight: float, four: float, *grids: tuple[str, bool]) -> LayerFigures:
    """A layer of 100 bytes and 1 ms that needs some grids."""
    return LayerFigures(
        name,
        "Conv",
        {
            "float32": FormFigures(0.0, 100, 1.0),
            "int8-static": FormFigures(eight, 25, 0.5, grids),
            "int4-static": FormFigures(four, 13, 0.9, grids),
        },
    )


FIGURES = ModelFigures(
    (layer_of("a", 0.001, 0.1, T), layer_of("b", 0.001, 0.004, T, U)),
    {T: 0.002, U: 0.05},
    bytes=10,
)
STATIC = tuple(form for form in FORMS if form is FLOAT or form.rounds == "fixed")


@pytest.mark.parametrize(
    ("most", "mixture"),
    [
        (210, {"a": "float32", "b": "float32"}),
        (140, {"a": "int8-static", "b": "float32"}),  # b would bring a second grid
        (60, {"a": "int8-static", "b": "int8-static"}),
        (50, {"a": "int8-static", "b": "int4-static"}),
        (40, {"a": "int4-static", "b": "int4-static"}),
    ],
)
def test_the_least_noise_within_bytes(most: float, mixture: Mapping[str, str]) -> None:
    found = quietest(FIGURES, STATIC, most)
    assert found == mixture
    assert mixture_bytes(FIGURES, found) <= most


def test_the_fewest_bytes_within_a_noise() -> None:
    assert smallest(FIGURES, STATIC, 0.0) == {"a": "float32", "b": "float32"}
    assert smallest(FIGURES, STATIC, 0.06) == {"a": "int8-static", "b": "int4-static"}
    assert smallest(FIGURES, STATIC, 1.0) == {"a": "int4-static", "b": "int4-static"}


def test_the_least_time_within_a_noise_and_the_least_noise_within_a_time() -> None:
    assert smallest(FIGURES, STATIC, 1.0, timed=True) == {"a": "int8-static", "b": "int8-static"}
    found = quietest(FIGURES, STATIC, 1.5, timed=True)
    assert found == {"a": "int8-static", "b": "float32"}
    assert mixture_ms(FIGURES, found) == 1.5


def test_a_tensor_between_floats_and_integers_takes_its_time() -> None:
    """``b`` alone reads T, and U has no other side."""
    timed = replace(FIGURES, borders={T: 0.3, U: 0.7})
    assert mixture_ms(timed, {"b": "int8-static"}) == pytest.approx(1.0 + 0.5 + 0.3)
    assert mixture_ms(timed, {"a": "int8-static", "b": "int4-static"}) == pytest.approx(0.5 + 0.9)


def test_a_budget_that_nothing_keeps_to() -> None:
    assert quietest(FIGURES, STATIC, 20) is None


def test_forms_on_fixed_grids_are_one_pass_and_words_for_kinds_are_names() -> None:
    spec = mixture_spec({"a": "int8-static", "first": "int4-static", "c": "float32"})
    lift, static = parse_passes(spec)
    assert lift.options() == {"opset": 21}
    assert static.name == "quantize-static"
    assert static.options() == {
        "weight_type": "int4",
        "edges": "same",
        "narrow": ("firs[t]",),
        "nodes": ("a", "firs[t]"),
    }


def test_every_other_form_is_a_pass_for_its_layers() -> None:
    spec = mixture_spec({"a": "int8-weights", "b": "int8-dynamic", "c": "int8-static"})
    static, weights, dynamic = parse_passes(spec)
    assert (static.name, static.options()) == ("quantize-static", {"nodes": ("c",)})
    assert (weights.name, weights.options()["nodes"]) == ("quantize-weights", ("a",))
    assert (dynamic.name, dynamic.options()["nodes"]) == ("quantize-dynamic", ("b",))
    assert mixture_spec({"a": "int8-static", "b": "int8-static"}) == "quantize-static"
    assert mixture_spec({"a": "float32"}) == ""
