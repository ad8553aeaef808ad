from __future__ import annotations

import pytest

from graphopt.errors import SystemFailure, quoted
from graphopt.runtime.launch import leads, neighbours, place_here, position

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


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("RANK", ""),
        ("RANK", "-1"),
        ("RANK", "4"),
        ("RANK", "\u00b2"),
        ("RANK", "9" * 5000),
        ("WORLD_SIZE", "0"),
        ("WORLD_SIZE", "1.5"),
        ("WORLD_SIZE", "9" * 99),
        ("LOCAL_RANK", "x" * 10**5),
        ("LOCAL_WORLD_SIZE", "\u0663"),
    ],
    ids=quoted,
)
def test_a_variable_that_holds_no_number_is_named(
    monkeypatch: pytest.MonkeyPatch, name: str, text: str
) -> None:
    for each, value in {**TOLD, name: text}.items():
        monkeypatch.setenv(each, value)
    with pytest.raises(SystemFailure, match=f"the environment has {name}=") as caught:
        position(), place_here(), neighbours()
    assert len(str(caught.value)) < 300


def test_places_on_the_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LOCAL_RANK", raising=False)
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "8")
    assert (place_here(), neighbours()) == (0, 8)
