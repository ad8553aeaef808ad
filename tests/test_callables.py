from __future__ import annotations

import os
from pathlib import Path

import pytest

from graphopt.callables import foreign
from graphopt.errors import DataError


def test_the_current_folder_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "other").mkdir()
    with foreign(DataError):
        os.chdir("other")
    assert Path.cwd() == tmp_path
    with pytest.raises(DataError), foreign(DataError):
        os.chdir("other")
        raise ValueError
    assert Path.cwd() == tmp_path
