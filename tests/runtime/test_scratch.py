from __future__ import annotations

import tempfile
from pathlib import Path

import pytest

from graphopt.errors import SystemFailure
from graphopt.runtime.scratch import scratch_folder


def test_the_folder_is_gone_afterwards() -> None:
    with scratch_folder() as folder:
        (folder / "file").write_text("x")
        assert folder.is_dir()
    assert not folder.exists()


def test_no_place_for_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "nothing"))
    with pytest.raises(SystemFailure, match="set TMPDIR"), scratch_folder():
        pass
