"""One process alone; several are tested with torchrun."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from graphopt.bridge.training.processes import processes
from graphopt.errors import SystemFailure, UsageError
from graphopt.runtime.session import thread_count


def test_alone_everything_is_as_given() -> None:
    team = processes("cpu")
    assert (team.rank, team.world, team.leads) == (0, 1, True)
    assert team.device == torch.device("cpu")
    assert team.mean(0.3) == 0.3
    assert team.total(0.1, 2) == [0.1, 2]
    assert [team.threads(n) for n in (0, 3)] == [0, 3]
    tensor = torch.tensor([1.0])
    team.spread([tensor])
    team.require_same(5)
    assert tensor.tolist() == [1]


def test_part_of_what_a_launcher_sets_makes_no_team(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "4")
    monkeypatch.setenv("RANK", "2")
    assert processes("auto").world == 1


def test_processes_that_do_not_come_are_said_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    place = {"RANK": "1", "WORLD_SIZE": "2", "MASTER_ADDR": "localhost", "MASTER_PORT": "no port"}
    for name, value in place.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(SystemFailure, match=r"the other processes cannot be reached: .*port"):
        processes("cpu")


@pytest.mark.parametrize("name", ["gpu", "cuda:", "cuda:x", "cpu:1", "meta", ""])
def test_unknown_devices(name: str) -> None:
    with pytest.raises(UsageError, match=f"device '{name}' is unknown; give auto, cpu, cuda or"):
        processes(name)


@pytest.mark.parametrize("name", ["cuda", "cuda:7"])
def test_devices_that_are_not_there(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    with pytest.raises(UsageError, match=f"device '{name}' is not there; torch finds 0 GPUs"):
        processes(name)


def test_neighbours_share_the_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    team = replace(processes("cpu"), world=2, neighbours=2)
    assert team.threads(0) == max(1, thread_count(0) // 2)
    assert team.threads(3) == 3
