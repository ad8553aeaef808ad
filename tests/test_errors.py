from __future__ import annotations

import numpy as np
import pytest

from graphopt.errors import UsageError, quoted, shortened


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ("a\nb\x1b", "'a\\nb\\x1b'"),
        ("\ud800", "'\\ud800'"),
        (2**127, str(2**127)),
        (-(10**5000), "<a whole number of about 5001 digits>"),
        (True, "True"),
        (float("nan"), "nan"),
        ({"a": [1, {"b": {"c": 1}}]}, "{'a': [1, {'b': {...}}]}"),
        (list(range(10**6)), "[0, 1, 2, 3, 4, 5, 6, 7, ...]"),
    ],
    ids=quoted,
)
def test_a_value_in_a_message(value: object, words: str) -> None:
    assert quoted(value) == words


def test_what_has_no_or_an_immense_repr_is_short_too() -> None:
    class Bad:
        def __repr__(self) -> str:
            raise ValueError("no")

    deep: list[object] = []
    for _ in range(100_000):
        deep = [deep]
    for value in (Bad(), "x" * 10**7, b"x" * 10**7, np.zeros((100, 100)), deep):
        assert len(quoted(value)) < 200
    while deep:  # lest the interpreter take them apart by recursion
        deep = deep.pop()  # type: ignore[assignment]


def test_the_middle_of_an_immense_message_is_left_out() -> None:
    text = str(UsageError("begin " + "x" * 10**6 + " end"))
    assert (text[:6], text[-4:], len(text) <= 2000) == ("begin ", " end", True)
    assert shortened("short") == "short"
