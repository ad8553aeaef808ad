"""Pass ``strip-metadata``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Annotated, ClassVar

from onnx import GraphProto, NodeProto, ValueInfoProto

from graphopt.contract.examples import Example
from graphopt.contract.passes import Changes, Context, Option, Pass
from graphopt.contract.registry import register
from graphopt.graph.declared import ValueInfos
from graphopt.graph.graph import Graph

__all__ = ["StripMetadata"]


@register("strip-metadata")
@dataclass(frozen=True, kw_only=True)
class StripMetadata(Pass):
    """Take out what exporters note down on nodes and tensors, which no runtime reads.

        Conv(x, W)  "File model.py, line 76, in forward ..."      becomes      Conv(x, W)

    Metadata and doc strings of nodes, of the tensors between them and of graphs go, in bodies as
    well: stack traces, class names, scopes. Names stay, and so does what belongs to the model as a
    whole or to its inputs and outputs, which callers can read. A torch exporter notes about 2 kB
    a node, with the paths of the machine that it ran on; in a file of 4-bit weights that may be
    a twentieth of all bytes.
    """

    keep: Annotated[
        tuple[str, ...], Option("keys of metadata that stay, as names with *, ? and [...]")
    ] = ()
    strips: ClassVar[bool] = True

    def run(self, graph: Graph, context: Context) -> Changes:
        changes = Changes()
        for scope in graph.scopes():
            nodes = [node for node in scope.nodes if self._strip(node)]
            values = [self._stripped(value) for value in scope.value_infos]
            tensors = sum(after is not before for before, after in values)
            if tensors:
                scope.value_infos = ValueInfos(after for _, after in values)
            told = [_counted(len(nodes), "node"), _counted(tensors, "tensor")]
            told += ["the graph itself"] if self._strip(scope.proto) else []
            told = list(filter(None, told))
            if told:
                what = f"metadata and doc strings of {', '.join(told)} taken out"
                changes.edit(scope.path or "model", what)
        if not changes:
            changes.skip("model", "no metadata or doc strings on nodes and tensors")
        return changes

    def _strip(self, message: NodeProto | ValueInfoProto | GraphProto) -> bool:
        """Take out what is not kept; whether there was something."""
        left = [entry for entry in message.metadata_props if self._keeps(entry.key)]
        gone = len(message.metadata_props) - len(left)
        if not gone and not message.doc_string:
            return False
        message.ClearField("doc_string")
        message.ClearField("metadata_props")
        message.metadata_props.extend(left)
        return True

    def _stripped(self, value: ValueInfoProto) -> tuple[ValueInfoProto, ValueInfoProto]:
        """A declaration before and after; the same one where nothing goes."""
        copied = ValueInfoProto()
        copied.CopyFrom(value)
        return value, copied if self._strip(copied) else value

    def _keeps(self, key: str) -> bool:
        return any(fnmatchcase(key, pattern) for pattern in self.keep)

    @classmethod
    def examples(cls) -> Sequence[Example]:
        return [Example("mlp"), Example("bodies", {"keep": ("name*",)})]


def _counted(number: int, what: str) -> str:
    """So many of them, in words; empty for none."""
    return f"{number} {what}{'s' if number > 1 else ''}" if number else ""
