"""What names of outputs say."""

from __future__ import annotations

import pytest

from graphopt.tasks.names import kinds_named


@pytest.mark.parametrize(
    ("name", "kinds"),
    [
        ("pred_boxes", ["boxes"]),
        ("predBoxes", ["boxes"]),
        ("box_cls", ["classes", "boxes"]),
        ("log_probs", ["classes", "classes"]),
        ("boxer", []),
        ("1234", []),
    ],
)
def test_words_are_whole(name: str, kinds: list[str]) -> None:
    assert [kind for kind, _ in kinds_named(name)] == kinds
