from __future__ import annotations

import pytest

import graphopt.passes  # noqa: F401 - fills the registry
from graphopt.contract import presets
from graphopt.contract.spec import parse_passes
from graphopt.errors import UsageError


def test_every_preset_names_passes_that_exist() -> None:
    assert presets.names()[0] == "auto"
    assert presets.find("auto") is None
    for name in presets.names()[1:]:
        spec = presets.find(name)
        assert spec is not None
        assert parse_passes(spec)
        assert presets.describe(name)


def test_an_unknown_preset_gets_the_near_miss() -> None:
    with pytest.raises(
        UsageError, match="unknown preset 'int8-statik'; did you mean 'int8-static'"
    ):
        presets.find("int8-statik")
