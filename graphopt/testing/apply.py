"""Passes applied to a small model, as a run does it: driven, verified, recorded."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import onnx

from graphopt.contract.passes import Pass
from graphopt.contract.settings import Limits
from graphopt.data import Samples, SyntheticSamples, open_data
from graphopt.graph import io
from graphopt.graph.graph import Graph
from graphopt.graph.tensors import Array
from graphopt.run.drive import drive
from graphopt.run.judge import Judge
from graphopt.run.record import PassRecord
from graphopt.run.sequence import record_of
from graphopt.runtime.session import Session
from graphopt.targets import Target
from graphopt.testing.stages import staged

__all__ = ["Applied", "Data", "apply_pass", "apply_passes", "run_model"]

Applied = tuple[Graph, PassRecord]
Data = Samples | Mapping[str, Any]
"""Samples, or arrays by input (``labels`` among them)."""
_COUNT = 4
_JUDGING = 24


def run_model(model: onnx.ModelProto | Graph, seed: int = 0) -> dict[str, Array]:
    """The model's answers to one seeded random feed."""
    graph = _graph(model)
    feeds = next(SyntheticSamples(graph, count=1, seed=seed).feeds())[0]
    return Session(graph, threads=1).run(feeds)


def apply_pass(
    item: Pass, model: str | onnx.ModelProto | Graph, before: Sequence[Pass] = (), **given: Any
) -> Applied:
    """The graph after a pass, and the record of that pass.

    Args:
        item: The pass.
        model: ONNX text, a message or a graph; never edited.
        before: Passes that run first, in the same run.
        given: As for ``apply_passes``.
    """
    graph, records = apply_passes([*before, item], model, **given)
    return graph, records[-1]


def apply_passes(
    passes: Sequence[Pass],
    model: str | onnx.ModelProto | Graph,
    *,
    target: str | Target = "generic",
    samples: Data | int | None = _COUNT,
    train: Data | None = None,
    teacher: Graph | None = None,
    judge: Judge | bool = True,
    seed: int = 0,
    strict: bool = False,
) -> tuple[Graph, list[PassRecord]]:
    """The graph after some passes, and their records.

    Args:
        passes: In their order.
        model: ONNX text, a message or a graph; never edited.
        target: The target, or its name.
        samples: To calibrate with, and to judge by; a number for so many random feeds. With None
            random feeds judge.
        train: To train on; the calibration samples by default.
        teacher: What training aims at; the model itself by default.
        judge: The one that judges, where one is at hand, or whether there is to be one.
        seed: Of all random numbers.
        strict: Raise what refuses or breaks a limit.
    """
    reference = _graph(model)
    if isinstance(samples, int):
        samples = SyntheticSamples(reference, count=samples, seed=seed)
    samples = _opened(samples, reference)
    if judge is True:
        judging = samples or SyntheticSamples(reference, count=_COUNT, seed=seed)
        judge = Judge(reference, judging, "random", threads=1, limit=_JUDGING)
    stage, means = staged(
        reference,
        target=target,
        seed=seed,
        limits=Limits(strict=strict),
        calibration=samples,
        judge=judge or None,
        training=_opened(train, reference),
        teacher=teacher,
    )
    records = []
    for item in passes:
        outcome = drive(item, stage, means)
        records.append(record_of(item, outcome))
        stage = outcome.stage
    return stage.graph, records


def _graph(model: str | onnx.ModelProto | Graph) -> Graph:
    if isinstance(model, Graph):
        return model
    return io.load(onnx.parser.parse_model(model) if isinstance(model, str) else model)


def _opened(data: Data | None, graph: Graph) -> Samples | None:
    return open_data(data, graph) if isinstance(data, Mapping) else data
