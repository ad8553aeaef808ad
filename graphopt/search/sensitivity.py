"""Which layers hurt most on integers: each one alone is quantized, and the error measured."""

from __future__ import annotations

from dataclasses import replace

from graphopt.contract.preconditions import check_preconditions
from graphopt.contract.spec import format_value, parse_passes
from graphopt.errors import PassError
from graphopt.facts import cost, ops
from graphopt.graph.graph import Graph
from graphopt.graph.node import label
from graphopt.run.job import Job

__all__ = ["sensitive_layers"]

_EXACT_DB = 200.0
_SAMPLES = 16
_LEAST_SAMPLES = 4
_MOST_MACS = 400_000_000_000


def sensitive_layers(job: Job) -> list[str]:
    """Labels of the layers of the job's float graph, the most sensitive first.

    Each layer alone is quantized and its bias corrected; the error in the worst output ranks it.
    It is a ranking only: what several layers cost together is measured on the candidates.

    Raises:
        PassError: The graph cannot be quantized at all.
        ModelError: onnxruntime cannot run it.
    """
    assert job.probe is not None
    layers = [label(node) for node, _ in ops.weighted_nodes(job.graph.main)]
    probe = job.probe.first(_sample_count(job, len(layers)))
    expected = probe.run(job.graph)
    noise: dict[str, float] = {}
    for index, name in enumerate(layers):
        if job.progress is not None:
            job.progress("measure layers", index, len(layers))
        graph = _alone(job, name)
        worst = probe.compare(probe.run(graph), expected).worst_db
        noise[name] = 10 ** (-(_EXACT_DB if worst is None else worst) / 10)
    return sorted(layers, key=lambda name: -noise[name])


def _sample_count(job: Job, layers: int) -> int:
    """Samples for each layer: fewer where the model is large, so that the time stays bounded."""
    work = layers * (cost.total_macs(job.graph, job.shapes()) or 1)
    return max(_LEAST_SAMPLES, min(_SAMPLES, _MOST_MACS // max(work, 1)))


def _alone(job: Job, name: str) -> Graph:
    """The job's graph with only the layer called ``name`` on integers."""
    trial = replace(job.fork(), float_graph=job.graph)
    nodes = format_value((name,))
    for item in parse_passes(
        f"quantize-static{{nodes={nodes}}},correct-bias{{samples={_SAMPLES}}}"
    ):
        try:
            check_preconditions(item, trial.graph, trial.context())
        except PassError:  # this layer cannot be quantized: its graph is the float one
            break
        item.run(trial.graph, trial.context())
        trial.observer = None
    return trial.graph
