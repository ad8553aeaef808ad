"""What the name of an output says that it holds."""

from __future__ import annotations

import re

from graphopt.tasks.task import Form, TaskKind

__all__ = ["kinds_named"]

_NAMED: list[tuple[str, TaskKind, Form | None]] = [
    ("log_?prob(s|abilities)?|log_?softmax", "classes", "log-probabilities"),
    ("logits?", "classes", "logits"),
    ("prob(s|abilities|ability)?|softmax", "classes", "probabilities"),
    ("class(es)?|cls|classification|classifier", "classes", "logits"),
    ("b?box(es)?|loc(ation)?s?", "boxes", None),
    ("embeds?|embeddings?", "embedding", None),
]
"""Words, the surest ones first."""


def kinds_named(name: str) -> list[tuple[TaskKind, Form | None]]:
    """Kinds that words in a name stand for and how scores are written, the surest ones first.

    >>> kinds_named("predBoxes")
    [('boxes', None)]
    """
    tokens = re.sub(r"([a-z])([A-Z])", r"\1_\2", name).lower()
    return [
        (kind, form)
        for pattern, kind, form in _NAMED
        if re.search(rf"(^|[^a-z])({pattern})([^a-z]|$)", tokens)
    ]
