"""Which layers hurt most on integers: each alone is switched to them, and the error measured."""

from __future__ import annotations

from dataclasses import replace

from graphopt.contract.forms import form_named
from graphopt.contract.settings import Limits
from graphopt.facts.layers import open_layers
from graphopt.graph.node import label
from graphopt.run.drive import form_maker
from graphopt.run.layer_forms import measure_forms
from graphopt.run.means import Means
from graphopt.run.stage import Stage

__all__ = ["sensitive_layers"]

_STATIC = "int8-static"


def sensitive_layers(stage: Stage, means: Means) -> dict[str, float]:
    """Noise of each layer of a float graph by its label, the most sensitive first.

    Each layer alone is computed on integers, with the error that both of its ends make. It is a
    ranking only: what several layers cost together is measured on the candidates.

    Raises:
        PassError: The layers cannot be quantized, or the time is over.
        DataError: The samples cannot be used.
        ModelError: onnxruntime cannot run it.
    """
    make = form_maker(stage, replace(means, limits=Limits()))
    figures = measure_forms(stage, means, [form_named(_STATIC)], make)
    noise = {label(each.node): 0.0 for each in open_layers(stage.graph.main)}
    for each in figures.layers:
        if _STATIC in each.forms:
            noise[each.node] = figures.alone(each.node, _STATIC)
    return dict(sorted(noise.items(), key=lambda item: -item[1]))
