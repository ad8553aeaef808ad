"""The page on the code shows the code: rooms, their picture, the files that it names."""

from __future__ import annotations

import re
import runpy
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")


def test_picture_is_what_the_contract_says() -> None:
    drawn = runpy.run_path(str(ROOT / "docs" / "draw_rooms.py"))
    committed = (ROOT / "docs" / "rooms.svg").read_text(encoding="utf-8")
    assert committed == drawn["picture"](), "python docs/draw_rooms.py"
    for floor in drawn["layers"]():
        for room in floor:
            assert f">{room}</text>" in committed


def test_every_room_is_in_the_table() -> None:
    rooms = {p.parent.name for p in ROOT.glob("graphopt/*/__init__.py")} - {"passes"}
    listed = re.findall(r"^\| `(?:graphopt/)?(\w+)/` \|", PAGE, re.MULTILINE)
    assert sorted(listed) == sorted(rooms | {"passes"})
