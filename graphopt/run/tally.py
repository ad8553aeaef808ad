"""Sums over samples from which the closeness of answers follows, and what they leave open."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from graphopt.graph.tensors import Array
from graphopt.numerics.fresh import FEW, least_share, least_sqnr_db
from graphopt.numerics.sqnr import ErrorSums, decibels
from graphopt.observe.request import Rows
from graphopt.run.record import Fresh, Quality

__all__ = ["Tally"]

_NUMBERS = "fiub"  # kinds of numpy's types that can be compared


class Tally:
    """Sums over samples from which SQNR and top-1 agreement follow, per output.

    An output that one side does not have is left out.

    Args:
        outputs: Names.
        alike: Whether all samples are the same one, which then says nothing of others.
        clipped: Whether the answers come from a model with fixed ranges.
    """

    def __init__(
        self, outputs: Sequence[str], *, alike: bool = False, clipped: bool = False
    ) -> None:
        self.sums = {name: _Sums() for name in outputs}
        self.gone: set[str] = set()
        self.samples = 0
        self.alike, self.clipped = alike, clipped

    def add(self, right: dict[str, Array], answer: dict[str, Array], rows: Rows) -> None:
        """Count one feed; of outputs with a row per sample only the real rows."""
        self.samples += rows.real
        for name, sums in self.sums.items():
            if name not in right or name not in answer:
                self.gone.add(name)
                continue
            f, g = right[name], answer[name]
            if not isinstance(f, np.ndarray) or f.dtype.kind not in _NUMBERS or f.size == 0:
                continue
            if not isinstance(g, np.ndarray) or g.dtype.kind not in _NUMBERS or f.shape != g.shape:
                sums.errors.fail()  # a sequence, texts or another shape where numbers were
                continue
            apart = f.ndim > 0 and len(f) == rows.full
            sums.add(rows.keep(f), rows.keep(g), rows.real if apart else 1)

    def quality(self, source: str, fresh: Fresh | None = None) -> Quality:
        """The figures so far; ``source`` says where the samples came from."""
        found = self._found()
        first = self._first()
        return Quality(
            sqnr_db={name: sums.errors.sqnr_db for name, sums in found.items()},
            agreement_top1=None if first is None else 100 * first.same / first.positions,
            samples=self.samples,
            source=source,
            worst_sample_db={name: sums.worst_db for name, sums in found.items()},
            fresh=fresh,
            alike=self.alike,
        )

    def fresh(self) -> Fresh | None:
        """What fresh samples give at least; None of many samples, of one, and of alike ones."""
        if self.alike or not 1 < self.samples < FEW:
            return None
        first = self._first()
        least = {name: sums.least_db(self.clipped) for name, sums in self._found().items()}
        return Fresh(least, None if first is None else first.least_agreement())

    def _found(self) -> dict[str, _Sums]:
        return {name: sums for name, sums in self.sums.items() if name not in self.gone}

    def _first(self) -> _Sums | None:
        """Of the first output that looks like logits."""
        return next((sums for sums in self.sums.values() if sums.positions), None)


@dataclass
class _Sums:
    """Of one output: ``units`` are signal and noise, ``answers`` same and all, sample by sample.

    Both are held of a few samples only.
    """

    errors: ErrorSums = field(default_factory=ErrorSums)
    same: int = 0
    positions: int = 0
    worst_db: float | None = None
    units: list[NDArray[np.float64]] = field(default_factory=list)
    answers: list[NDArray[np.int64]] = field(default_factory=list)
    held: int = 0

    def add(self, f: Array, g: Array, samples: int) -> None:
        """Count two arrays of ``samples`` samples along the leading axis."""
        before = self.errors.failed
        signal, noise = self.errors.add(f, g, samples)
        worst = float(decibels(signal, noise).min())
        if self.errors.failed and not before:
            worst = float(decibels(0, 1))
        self.worst_db = worst if self.worst_db is None else min(worst, self.worst_db)
        keep = self.held < FEW
        self.held += samples
        if keep:
            self.units.append(np.stack([signal, noise]))
        axis = _class_axis(f)
        if axis is None:
            return
        same = (f.argmax(axis) == g.argmax(axis)).reshape(samples, -1)
        self.same += int(same.sum())
        self.positions += same.size
        if keep:
            all_ = np.full(samples, same.shape[1])
            self.answers.append(np.stack([same.sum(axis=1), all_]))

    def least_db(self, clipped: bool) -> float | None:
        """What fresh samples give at least; None where that cannot be said."""
        if self.errors.failed or not self.units:
            return None
        signal, noise = np.concatenate(self.units, axis=1)
        return least_sqnr_db(signal, noise, clipped=clipped)

    def least_agreement(self) -> float | None:
        """The same for top-1 agreement, percent."""
        same, of = np.concatenate(self.answers, axis=1)
        share = least_share(same, of)
        return None if share is None else 100 * share


def _class_axis(values: Array) -> int | None:
    """Axis of the classes where an output looks like logits or probabilities, else None.

    That is the last one, or axis 1 of pictures. Rows of unit length are embeddings. Where some
    values are not finite there is no largest one.
    """
    if values.dtype.kind != "f" or values.ndim < 2:
        return None
    axis = 1 if values.ndim >= 4 else -1
    if values.shape[axis] < 2 or not np.isfinite(values).all():
        return None
    lengths = np.linalg.norm(values.astype(np.float64), axis=axis)
    sums = values.sum(axis=axis, dtype=np.float64)
    unit = np.allclose(lengths, 1, atol=1e-3) and not np.allclose(sums, 1, atol=1e-3)
    return None if unit else axis
