"""What other runtimes would compute on integers, by their tables: nothing of it is run."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from graphopt import targets
from graphopt.analysis.audit import Audit, Entry, expected
from graphopt.analysis.placement import place
from graphopt.analysis.slow_layers import slow_kind
from graphopt.facts.layers import Layer, layers
from graphopt.facts.quantized import has_fixed_ranges
from graphopt.facts.shapes import infer
from graphopt.graph.graph import Graph
from graphopt.graph.node import in_default_domain, label
from graphopt.report.findings import FitReason, TargetFit
from graphopt.rewrite.opsets import NotLifted, lift
from graphopt.targets import Target

__all__ = ["target_fits"]


def target_fits(graph: Graph, names: Sequence[str]) -> list[TargetFit]:
    """How a model as it is fits each target, in their order.

    Args:
        graph: The model; left as it is.
        names: Of targets.

    Raises:
        UsageError: No target has that name; the near miss is in the message.
    """
    return [_fit(graph, target) for target in map(targets.find, dict.fromkeys(names))]


def _fit(graph: Graph, target: Target) -> TargetFit:
    found = expected(graph, target=target)
    reasons: dict[str, list[Entry]] = {}
    for entry in found.float_:
        reasons.setdefault(entry.reason, []).append(entry)
    ordered = sorted(reasons.items(), key=lambda item: -len(item[1]))
    return TargetFit(
        target=target.name,
        description=target.description,
        layers=len(found.integer) + len(found.float_),
        integer=len(found.integer),
        quantized=_quantized(graph, target),
        hurdles=[*_hurdles(graph, target, found)],
        reasons=[FitReason(len(each), reason, each[0].node) for reason, each in ordered],
    )


def _hurdles(graph: Graph, target: Target, found: Audit) -> Iterator[str]:
    """What keeps the target from taking the file, or any layer of it, or costs time there."""
    if found.unfixed:
        yield f"sizes are open: {', '.join(found.unfixed)}; fix-shapes fixes them"
    if graph.came_external and not target.external:
        yield "its weights lie in external data"
    integer = {entry.node for entry in found.integer}
    slow = sum(
        isinstance(each, Layer)
        and label(each.node) in integer
        and bool(slow_kind(each, target.slow))
        for each in layers(graph)
    )
    if slow:
        yield f"grouped or narrow layers that take longer on integers than in floats: {slow}"
    if not target.contrib:
        others = [
            node
            for scope in graph.scopes()
            for node in scope.nodes
            if not in_default_domain(node) and node.domain == "com.microsoft"
        ]
        if others:
            kinds = ", ".join(sorted({node.op_type for node in others}))
            yield f"operators of com.microsoft, which it lacks: {kinds}"


def _quantized(graph: Graph, target: Target) -> int | None:
    """Layers that ``quantize-static`` would put on its integers; None where they are quantized."""
    if has_fixed_ranges(graph):
        return None
    lifted = graph.copy()
    if 0 < graph.opset < target.min_opset:
        try:
            lift(lifted, target.min_opset, infer(graph))
        except NotLifted:
            return None
    codes = target.activation_types[0] if target.activation_types else "uint8"
    placed = place(lifted.main, infer(lifted), target, lambda _: None, activations=codes)
    return len(placed.layers)
