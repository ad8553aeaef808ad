"""Calibration samples in two parts."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from graphopt.data import Samples, SyntheticSamples, open_data
from graphopt.data.held_back import HELD_ONE_IN, held_back
from graphopt.graph import io
from graphopt.graph.graph import Graph
from graphopt.testing import model_from_text


def _graph(batch: str = "N") -> Graph:
    return io.load(
        model_from_text(
            f"""<ir_version: 8, opset_import: ["" : 13]>
            g (float[{batch},1] x) => (float[{batch},1] y) {{ y = Relu (x) }}"""
        )
    )


def _numbers(samples: Samples, batch: int) -> list[int]:
    """The real rows of all feeds, where each sample is its number."""
    rows = [feeds["x"][:real, 0] for feeds, real in samples.feeds(batch)]
    return [int(number) for number in np.concatenate(rows)]


def _counted(count: int) -> np.ndarray[tuple[int, int], np.dtype[np.float32]]:
    return np.arange(count, dtype=np.float32)[:, None]


@pytest.mark.parametrize("count", [20, 23, 100])
@pytest.mark.parametrize(("axis", "batch"), [("N", 1), ("N", 7), ("N", 200), ("1", 1), ("8", 1)])
def test_each_sample_is_in_one_part_in_order(count: int, axis: str, batch: int) -> None:
    parts = held_back(open_data({"x": _counted(count)}, _graph(axis)), seed=0)
    assert parts is not None
    observed, judging = (_numbers(part, batch) for part in parts)
    assert observed == sorted(observed)
    assert judging == sorted(judging)
    assert sorted(observed + judging) == list(range(count))
    assert [len(observed), len(judging)] == [part.count for part in parts]
    assert [number // HELD_ONE_IN for number in judging] == list(range(count // HELD_ONE_IN))


def test_the_seed_decides() -> None:
    samples = open_data({"x": _counted(100)}, _graph())

    def judging(seed: int) -> list[int]:
        parts = held_back(samples, seed)
        assert parts is not None
        return _numbers(parts[1], 16)

    assert judging(0) == judging(0)
    assert judging(0) != judging(1)


def test_parts_of_many_files_and_the_first_few(tmp_path: Path) -> None:
    for index, rows in enumerate(np.split(_counted(30), 6)):
        np.save(tmp_path / f"{index}.npy", rows)
    parts = held_back(open_data(tmp_path, _graph()), seed=3)
    assert parts is not None
    observed, judging = (_numbers(part, 4) for part in parts)
    assert sorted(observed + judging) == list(range(30))
    first = [int(feeds["x"][0, 0]) for feeds, _ in parts[0].feeds(limit=3)]
    assert first == observed[:3]


def test_too_few_pairs_and_random_ones_stay_together() -> None:
    graph = _graph()
    few = open_data({"x": _counted(19)}, graph)
    pairs = open_data({"x": _counted(40), "labels": np.arange(20)}, graph)
    for samples in (few, pairs, SyntheticSamples(graph, count=40)):
        assert held_back(samples, seed=0) is None


@pytest.mark.parametrize("seed", range(20))
def test_samples_some_of_which_are_empty_are_not_judged_by_empty_ones_alone(seed: int) -> None:
    values = _counted(24)
    values[::4] = 0
    parts = held_back(open_data({"x": values}, _graph()), seed)
    assert parts is not None
    assert any(_numbers(parts[1], 16))
