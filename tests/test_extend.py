"""The names that passes from elsewhere are written with."""

from __future__ import annotations

import inspect

from graphopt import extend


def test_the_names_are_exactly_those_listed() -> None:
    assert extend.__all__ == sorted(extend.__all__)
    here = {
        name
        for name, value in vars(extend).items()
        if not name.startswith("_") and not inspect.ismodule(value) and name != "annotations"
    }
    assert here == set(extend.__all__)


def test_each_name_has_a_docstring_of_its_own() -> None:
    for name in extend.__all__:
        assert inspect.getdoc(getattr(extend, name)), name
