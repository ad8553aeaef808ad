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
        (Limits, {"min_agreement": 101}, "min_agreement must be 100 or less"),
        (Machine, {"threads": -1}, "threads=-1 must be 0 or more"),
        (Machine, {"threads": 1.5}, "threads=1.5 must be a whole number"),
        (Machine, {"seed": -1}, "seed=-1 must be 0 or more"),
        (Machine, {"seed": True}, "seed=True must be a whole number"),
        (Machine, {"memory_limit": "x"}, "memory_limit='x' must be a whole number"),
        (Limits, {"max_drop": float("inf")}, "max_drop=inf must be a number"),
        (Limits, {"max_drop": np.float32("nan")}, ".*nan.* must be a number"),
        (Limits, {"max_drop": 10**5000}, "max_drop must be 1.79769e.308 or less"),
        (Limits, {"min_sqnr_db": -(10**5000)}, "min_sqnr_db must be -1.79769e.308 or more"),
        (Limits, {"strict": "no"}, "strict='no' must be True or False"),
        (Machine, {"threads": 1025}, "threads must be 1024 or less"),
        (Machine, {"seed": 2**63}, "seed must be 9.22337e.18 or less"),
        (Machine, {"seed": -(10**5000)}, "seed must be 0 or more"),
        (Machine, {"memory_limit": 10**5000}, "memory_limit must be 9.22337e.18 or less"),
        (Machine, {"time_limit": -1.0}, "time_limit=-1.0 must be 0 or more"),
        (Machine, {"time_limit": float("inf")}, "time_limit=inf must be a number"),
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
    assert Machine(threads=1024, seed=2**63 - 1).seed == 2**63 - 1
