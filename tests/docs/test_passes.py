"""The page on writing passes is one program that runs, and its tables are complete."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import get_args

import graphopt.contract.preconditions
from graphopt import extend
from graphopt.contract.passes import Pass
from graphopt.contract.preconditions import Precondition
from graphopt.contract.registry import GROUP
from graphopt.facts.layers import Need
from graphopt.graph.graph import Constant, Graph, Scope
from graphopt.observe.request import Request
from graphopt.testing import CLASS_CHECKS, EXAMPLE_CHECKS

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "passes.md").read_text(encoding="utf-8")


def program() -> str:
    """The blocks of Python, each line at the number that it has on the page."""
    lines, inside = [], False
    for line in PAGE.splitlines():
        inside = inside and line != "```"
        lines.append(line if inside else "")
        inside = inside or line == "```python"
    return "\n".join(lines)


def first_cells(head: str) -> list[str]:
    """The names in the first column of the table under this head."""
    _, found, rest = PAGE.partition(f"\n| {head} | ")
    assert found, head
    rows = rest.partition("\n\n")[0].splitlines()[2:]
    return [name for row in rows for name in re.findall(r"`([^`]+)`", row.split(" | ")[0])]


def test_the_page_runs(tmp_path: Path) -> None:
    script = tmp_path / "page.py"
    script.write_text(program(), encoding="utf-8")
    paths = {"PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1"}
    command = [sys.executable, "-W", "error", str(script)]
    env = {**os.environ, **paths}
    done = subprocess.run(
        command, check=False, cwd=tmp_path, env=env, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-3000:]


def test_methods_in_the_tables_exist() -> None:
    cells = [*first_cells("to look"), *first_cells("to edit")]
    named = re.findall(r"^(scope|graph|constant)\.(\w+)", "\n".join(cells), re.MULTILINE)
    assert len(named) == len(cells)
    owners = {"scope": Scope, "graph": Graph, "constant": Constant}
    for owner, name in named:
        fields = getattr(owners[owner], "__dataclass_fields__", ())
        assert name in {*fields, *vars(owners[owner])}, name


def test_flags_of_a_pass_are_listed() -> None:
    flags = {name for name, kind in Pass.__annotations__.items() if "ClassVar" in str(kind)}
    assert {*first_cells("class variable")} == flags - {"name"}


def test_preconditions_are_listed() -> None:
    own = vars(graphopt.contract.preconditions).values()
    classes = {each.__name__ for each in own if isinstance(each, type)}
    direct = Precondition.__subclasses__()
    further = [each for kind in direct for each in kind.__subclasses__()]
    known = {each.__name__ for each in (*direct, *further)} & classes
    assert {cell.partition("(")[0] for cell in first_cells("precondition")} == known


def test_requests_are_listed() -> None:
    known = {
        name
        for name, each in vars(extend).items()
        if isinstance(each, type) and issubclass(each, Request) and each is not Request
    }
    assert {cell.partition("(")[0] for cell in first_cells("request")} == known


def test_needs_of_a_layer_are_listed() -> None:
    assert {*first_cells("need")} == {*get_args(Need)}


def test_checks_of_the_battery_are_listed() -> None:
    cells = [*first_cells("check")]
    assert cells == [*CLASS_CHECKS]
    _, _, rest = PAGE.partition("| check | what it asks of a run |")
    rows = rest.partition("\n\n")[0]
    assert {*re.findall(r"^\| `(\w+)` \|", rows, re.MULTILINE)} == {*EXAMPLE_CHECKS}


def test_names_of_extend_are_listed() -> None:
    _, _, rest = PAGE.partition("The names of `graphopt.extend`")
    listed = rest.partition("\n\n")[0]
    assert {*re.findall(r"`(\w+)`", listed)} == {*extend.__all__}


def test_entry_point_is_of_the_group_that_is_read() -> None:
    (text,) = re.findall(r"^```toml\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
    assert [*tomllib.loads(text)["project"]["entry-points"]] == [GROUP]
