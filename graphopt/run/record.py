"""What a run did and measured, as values; the report room turns them into tables and files."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from graphopt.analysis.audit import Audit
from graphopt.contract.budgets import Missed
from graphopt.contract.curves import TrainingCurves
from graphopt.contract.passes import Edit, Skip
from graphopt.contract.taken import Taken
from graphopt.errors import Need
from graphopt.run.quality import Quality
from graphopt.runtime.latency import Clock
from graphopt.tasks.task import Task

__all__ = [
    "Broken",
    "CandidateRecord",
    "Environment",
    "LayerRecord",
    "LimitRecord",
    "ModelRecord",
    "PassRecord",
    "RunRecord",
    "StartRecord",
]


@dataclass(frozen=True)
class Environment:
    """Where the run happened.

    ``flags`` are the CPU flags that decide on integer kernels; ``timed_on`` says where times were
    taken, where that is not the target.
    """

    cpu: str
    flags: list[str]
    threads: int
    target: str
    versions: dict[str, str]
    timed_on: str = ""


@dataclass(frozen=True)
class ModelRecord:
    """A model file in figures; what could not be measured is None.

    Attributes:
        compressed_bytes: About what the file takes after deflate, as a download does.
        macs: Of one run at the sizes ``macs_at``.
        macs_at: Shapes of the inputs of that run, where the file leaves a size open; else empty.
        macs_missing: Which node's MACs are unknown, and why; empty where all are counted.
    """

    path: str | None
    sha256: str
    bytes: int
    params: int
    macs: int | None
    nodes: int
    latency_ms: float | None = None
    macs_at: dict[str, list[int]] = field(default_factory=dict)
    macs_missing: str = ""
    compressed_bytes: int | None = None


Limit = Literal[
    "valid",
    "runs",
    "finite",
    "lossless",
    "same",
    "helps",
    "min-sqnr",
    "min-agreement",
    "max-drop",
]
"""What the result of a pass must hold: ONNX's rules, that it runs and gives numbers, the floors of
lossless passes for numbers and for decisions, that a repair helps, and the limits of the user."""


@dataclass(frozen=True)
class Broken:
    """A limit that a pass broke.

    Attributes:
        limit: Which one.
        asked: The figure to hold; None where there is none.
        measured: What was found.
        detail: The output, what the metric does, the problem in the model or what onnxruntime says.
    """

    limit: Limit
    asked: float | None = None
    measured: float | None = None
    detail: str = ""

    def __str__(self) -> str:
        """What is broken, in words."""
        match self.limit:
            case "valid":
                return f"left an invalid model, rolled back: {self.detail}"
            case "runs":
                return f"onnxruntime refuses the result, rolled back: {self.detail}"
            case "finite":
                return self.detail
            case "same":
                return (
                    f"it must change nothing, and of output {self.detail!r} {self.measured:.1%} "
                    "differs"
                )
            case "helps":
                return f"it does not help: {self.measured:.1f} dB, {self.asked:.1f} dB without it"
            case "max-drop":
                return f"max-drop allows {self.asked:g}, {self.detail} by {self.measured:.3g}"
            case "min-agreement" if self.measured is None:
                return f"min-agreement asks {self.asked:g} %, and no output decides anything"
            case "min-agreement":
                return f"min-agreement asks {self.asked:g} %, {self.measured:.2f} % are the same"
            case floor if self.measured is None:
                return f"{floor} asks {self.asked:g} dB, and no output can be compared"
            case floor:
                measured = f"output {self.detail!r} is at {self.measured:.1f} dB"
                return f"{floor} asks {self.asked:g} dB, {measured}"


@dataclass(frozen=True)
class PassRecord:
    """One pass of the run.

    ``status`` is ``done``, ``nothing to do``, ``refused`` (a precondition; ``reason`` and
    ``needs``, what was not given) or ``rolled back`` (a limit; ``reason`` and ``broken``).
    ``bytes`` and ``macs`` are those after the pass, ``sqnr_db`` that of the worst output against
    the input model, ``curves`` the course of a training, ``note`` what the pass destroyed of what
    others before it had made, ``missed`` the budget of its own that it could not keep to, None
    where it kept to it or its work was taken back, ``taken`` what it took from where: nothing where
    that is so.
    """

    name: str
    spec: str
    status: str
    reason: str
    seconds: float
    changes: list[Edit]
    skipped: list[Skip]
    bytes: int
    macs: int | None
    sqnr_db: float | None
    curves: TrainingCurves | None = None
    broken: Broken | None = None
    needs: tuple[Need, ...] = ()
    note: str = ""
    missed: Missed | None = None
    taken: Taken = field(default_factory=Taken)


@dataclass(frozen=True)
class CandidateRecord:
    """One candidate that ``auto`` tried. Ratios are against the cleaned float model.

    ``latency_clock`` says what ``latency_ratio`` is of; a difference within ``latency_spread`` is
    none.

    ``needs`` is what was not given and would help, where ``verdict`` says what is in its way.
    """

    name: str
    spec: str
    bytes: int
    latency_ratio: float | None
    sqnr_db: float | None
    agreement_top1: float | None
    metric: float | None
    chosen: bool
    verdict: str
    needs: tuple[Need, ...] = ()
    latency_spread: float | None = None
    latency_clock: Clock | None = None


@dataclass(frozen=True)
class LayerRecord:
    """One weighted layer: its bytes and time before and after, and what quantizing it costs."""

    node: str
    op_type: str
    bytes_before: int
    bytes_after: int
    ms_before: float | None = None
    ms_after: float | None = None
    sqnr_db: float | None = None


@dataclass(frozen=True)
class LimitRecord:
    """A limit, as asked and as measured; ``measured`` is None where nothing could be measured.

    Where it cost passes, ``taken_back`` names them, ``measured`` is theirs and ``written`` that of
    the written model, which does without them.

    ``fresh`` is what fresh samples give at least (``Fresh``) where ``measured`` is of few ones:
    below ``asked``, a limit that is met is met by these samples only. ``error`` is the standard
    error of ``measured`` for samples of the same kind, where it can be told.
    """

    name: str
    asked: float
    measured: float | None
    met: bool
    fresh: float | None = None
    taken_back: tuple[str, ...] = ()
    written: float | None = None
    error: float | None = None

    @property
    def surely(self) -> bool:
        """Whether the limit is met for fresh samples too, as far as is known."""
        return self.met and (self.fresh is None or self.fresh >= self.asked)


@dataclass(frozen=True)
class StartRecord:
    """The model as it came, where the run is measured against its teacher instead.

    ``quality`` is its closeness to the teacher before the run, None where nothing was run.
    """

    model: ModelRecord
    quality: Quality | None


@dataclass(frozen=True)
class RunRecord:
    """The whole run.

    ``input`` is what the result is measured against: the model as it came or, where ``start``
    tells of that one, the teacher. ``tasks`` is what its outputs mean.
    """

    command: str
    environment: Environment
    input: ModelRecord
    output: ModelRecord | None = None
    quality: Quality | None = None
    passes: list[PassRecord] = field(default_factory=list)
    candidates: list[CandidateRecord] = field(default_factory=list)
    audit: Audit | None = None
    layers: list[LayerRecord] = field(default_factory=list)
    limits: list[LimitRecord] = field(default_factory=list)
    messages: list[str] = field(default_factory=list)
    recipe: str = ""
    latency_ratio: float | None = None
    latency_spread: float | None = None
    latency_clock: Clock | None = None
    peak_rss_bytes: int = 0
    seconds: float = 0.0
    dry_run: bool = False
    start: StartRecord | None = None
    tasks: list[Task] = field(default_factory=list)
