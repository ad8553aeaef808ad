"""Every registered pass against every tiny model: what the design promises for all of them."""

from __future__ import annotations

from collections.abc import Callable
from importlib.util import find_spec

import pytest

import graphopt.passes  # noqa: F401 - fills the registry
from graphopt.contract import registry
from graphopt.contract.passes import Pass
from graphopt.families.training import TrainingPass
from graphopt.testing import CLASS_CHECKS, MODEL_CHECKS, MODELS

_KNOWN_FAILURES: dict[tuple[str, str, str], str] = {}
"""Reason by pass, check and model; a failure that is gone fails the test."""


@pytest.mark.parametrize("check", CLASS_CHECKS.values(), ids=CLASS_CHECKS.keys())
@pytest.mark.parametrize("name", registry.names())
def test_class(name: str, check: Callable[[type[Pass]], None]) -> None:
    check(registry.find(name))


def _cases() -> list[object]:
    return [
        pytest.param(
            name,
            check,
            model,
            id=f"{name}-{check}-{model}",
            marks=[pytest.mark.xfail(reason=reason)] if reason else [],
        )
        for name in registry.names()
        for check in MODEL_CHECKS
        for model in MODELS
        for reason in [_KNOWN_FAILURES.get((name, check, model))]
    ]


@pytest.mark.parametrize(("name", "check", "model"), _cases())
def test_model(name: str, check: str, model: str) -> None:
    pass_class = registry.find(name)
    if issubclass(pass_class, TrainingPass) and find_spec("torch") is None:
        pytest.skip("trains, and torch is missing")
    MODEL_CHECKS[check](pass_class, MODELS[model]())
