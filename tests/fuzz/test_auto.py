"""The first graphs end as they must; the long run is `python -m tests.fuzz.auto`."""

from __future__ import annotations

import pytest

from tests.fuzz.auto import faults


@pytest.mark.parametrize("number", range(4))
def test_first_graphs(number: int) -> None:
    assert faults(number) == []
