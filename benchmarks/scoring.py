"""Score a model against the one it was made from, with onnxruntime and numpy alone.

The benchmarks do not ask graphopt how good graphopt is: what stands here shares no code with it.
"""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import spearmanr

os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

import onnxruntime

Feeds = dict[str, NDArray[Any]]

BATCH = 32
CEILING_DB = 200.0  # identical outputs
BURST_SECONDS = 0.02
DTYPES = {
    "tensor(float)": np.float32,
    "tensor(float16)": np.float16,
    "tensor(double)": np.float64,
    "tensor(int64)": np.int64,
    "tensor(int32)": np.int32,
    "tensor(uint8)": np.uint8,
    "tensor(int8)": np.int8,
    "tensor(bool)": np.bool_,
}


@dataclass(frozen=True)
class Score:
    """A model against its original.

    Attributes:
        sqnr_db: For each output ``10 log10(sum f^2 / sum (f - g)^2)`` over all samples, in dB.
        agreement: Percent of positions with the same argmax of the first output; None for pairs,
            whose outputs are embeddings.
        metric: Name of the metric that the labels suggest; None without labels.
        before: Metric of the original, in percent.
        after: Metric of the model, in percent.
        latency_ms: Median time of one sample, in milliseconds.
        latency_ratio: Median of the ratios of paired bursts; below 1 is faster.
        latency_spread: From the 25th to the 75th percentile of these ratios.
    """

    sqnr_db: dict[str, float]
    agreement: float | None
    metric: str | None
    before: float | None
    after: float | None
    latency_ms: float
    latency_ratio: float
    latency_spread: float


