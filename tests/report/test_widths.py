import dataclasses
import re
from collections.abc import Callable

import pytest

from graphopt.contract.taken import GroupWidth, Taken
from graphopt.report import charts, widths
from graphopt.run.record import PassRecord, RunRecord

MakeRecord = Callable[..., RunRecord]
POINT = re.compile(r"[ML](\d+) ([\d.]+)")


def group(index: int = 0, before: int = 16, after: int = 8, channels: int = 1) -> GroupWidth:
    loss = [(gone, (gone / before) ** 2) for gone in range(before + 1)]
    return GroupWidth(
        name=f"/layer{index}/Conv",
        makers=[f"/layer{index}/Conv"],
        readers=[f"/layer{index}/next/Conv", f"/layer{index}/skip/Conv"],
        before=before,
        after=after,
        channels=channels,
        basis="",
        loss=loss,
        damage=[(0, 0.0), (before // 2, 0.02), (before, 2.5)],
    )


def pruned(*groups: GroupWidth, criterion: str = "error") -> PassRecord:
    return PassRecord(
        *("prune-channels", "prune-channels{macs=0.5}", "done", "", 1.0, [], [], 100, 10, 20.0),
        taken=Taken(criterion, list(groups)),
    )


def points(path: str) -> list[tuple[float, float]]:
    return [(float(x), float(y)) for x, y in POINT.findall(path)]


def test_a_pass_that_removed_nothing_is_not_drawn() -> None:
    whole = pruned(group(after=16))
    assert widths.widths([whole]) == []
    assert widths.merged([whole]) == []


def test_it_is_told_how_much_went_in_channels_not_units() -> None:
    (found,) = widths.widths([pruned(group(0), group(1, 12, 10, channels=32), group(2, 4, 4))])
    assert found.told == "72 of 404 channels went, from 2 of 3 groups"
    assert [panel.words for panel in found.panels] == ["16 -> 8", "12 x 32 -> 10 x 32", "4"]
    assert found.strip.peak == 12 * 32


def test_lines_reach_from_nothing_gone_to_all_of_it() -> None:
    (found,) = widths.widths([pruned(group())])
    (panel,) = found.panels
    assert [found.low, found.high] == ["0.001", "2.5"]
    loss, damage = points(panel.loss), points(panel.damage)
    across, upright = (list(each) for each in zip(*loss, strict=True))
    assert [across[0], upright[0], across[-1]] == [0, charts.HEIGHT, widths.SPAN]
    assert across == sorted(across) and upright == sorted(upright, reverse=True)
    assert list(damage[-1]) == [widths.SPAN, 0], "the largest of all figures is at the top"
    assert upright[-1] > 0


def test_the_cut_is_marked_on_both_lines() -> None:
    (found,) = widths.widths([pruned(group(after=8), group(1, after=16))])
    cut, whole = found.panels
    assert (cut.cut, cut.kept, cut.costs) == (widths.SPAN / 2, 50.0, ["0.25", "0.02"])
    assert all(dot.startswith("M500 ") for dot in cut.dots)
    assert [whole.cut, whole.costs, whole.dots] == [None, [], ("", "")]


def test_powers_of_ten_are_as_high_as_values_of_that_size() -> None:
    (found,) = widths.widths([pruned(group(before=10, after=9))])
    (panel,) = found.panels
    at_a_tenth = dict(points(panel.loss))[100]
    assert at_a_tenth in found.lines
    assert len(found.lines) == 3, "0.01, 0.1 and 1, below 2.5"


def test_where_answers_were_not_compared_there_is_one_line() -> None:
    (found,) = widths.widths([pruned(dataclasses.replace(group(), damage=[]), criterion="l1")])
    (panel,) = found.panels
    assert not found.measured
    assert (panel.damage, panel.costs, found.high) == ("", ["0.25"], "1")


def test_what_lies_below_the_axis_is_told_so() -> None:
    slight = dataclasses.replace(group(), loss=[(0, 0.0), (8, 1.3e-5), (16, 1.0)])
    (found,) = widths.widths([pruned(slight)])
    assert found.panels[0].costs == ["<0.001", "0.02"]
    assert dict(points(found.panels[0].loss))[500] == charts.HEIGHT


def test_a_group_that_is_gone_altogether() -> None:
    (found,) = widths.widths([pruned(group(after=0))])
    (panel,) = found.panels
    assert (panel.words, panel.cut, panel.kept) == ("16 -> 0", widths.SPAN, 0.0)


def test_many_groups_are_folded_and_then_left_out() -> None:
    (found,) = widths.widths([pruned(*(group(index) for index in range(320)))])
    assert (len(found.panels), len(found.rest), found.left_out) == (30, 270, 20)


def test_whose_channels_they_are_is_named_up_to_a_point() -> None:
    long = dataclasses.replace(group(), makers=[f"m{index}" for index in range(9)], readers=[])
    (found,) = widths.widths([pruned(long)])
    assert found.panels[0].told == "made by m0, m1, m2, m3 and 5 more; read by none"


def test_it_is_said_where_the_order_goes_by_something_else() -> None:
    (found,) = widths.widths([pruned(dataclasses.replace(group(), basis="by l2"))])
    assert found.panels[0].told.endswith("/skip/Conv; by l2")


def test_groups_of_the_same_widths_are_one_line() -> None:
    first = pruned(group(0), group(1, after=4), group(2), group(3, after=16))
    second = pruned(group(4, 12, 10, channels=32))
    assert [
        (each.groups, each.before, each.after, each.first)
        for each in widths.merged([first, second])
    ] == [
        (2, "16", "8", "/layer0/Conv"),
        (1, "16", "4", "/layer1/Conv"),
        (1, "12 x 32", "10 x 32", "/layer4/Conv"),
    ]
    assert widths.totals([first, second]) == (
        "28 of 64 channels went, from 3 of 4 groups; 64 of 384 channels went, from 1 of 1 group"
    )


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_what_is_no_number_is_left_out_of_a_line(value: float) -> None:
    odd = dataclasses.replace(group(), damage=[(0, 0.0), (4, value), (8, 0.5)])
    (found,) = widths.widths([pruned(odd)])
    assert [x for x, _ in points(found.panels[0].damage)] == [0, 500]
    assert found.high == "1"
