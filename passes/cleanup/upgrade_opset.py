"""Pass ``upgrade-opset``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, ClassVar

from graphopt.contract.examples import Example
from graphopt.contract.passes import Changes, Context, Option, Pass
from graphopt.contract.registry import register
from graphopt.errors import PassError
from graphopt.graph.graph import Graph
from graphopt.rewrite.opsets import NEWEST, NotLifted, lift

__all__ = ["UpgradeOpset"]


@register("upgrade-opset")
@dataclass(frozen=True, kw_only=True)
class UpgradeOpset(Pass):
    """Lift the model to the operator set that quantized models need.

        opset 9: Unsqueeze(x) {axes = [1]}      becomes      opset 13: Unsqueeze(x, [1])

    Only nodes whose meaning or form changed in between are rewritten; a newer model stays as it
    is. Bodies of If, Loop and Scan are lifted as well. Names, doc strings and metadata stay, which
    onnx's own version converter drops. The IR version is raised where the operator set asks for it.
    Source: the ONNX operator change log.
    """

    opset: Annotated[
        int | None, Option("version to lift to; the target's least by default", low=13, high=NEWEST)
    ] = None
    may_grow: ClassVar[str] = "attributes become inputs"

    def check(self, graph: Graph, context: Context) -> None:
        wanted = self._wanted(context)
        if not 0 < graph.opset < wanted:
            return
        if graph.header.functions:
            raise PassError(
                f"the model has local functions written for opset {graph.opset}; "
                "put inline-functions{which=all} before"
            )
        try:
            lift(graph.copy(), wanted, context.shapes)
        except NotLifted as err:
            raise PassError(f"cannot be lifted to opset {wanted}: {err}") from err

    def run(self, graph: Graph, context: Context) -> Changes:
        changes = Changes()
        old, wanted = graph.opset, self._wanted(context)
        if old == 0:
            changes.skip("model", "it has no operator of the default domain")
        elif old >= wanted:
            changes.skip("model", f"it has opset {old} already")
        else:
            for node, what in lift(graph, wanted, context.shapes):
                changes.edit(node, what)
            changes.edit("model", f"lifted from opset {old} to {wanted}")
        return changes

    def _wanted(self, context: Context) -> int:
        return context.target.min_opset if self.opset is None else self.opset

    @classmethod
    def examples(cls) -> Sequence[Example]:
        return [Example("opset-9"), *(Example("cnn", {"opset": each}) for each in (14, 18, 21, 25))]
