"""What a user sets for a run besides the passes: limits and the machine."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Limits", "Machine"]


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What a result must hold.

    Attributes:
        min_sqnr_db: Least SQNR of every output against the input model, dB.
        max_drop: Most that the metric may fall, in the metric's own unit.
        strict: End the run at the first refused pass or broken limit.
    """

    min_sqnr_db: float | None = None
    max_drop: float | None = None
    strict: bool = False


@dataclass(frozen=True, kw_only=True)
class Machine:
    """Where the model is to run, and where the work is done.

    Attributes:
        target: ``host`` or the name of another target; by default the recipe's, else ``host``.
        threads: Threads of onnxruntime and torch; 0 for all cores.
        seed: Seed of all random numbers; by default the recipe's, else 0.
        memory_limit: Bytes that the observation and the proof may take; None for 1 GB and 3 GB.
        device: What training computes on: ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.
    """

    target: str | None = None
    threads: int = 0
    seed: int | None = None
    memory_limit: int | None = None
    device: str = "auto"
