"""The page that tells which file goes to which runtime says what the tables say."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from graphopt.report import runtimes_page
from graphopt.targets.tables import TARGETS

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "runtimes.md"


def test_page_is_current(request: pytest.FixtureRequest) -> None:
    if request.config.getoption("--update-golden"):
        PAGE.write_text(runtimes_page.page(), encoding="utf-8")
    assert PAGE.read_text(encoding="utf-8") == runtimes_page.page()


def test_every_target_says_what_it_rests_on() -> None:
    assert runtimes_page.SEEN.keys() == TARGETS.keys()
    for text in runtimes_page.SEEN.values():
        for name in re.findall(r"`(tests/.*?)`", text):
            assert (ROOT / name).is_file(), name


def test_rows_are_those_of_the_tables() -> None:
    text = runtimes_page.page()
    rows = {line.split(" | ")[0].strip("|` "): line for line in text.splitlines() if "| `" in line}
    assert "int8 | int8 | a channel | 0 | float |" in rows["tensorrt"]
    assert "uint8, uint16" in rows["qnn"]
    assert "none | none" in rows["coreml"]
    assert rows["Conv"].endswith("| all but Core ML |")
