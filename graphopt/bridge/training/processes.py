"""One process or several, started by torchrun."""

from __future__ import annotations

import atexit
import re
from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor, distributed

from graphopt.errors import SystemFailure, UsageError, quoted
from graphopt.runtime import launch
from graphopt.runtime.session import thread_count

__all__ = ["Processes", "processes"]

_NUMBERED = re.compile(r"cuda:[0-9]{1,4}")


@dataclass(frozen=True)
class Processes:
    """This process among those that train together.

    Attributes:
        rank: Its number.
        world: How many there are.
        device: What it computes on.
        neighbours: How many of them share this machine.
    """

    rank: int
    world: int
    device: torch.device
    neighbours: int = 1

    @property
    def leads(self) -> bool:
        """Whether it is the one that writes."""
        return self.rank == 0

    def threads(self, wanted: int) -> int:
        """Threads for this process; where all cores are wanted (0), its part of them."""
        return wanted or (0 if self.world == 1 else max(1, thread_count(0) // self.neighbours))

    def total(self, *values: float) -> list[float]:
        """The sums over all processes, the same in each of them."""
        if self.world == 1:
            return list(values)
        held = torch.tensor(values, dtype=torch.float64, device=self.device)
        distributed.all_reduce(held)
        return [float(value) for value in held]

    def mean(self, value: float) -> float:
        """The mean over all processes."""
        return self.total(value)[0] / self.world

    def require_same(self, step: int) -> None:
        """All processes go on from the same step.

        Raises:
            UsageError: Some found no checkpoint, or another one.
        """
        if self.total(step, step**2) != [step * self.world, step**2 * self.world]:
            raise UsageError(
                "the processes find different checkpoints; give a folder that all of them see"
            )

    def spread(self, tensors: Iterable[Tensor]) -> None:
        """Put what the leading process holds into the tensors of all."""
        if self.world == 1:
            return
        alike: dict[torch.dtype, list[Tensor]] = {}
        for tensor in tensors:
            alike.setdefault(tensor.dtype, []).append(tensor.detach())
        for held in alike.values():
            flat = torch.cat([tensor.reshape(-1) for tensor in held])
            distributed.broadcast(flat, src=0)
            for tensor, part in zip(
                held, torch.split(flat, [t.numel() for t in held]), strict=True
            ):
                tensor.copy_(part.reshape(tensor.shape))


def processes(device: str) -> Processes:
    """The processes that torchrun started, or this one alone.

    They stay connected until this process ends, as a recipe may train several times.

    Args:
        device: ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.

    Raises:
        SystemFailure: The other processes cannot be reached.
        UsageError: There is no such device.
    """
    chosen = _device(device)
    rank, world = launch.position()
    if world == 1:
        return Processes(0, 1, chosen)
    if chosen.type == "cuda":
        chosen = _device(f"cuda:{launch.place_here()}")
        torch.cuda.set_device(chosen)
    if not distributed.is_initialized():
        try:
            distributed.init_process_group("nccl" if chosen.type == "cuda" else "gloo")
        except (RuntimeError, ValueError) as err:
            raise SystemFailure(
                f"the other processes cannot be reached: {' '.join(str(err).split())}"
            ) from err
        atexit.register(distributed.destroy_process_group)
    return Processes(rank, world, chosen, launch.neighbours())


def _device(name: str) -> torch.device:
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    kind, _, number = name.partition(":")
    if name not in ("cpu", "cuda") and not _NUMBERED.fullmatch(name):
        raise UsageError(f"device {quoted(name)} is unknown; give auto, cpu, cuda or cuda:N")
    count = torch.cuda.device_count()
    if kind == "cuda" and int(number or 0) >= count:
        raise UsageError(f"device {name!r} is not there; torch finds {count} GPUs")
    return torch.device(name)
