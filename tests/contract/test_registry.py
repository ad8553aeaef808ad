from __future__ import annotations

import pytest

import graphopt.passes  # noqa: F401 - fills the registry
from graphopt.contract import registry
from graphopt.errors import UsageError
from graphopt.passes.prune import MaskWeights


def test_finds_passes_by_name() -> None:
    assert registry.find("mask-weights") is MaskWeights
    assert registry.names() == sorted(registry.names())
    assert "mask-weights" in registry.names()


def test_an_unknown_name_gets_the_near_miss() -> None:
    with pytest.raises(
        UsageError, match="unknown pass 'mask-wieghts'; did you mean 'mask-weights'"
    ):
        registry.find("mask-wieghts")


def test_a_name_is_given_once() -> None:
    with pytest.raises(ValueError, match="two passes are called 'mask-weights'"):
        registry.register("mask-weights")(MaskWeights)
