"""Tables of what runtimes fuse and how their integer kernels compute."""

from __future__ import annotations

import difflib

from graphopt.errors import UsageError
from graphopt.targets.host import host_name
from graphopt.targets.tables import KERNELS, TARGETS
from graphopt.targets.target import OpRule, Role, Target

__all__ = ["KERNELS", "OpRule", "Role", "Target", "find", "names"]


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
        near = difflib.get_close_matches(name, names(), n=1, cutoff=0.5)
        hint = f"did you mean {near[0]!r}?" if near else f"known: {', '.join(names())}"
        raise UsageError(f"unknown target {name!r}; {hint}")
    return TARGETS[name]
