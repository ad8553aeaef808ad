"""Settings of a run are checked as they are made."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from graphopt.contract.settings import Limits, Machine
from graphopt.errors import UsageError


@pytest.mark.parametrize(
    ("kind", "values", "words"),
    [
        (Limits, {"min_sqnr_db": float("nan")}, "min_sqnr_db=nan must be a number"),
        (Limits, {"min_sqnr_db": "20"}, "min_sqnr_db='20' must be a number"),
        (Limits, {"max_drop": -1.0}, "max_drop=-1.0 must be 0 or more"),
        (Machine, {"threads": -1}, "threads=-1 must be 0 or more"),
        (Machine, {"threads": 1.5}, "threads=1.5 must be a whole number"),
        (Machine, {"seed": -1}, "seed=-1 must be 0 or more"),
        (Machine, {"seed": True}, "seed=True must be a whole number"),
        (Machine, {"memory_limit": "x"}, "memory_limit='x' must be a whole number"),
        (Machine, {"target": 3}, "target=3 must be text"),
    ],
)
def test_a_wrong_value_is_refused(kind: Any, values: dict[str, Any], words: str) -> None:
    with pytest.raises(UsageError, match="^" + words.replace("'", ".") + "$"):
        kind(**values)


def test_right_values_are_taken() -> None:
    assert Limits(min_sqnr_db=-3, max_drop=0).min_sqnr_db == -3
    seed: Any = np.int64(4)
    assert Machine(threads=0, seed=seed, memory_limit=1 << 40).seed == 4
