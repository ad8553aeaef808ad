from __future__ import annotations

import pytest

from graphopt.runtime.launch import leads, position

TOLD = {"RANK": "1", "WORLD_SIZE": "4", "MASTER_ADDR": "localhost", "MASTER_PORT": "29500"}


def test_a_process_knows_its_place(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in TOLD.items():
        monkeypatch.setenv(name, value)
    assert position() == (1, 4)
    assert not leads()
    monkeypatch.setenv("RANK", "0")
    assert leads()


@pytest.mark.parametrize("missing", TOLD)
def test_half_a_launcher_is_none(monkeypatch: pytest.MonkeyPatch, missing: str) -> None:
    for name, value in TOLD.items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv(missing)
    assert position() == (0, 1)
    assert leads()
