from __future__ import annotations

import io
import logging
import sys

import pytest

from graphopt.cli.progress import Lines, progress, speak


def test_what_is_said_cannot_steer_a_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    logger = logging.getLogger("graphopt")
    held = logger.handlers[:], logger.level
    try:
        speak()
        logging.getLogger("graphopt.pipeline").info("refused: %s", "Conv\x1b[2J\x9b31m")
    finally:
        logger.handlers[:], logger.level = held
    said = capsys.readouterr().err
    assert said.startswith("graphopt: refused: Conv")
    assert "\x1b" not in said
    assert "\x9b" not in said


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_the_bar_shows_how_far_it_is_and_how_it_goes(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "120")
    with progress() as report:
        assert report is not None
        report("observing", 1, 2)
        report("distill", 30, 100, "loss 0.25, held-out 0.31, agreement % 93.4")
    drawn = terminal.getvalue()
    assert "distill" in drawn
    assert "30/100" in drawn
    assert "loss 0.25, held-out 0.31, agreement % 93.4" in drawn


def test_without_a_terminal_there_is_no_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    with progress() as report:
        assert report is None


def test_on_a_pipe_verbose_work_says_a_line_now_and_then(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    with progress(verbose=True) as report:
        assert isinstance(report, Lines)
    now = [0.0]
    lines = Lines(clock=lambda: now[0])
    with caplog.at_level(logging.INFO, "graphopt"):
        for second in range(0, 31, 3):
            now[0] = float(second)
            lines("observing", second, 60)
        now[0] = 45.0
        lines("distill", 1, 1, "loss 0.2")
    assert [record.message for record in caplog.records] == [
        "observing: 12 of 60, about 48 s left",
        "observing: 24 of 60, about 36 s left",
        "distill: 1 of 1; loss 0.2",
    ]
