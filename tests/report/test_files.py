import json
import os
import sys
from pathlib import Path

import pytest

from graphopt.errors import SystemFailure, UsageError
from graphopt.report import files
from graphopt.run.record import RunRecord


@pytest.fixture
def model(tmp_path: Path) -> Path:
    path = tmp_path / "model.onnx"
    path.write_bytes(b"model")
    return path


def test_the_suffix_chooses_the_form(record: RunRecord, tmp_path: Path) -> None:
    files.write(record, tmp_path / "report.json")
    files.write(record, tmp_path / "report.HTML")
    document = json.loads((tmp_path / "report.json").read_text(encoding="utf-8"))
    assert document["schema"] == "graphopt-report/2"
    assert (tmp_path / "report.HTML").read_text(encoding="utf-8").startswith("<!DOCTYPE html>")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["report.HTML", "report.json"]


def test_a_report_replaces_an_older_one_and_has_the_usual_rights(
    record: RunRecord, tmp_path: Path
) -> None:
    path = tmp_path / "report.json"
    path.write_text("old")
    mask = os.umask(0o027)
    try:
        files.write(record, path)
    finally:
        os.umask(mask)
    assert path.read_text(encoding="utf-8").startswith("{")
    assert path.stat().st_mode & 0o777 == 0o640


def test_a_failed_write_leaves_the_old_report_and_nothing_else(
    record: RunRecord, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "report.json"
    path.write_text("old")

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(SystemFailure, match=r"report\.json: No space left on device"):
        files.write(record, path)
    assert [item.read_text() for item in tmp_path.iterdir()] == ["old"]


def _check(model: Path, folder: Path, out: str, reports: list[str]) -> None:
    files.check_targets(folder / out, [str(folder / name) for name in reports])


def test_good_targets_are_accepted_and_left_untouched(model: Path, tmp_path: Path) -> None:
    _check(model, tmp_path, "out.onnx", ["r.json", "r.html"])
    assert list(tmp_path.iterdir()) == [model]


@pytest.mark.parametrize(
    ("out", "reports", "error", "text"),
    [
        ("folder", [], UsageError, "is a folder"),
        ("out.onnx", ["r.pdf"], UsageError, "name it .json or .html"),
        ("out.onnx", ["folder.json"], UsageError, "is a folder"),
        ("fifo", [], SystemFailure, "no regular file"),
        ("o" * 300, [], SystemFailure, "too long"),
        ("out.onnx", ["o" * 300 + ".json"], SystemFailure, "too long"),
        ("missing/out.onnx", [], SystemFailure, "there is no folder"),
        ("out.onnx", ["missing/r.json"], SystemFailure, "there is no folder"),
    ],
)
def test_targets_that_cannot_be_written_are_refused(
    model: Path,
    tmp_path: Path,
    out: str,
    reports: list[str],
    error: type[Exception],
    text: str,
) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder.json").mkdir()
    os.mkfifo(tmp_path / "fifo")
    with pytest.raises(error, match=text):
        _check(model, tmp_path, out, reports)


def test_a_missing_extra_is_told_before_the_work(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "jinja2", None)
    with pytest.raises(SystemFailure, match="pip install"):
        _check(model, tmp_path, "out.onnx", ["r.html"])
