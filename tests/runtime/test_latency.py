"""Which clock is believed, and what is told by it."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import pytest

from graphopt.runtime.latency import (
    SAME,
    Clock,
    Ratio,
    Readings,
    Timed,
    Times,
    calmest,
    joint,
    moody,
    ratio,
    timed,
    trusted,
    unsteady,
)


def readings(wall: Iterable[float], processor: Iterable[float]) -> Readings:
    return Readings(Times(tuple(wall)), Times(tuple(processor)))


FLOAT = readings([2.0] * 9, [1.0] * 9)


def test_times_are_percentiles_of_bursts() -> None:
    times = Times(tuple(float(value) for value in range(101)))
    assert (times.low_ms, times.median_ms, times.high_ms) == (10, 50, 90)


def test_ratio_is_taken_pair_by_pair() -> None:
    # The machine slows down by ten in the middle; paired bursts do not see it.
    base = Times((1.0, 1.0, 10.0, 10.0))
    found = ratio(Times((2.0, 2.0, 20.0, 20.0)), base)
    assert found.median == pytest.approx(2.0)
    assert found.spread == pytest.approx(2.0 * 0.03)  # two sessions of one graph differ by as much


def test_spread_shrinks_with_the_number_of_bursts() -> None:
    rng = np.random.default_rng(0)

    def noisy(count: int) -> float:
        draw = rng.normal(1, 0.1, (2, count))
        return unsteady([readings(row, row) for row in draw], "wall")

    assert noisy(800) < noisy(32) / 3


def test_times_that_were_not_measured_together_are_refused() -> None:
    with pytest.raises(ValueError, match="longer"):
        ratio(Times((1.0,)), Times((1.0, 2.0)))


@pytest.mark.parametrize(
    ("median", "spread", "differs", "slower"),
    [
        (1.02, 0.03, False, False),
        (0.98, 0.03, False, False),
        (1.05, 0.03, True, True),
        (0.9, 0.03, True, False),
        (SAME.median, SAME.spread, False, False),
    ],
)
def test_a_difference_within_the_spread_is_none(
    median: float, spread: float, differs: bool, slower: bool
) -> None:
    found = Ratio(median, spread)
    assert (found.differs, found.slower) == (differs, slower)


SCATTERED = [0.2, 9.5, 0.6, 1.0, 8.8, 1.6, 7.2, 1.2, 9.1]


@pytest.mark.parametrize(
    ("wall", "processor", "clock"),
    [
        ([1.0] * 9, [0.5] * 9, "wall"),  # both say half
        ([1.02] * 9, [0.5] * 9, "wall"),  # nearly so
        ([1.6] * 9, [0.5] * 9, "processor"),  # they do not agree
        ([0.1] * 9, [0.5] * 9, "processor"),
        (SCATTERED, [0.5] * 9, "processor"),  # they agree, by chance
    ],
)
def test_the_wall_is_believed_where_it_is_steady_and_agrees(
    wall: list[float], processor: list[float], clock: Clock
) -> None:
    found = [FLOAT, readings(wall, processor)]
    assert trusted(found) == clock
    first, second = timed(found)
    assert first.ratio == Ratio(1.0, 0.0, clock)
    assert second.ratio.clock == clock
    assert first.times.median_ms == FLOAT.on(clock).median_ms


@pytest.mark.parametrize(
    ("first", "again", "slower"),
    [
        ((1.08, 0.03), (1.08, 0.03), True),
        ((1.08, 0.03), (1.0, 0.03), False),
        ((1.14, 0.03), (1.05, 0.03), True),
        ((1.14, 0.03), (0.98, 0.03), False),
        ((1.04, 0.03), (1.04, 0.03), True),  # what two find alike is surer than one
        ((1.1, 0.09), (1.0, 0.03), False),
    ],
)
def test_two_timings_say_slower_where_both_do(
    first: tuple[float, float], again: tuple[float, float], slower: bool
) -> None:
    one, other = Ratio(*first, "processor"), Ratio(*again, "processor")
    found = joint(one, other)
    assert found.slower is slower
    assert found.clock == "processor"
    assert min(first[0], again[0]) <= found.median <= max(first[0], again[0])
    assert joint(other, one) == found


def test_the_steadier_of_two_timings_counts_more() -> None:
    found = joint(Ratio(0.9, 0.01), Ratio(1.0, 0.1))
    assert found.median == pytest.approx(0.9 + 0.1 / 101)
    assert found.spread == pytest.approx(1 / np.hypot(1 / 0.01, 1 / 0.1))
    apart = joint(Ratio(0.9, 0.01), Ratio(1.0, 0.01))
    assert apart.spread == pytest.approx(0.05)  # half of what they are apart
    alike = joint(Ratio(0.9, 0.03), Ratio(0.9, 0.04))
    assert alike.spread == pytest.approx(1 / np.hypot(1 / 0.03, 1 / 0.04))
    assert joint(SAME, Ratio(1.2, 0.03)) == joint(Ratio(1.2, 0.03), SAME) == SAME


@pytest.mark.parametrize(
    ("median", "spread", "doubtful"),
    [(1.1, 0.03, True), (1.02, 0.03, False), (1.2, 0.03, False), (0.9, 0.03, False)],
)
def test_what_is_a_little_slower_is_doubtful(median: float, spread: float, doubtful: bool) -> None:
    assert Ratio(median, spread).doubtful is doubtful


def test_bursts_at_another_level_fit_its_ratio() -> None:
    found = Timed(Times((2.0, 4.0, 3.0)), Ratio(1.5, 0.1)).at(Ratio(1.25, 0.05))
    assert found.times.bursts_ms == pytest.approx((2 / 1.2, 4 / 1.2, 2.5))
    assert found.ratio == Ratio(1.25, 0.05)


def test_rounds_in_which_the_machine_was_not_calm_are_left_out() -> None:
    # In most rounds somebody in the core's other half slows the second one down more.
    base = [1.0, 1.3, 1.3, 1.0, 1.3, 1.3, 1.0, 1.3, 1.3, 1.0, 1.3, 1.3]
    other = [0.5 if ms == 1.0 else 0.9 for ms in base]
    kept = calmest([Times(tuple(base)), Times(tuple(other))])
    assert sorted(kept[0].bursts_ms) == [1.0, 1.0, 1.0, 1.0, 1.3, 1.3]
    assert timed([readings(base, base), readings(other, other)])[1].ratio.median == 0.5
    assert calmest([Times(tuple(base))]) == [Times(tuple(base))]


def test_moods_are_those_of_the_moodiest_model() -> None:
    slowing = Times(tuple(float(ms) for ms in range(100, 201)))
    assert moody([Times((1.0,) * 9), slowing]) == pytest.approx(190 / 110 - 1)
    assert moody([Times((1.0,) * 9)]) == 0


def test_one_that_the_clocks_disagree_on_makes_all_be_told_by_the_processor() -> None:
    found = [FLOAT, readings([1.0] * 9, [0.5] * 9), readings([9.0] * 9, [0.5] * 9)]
    assert [each.ratio.clock for each in timed(found)] == ["processor"] * 3


def test_a_model_alone_is_told_by_the_wall() -> None:
    assert timed([FLOAT]) == [Timed(FLOAT.wall, Ratio(1.0, 0.0, "wall"))]


def test_the_times_told_stand_to_each_other_as_the_ratio_says() -> None:
    rng = np.random.default_rng(1)
    base = np.cumprod(rng.uniform(0.8, 1.3, 25))  # the machine drifts
    other = base * rng.uniform(0.4, 0.5, 25)
    assert np.median(other) / np.median(base) != pytest.approx(np.median(other / base), rel=1e-3)
    first, second = timed([readings(base, base), readings(other, other)])
    assert second.times.median_ms / first.times.median_ms == pytest.approx(second.ratio.median)
    assert second.times.low_ms <= second.times.median_ms <= second.times.high_ms


def test_what_cannot_be_faster_is_not_told_to_be() -> None:
    fast = Timed(Times((0.9, 0.9)), Ratio(0.9, 0.03, "processor"))
    assert fast.never_faster() == Timed(Times((1.0, 1.0)), Ratio(1.0, 0.03, "processor"))
    slow = Timed(Times((1.2,)), Ratio(1.2, 0.03))
    assert slow.never_faster() is slow
