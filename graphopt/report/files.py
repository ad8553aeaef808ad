"""Reports as files: the form follows the name, and a file is written whole or not at all."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path

from graphopt.atomic import whole
from graphopt.errors import SystemFailure, UsageError
from graphopt.report import html, json
from graphopt.run.files import Written
from graphopt.run.record import RunRecord

__all__ = ["check_place", "check_targets", "places", "write"]

_FORMS = (".json", ".html")


def places(out: Path, reports: Sequence[str]) -> list[Written]:
    """Where the model and the reports will be written."""
    return [Written("the output", out), *(Written("the report", Path(name)) for name in reports)]


def check_targets(out: Path, reports: Sequence[str]) -> None:
    """Refuse places that cannot be written before the long work begins.

    Raises:
        UsageError: A place is a folder, or a report is neither ``.json`` nor ``.html``.
        SystemFailure: A folder is missing or not writable, what is there is no regular file, or
            the report extra is missing.
    """
    written = [Path(report) for report in reports]
    for report in written:
        if report.suffix.lower() not in _FORMS:
            raise UsageError(f"report {report}: name it .json or .html")
        if report.suffix.lower() == ".html":
            html.require()
    for place in (out, *written):
        check_place(place)


def check_place(place: Path) -> None:
    """Refuse a place that cannot be written before the long work begins.

    Raises:
        UsageError: It is a folder.
        SystemFailure: Its folder is missing or not writable, or it is no regular file.
    """
    _check_file(place)
    _check_folder(place)


def _check_file(place: Path) -> None:
    try:
        if place.is_dir():
            raise UsageError(f"{place} is a folder; give the name of a file")
        if place.exists() and not place.is_file():
            raise SystemFailure(f"cannot write {place}: it is there and no regular file")
    except OSError as err:  # a name that is too long
        raise SystemFailure(f"cannot write {place}: {err.strerror}") from err


def _check_folder(place: Path) -> None:
    """Make and remove a nameless file where the real one will go."""
    try:
        with tempfile.TemporaryFile(dir=place.parent):
            return
    except FileNotFoundError as err:
        raise SystemFailure(f"cannot write {place}: there is no folder {place.parent}") from err
    except OSError as err:
        raise SystemFailure(f"cannot write {place}: {err.strerror}") from err


def write(record: RunRecord, path: Path) -> None:
    """Write the report of a run; the suffix says in which form.

    Raises:
        SystemFailure: Disk full, no permission, or the report extra is missing.
    """
    if path.suffix.lower() == ".html":
        text = html.render(record)
    else:
        text = json.dump(json.document(record)) + "\n"
    try:
        with whole(path) as file:
            file.write(text.encode())
    except OSError as err:
        raise SystemFailure(f"cannot write {path}: {err.strerror}") from err
