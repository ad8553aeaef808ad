"""Options that passes over layers share: which nodes, and from what size on."""

from __future__ import annotations

from typing import Annotated

from graphopt.options import Option

__all__ = ["Exclude", "MinSize", "Nodes"]

Nodes = Annotated[
    tuple[str, ...], Option("only nodes of these names, types or kinds", patterns=True)
]
Exclude = Annotated[
    tuple[str, ...], Option("no nodes of these names, types or kinds", patterns=True)
]
MinSize = Annotated[int, Option("leave smaller weights alone", low=0, unit="elements")]
