"""The picture of ``peers.py``: for each model time against closeness, a mark a tool, as SVG."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

__all__ = ["Mark", "picture"]

WIDE, HIGH, LEFT, TOP, GAP = 300, 220, 46, 46, 30
COLOURS = ("#c0392b", "#e67e22", "#2471a3", "#48a9a6", "#7d3c98", "#7f8c8d", "#b7950b")
INK, FAINT = "#333333", "#dddddd"


@dataclass(frozen=True)
class Mark:
    """A file: time relative to float, and SQNR in dB."""

    model: str
    tool: str
    time: float
    sqnr_db: float


def picture(marks: Sequence[Mark]) -> str:
    """Small charts side by side, up to three a row; up and to the left is better."""
    models = list(dict.fromkeys(mark.model for mark in marks))
    tools = list(dict.fromkeys(mark.tool for mark in marks))
    colours = {tool: COLOURS[at % len(COLOURS)] for at, tool in enumerate(tools)}
    columns = max(1, min(3, len(models)))
    rows = -(-len(models) // columns)
    width = columns * (WIDE + LEFT + GAP)
    height = rows * (HIGH + TOP + GAP) + 22 * -(-len(tools) // columns) + 30
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" '
        f'font-family="sans-serif" font-size="12" fill="{INK}">',
        f'<rect width="{width}" height="{height}" fill="#ffffff"/>',
    ]
    for at, model in enumerate(models):
        x = at % columns * (WIDE + LEFT + GAP) + LEFT
        y = at // columns * (HIGH + TOP + GAP) + TOP
        parts += _chart(model, [mark for mark in marks if mark.model == model], colours, x, y)
    for at, tool in enumerate(tools):
        x = at % columns * (WIDE + LEFT + GAP) + LEFT
        y = rows * (HIGH + TOP + GAP) + 22 * (at // columns) + 20
        parts.append(f'<circle cx="{x}" cy="{y - 4}" r="6" fill="{colours[tool]}"/>')
        parts.append(f'<text x="{x + 12}" y="{y}">{escape(tool)}</text>')
    return "\n".join([*parts, "</svg>"]) + "\n"


def _chart(model: str, marks: Sequence[Mark], colours: dict[str, str], x: int, y: int) -> list[str]:
    """One model: axes with a line at the time of float, then the marks."""
    longest = max(1.2, *(mark.time for mark in marks)) * 1.08
    low = min(0.0, *(mark.sqnr_db for mark in marks)) - 2
    high = max(30.0, *(mark.sqnr_db for mark in marks)) + 4

    def place(time: float, sqnr_db: float) -> tuple[float, float]:
        return x + WIDE * time / longest, y + HIGH * (high - sqnr_db) / (high - low)

    one = place(1, 0)[0]
    parts = [
        f'<text x="{x}" y="{y - 14}" font-weight="bold">{escape(model)}</text>',
        f'<rect x="{x}" y="{y}" width="{WIDE}" height="{HIGH}" fill="none" stroke="{FAINT}"/>',
        f'<line x1="{one:.1f}" y1="{y}" x2="{one:.1f}" y2="{y + HIGH}" stroke="{INK}" '
        'stroke-dasharray="3 3"/>',
        f'<text x="{x + WIDE}" y="{y + HIGH + 28}" text-anchor="end">time, float = 1</text>',
        f'<text x="{x}" y="{y - 1}" font-size="11">SQNR, dB</text>',
    ]
    for time in (value / 2 for value in range(int(longest * 2) + 1)):
        across = place(time, 0)[0]
        parts.append(
            f'<text x="{across:.1f}" y="{y + HIGH + 14}" text-anchor="middle">{time:g}</text>'
        )
    for level in range(0, int(high), 10):
        down = place(0, level)[1]
        parts.append(f'<text x="{x - 6}" y="{down + 4:.1f}" text-anchor="end">{level}</text>')
        parts.append(
            f'<line x1="{x}" y1="{down:.1f}" x2="{x + WIDE}" y2="{down:.1f}" stroke="{FAINT}"/>'
        )
    for mark in marks:
        across, down = place(mark.time, mark.sqnr_db)
        parts.append(
            f'<circle cx="{across:.1f}" cy="{down:.1f}" r="7" fill="{colours[mark.tool]}" '
            f'fill-opacity="0.85"><title>{escape(mark.tool)}</title></circle>'
        )
    return parts
