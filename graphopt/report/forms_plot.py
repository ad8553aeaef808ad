"""The picture of an analysis: each layer in each form, and what the best mixtures come to."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from pathlib import Path

from graphopt.atomic import whole
from graphopt.contract.forms import FLOAT, ModelFigures, form_named
from graphopt.errors import SystemFailure
from graphopt.families.mixture import mixture_bytes, quietest
from graphopt.report.layer_forms import Analysis, form_totals, noise_db

__all__ = ["bytes_curve", "forms_picture", "write_picture"]

_WIDTH, _HEIGHT, _TOP, _BOTTOM = 1200, 480, 70, 400
_LEFT = (60, 720)
_RIGHT = (800, 1160)
_COLOURS = ("#1b6ca8", "#c8553d", "#2a9d8f", "#8e5ea2", "#b8860b", "#5c677d", "#d81b60", "#33691e")
_POINTS = 24
_MOST_DB = 60.0
"""Above it nobody sees a difference, and an axis that went higher would hide the rest."""
_STEP_DB = 10

Point = tuple[float, float]


def bytes_curve(figures: ModelFigures) -> list[tuple[int, float]]:
    """Bytes and dB of the best mixtures of all forms, from the smallest file to all in floats."""
    names = dict.fromkeys(name for each in figures.layers for name in each.forms)
    forms = [form_named(name) for name in names]
    sizes = [[form.bytes for form in each.forms.values()] for each in figures.layers]
    low = figures.bytes + sum(map(min, sizes))
    high = mixture_bytes(figures, {})
    found = dict[int, float]()
    for step in range(_POINTS + 1):
        budget = low + (high - low) * (step / _POINTS) ** 2  # most happens where files are small
        mixture = quietest(figures, forms, budget)
        if mixture is not None:
            found[mixture_bytes(figures, mixture)] = noise_db(figures.noise(mixture))
    return sorted(found.items())


def forms_picture(found: Analysis) -> str:
    """An analysis as SVG: on the left each layer alone, on the right the file as a whole."""
    figures = found.figures
    names = [total.form for total in form_totals(figures) if total.form != FLOAT.name]
    colours = {name: _COLOURS[at % len(_COLOURS)] for at, name in enumerate(names)}
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_HEIGHT}" '
        'font-family="Helvetica, Arial, sans-serif" font-size="13" fill="#222">',
        f'<rect width="{_WIDTH}" height="{_HEIGHT}" fill="white"/>',
        *_axis(_LEFT, "One layer alone in that form: SQNR of the outputs, dB"),
        *_axis(_RIGHT, "Best mixture of forms: SQNR, dB, by size of the file"),
        *_layers(figures, colours),
        *_curve(figures, colours),
        *_legend(colours),
        "</svg>",
    ]
    return "\n".join(parts) + "\n"


def _axis(across: tuple[int, int], title: str) -> list[str]:
    left, right = across
    lines = [_text(left, _TOP - 40, title, 'font-weight="bold"')]
    for db in range(0, round(_MOST_DB) + 1, _STEP_DB):
        y = _up(db)
        lines.append(f'<path d="M{left} {y}H{right}" stroke="#ddd"/>')
        lines.append(_text(left - 8, y + 4, str(db), 'text-anchor="end" fill="#666"'))
    return lines


def _layers(figures: ModelFigures, colours: dict[str, str]) -> list[str]:
    left, right = _LEFT
    step = (right - left) / max(1, len(figures.layers))
    lines = []
    for name, colour in colours.items():
        points = [
            (left + (at + 0.5) * step, _up(noise_db(figures.alone(each.node, name))), each.node)
            for at, each in enumerate(figures.layers)
            if name in each.forms
        ]
        lines.append(_line([(x, y) for x, y, _ in points], colour))
        lines += [
            f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3.5" fill="{colour}">'
            f"<title>{escape(node)} as {escape(name)}</title></circle>"
            for x, y, node in points
        ]
    lines.append(_text(left, _BOTTOM + 22, "first layer", 'fill="#666"'))
    lines.append(_text(right, _BOTTOM + 22, "last layer", 'fill="#666" text-anchor="end"'))
    return lines


def _curve(figures: ModelFigures, colours: dict[str, str]) -> list[str]:
    left, right = _RIGHT
    whole_bytes = mixture_bytes(figures, {})

    def across(size: float) -> float:
        return left + (right - left) * size / whole_bytes

    curve = [(across(size), _up(db)) for size, db in bytes_curve(figures)]
    lines = [_line(curve, "#222", width=2.5)]
    for total in form_totals(figures):
        if total.form in colours:
            x, y = across(total.bytes), _up(total.sqnr_db)
            lines.append(
                f'<rect x="{x - 5:.1f}" y="{y - 5:.1f}" width="10" height="10" '
                f'fill="{colours[total.form]}"><title>all layers as {escape(total.form)}</title>'
                "</rect>"
            )
    for share in (0.0, 0.25, 0.5, 0.75, 1.0):
        x = across(share * whole_bytes)
        lines.append(_text(x, _BOTTOM + 22, f"{share:g}x", 'fill="#666" text-anchor="middle"'))
    return lines


def _legend(colours: dict[str, str]) -> list[str]:
    lines, x = list[str](), _LEFT[0]
    for name, colour in colours.items():
        lines.append(f'<rect x="{x}" y="{_HEIGHT - 34}" width="12" height="12" fill="{colour}"/>')
        lines.append(_text(x + 18, _HEIGHT - 23, name, ""))
        x += 40 + 8 * len(name)
    note = "line: mixtures by integer programming; squares: all layers in one form"
    lines.append(
        _text(_RIGHT[1], _HEIGHT - 23, note, 'fill="#666" text-anchor="end" font-size="12"')
    )
    return lines


def _up(db: float) -> float:
    share = min(max(db, 0.0), _MOST_DB) / _MOST_DB
    return round(_BOTTOM - (_BOTTOM - _TOP) * share, 1)


def _line(points: Sequence[Point], colour: str, width: float = 1.5) -> str:
    path = "".join(f"{'L' if at else 'M'}{x:.1f} {y:.1f}" for at, (x, y) in enumerate(points))
    return f'<path d="{path}" fill="none" stroke="{colour}" stroke-width="{width}"/>'


def _text(x: float, y: float, text: str, more: str) -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" {more}>{escape(text)}</text>'


def write_picture(found: Analysis, path: Path) -> None:
    """Write the picture, whole or not at all.

    Raises:
        SystemFailure: Disk full, no permission, no such folder.
    """
    try:
        with whole(path) as file:
            file.write(forms_picture(found).encode())
    except OSError as err:
        raise SystemFailure(f"cannot write {path}: {err.strerror}") from err
