"""Applies one pass to a small model, without the rest of the pipeline's judgement."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import onnx
import pytest

from graphopt import targets
from graphopt.contract.passes import Pass
from graphopt.data import open_data
from graphopt.graph import check
from graphopt.graph.graph import Graph
from graphopt.run import drive as runner
from graphopt.run.job import Job
from graphopt.run.record import PassRecord

Applied = tuple[Graph, PassRecord]
ApplyPass = Callable[..., Applied]


@pytest.fixture
def apply_pass() -> ApplyPass:
    """``apply_pass(model, item, target=..., calibration=...)``: the edited graph and the record.

    The model is text or a message. A refused pass raises; the result is checked to be valid.
    """

    def apply(
        model: str | onnx.ModelProto,
        item: Pass,
        *,
        target: str = "x86-vnni",
        calibration: Mapping[str, Any] | None = None,
    ) -> Applied:
        parsed = onnx.parser.parse_model(model) if isinstance(model, str) else model
        graph = Graph(parsed)
        job = Job(
            graph=graph,
            reference=graph.copy(),
            target=targets.find(target),
            samples=None if calibration is None else open_data(calibration, graph),
            strict=True,
        )
        record = runner.apply(job, item)
        assert check.problems(job.graph) == []
        return job.graph, record

    return apply
