"""Pass ``freeze-initializers``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

from graphopt.contract.examples import Example
from graphopt.contract.passes import Changes, Context, Option, Pass
from graphopt.contract.registry import register
from graphopt.errors import PassError
from graphopt.graph.graph import Graph

__all__ = ["FreezeInitializers"]


@register("freeze-initializers")
@dataclass(frozen=True, kw_only=True)
class FreezeInitializers(Pass):
    """Take the initializers out of the list of inputs, so that they are constants.

        input: x, W (default: initializer W)      becomes      input: x

    A caller could feed another W, so no runtime may fold or pack it. What every caller must feed
    stays as it is; only the optional inputs go. Before IR version 4 the format asked for
    initializers to be listed: the model is raised to version 4, which lifts that.
    Source: ONNX IR specification, version 4 (initializers need not be inputs).
    """

    keep: Annotated[tuple[str, ...], Option("names of initializers that callers do replace")] = ()

    def check(self, graph: Graph, context: Context) -> None:
        optional = [name for name in graph.main.inputs if graph.main.holds(name)]
        if graph.header.ir_version < 3 and optional:
            raise PassError(
                f"IR version {graph.header.ir_version} is too old to be raised; export it again"
            )
        if unknown := [name for name in self.keep if name not in graph.main.inputs]:
            raise PassError(f"keep names {unknown[0]!r}, which is no input of the model")

    def run(self, graph: Graph, context: Context) -> Changes:
        changes = Changes()
        main = graph.main
        frozen: list[str] = []
        for value in main.proto.input:
            if not main.holds(value.name):
                continue
            if value.name in self.keep:
                changes.skip(value.name, "kept as an optional input: named in keep")
                continue
            if value.doc_string or value.metadata_props:
                main.value_infos.extend([value])
            frozen.append(value.name)
            changes.edit(value.name, "is a constant now and no optional input any more")
        main.drop_inputs(frozen)
        if changes and graph.header.ir_version < 4:
            changes.edit("model", f"IR version {graph.header.ir_version} raised to 4")
            graph.header.ir_version = 4
        if not changes.edits and not changes.skips:
            changes.skip("model", "no initializer is listed as an input")
        return changes

    @classmethod
    def examples(cls) -> Sequence[Example]:
        return [Example("listed-inputs"), Example("listed-inputs", {"keep": ("W1",)})]
