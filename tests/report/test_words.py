from __future__ import annotations

import pytest

from graphopt.report.words import limit_measured
from graphopt.run.record import LimitRecord


@pytest.mark.parametrize(
    ("name", "measured", "words"),
    [
        ("min_sqnr_db", 23.41, "23.41"),
        ("min_sqnr_db", 300.0, "exact"),
        ("min_agreement", 100.0, "100.00"),
        ("max_drop", 300.0, "300"),
        ("min_sqnr_db", None, "-"),
    ],
)
def test_a_limit_is_told_as_what_it_was_measured_to_be(
    name: str, measured: float | None, words: str
) -> None:
    assert limit_measured(LimitRecord(name, 20.0, measured, met=True)) == words
