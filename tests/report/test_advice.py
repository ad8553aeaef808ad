"""Which option gives what is missing; nothing else below the command line names an option."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

import graphopt
from graphopt.cli.app import app
from graphopt.errors import Need
from graphopt.report.advice import CALIBRATION_OPTION, advised

ROOT = Path(graphopt.__file__).parent
OPTIONS = {
    name
    for command in app.commands.values()
    for parameter in command.params
    if isinstance(parameter, click.Option)
    for name in parameter.opts
}
NAMED = re.compile(r"(?<![\w-])--[a-z][a-z-]*")


def sources() -> list[Path]:
    """Our Python files, without those that speak to who types commands."""
    paths = [*ROOT.rglob("*.py"), *(ROOT / "passes").resolve().rglob("*.py")]
    speaking = ("advice.py", "runtimes_page.py")  # the latter: a page on the command line
    spoken = {ROOT / "report" / name for name in speaking} | set((ROOT / "cli").rglob("*.py"))
    return sorted({path for path in paths if path not in spoken})


def texts(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """All string literals with their lines, but for docstrings and other loose text."""
    loose = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in loose:
            yield node.lineno, node.value


def test_no_message_of_the_library_names_an_option() -> None:
    assert {"--calib", "--memory-limit"} <= OPTIONS
    paths = sources()
    assert len(paths) > 150
    named = [
        f"{path.name}:{line}: {text}"
        for path in paths
        for line, text in texts(ast.parse(path.read_text(encoding="utf-8")))
        if OPTIONS & set(NAMED.findall(text))
    ]
    assert named == []


@pytest.mark.parametrize("need", Need)
def test_each_need_has_an_option_that_exists(need: Need) -> None:
    text = advised("something is missing", [need])
    assert text.startswith("something is missing; ")
    options = set(NAMED.findall(text))
    assert options and options <= OPTIONS


def test_nothing_is_said_where_nothing_is_needed() -> None:
    assert advised("all is there", []) == "all is there"
    assert CALIBRATION_OPTION in OPTIONS
