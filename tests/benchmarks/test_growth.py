"""Editing is linear: twice the nodes, about twice the lines of Python that run."""

import sys
from collections.abc import Callable
from types import FrameType
from typing import Any

import growth
import pytest

from graphopt.graph.graph import Graph
from graphopt.run.layer_figures import match


def lines(run: Callable[[], Any]) -> int:
    """Lines of our own code that run, each turn of a loop or comprehension counted."""
    count = 0

    def local(frame: FrameType, event: str, argument: Any) -> Any:
        nonlocal count
        count += event == "line"
        return local

    def enter(frame: FrameType, event: str, argument: Any) -> Any:
        return local if "graphopt" in frame.f_globals.get("__name__", "") else None

    before = sys.gettrace()
    sys.settrace(enter)
    try:
        run()
    finally:
        sys.settrace(before)
    return count


def test_lines_are_counted() -> None:
    def scan(count: int) -> None:
        for _ in range(count):
            pass

    scan.__globals__["__name__"], name = "graphopt.tests", scan.__globals__["__name__"]
    try:
        assert 200 <= lines(lambda: scan(100)) <= 210
    finally:
        scan.__globals__["__name__"] = name


@pytest.mark.parametrize("name", growth.CASES)
def test_work_doubles_with_the_layers(name: str) -> None:
    few, many = (growth.prepared(name, layers) for layers in (100, 200))
    before = lines(few)
    assert before > 1000
    assert lines(many) <= 2.3 * before


def test_matching_two_models_doubles_with_the_layers() -> None:
    few, many = (Graph(growth.residuals(layers)) for layers in (100, 200))
    before = lines(lambda: match(few, few.copy()))
    assert before > 1000
    assert lines(lambda: match(many, many.copy())) <= 2.3 * before


@pytest.mark.parametrize("name", growth.CASES)
def test_every_layer_is_edited(name: str) -> None:
    assert len(growth.prepared(name, 5)().edits) >= 4
