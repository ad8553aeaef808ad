"""Which layers hurt most on integers: each alone is switched to them, and the error measured."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from graphopt.contract.settings import Limits
from graphopt.contract.spec import parse_passes
from graphopt.errors import PassError
from graphopt.facts.layers import Layer, open_layers
from graphopt.graph.node import label
from graphopt.rewrite.switches import Switches, with_switches
from graphopt.run.drive import drive
from graphopt.run.judge import Judge
from graphopt.run.means import Means
from graphopt.run.stage import Stage
from graphopt.runtime.session import Session

__all__ = ["sensitive_layers"]

_EXACT_DB = 200.0
_SAMPLES = 16
_MOST_MACS = 150_000_000_000
"""That many take two cores some ten seconds."""
_MOST_TOGETHER = 4
_SESSIONS = 6
"""The model with switches holds both forms of each weight, as read and packed."""
_LEAST_POSITIONS = 16
"""Of fewer values of a channel the mean is no bias that other samples share."""
_FINE_SHARE = 0.25
"""Share of the layers, the noisiest ones, that are measured alone where others share a figure."""


def sensitive_layers(stage: Stage, means: Means) -> dict[str, float]:
    """Noise of each layer of a float graph by its label, the most sensitive first.

    Each layer alone is computed on integers, with ranges that all share and a corrected bias, and
    the error in the worst output is its noise, as a share of that output's power. Where the model
    is large neighbours are measured together first, and those that are loud then alone. It is a
    ranking only: what several layers cost together is measured on the candidates.

    Raises:
        PassError: The layers cannot be quantized, or the time is over.
        DataError: The samples cannot be used.
        ModelError: onnxruntime cannot run it.
    """
    assert means.judge is not None
    layers = list(open_layers(stage.graph.main))
    taken, most = _SESSIONS * stage.graph.weight_bytes, means.memory(2)
    if most is not None and taken > most:
        raise PassError("the memory limit leaves no room to measure layers one by one")
    switches = _switches(stage, replace(means, limits=Limits(strict=True)), layers)
    session = Session(switches.graph, threads=means.threads)
    names = [name for name in map(label, (each.node for each in layers)) if name in switches.inputs]
    samples, together = _plan(stage.macs, len(names))
    judge = means.judge.first(samples)
    expected = _answers(judge, session, switches, [])
    measure = _Measure(means, judge, session, switches, expected)
    groups = [names[i : i + together] for i in range(0, len(names), together)]
    noise = {label(each.node): 0.0 for each in layers} | measure.all(groups, "measure layers")
    if together > 1:
        loud = _loudest(groups, noise, round(_FINE_SHARE * len(names)))
        noise |= measure.all([[name] for group in loud for name in group], "measure layers alone")
    return dict(sorted(noise.items(), key=lambda item: -item[1]))


@dataclass(frozen=True)
class _Measure:
    """Measures groups of layers on integers, all others in floats."""

    means: Means
    judge: Judge
    session: Session
    switches: Switches
    expected: list[dict[str, Any]]

    def all(self, groups: Sequence[Sequence[str]], what: str) -> dict[str, float]:
        """Noise of each layer of each group, of which the members share equally."""
        noise: dict[str, float] = {}
        for index, group in enumerate(groups):
            self.means.tell(what, index, len(groups))
            self.means.deadline.check("before all layers were measured")
            answers = _answers(self.judge, self.session, self.switches, group)
            found = self.judge.compare(answers, self.expected)
            worst = found.worst_db if found.close_db is None else found.close_db
            power = 10 ** (-(_EXACT_DB if worst is None else worst) / 10)
            noise.update(dict.fromkeys(group, power / len(group)))
        return noise


def _loudest(groups: Sequence[list[str]], noise: Mapping[str, float], most: int) -> list[list[str]]:
    """The groups of most noise that have about so many layers together."""
    ordered = sorted(groups, key=lambda group: -sum(noise[name] for name in group))
    return ordered[: -(-most // max(1, len(ordered[0])))]


def _plan(macs: int | None, layers: int) -> tuple[int, int]:
    """Samples for each measurement, and layers that are measured together at first.

    Both follow from what the model computes and not from the clock, so that a busy machine finds
    the same.
    """
    work = max(1, layers * (macs or 1))
    samples = max(1, min(_SAMPLES, _MOST_MACS // work))
    return samples, min(_MOST_TOGETHER, -(-work // _MOST_MACS))


def _switches(stage: Stage, means: Means, layers: Sequence[Layer]) -> Switches:
    (quantize,) = parse_passes("quantize-static")
    quantized = drive(quantize, stage, means, until="edit").stage.graph
    ranks: dict[str, int] = {}
    for each in layers:
        shape = stage.sizes.shapes.static_shape(each.node.output[0])
        if shape is None or each.bias_place is None:
            continue
        if math.prod(shape) >= _LEAST_POSITIONS * each.channels:
            ranks[label(each.node)] = len(shape)
    found = with_switches(stage.graph, quantized, ranks)
    if not found.inputs:
        raise PassError("no layer can be measured alone")
    return found


def _answers(
    judge: Judge, session: Session, switches: Switches, on: Sequence[str]
) -> list[dict[str, Any]]:
    chosen: Mapping[str, bool] = dict.fromkeys(on, True)
    fed = switches.feed(chosen)
    return [session.run({**sample.feeds, **fed}) for sample in judge.samples]
