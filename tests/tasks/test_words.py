from __future__ import annotations

import pytest

from graphopt.errors import UsageError
from graphopt.tasks.task import Task
from graphopt.tasks.words import grouped_tasks, parse_tasks, split_tasks


def test_text_and_mapping_say_the_same() -> None:
    text = "scores=multi-label:logits:1, boxes = regression"
    assert parse_tasks(text) == parse_tasks(split_tasks(text))
    assert parse_tasks(text) == {
        "scores": Task("scores", "multi-label", 1, "logits", given=True),
        "boxes": Task("boxes", "regression", given=True),
    }


def test_a_name_may_hold_an_equals_sign() -> None:
    assert list(parse_tasks("a=b=mask")) == ["a=b"]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("scores", "'scores' is not of the form OUTPUT=KIND"),
        ("", "'' is not of the form OUTPUT=KIND"),
        ("=mask", "'=mask' is not of the form OUTPUT=KIND"),
        ("y=", "'y=' is not of the form OUTPUT=KIND"),
        ("y=mask,y=boxes", "output 'y' is named twice"),
        ("y=clases", "'y': unknown kind 'clases'; did you mean 'classes'?; kinds are classes, "),
        ("y=classes:-1", "'y': '-1' is neither an axis counted from the front nor one of logits"),
        ("y=classes:99999999", "'99999999' is neither an axis"),
    ],
)
def test_what_says_nothing_is_refused(text: str, words: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_tasks(text)
    assert words in str(caught.value)


def test_a_value_that_is_no_text_is_refused() -> None:
    with pytest.raises(UsageError, match="must be a name and a kind as text"):
        parse_tasks({"y": 3})  # type: ignore[dict-item]


def test_outputs_of_one_meaning_share_a_line() -> None:
    states = [Task(f"out{n}", "state", fed_to=f"in{n}", why="role") for n in range(3)]
    (one,) = grouped_tasks(states[:1])
    assert one == ("out0", "a state that input 'in0' takes: role")
    lines = grouped_tasks([*states, Task("y", "regression", axis=1, why="unclear")])
    assert lines == [
        ("out0 and 2 more", "a state: role"),
        ("y", "numbers along axis 1: unclear"),
    ]
