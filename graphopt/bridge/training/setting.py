"""How torch behaves while it trains."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

__all__ = ["quiet_torch"]


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
