"""Pass ``eliminate-dead``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from graphopt.contract.examples import Example
from graphopt.contract.passes import Changes, Context, Pass
from graphopt.contract.registry import register
from graphopt.graph.graph import Graph
from graphopt.rewrite import edit

__all__ = ["EliminateDead"]


@register("eliminate-dead")
@dataclass(frozen=True, kw_only=True)
class EliminateDead(Pass):
    """Remove nodes and initializers that no output depends on.

        x -> Relu -> y
          -> Exp  -> (nobody)           becomes      x -> Relu -> y

    Bodies of If, Loop and Scan are cleaned as well. Inputs, outputs, local functions and opset
    imports stay; an optional input that nobody reads goes with the initializer behind it.
    """

    def run(self, graph: Graph, context: Context) -> Changes:
        changes = Changes()
        for name in edit.remove_dead(graph):
            changes.edit(name, "removed: no output depends on it")
        if not changes:
            changes.skip("model", "every node and initializer is needed")
        return changes

    @classmethod
    def examples(cls) -> Sequence[Example]:
        return [Example("clutter")]
