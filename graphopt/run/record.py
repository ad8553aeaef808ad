"""What a run did and measured, as values; the report room turns them into tables and files."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

from graphopt.analysis.audit import Audit
from graphopt.contract.curves import TrainingCurves
from graphopt.contract.passes import Edit, Skip
from graphopt.errors import Need
from graphopt.runtime.latency import Clock
from graphopt.tasks.quality import OutputQuality
from graphopt.tasks.task import Task

__all__ = [
    "Broken",
    "CandidateRecord",
    "Caveat",
    "Environment",
    "Fresh",
    "LayerRecord",
    "LimitRecord",
    "Metric",
    "ModelRecord",
    "PassRecord",
    "Quality",
    "RunRecord",
    "StartRecord",
]


@dataclass(frozen=True)
class Environment:
    """Where the run happened. ``flags`` are the CPU flags that decide on integer kernels."""

    cpu: str
    flags: list[str]
    threads: int
    target: str
    versions: dict[str, str]


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


@dataclass(frozen=True)
class Metric:
    """A task metric before and after.

    Attributes:
        name: Its name.
        before: Of the input model, in the metric's unit.
        after: Of the output model; NaN where it has none.
        output: The output that is judged; empty where a function judges them all.
        higher_is_better: Which way it gets worse.
        beside: Further figures of the same output and labels.
    """

    name: str
    before: float
    after: float
    output: str = ""
    higher_is_better: bool = True
    beside: Sequence[Metric] = ()

    @property
    def fall(self) -> float:
        """How much worse it got; infinite where there is nothing left to measure."""
        fall = self.before - self.after if self.higher_is_better else self.after - self.before
        return math.inf if math.isnan(fall) else fall

    @property
    def worsens(self) -> str:
        """What it does where it gets worse, in words.

        >>> Metric("mse", 0.1, 0.2, higher_is_better=False).worsens
        'mse rises'
        """
        return f"{self.name} {'falls' if self.higher_is_better else 'rises'}"


@dataclass(frozen=True)
class Caveat:
    """Why nothing was run, or what the reader of figures should know; and what would help."""

    note: str = ""
    needs: tuple[Need, ...] = ()


@dataclass(frozen=True)
class Fresh:
    """What fresh samples of the same kind give at least in 95 of 100 cases: one-sided bounds.

    Attributes:
        sqnr_db: Per output; None where nothing can be said.
        agreement: Share of same decisions per output, percent; the same.
    """

    sqnr_db: dict[str, float | None]
    agreement: dict[str, float | None] = field(default_factory=dict)

    @property
    def least_db(self) -> float | None:
        """The smallest bound of all outputs; None where there is none."""
        return min((value for value in self.sqnr_db.values() if value is not None), default=None)


@dataclass(frozen=True)
class Quality:
    """Closeness to the input model.

    Attributes:
        sqnr_db: Per output, of its numbers as a whole; None where it holds none.
        agreement_top1: Share of positions with the same largest class in percent, of the output
            where it is least; None where there are no classes.
        outputs: All figures of each output, by its kind.
        metric: The task metric, where labels were given.
        samples: How many samples the figures are taken over; 0 means not run.
        source: Where the samples came from: ``eval``, ``held-out`` (of the calibration data),
            ``calib``, ``train``, ``random`` or ``data``.
        note: Why nothing was run, or what the reader should know; else empty.
        needs: What was not given and would help.
        worst_sample_db: SQNR of the worst sample, per output.
        fresh: What fresh samples give at least; None where the samples are many, all alike or
            a single one, or results were made from them.
        alike: Whether all samples are one and the same.
    """

    sqnr_db: dict[str, float | None]
    agreement_top1: float | None = None
    metric: Metric | None = None
    samples: int = 0
    source: str = ""
    note: str = ""
    needs: tuple[Need, ...] = ()
    worst_sample_db: dict[str, float | None] = field(default_factory=dict)
    fresh: Fresh | None = None
    alike: bool = False
    outputs: dict[str, OutputQuality] = field(default_factory=dict)

    @property
    def decides_db(self) -> dict[str, float | None]:
        """What choices and floors go by, per output: SQNR, or a share of what differs as dB.

        None where nothing could be compared.
        """
        told = {name: quality.decides_db for name, quality in self.outputs.items()}
        return {**self.sqnr_db, **told}

    @property
    def worst_db(self) -> float | None:
        """The least figure that decides of all outputs; None without evidence."""
        known = [value for value in self.decides_db.values() if value is not None]
        return min(known, default=None)

    @property
    def evidence(self) -> bool:
        """Whether anything was compared at all."""
        return self.worst_db is not None

    @property
    def numbers_db(self) -> dict[str, float | None]:
        """The least SQNR of each output: of the whole, about means, of the worst slice; else None.

        Outputs that hold no numbers have none.
        """
        told = {name: quality.numbers_db for name, quality in self.outputs.items()}
        return {**self.sqnr_db, **told}

    @property
    def least_db(self) -> float | None:
        """The least SQNR of all outputs that hold numbers; None where none does."""
        known = [value for value in self.numbers_db.values() if value is not None]
        return min(known, default=None)

    @property
    def close_db(self) -> float | None:
        """The same, but for what parts differ by anyhow: by this one choices weigh."""
        told = {name: quality.close_db for name, quality in self.outputs.items()}
        known = [value for value in {**self.sqnr_db, **told}.values() if value is not None]
        return min(known, default=None)

    @property
    def error(self) -> float | None:
        """The largest share of decisions or rows that differ, as it counts; None where none can."""
        known = [quality.error for quality in self.outputs.values()]
        return max((value for value in known if value is not None), default=None)

    @property
    def least_agreement(self) -> float | None:
        """The least share of same decisions or matched rows of all outputs, percent."""
        known = [quality.agreement for quality in self.outputs.values()]
        rows = [quality.rows for quality in self.outputs.values() if quality.rows is not None]
        known += [min(each.precision, each.recall) for each in rows]
        return min((value for value in known if value is not None), default=self.agreement_top1)

    @property
    def faults(self) -> dict[str, str]:
        """Outputs with an answer that is none, and what is wrong with it."""
        return {name: each.fault for name, each in self.outputs.items() if each.fault}


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
    others before it had made.
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

    ``fresh`` is what fresh samples give at least (``Fresh``) where ``measured`` is of few ones:
    below ``asked``, a limit that is met is met by these samples only.
    """

    name: str
    asked: float
    measured: float | None
    met: bool
    fresh: float | None = None

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
