"""Pass ``inline-functions``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

from onnx import NodeProto

from graphopt.contract.examples import Example
from graphopt.contract.passes import Changes, Context, Option, Pass
from graphopt.contract.registry import register
from graphopt.facts.weighted_calls import WeightedCalls
from graphopt.graph.calls import MOST_UNFOLDED, unfolded
from graphopt.graph.graph import Graph, Scope
from graphopt.graph.unfold import Unfolder, drop_uncalled

__all__ = ["InlineFunctions"]


@register("inline-functions")
@dataclass(frozen=True, kw_only=True)
class InlineFunctions(Pass):
    """Put the nodes of local functions where the functions are called.

        x -> Block(W) -> y      becomes      x -> Conv(W) -> Relu -> y

    Other passes do not look into functions, so layers in there stay as they are without this. Calls
    of functions without weights stay; all go where the model is older than the target needs, since
    only then can it be lifted. Large constants of a function are stored once for all its calls.
    Functions that nothing calls any more go with their operator sets.
    Source: ONNX IR specification, model local functions.
    """

    which: Annotated[
        Literal["weights", "all"], Option("calls that hold weights, or every call")
    ] = "weights"

    may_grow: ClassVar[str] = "each call gets the small constants of its function"

    def run(self, graph: Graph, context: Context) -> Changes:
        changes = Changes()
        unfolder, calls = Unfolder(graph), WeightedCalls(graph)
        waiting = [
            (scope, node)
            for scope in graph.scopes()
            for node in scope.nodes
            if unfolder.calls(node)
        ]
        if waiting and unfolded(graph.header, (node for _, node in waiting)).nodes > MOST_UNFOLDED:
            changes.skip("model", f"its calls stand for more than {MOST_UNFOLDED:,} nodes")
            return changes
        every = self.which == "all" or 0 < graph.opset < context.target.min_opset
        waiting.reverse()
        while waiting:
            scope, node = waiting.pop()
            stays = not every and not calls.holds(scope, node)
            reason = _reason(unfolder, scope, node, stays)
            if reason:
                changes.skip(node, reason)
                continue
            name = unfolder.function(node).name
            made = unfolder.unfold(scope, node)
            changes.edit(node, f"replaced by the {len(made)} nodes of its function {name}")
            waiting += [(place, inner) for place, inner in made[::-1] if unfolder.calls(inner)]
        for name in drop_uncalled(graph):
            changes.edit(name, "removed: nothing calls this function any more")
        if not changes.edits and not changes.skips:
            changes.skip("model", "it calls no local function")
        return changes

    @classmethod
    def examples(cls) -> Sequence[Example]:
        return [Example("functions"), Example("function", {"which": "all"})]


def _reason(unfolder: Unfolder, scope: Scope, node: NodeProto, without_weights: bool) -> str:
    """Why a call stays; empty where it does not."""
    if without_weights:
        return f"its function {unfolder.function(node).name} holds no weights"
    obstacle = unfolder.obstacle(scope, node)
    return f"it stays, with what is in it: {obstacle}" if obstacle else ""
