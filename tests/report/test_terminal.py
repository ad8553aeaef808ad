import dataclasses
from collections.abc import Callable

import pytest
from rich.console import Console

from graphopt.analysis.audit import Audit, Entry
from graphopt.contract.budgets import Missed
from graphopt.report import terminal
from graphopt.run.quality import Metric
from graphopt.run.record import LimitRecord, RunRecord

MakeRecord = Callable[..., RunRecord]
Golden = Callable[[str, str], None]


@pytest.fixture
def show(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """Prints a run on a terminal of some width."""

    def printed(record: RunRecord, width: int = 110, *, verbose: bool = False) -> str:
        def console() -> Console:
            return Console(highlight=False, markup=False, width=width)

        monkeypatch.setattr(terminal, "terminal", console)
        terminal.print_run(record, verbose=verbose)
        shown = capsys.readouterr()
        assert shown.err == ""
        return shown.out

    return printed


@pytest.mark.parametrize("width", [80, 110, 160])
def test_a_run(show: Callable[..., str], record: RunRecord, golden: Golden, width: int) -> None:
    text = show(record, width)
    assert max(map(len, text.splitlines())) <= width
    golden(f"run-{width}.txt", text)


def test_a_run_in_every_detail(
    show: Callable[..., str], make_record: MakeRecord, golden: Golden
) -> None:
    golden("run-verbose.txt", show(make_record(12), verbose=True))


@pytest.mark.parametrize("verbose", [False, True])
def test_a_training(
    show: Callable[..., str], trained: RunRecord, golden: Golden, verbose: bool
) -> None:
    golden(f"trained{'-verbose' if verbose else ''}.txt", show(trained, verbose=verbose))


def test_widths_are_a_few_lines(
    show: Callable[..., str], sparser: RunRecord, golden: Golden
) -> None:
    text = show(sparser)
    lines = text.splitlines()
    start = lines.index("396 of 1920 channels went, from 50 of 60 groups")
    golden("widths.txt", "\n".join(lines[start : lines.index("", start)]) + "\n")


def test_a_dry_run(show: Callable[..., str], record: RunRecord, golden: Golden) -> None:
    plan = [
        dataclasses.replace(item, status="planned", reason="", changes=[], skipped=[])
        for item in record.passes[:3]
    ]
    bare = RunRecord("auto", record.environment, record.input, passes=plan, dry_run=True)
    golden("dry-run.txt", show(bare))


@pytest.mark.parametrize("width", [80, 110, 160])
def test_figures_are_never_torn(show: Callable[..., str], record: RunRecord, width: int) -> None:
    text = show(record, width)
    for figure in (
        "14.0 MB",
        "128.2 dB",
        "97.44 %",
        "11.4 ms",
        "0.54x",
        "9.9 s",
        "quantize-static",
    ):
        assert figure in text


def test_text_from_a_model_steers_no_terminal(show: Callable[..., str], record: RunRecord) -> None:
    evil = "\x1b[2J[bold]x[/bold]\r"
    audit = Audit([], [Entry(evil, "Conv", "Conv", evil)])
    for verbose in (False, True):
        text = show(dataclasses.replace(record, audit=audit, messages=[evil]), verbose=verbose)
        assert "\x1b" not in text
        assert "\r" not in text
        assert "\ufffd[2J[bold]x[/bold]\ufffd" in text


def test_a_limit_says_which_way_its_metric_gets_worse(
    show: Callable[..., str], record: RunRecord
) -> None:
    assert record.quality is not None
    error = Metric("mse", 0.001, 0.0052, higher_is_better=False)
    limits = [LimitRecord("max_drop", 0.002, error.fall, met=False)]
    told = dataclasses.replace(
        record, quality=dataclasses.replace(record.quality, metric=error), limits=limits
    )
    (line,) = (each for each in show(told).splitlines() if "at most" in each)
    assert line.split() == ["mse", "rises", "by", "0.002", "at", "most", "0.0042", "NOT", "MET"]


def test_many_reasons_are_cut_short(show: Callable[..., str], record: RunRecord) -> None:
    entries = [Entry(str(i), "Conv", "Conv", f"reason {i}") for i in range(20)]
    many = dataclasses.replace(record, audit=Audit([], entries))
    text = show(many)
    assert "and 12 more reasons; -v shows every layer" in text
    assert "reason 19" not in text
    assert "reason 19" in show(many, verbose=True)


def test_a_missed_budget_is_told_below_the_passes(
    show: Callable[..., str], record: RunRecord
) -> None:
    first, *rest = record.passes
    missed = Missed("macs", 0.5, 0.6204, "no more channels can go")
    told = dataclasses.replace(record, passes=[dataclasses.replace(first, missed=missed), *rest])
    line = f"{first.name}: macs=0.5 is missed at 0.620: no more channels can go"
    assert line in show(told).splitlines()
