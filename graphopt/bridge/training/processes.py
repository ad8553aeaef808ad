"""One process or several, started by torchrun."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import distributed

__all__ = ["Processes", "processes"]


@dataclass(frozen=True)
class Processes:
    """This process among those that train together.

    Attributes:
        rank: Its number.
        world: How many there are.
        device: What it computes on.
    """

    rank: int
    world: int
    device: torch.device

    @property
    def leads(self) -> bool:
        """Whether it is the one that writes."""
        return self.rank == 0

    def agree(self, value: float) -> float:
        """The value of the leading process, in all of them."""
        if self.world == 1:
            return value
        held = torch.tensor([value], dtype=torch.float64)
        distributed.broadcast(held.to(self.device) if _on_gpu() else held, src=0)
        return float(held)

    def mean(self, value: float) -> float:
        """The mean over all processes."""
        if self.world == 1:
            return value
        held = torch.tensor([value], dtype=torch.float64, device=self.device if _on_gpu() else None)
        distributed.all_reduce(held)
        return float(held) / self.world


def _on_gpu() -> bool:
    return distributed.get_backend() == "nccl"


@contextmanager
def processes(device: str) -> Iterator[Processes]:
    """The processes that torchrun started, or this one alone.

    Args:
        device: ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.
    """
    world = int(os.environ.get("WORLD_SIZE", "1"))
    chosen = _device(device)
    if world == 1:
        yield Processes(0, 1, chosen)
        return
    if chosen.type == "cuda":
        chosen = torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
        torch.cuda.set_device(chosen)
    distributed.init_process_group("nccl" if chosen.type == "cuda" else "gloo")
    try:
        yield Processes(distributed.get_rank(), world, chosen)
    finally:
        distributed.destroy_process_group()


def _device(name: str) -> torch.device:
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    return torch.device(name)
