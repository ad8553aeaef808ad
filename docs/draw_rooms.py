"""Draw the rooms as the import contract in pyproject.toml stacks them.

    python docs/draw_rooms.py

writes ``docs/rooms.svg``; a test compares that file with what this script would write.
"""

from __future__ import annotations

import ast
import tomllib
from html import escape
from pathlib import Path
from textwrap import wrap

ROOT = Path(__file__).parents[1]
PICTURE = ROOT / "docs" / "rooms.svg"

_WIDTH, _LEFT, _GAP = 960, 40, 10
_NAME_HEIGHT, _LINE_HEIGHT, _PADDING = 20, 14, 8
_LETTER_WIDTH = 7.0
"""Pixels of a letter of the small type, on the safe side."""
_PLAIN, _PASSES = "#eaf1fb", "#fff3d6"


def layers() -> list[list[str]]:
    """The rooms of each floor, top floor first; rooms of one floor do not use each other."""
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    contracts = settings["tool"]["importlinter"]["contracts"]
    (stacked,) = (contract for contract in contracts if contract["type"] == "layers")
    return [floor.split(" | ") for floor in stacked["layers"]]


def purpose(room: str) -> str:
    """The first line of the room's docstring, without its full stop."""
    folder = ROOT / ("passes" if room == "passes" else f"graphopt/{room}")
    path = folder / "__init__.py" if folder.is_dir() else folder.with_suffix(".py")
    text = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
    return text.partition("\n")[0].removesuffix(".").replace("``", "")


def picture() -> str:
    """The drawing as SVG text."""
    shapes: list[str] = []
    top = _GAP
    for floor in layers():
        width = (_WIDTH - _LEFT - _GAP * len(floor)) / len(floor)
        texts = [wrap(purpose(room), int((width - 2 * _PADDING) / _LETTER_WIDTH)) for room in floor]
        height = _PADDING * 2 + _NAME_HEIGHT + _LINE_HEIGHT * max(map(len, texts))
        for number, (room, lines) in enumerate(zip(floor, texts, strict=True)):
            left = _LEFT + number * (width + _GAP)
            shapes += _box(room, lines, left, top, width, height)
        top += height + _GAP
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {top}" '
        f'width="{_WIDTH}" height="{top}" font-family="Helvetica, Arial, sans-serif">'
    )
    sheet = f'<rect width="{_WIDTH}" height="{top}" fill="#ffffff"/>'
    return "\n".join([head, sheet, *_arrow(top), *shapes, "</svg>", ""])


def _box(
    room: str, lines: list[str], left: float, top: float, width: float, height: float
) -> list[str]:
    """A room: its name and below it what it is for."""
    color = _PASSES if room == "passes" else _PLAIN
    shapes = [
        f'<rect x="{left:g}" y="{top:g}" width="{width:g}" height="{height:g}" rx="4" '
        f'fill="{color}" stroke="#8a97a8"/>',
        _text(room, left + _PADDING, top + _PADDING + 13, 15, "bold"),
    ]
    for number, line in enumerate(lines):
        y = top + _PADDING + _NAME_HEIGHT + _LINE_HEIGHT * number + 11
        shapes.append(_text(line, left + _PADDING, y, 12, "normal"))
    return shapes


def _text(words: str, x: float, y: float, size: int, weight: str) -> str:
    style = f'font-size="{size}" font-weight="{weight}" fill="#1f2933"'
    return f'<text x="{x:g}" y="{y:g}" {style}>{escape(words)}</text>'


def _arrow(bottom: float) -> list[str]:
    """Down the margin: who may use whom."""
    x, end = _LEFT / 2, bottom - _GAP
    return [
        f'<path d="M{x:g} {_GAP} V{end:g} m-5 -9 l5 9 l5 -9" fill="none" stroke="#8a97a8" '
        'stroke-width="2"/>',
        f'<text transform="translate({x - 6:g} {bottom / 2:g}) rotate(-90)" text-anchor="middle" '
        'font-size="12" fill="#52606d">uses</text>',
    ]


if __name__ == "__main__":
    PICTURE.write_text(picture(), encoding="utf-8")
