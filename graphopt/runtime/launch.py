"""One process or several, as a launcher such as torchrun tells them."""

from __future__ import annotations

import os

from graphopt.errors import SystemFailure, quoted
from graphopt.options import number_of

__all__ = ["leads", "neighbours", "place_here", "position"]

_ADDRESS = ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
"""What a launcher sets; a cluster may set some of it for jobs that are one process."""

_MOST = 1 << 20


def position() -> tuple[int, int]:
    """The number of this process and how many work together; ``(0, 1)`` where it is alone.

    Raises:
        SystemFailure: The launcher's variables hold no such numbers.
    """
    if not all(name in os.environ for name in _ADDRESS):
        return 0, 1
    rank, world = _number("RANK", 0, 0), _number("WORLD_SIZE", 1, 1)
    if rank >= world:
        raise SystemFailure(f"the environment has RANK={rank} of WORLD_SIZE={world}; it is less")
    return rank, world


def leads() -> bool:
    """Whether this is the process that prints and writes."""
    return position()[0] == 0


def place_here() -> int:
    """The number of this process on its machine."""
    return _number("LOCAL_RANK", 0, 0)


def neighbours() -> int:
    """How many of the processes share this machine."""
    return _number("LOCAL_WORLD_SIZE", 1, 1)


def _number(name: str, default: int, least: int) -> int:
    text = os.environ.get(name, str(default))
    try:
        number = int(number_of(text, int))
    except ValueError:
        number = -1
    if not least <= number <= _MOST:
        problem = f"the environment has {name}={quoted(text)}"
        raise SystemFailure(f"{problem}; it must be a whole number from {least} on, or unset")
    return number
