"""Sequences, maps and optionals, element by element."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from graphopt.observe.request import Rows
from graphopt.tasks.compare import Sampling
from graphopt.tasks.containers import Elements
from graphopt.tasks.quality import OutputQuality
from graphopt.tasks.task import Task

ONE = Rows(1, 1, first=True)


def _found(*samples: tuple[Any, Any], rows: Rows = ONE) -> OutputQuality:
    comparator = Elements(Task("y", "container"), Sampling())
    for right, answer in samples:
        comparator.add({"y": right}, {"y": answer}, rows)
    return comparator.found()["y"]


def test_maps_are_compared_value_by_value() -> None:
    rng = np.random.default_rng(0)
    values = rng.random((20, 3))
    right = [dict(zip("abc", map(float, row), strict=True)) for row in values]
    noisy = values + 0.05 * rng.standard_normal((20, 3))
    answer = [dict(zip("abc", map(float, row), strict=True)) for row in noisy]
    found = _found((right, answer))
    error = np.square(noisy - values).sum()
    assert found.sqnr_db == pytest.approx(10 * np.log10(np.square(values).sum() / error))
    about = np.square(values - values.mean(axis=0)).sum()
    assert found.about_mean_db == pytest.approx(10 * np.log10(about / error))
    same = 100 * (values.argmax(axis=1) == noisy.argmax(axis=1)).mean()
    assert found.agreement == pytest.approx(same)
    assert found.error is None


@pytest.mark.parametrize(("rounding", "told"), [(2.0**-20, True), (2.0**-12, False)])
def test_a_constant_in_a_map_hides_only_what_rounding_is(rounding: float, told: bool) -> None:
    rng = np.random.default_rng(0)
    comparator = Elements(Task("y", "container", rounding=rounding), Sampling())
    for value, error in 0.008 * rng.standard_normal((40, 2)):
        right, answer = {"a": float(1000 + value)}, {"a": float(1000 + value + error)}
        comparator.add({"y": right}, {"y": answer}, ONE)
    found = comparator.found()["y"]
    assert found.sqnr_db is not None
    assert found.sqnr_db > 90
    assert found.about_mean_db == (pytest.approx(0, abs=2) if told else None)


def test_keys_and_lengths_count() -> None:
    found = _found(([{"a": 1.0, "b": 2.0}], [{"a": 1.0, "c": 2.0}]))
    assert found.error == 1  # both keys are in one of the two only
    assert found.decides_db == 0
    assert _found(([1, 2, 3, 4], [1, 2, 3])).error == pytest.approx(0.25)
    assert _found((["x", "y"], ["x", "z"])).error == pytest.approx(0.5)


def test_an_optional_that_is_there_or_not() -> None:
    tensor = np.arange(4, dtype=np.float32)
    assert _found((tensor, tensor)).decides_db == 300
    assert _found((tensor, None)).decides_db == 0
    nothing = _found((None, None))
    assert not nothing.compared
    assert nothing.decides_db is None
    assert not _found(([], [])).compared


def test_a_small_tensor_beside_a_large_one_is_not_hidden() -> None:
    rng = np.random.default_rng(0)
    right = [rng.standard_normal(40) * 1000, rng.standard_normal(40)]
    found = _found((right, [right[0], right[1] + rng.standard_normal(40)]))
    assert found.worst_slice is not None
    assert found.worst_slice.index == 1
    assert found.worst_slice.sqnr_db < 3
    assert found.sqnr_db is not None
    assert found.sqnr_db > 50


def test_rows_that_fill_up_a_feed_do_not_count() -> None:
    right, answer = [{"a": 1.0}, {"a": 1.0}], [{"a": 1.0}, {"a": 9.0}]
    assert _found((right, answer), rows=Rows(1, 2, first=True)).sqnr_db == 300
