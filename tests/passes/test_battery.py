"""Every registered pass against its own examples and every tiny model."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from functools import cache

import pytest

from graphopt.contract import registry
from graphopt.contract.examples import Example
from graphopt.contract.passes import Pass
from graphopt.testing import CELL_CHECKS, CLASS_CHECKS, EXAMPLE_CHECKS, MODELS, Cell, unreached

_KNOWN_FAILURES: dict[tuple[str, str, str], str] = {}
"""Reason by pass, check and cell; a failure that is gone fails the test."""


@cache
def _cell(name: str, model: str) -> Cell:
    """A pass with its default options on a tiny model."""
    return Cell(registry.find(name), Example(model))


@cache
def _examples(name: str) -> list[Cell]:
    pass_class = registry.find(name)
    return [Cell(pass_class, each) for each in pass_class.examples()]


def _marked(name: str, check: str, cell: Cell, *values: object) -> object:
    reason = _KNOWN_FAILURES.get((name, check, str(cell)))
    marks = [pytest.mark.xfail(reason=reason)] if reason else []
    return pytest.param(*values, id=f"{check}-{cell}", marks=marks)


def _on_models() -> list[object]:
    return [
        _marked(name, check, _cell(name, model), name, check, model)
        for name in registry.names()
        for model in MODELS
        for check in CELL_CHECKS
    ]


def _on_examples() -> list[object]:
    return [
        _marked(name, check, cell, name, check, index)
        for name in registry.names()
        for index, cell in enumerate(_examples(name))
        for check in EXAMPLE_CHECKS
    ]


@pytest.mark.parametrize("check", CLASS_CHECKS.values(), ids=CLASS_CHECKS.keys())
@pytest.mark.parametrize("name", registry.names())
def test_class(name: str, check: Callable[[type[Pass]], None]) -> None:
    check(registry.find(name))


@pytest.mark.parametrize("name", registry.names())
def test_page(name: str) -> None:
    pass_class = registry.find(name)
    assert name.replace("-", "_") == pass_class.__module__.rsplit(".", 1)[-1]
    assert "becomes" in str(inspect.getdoc(pass_class)), "the page shows what becomes what"


@pytest.fixture(autouse=True, scope="module")
def steady_clock() -> Iterator[None]:
    """What a pass makes here must not hang on how busy the machine is."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("graphopt.run.drive.ratio_of_times", lambda *_: 0.5)
        yield


@pytest.mark.parametrize("name", registry.names())
def test_examples_reach_every_option(name: str) -> None:
    pass_class = registry.find(name)
    assert pass_class.examples()
    assert unreached(pass_class, pass_class.examples()) == []


@pytest.mark.parametrize(("name", "check", "model"), _on_models())
def test_model(name: str, check: str, model: str) -> None:
    _hold(CELL_CHECKS[check], _cell(name, model))


@pytest.mark.parametrize(("name", "check", "index"), _on_examples())
def test_example(name: str, check: str, index: int) -> None:
    _hold(EXAMPLE_CHECKS[check], _examples(name)[index])


def _hold(check: Callable[[Cell], None], cell: Cell) -> None:
    if not cell.runnable:
        pytest.skip("takes gradients, and torch is missing")
    check(cell)


def test_how_many_cells_edit() -> None:
    """Every example is edited; of the other cells it is told how many are."""
    examples = [cell for name in registry.names() for cell in _examples(name) if cell.runnable]
    others = [_cell(name, model) for name in registry.names() for model in MODELS]
    others = [cell for cell in others if cell.runnable]
    counts = [sum(cell.first.edited for cell in cells) for cells in (examples, others)]
    print(f"\nedited: {counts[0]} of {len(examples)} examples, {counts[1]} of {len(others)} others")  # noqa: T201 - read it with pytest -rP
    assert counts[0] == len(examples)
    assert {cell.pass_class for cell in examples} >= {
        registry.find(name)
        for name in registry.names()
        if Cell(registry.find(name), Example("mlp")).runnable
    }
