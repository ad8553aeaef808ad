"""The first cases of each kind end as they may; the long run is `python -m tests.fuzz`."""

from __future__ import annotations

import pytest

from tests.fuzz.runner import Tally, run_cases

COUNTS = {"models": 160, "samples": 60, "texts": 60, "graphs": 10}


@pytest.mark.parametrize("kind", sorted(COUNTS))
def test_first_cases(kind: str) -> None:
    tally = Tally()
    found = [str(item) for item in run_cases(kind, range(COUNTS[kind]), patience=6, tally=tally)]
    assert "\n".join(found) == ""
    assert tally.cases == COUNTS[kind]
    assert len(tally.endings) > 1 or kind == "graphs", "every case ended alike: nothing was tried"


def test_by_command() -> None:
    """Each in a process of its own, as a user starts it."""
    tally = Tally()
    found = [
        str(finding) for finding in run_cases("models", range(3, 5), by_command=True, tally=tally)
    ]
    assert "\n".join(found) == ""
    assert tally.cases == 2
