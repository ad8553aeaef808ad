"""One process or several, as a launcher such as torchrun tells them."""

from __future__ import annotations

import os

__all__ = ["leads", "position"]

_ADDRESS = ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
"""What a launcher sets; a cluster may set some of it for jobs that are one process."""


def position() -> tuple[int, int]:
    """The number of this process and how many work together; ``(0, 1)`` where it is alone."""
    if not all(name in os.environ for name in _ADDRESS):
        return 0, 1
    return int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])


def leads() -> bool:
    """Whether this is the process that prints and writes."""
    return position()[0] == 0
