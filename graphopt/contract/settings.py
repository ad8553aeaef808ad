"""What a user sets for a run besides the passes: limits and the machine."""

from __future__ import annotations

import math
import sys
from dataclasses import dataclass
from numbers import Integral, Real
from pathlib import Path
from typing import Any

from graphopt.errors import UsageError, quoted

__all__ = ["MOST_ROUNDS", "MOST_THREADS", "Limits", "Machine"]

MOST_ROUNDS = 100_000
"""Bursts of a model that is timed."""
MOST_THREADS = 1024
_INT64 = 2**63 - 1
"""The largest seed that torch takes, and more bytes than there are."""


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What a result must hold.

    Attributes:
        min_sqnr_db: Least SQNR of every output against the input model, dB.
        min_agreement: Least share of decisions that stay the same, percent: of each output that
            decides, such as the largest class.
        max_drop: Most that the metric may get worse, in the metric's own unit.
        strict: End the run at the first refused pass, broken limit or missed budget of a pass.

    Raises:
        UsageError: A value is no finite number, a drop is below zero, or ``strict`` no bool.
    """

    min_sqnr_db: float | None = None
    min_agreement: float | None = None
    max_drop: float | None = None
    strict: bool = False

    @property
    def any(self) -> bool:
        """Whether the result must hold something."""
        asked = (self.min_sqnr_db, self.min_agreement, self.max_drop)
        return any(value is not None for value in asked)

    def __post_init__(self) -> None:
        _check("min_sqnr_db", self.min_sqnr_db, float, -sys.float_info.max)
        _check("min_agreement", self.min_agreement, float, 0, 100)
        _check("max_drop", self.max_drop, float, 0)
        if not isinstance(self.strict, bool):
            raise UsageError(f"strict={quoted(self.strict)} must be True or False")


@dataclass(frozen=True, kw_only=True)
class Machine:
    """Where the model is to run, and where the work is done.

    Attributes:
        target: ``host`` or the name of another target; by default the recipe's, else ``host``.
        threads: Threads of onnxruntime and torch; 0 for all cores.
        seed: Seed of all random numbers; by default the recipe's, else 0.
        memory_limit: Bytes that the observation and the proof may take; None for 1 GB and 3 GB.
        time_limit: Seconds after which ``auto`` starts nothing new (None for ten minutes), and what
            observes, walks, measures layers or trains ends between two steps. What was made until
            then is proved.
        device: What training computes on: ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.
        ops_libraries: Shared libraries that register kernels of the models' own operators with
            onnxruntime; their code runs.
        trial: Whether models from outside are first loaded and run in a process of their own, so
            that a crash, a loop without end or too much memory becomes one line.

    Raises:
        UsageError: A number is not whole, below zero or too large, a time is no number, a name no
            text, or ``trial`` no bool.
    """

    target: str | None = None
    threads: int = 0
    seed: int | None = None
    memory_limit: int | None = None
    time_limit: float | None = None
    device: str = "auto"
    ops_libraries: tuple[str | Path, ...] = ()
    trial: bool = True

    def __post_init__(self) -> None:
        for name, most in (("threads", MOST_THREADS), ("seed", _INT64), ("memory_limit", _INT64)):
            _check(name, getattr(self, name), int, 0, most)
        _check("time_limit", self.time_limit, float, 0)
        for name in ("target", "device"):
            if not isinstance(getattr(self, name), str | None):
                raise UsageError(f"{name}={quoted(getattr(self, name))} must be text")
        given = self.ops_libraries
        if not isinstance(given, tuple) or not all(isinstance(p, str | Path) for p in given):
            raise UsageError(f"ops_libraries={quoted(given)} must be a tuple of paths")
        if not isinstance(self.trial, bool):
            raise UsageError(f"trial={quoted(self.trial)} must be True or False")


def _check(
    name: str,
    value: Any,
    kind: type[int | float],
    low: float,
    high: float = sys.float_info.max,
) -> None:
    """Refuse what is no number of that kind from ``low`` to ``high``; None is fine.

    Raises:
        UsageError: It is that.
    """
    if value is None:
        return
    what = "a whole number" if kind is int else "a number"
    allowed = Integral if kind is int else Real  # numpy's scalars are some too
    number = isinstance(value, allowed) and not isinstance(value, bool)
    if not number or not (isinstance(value, Integral) or math.isfinite(value)):
        raise UsageError(f"{name}={quoted(value)} must be {what}")
    if value > high:  # perhaps with thousands of digits, so not shown
        raise UsageError(f"{name} must be {high:g} or less")
    if value < low:
        shown = name if value < -_INT64 else f"{name}={value!r}"
        raise UsageError(f"{shown} must be {low:g} or more")
