from __future__ import annotations

import pytest
from onnx import helper

from graphopt.contract.passes import Changes, Option


def test_changes_are_true_where_something_was_edited() -> None:
    changes = Changes()
    changes.skip("conv", "too small")
    assert not changes
    changes.edit(helper.make_node("Relu", ["x"], ["y"]), "removed")
    assert changes
    assert (changes.edits[0].node, changes.skips[0].reason) == ("Relu(y)", "too small")


@pytest.mark.parametrize(
    ("option", "inside", "outside"),
    [
        (Option("x"), [-1e9, 1e9], []),
        (Option("x", low=0, high=1), [0, 1], [-0.1, 1.1]),
        (Option("x", low=0, high=1, low_open=True, high_open=True), [0.5], [0, 1]),
    ],
)
def test_bounds(option: Option, inside: list[float], outside: list[float]) -> None:
    assert all(option.admits(value) for value in inside)
    assert not any(option.admits(value) for value in outside)
