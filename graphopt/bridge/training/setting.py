"""What surrounds a training: names, places, and how torch behaves meanwhile."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from graphopt.progress import Progress

__all__ = ["Setting", "quiet_torch"]


@dataclass(frozen=True)
class Setting:
    """What surrounds a training.

    Attributes:
        name: What it is called in messages.
        identity: The pass with all its options; what is stored of another one is not taken up.
        seed: Of all random numbers.
        threads: Threads of torch and onnxruntime; 0 for all cores.
        device: ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.
        checkpoints: Folder that the state is kept in, to be taken up later; None for nowhere.
        progress: Told what is going on, how far it is and how far it goes.
    """

    name: str
    identity: str = ""
    seed: int = 0
    threads: int = 0
    device: str = "auto"
    checkpoints: Path | None = None
    progress: Progress | None = None


@contextmanager
def quiet_torch(threads: int, device: torch.device) -> Iterator[None]:
    """Torch with so many threads and, on the CPU, repeatable kernels; its state comes back after.

    Args:
        threads: 0 to leave them as they are.
        device: What is trained on.
    """
    before, mode = torch.get_num_threads(), torch.get_deterministic_debug_mode()
    memory: Any = torch.utils.deterministic
    filled = memory.fill_uninitialized_memory
    if threads:
        torch.set_num_threads(threads)
    if device.type == "cpu":
        torch.use_deterministic_algorithms(True)
        memory.fill_uninitialized_memory = False  # nothing reads it here
    try:
        with torch.random.fork_rng([device] if device.type == "cuda" else []):
            yield
    finally:
        torch.set_deterministic_debug_mode(mode)
        memory.fill_uninitialized_memory = filled
        torch.set_num_threads(before)
