"""What passes found out about a state of the graph is made once."""

from __future__ import annotations

import pytest

from graphopt.contract.findings import Findings


def test_each_key_is_made_once() -> None:
    made = list[str]()

    def make(name: str) -> str:
        made.append(name)
        return name

    found = Findings()
    for key in ("a", "b", "a", "b"):
        assert found.once(key, lambda key=key: make(key)) == key  # type: ignore[misc]
    assert made == ["a", "b"]


def test_what_could_not_be_made_is_tried_again() -> None:
    def fail() -> int:
        raise ValueError("no samples")

    found = Findings()
    with pytest.raises(ValueError, match="no samples"):
        found.once("a", fail)
    assert found.once("a", lambda: 1) == 1