class Samples:
    """The arrays of an ``.npz`` by input name, samples along the first axis, without labels.

    Where there is an ``attention_mask``, each batch is cut to its longest sentence, as a tokenizer
    would pad it.
    """

    def __init__(self, path: Path, limit: int | None) -> None:
        with np.load(path, allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in archive.files}
        labels = arrays.pop("labels", None)
        count = len(next(iter(arrays.values())))
        self.paired = labels is not None and 2 * len(labels) == count
        self.count = min(limit or count, count)
        self.count -= self.count % 2 if self.paired else 0
        self.arrays = arrays
        self.labels = labels if labels is None else labels[: self.count // (1 + self.paired)]

    def rows(self, start: int, stop: int) -> Feeds:
        """The samples from ``start`` up to ``stop``."""
        part = {name: array[start:stop] for name, array in self.arrays.items()}
        mask = part.get("attention_mask")
        if mask is None:
            return part
        used = int(np.flatnonzero(mask.any(axis=0)).max(initial=0)) + 1
        return {name: array[:, :used] for name, array in part.items()}

    def batches(self, size: int) -> Iterator[Feeds]:
        """All samples, ``size`` at a time; the last batch may be shorter."""
        for start in range(0, self.count, size):
            yield self.rows(start, min(start + size, self.count))


class Model:
    """A session on the CPU that takes any number of samples at once."""

    def __init__(self, path: Path, threads: int) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.log_severity_level = 3
        # A session that has just run would else still be spinning while the other one is timed.
        options.add_session_config_entry("session.force_spinning_stop", "1")
        self.session = onnxruntime.InferenceSession(
            path, options, providers=["CPUExecutionProvider"]
        )
        self.inputs = self.session.get_inputs()
        self.outputs = [output.name for output in self.session.get_outputs()]
        first = self.inputs[0].shape[0] if self.inputs[0].shape else None
        self.batch = first if isinstance(first, int) else None

    def feeds(self, rows: Mapping[str, NDArray[Any]]) -> Feeds:
        """The arrays that the model takes, in its own types, filled up to a fixed batch."""
        short = 0 if self.batch is None else self.batch - len(next(iter(rows.values())))
        feeds: Feeds = {i.name: rows[i.name].astype(DTYPES[i.type]) for i in self.inputs}
        return {n: np.concatenate([a, a[-1:].repeat(short, 0)]) for n, a in feeds.items()}

    def run(self, rows: Mapping[str, NDArray[Any]]) -> list[NDArray[Any]]:
        """The outputs, samples along the first axis, also where the model folds that away."""
        count = len(next(iter(rows.values())))
        results = self.session.run(None, self.feeds(rows))
        batch = self.batch or count
        return [np.asarray(r).reshape(batch, -1, *np.shape(r)[1:])[:count] for r in results]


def score(path: Path, original: Path, data: Path, *, limit: int | None, threads: int) -> Score:
    """Run both models over the data, then time them in turns on the first sample."""
    samples = Samples(data, limit)
    model, reference = Model(path, threads), Model(original, threads)
    signal, noise = np.zeros(len(model.outputs)), np.zeros(len(model.outputs))
    same: list[NDArray[np.bool_]] = []
    answers: list[tuple[NDArray[Any], NDArray[Any]]] = []
    for rows in samples.batches(reference.batch or BATCH):
        expected, actual = reference.run(rows), model.run(rows)
        for index, (f, g) in enumerate(zip(expected, actual, strict=True)):
            f64 = f.astype(np.float64)
            signal[index] += np.square(f64).sum()
            noise[index] += np.square(f64 - g).sum()
        same.append((expected[0].argmax(axis=-1) == actual[0].argmax(axis=-1)).ravel())
        answers.append((expected[0], actual[0]))
    name, before, after = _metrics(samples, answers)
    times, base = _latencies(model, reference, samples.rows(0, 1))
    ratios = [a / b for a, b in zip(times, base, strict=True)]
    low, high = np.percentile(ratios, [25, 75])
    return Score(
        sqnr_db={o: _decibels(s, n) for o, s, n in zip(model.outputs, signal, noise, strict=True)},
        agreement=None if samples.paired else float(100 * np.concatenate(same).mean()),
        metric=name,
        before=before,
        after=after,
        latency_ms=1000 * statistics.median(times),
        latency_ratio=statistics.median(ratios),
        latency_spread=float(high - low),
    )


def _decibels(signal: float, noise: float) -> float:
    if noise == 0:
        return CEILING_DB
    return float(min(CEILING_DB, 10 * np.log10(signal / noise)))


def _metrics(
    samples: Samples, answers: list[tuple[NDArray[Any], NDArray[Any]]]
) -> tuple[str | None, float | None, float | None]:
    """Top-1 in percent where each sample has a label, Spearman's rho x 100 where each pair has."""
    if samples.labels is None:
        return None, None, None
    function = _spearman if samples.paired else _top1
    before, after = (
        function(np.concatenate([pair[side] for pair in answers]), samples.labels)
        for side in (0, 1)
    )
    return function.__name__.strip("_"), before, after


def _top1(outputs: NDArray[Any], labels: NDArray[Any]) -> float:
    return float(100 * (outputs.reshape(len(labels), -1).argmax(axis=1) == labels).mean())


def _spearman(outputs: NDArray[Any], labels: NDArray[Any]) -> float:
    """Of the gold scores and the cosines of rows 2i and 2i + 1."""
    rows = outputs.reshape(2 * len(labels), -1).astype(np.float64)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    return float(100 * spearmanr((rows[0::2] * rows[1::2]).sum(axis=1), labels).statistic)


def _latencies(
    a: Model, b: Model, rows: Feeds, rounds: int = 31
) -> tuple[list[float], list[float]]:
    """Seconds of one run in bursts that take turns, so that the machine's moods cancel."""
    pairs = [(a, a.feeds(rows)), (b, b.feeds(rows))]
    counts = []
    for model, feeds in pairs:
        model.session.run(None, feeds)
        counts.append(max(1, int(BURST_SECONDS / max(_burst(model, feeds, 3), 1e-6))))
    times: tuple[list[float], list[float]] = ([], [])
    for turn in range(rounds):
        for side in (0, 1) if turn % 2 else (1, 0):
            times[side].append(_burst(*pairs[side], counts[side]))
    return times


def _burst(model: Model, feeds: Feeds, runs: int) -> float:
    started = time.perf_counter()
    for _ in range(runs):
        model.session.run(None, feeds)
    return (time.perf_counter() - started) / runs
