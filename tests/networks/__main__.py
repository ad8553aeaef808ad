"""Export all networks and write the table anew: ``python -m tests.networks``, with torch."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import get_args

from onnx import ModelProto

from graphopt.analysis.channels import channel_groups
from graphopt.facts.sized import single, sized
from tests.networks.stored import entries, read_graph, write_graphs
from tests.networks.table import folded, row, written

PAGE = Path(__file__).parents[2] / "docs" / "channels.md"


def export() -> Iterator[tuple[str, ModelProto]]:
    from tests.networks.exported import NETWORKS, Exporter, exported  # noqa: PLC0415 - torch

    for exporter in get_args(Exporter):
        for name in NETWORKS:
            sys.stderr.write(f"{exporter} {name}\n")
            yield f"{exporter}/{name}", exported(name, exporter)


if __name__ == "__main__":
    if "--table" not in sys.argv:
        write_graphs(export())
    rows = []
    for entry in sorted(entries(), key=lambda entry: entry.partition("/")[::-1]):
        graph = folded(read_graph(entry))
        rows.append(row(entry, graph, channel_groups(graph, sized(graph, single(graph)).shapes)))
    PAGE.write_text(written(PAGE.read_text(encoding="utf-8"), rows), encoding="utf-8")
