"""Tables of what runtimes fuse and how their integer kernels compute."""

from __future__ import annotations

from graphopt.errors import UsageError
from graphopt.options import near_miss
from graphopt.targets.host import host_name
from graphopt.targets.tables import ANY_MACHINE, TARGETS
from graphopt.targets.target import OpRule, Role, Sizes, Slow, Target

__all__ = [
    "OpRule",
    "Role",
    "Sizes",
    "Slow",
    "Target",
    "elsewhere",
    "find",
    "names",
    "same_kernels",
]


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


def elsewhere(target: Target) -> bool:
    """Whether a target is another kind of machine or runtime than this, which tells no times."""
    here = TARGETS[host_name()]
    same = target.runtime == here.runtime and target.machine in (here.machine, ANY_MACHINE)
    return not same


def same_kernels(one: Target, other: Target) -> bool:
    """Whether what one computes, and how fast, is what the other does.

    ``x86-avx2`` and ``x86-vnni`` differ in their products alone.
    """
    return (one.machine, one.runtime, one.rules) == (other.machine, other.runtime, other.rules)
