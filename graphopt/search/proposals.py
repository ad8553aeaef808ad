"""What could suit a model and the data at hand: forms, each by the passes that make it."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from onnx import NodeProto

from graphopt.contract.spec import format_value
from graphopt.facts.layers import Layer, layers, open_layers
from graphopt.facts.macs import node_macs
from graphopt.run.means import Means
from graphopt.run.stage import Stage
from graphopt.search.candidate import Kind

__all__ = ["AFTER", "Proposal", "proposals_for", "quickly_rounded", "static_spec"]

_MATMUL_SHARE = 0.5
_STATIC = "quantize-static{options},correct-bias{rounding},quantize-weights{options}"
_ROUNDING = ",round-weights"
_DYNAMIC = "quantize-dynamic,quantize-weights"
_SMOOTH = "smooth-activations"
_ROWS = "scale-rows"
_WEIGHTS = "quantize-weights"
_MOST_ROWS, _ROWS_PER_INPUT = 16384, 64
"""What ``round-weights`` fits a layer by."""
_MOST_WORK = 1e12
"""Products with which it takes about half a minute on two cores."""
AFTER = ",eliminate-dead,strip-metadata"


@dataclass(frozen=True)
class Proposal:
    """A form that could suit.

    Attributes:
        kind: What it is in essence.
        name: How people call it.
        spec: Its passes.
        integers: It is known that layers compute on integers in it.
    """

    kind: Kind
    name: str
    spec: str
    integers: bool = False


def proposals_for(stage: Stage, means: Means) -> list[Proposal]:
    """What could suit this model and the data at hand."""
    kinds = _main_kinds(stage, means)
    data = means.calibration is not None and bool(means.target.weight_types)
    static = static_spec(stage, means)
    proposals: list[Proposal] = []
    if "linear" in kinds:
        if means.target.weight_types and means.target.calls:
            smoothed = Proposal(
                "smoothed", "int8 dynamic, smoothed", f"{_SMOOTH},{_ROWS},{_DYNAMIC}"
            )
            proposals += [smoothed] if data else []
            proposals.append(Proposal("dynamic", "int8 dynamic", _DYNAMIC))
        smoothed = Proposal("smoothed", "int8 static, smoothed", f"{_SMOOTH},{static}")
        beside = any(True for _ in open_layers(stage.graph.main))  # not recurrent ones alone
        proposals += [smoothed] if data and beside else []
    if "conv" in kinds and data:
        proposals.append(Proposal("static", "int8 static", static))
    proposals.append(Proposal("weights", "int8 weights only", _WEIGHTS))
    return [replace(item, spec=item.spec + AFTER) for item in proposals]


def _main_kinds(stage: Stage, means: Means) -> set[str]:
    """Which layers with a constant weight compute most, ``conv`` or ``linear``.

    Both, if there are both and it is not known what they compute. Recurrent layers are linear
    where the target has an integer operator for them.
    """
    counts: dict[str, list[int | None]] = {}
    shapes = stage.sizes.shapes
    for node in _cells(stage, means):
        counts.setdefault("linear", []).append(node_macs(stage.graph.main, node, shapes))
    for layer in open_layers(stage.graph.main):
        kind = "conv" if layer.kind == "conv" else "linear"
        counts.setdefault(kind, []).append(node_macs(layer.scope, layer.node, shapes))
    known = {kind: [n for n in each if n is not None] for kind, each in counts.items()}
    if len(counts) < 2 or known != counts:
        return set(counts)
    conv, linear = (sum(known[kind]) for kind in ("conv", "linear"))
    return {"linear" if linear >= _MATMUL_SHARE * (conv + linear) else "conv"}


def static_spec(stage: Stage, means: Means, options: str = "", *, rounded: bool = False) -> str:
    """The passes of static int8; recurrent layers that can be take their ranges at run time.

    Args:
        stage: The float model.
        means: What the run measures with.
        options: Of the passes that quantize.
        rounded: Whether weights are rounded by what the layers read.
    """
    spec = _STATIC.format(options=options, rounding=_ROUNDING if rounded else "")
    cells = dict.fromkeys(node.op_type for node in _cells(stage, means))
    if not cells:
        return spec
    behind = f",quantize-dynamic{{nodes={format_value(tuple(cells))}}}"
    return spec.replace(",quantize-weights", f"{behind},quantize-weights")


def quickly_rounded(stage: Stage) -> bool:
    """Whether the layers are convolutions most of all, and few enough to be fitted again."""
    work = {"conv": 0.0, "linear": 0.0}
    for each in open_layers(stage.graph.main):
        width = math.prod(each.weight.constant.shape) // each.channels
        rows = min(_MOST_ROWS, _ROWS_PER_INPUT * width) * each.groups
        solving = 6 * rows * width**2 + 10 * each.groups * width**3
        work["conv" if each.kind == "conv" else "linear"] += solving
    return work["conv"] >= work["linear"] and sum(work.values()) <= _MOST_WORK


def _cells(stage: Stage, means: Means) -> list[NodeProto]:
    """The recurrent layers for which the target has an integer operator."""
    return [
        each.node
        for each in layers(stage.graph.main)
        if isinstance(each, Layer)
        and each.kind == "recurrent"
        and each.weight.index == 1
        and each.node.op_type in means.target.dynamic
    ]
