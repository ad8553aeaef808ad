"""Which layers hurt most on integers: each one alone is quantized, and the error measured."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from graphopt.contract.settings import Limits
from graphopt.contract.spec import format_value, parse_passes
from graphopt.errors import PassError
from graphopt.facts.layers import Layer, open_layers
from graphopt.graph.node import label
from graphopt.observe.means import ChannelMean
from graphopt.run.drive import drive
from graphopt.run.means import Means
from graphopt.run.stage import Stage

__all__ = ["sensitive_layers"]

_EXACT_DB = 200.0
_SAMPLES = 16
_LEAST_SAMPLES = 4
_MOST_MACS = 400_000_000_000


def sensitive_layers(stage: Stage, means: Means) -> list[str]:
    """Labels of the layers of a float graph, the most sensitive first.

    Each layer alone is quantized and its bias corrected; the error in the worst output ranks it.
    It is a ranking only: what several layers cost together is measured on the candidates.

    Raises:
        DataError: The samples cannot be used.
        ModelError: onnxruntime cannot run it.
    """
    assert means.judge is not None
    layers = list(open_layers(stage.graph.main))
    strict = replace(means, limits=Limits(strict=True))
    _observe(stage, layers)
    judge = means.judge.first(_sample_count(stage, len(layers)))
    expected = judge.run(stage.session)
    noise: dict[str, float] = {}
    names = [label(layer.node) for layer in layers]
    for index, name in enumerate(names):
        means.tell("measure layers", index, len(names))
        alone = _alone(stage, strict, name)
        answers = expected if alone is stage else judge.run(alone.session)
        worst = judge.compare(answers, expected).worst_db
        noise[name] = 10 ** (-(_EXACT_DB if worst is None else worst) / 10)
    return sorted(names, key=lambda name: -noise[name])


def _sample_count(stage: Stage, layers: int) -> int:
    """Samples for each layer: fewer where the model is large, so that the time stays bounded."""
    work = layers * (stage.macs or 1)
    return max(_LEAST_SAMPLES, min(_SAMPLES, _MOST_MACS // max(work, 1)))


def _observe(stage: Stage, layers: Sequence[Layer]) -> None:
    """Ask for all layers at once what correct-bias asks for each, so that it is one run."""
    places = ((layer.bias_place, layer.result_axis) for layer in layers)
    requests = [ChannelMean(place[0].output[0], axis) for place, axis in places if place]
    stage.observer.ask(requests, _SAMPLES)


def _alone(stage: Stage, means: Means, name: str) -> Stage:
    """The model with only the layer called ``name`` on integers; as it is where that cannot be.

    Args:
        stage: The float model.
        means: What to measure with; ``strict``, so that a refusal is told apart.
        name: Label of the layer.
    """
    nodes = format_value((name,))
    spec = f"quantize-static{{nodes={nodes}}},correct-bias{{samples={_SAMPLES}}}"
    for item in parse_passes(spec):
        try:
            stage = drive(item, stage, means, until="edit").stage
        except PassError:  # this layer cannot be quantized
            break
    return stage
