"""How close a model answers to the one that is right, as values."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

from graphopt.errors import Need
from graphopt.tasks.quality import OutputQuality

__all__ = ["Caveat", "Fresh", "Metric", "Quality"]


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
    def fresh_db(self) -> float | None:
        """What fresh samples give at least of ``least_db``; None where that cannot be said.

        The bound of an output is of its numbers as a whole; what is less by the same noise, about
        means or in a slice, is as far below it as it is on these samples.
        """
        if self.fresh is None:
            return None
        bounds = list[float]()
        for name, bound in self.fresh.sqnr_db.items():
            whole, least = self.sqnr_db.get(name), self.numbers_db.get(name)
            below = 0.0 if whole is None or least is None else whole - least
            if bound is not None:
                bounds.append(bound - below)
        return min(bounds, default=None)

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
