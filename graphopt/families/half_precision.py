"""What the passes that convert to floats of 16 bits share."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

from graphopt.contract.examples import Example
from graphopt.contract.passes import Changes, Context, Option, Pass, body_reason
from graphopt.facts.half_nodes import HalfNodes, half_nodes
from graphopt.facts.select import select
from graphopt.families.chosen import Exclude, Nodes
from graphopt.families.half_guard import answers_db, beyond_range, inexact
from graphopt.graph.constant import Constant
from graphopt.graph.graph import Graph
from graphopt.numerics.halves import HALF_FORMATS, HalfFormat, HalfName, fits
from graphopt.rewrite.late_casts import cast_late
from graphopt.rewrite.masks import bound_masks
from graphopt.rewrite.to_half import compute_in_half, store_in_half

__all__ = ["HalfPrecisionPass", "half_examples"]

_NO_SAMPLES = (
    "only stored in {}: calibration samples tell what can be computed so; activations=unchecked "
    "converts all"
)


@dataclass(frozen=True, kw_only=True)
class HalfPrecisionPass(Pass):
    """A pass that converts a graph to one format of 16 bits."""

    activations: Annotated[
        Literal["checked", "unchecked", "float32"],
        Option(
            "what is computed in 16 bits: what the calibration samples show to hold, all, or "
            "nothing: then only weights are stored so"
        ),
    ] = "checked"
    io: Annotated[Literal["keep", "convert"], Option("types of the model's inputs and outputs")] = (
        "keep"
    )
    margin: Annotated[
        float, Option("how much larger than on the samples values may get", low=1)
    ] = 4.0
    nodes: Nodes = ()
    exclude: Exclude = ()
    lossy: ClassVar[bool] = True
    as_stored: ClassVar[bool] = True
    uses_samples: ClassVar[bool] = True
    may_grow: ClassVar[str] = "constants that are read in both types may be stored in both"
    form_name: ClassVar[HalfName]
    least_db: ClassVar[float]
    """Least SQNR that rounding may leave of what one node makes."""

    def keeps_ports(self) -> bool:
        """Whether inputs and outputs of the model keep their types."""
        return self.io == "keep"

    def run(self, graph: Graph, context: Context) -> Changes:
        """Convert what holds it."""
        form = HALF_FORMATS[self.form_name]
        changes = Changes(nothing=f"nothing in it can be {form.name} that is not")
        checked = self.activations == "checked" and context.calibrated
        if self.activations == "float32" or (self.activations == "checked" and not checked):
            if self.activations == "checked":
                changes.skip("model", _NO_SAMPLES.format(form.name))
            self._store(graph, form, changes)
            return changes
        bounded = bound_masks(graph, form.largest, -form.largest / (2 * self.margin))
        found = self._chosen(graph, half_nodes(graph, context.shapes, form.name))
        found = found.without(_weights_beyond(found, form))
        if checked:
            inner = [each for each in found.nodes if each.scope is not graph.main]
            bodies = {id(each.node): body_reason(each.scope) for each in inner}
            found = found.without(bodies).beside_layers()
            found = found.without(beyond_range(graph, found.nodes, context, form, self.margin))
            found = found.without(inexact(graph, found.nodes, context, form, self.least_db))
        found = found.beside_layers()
        for node, reason in found.kept:
            changes.skip(node, reason)
        if not found.nodes:
            return changes
        told = answers_db(graph, found.nodes, context, form) if checked else {}
        edits = compute_in_half(
            graph, found.nodes, form, context.shapes, ports=self.io == "convert"
        )
        for name, how in [*bounded, *edits]:
            changes.edit(name, how)
        worst = min(told.values(), default=math.inf)
        if math.isfinite(worst):
            changes.edit(
                "model", f"every tensor rounded to {form.name} leaves {worst:.1f} dB on the samples"
            )
        return changes

    def _chosen(self, graph: Graph, found: HalfNodes) -> HalfNodes:
        chosen = select(graph, self.nodes, self.exclude)
        left = "left alone by the options nodes and exclude"
        return found.without({id(e.node): left for e in found.nodes if not chosen(e.node)})

    def _store(self, graph: Graph, form: HalfFormat, changes: Changes) -> None:
        """Weights alone, behind Casts."""
        chosen = select(graph, self.nodes, self.exclude)

        def unfit(constant: Constant) -> str:
            readers = [use.node for use in constant.scope.uses(constant.origin)]
            if not all(map(chosen, readers)):
                return "left alone by the options nodes and exclude"
            return fits(constant.values, form)

        stored, kept = store_in_half(graph, form, unfit)
        for name in stored:
            changes.edit(name, f"stored as {form.name}, behind a Cast")
        for name, reason in kept:
            changes.skip(name, reason)
        for node in cast_late(graph) if stored else ():
            changes.edit(node, f"moves {form.name}, which is cast behind it")


def _weights_beyond(found: HalfNodes, form: HalfFormat) -> dict[int, str]:
    """Nodes with a constant that the format does not hold."""
    known: dict[tuple[int, str], str] = {}
    reasons: dict[int, str] = {}
    for each in found.nodes:
        for index in each.reads:
            constant = each.scope.constant(each.node.input[index])
            if constant is None:
                continue
            key = (id(constant.scope), constant.origin)
            if key not in known:
                known[key] = fits(constant.values, form)
            if known[key]:
                reasons[id(each.node)] = f"constant {constant.origin!r}: {known[key]}"
    return reasons


def half_examples(model: str, *nodes: str) -> list[Example]:
    """Examples that reach every option.

    Args:
        model: One on which it has something to do.
        nodes: Types of nodes there to choose.
    """
    plain = Example(model)
    return [
        plain,
        plain.but(margin=2.0),
        plain.but(activations="unchecked"),
        plain.but(activations="float32"),
        plain.but(io="convert"),
        plain.but(nodes=nodes),
        Example("transformer").but(exclude=("Softmax",)),
    ]
