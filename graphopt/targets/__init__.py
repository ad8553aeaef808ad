"""Tables of what runtimes fuse and how their integer kernels compute."""

from __future__ import annotations

from graphopt.errors import UsageError
from graphopt.options import near_miss
from graphopt.targets.host import host_name
from graphopt.targets.tables import TARGETS
from graphopt.targets.target import OpRule, Role, Slow, Target

__all__ = ["OpRule", "Role", "Slow", "Target", "find", "names"]


def names() -> list[str]:
    """Names of all targets, ``host`` first."""
    return ["host", *TARGETS]


def find(name: str) -> Target:
    """The target of that name; ``host`` is the one this machine turns out to be.

    Raises:
        UsageError: No target has that name; the message has the nearest or all.
    """
    if name == "host":
        return TARGETS[host_name()]
    if name not in TARGETS:
        raise UsageError(f"unknown target {name!r}{near_miss(name, names())}")
    return TARGETS[name]
