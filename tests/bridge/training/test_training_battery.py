"""Passes that train, against every tiny model: short, and with all samples in the training part."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any

import pytest

import graphopt.passes  # noqa: F401 - fills the registry
from graphopt.contract import registry
from graphopt.contract.passes import Option, Pass
from graphopt.families.training import TrainingPass
from graphopt.testing import MODEL_CHECKS, MODELS

_NAMES = [name for name in registry.names() if issubclass(registry.find(name), TrainingPass)]


def _short(pass_class: Any) -> type[Pass]:
    """The pass with other defaults, as the checks use these."""

    @dataclass(frozen=True, kw_only=True)
    class Short(pass_class):
        steps: Annotated[int | None, Option("optimizer steps", low=1)] = 3
        batch: Annotated[int, Option("samples a step", low=1)] = 2
        held_out: Annotated[float, Option("share not trained on", 0, 0.5)] = 0.0

    return Short


@pytest.mark.parametrize("name", _NAMES)
@pytest.mark.parametrize("check", MODEL_CHECKS)
@pytest.mark.parametrize("model", MODELS)
def test_model(name: str, check: str, model: str) -> None:
    MODEL_CHECKS[check](_short(registry.find(name)), MODELS[model]())
