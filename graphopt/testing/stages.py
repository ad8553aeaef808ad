"""Where a model stands and what measures it, made with one call for a test."""

from __future__ import annotations

from typing import Any

import onnx

from graphopt import targets
from graphopt.contract.settings import Machine
from graphopt.data.samples import Samples
from graphopt.data.synthetic import SyntheticSamples
from graphopt.graph import io
from graphopt.graph.graph import Graph
from graphopt.run.judge import Judge
from graphopt.run.means import Means
from graphopt.run.stage import Stage
from graphopt.targets import Target

__all__ = ["staged"]


def staged(
    model: onnx.ModelProto | Graph,
    *,
    count: int = 2,
    calibrated: bool = True,
    judged: bool = True,
    samples: Samples | None = None,
    target: str | Target = "generic",
    seed: int = 0,
    **fields: Any,
) -> tuple[Stage, Means]:
    """A model as the first stage of a run of one thread.

    Args:
        model: What to start from and to measure against.
        count: How many random samples there are, where none are given.
        calibrated: Let passes observe the samples.
        judged: Let a judge hold the reference's answers to them.
        samples: For calibration and judge.
        target: The target, or its name.
        seed: Of the run and the random samples.
        fields: Further fields of ``Means``; those that are given go before what is said above.
    """
    graph = model if isinstance(model, Graph) else io.load(model)
    samples = samples or SyntheticSamples(graph, count=count, seed=seed)
    if "judge" not in fields:
        limit = samples.count
        judge = Judge(graph, samples, "random", threads=1, limit=limit) if judged else None
        fields["judge"] = judge
    fields.setdefault("calibration", samples if calibrated else None)
    machine = Machine(threads=1, seed=seed)
    table = targets.find(target) if isinstance(target, str) else target
    means = Means(reference=graph, target=table, machine=machine, **fields)
    return Stage(graph, means), means
