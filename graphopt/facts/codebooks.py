"""Weights whose codes pick centres from a codebook, and the constants that belong to them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from graphopt.facts.expansion import constants_behind
from graphopt.facts.layers import Layer, layers
from graphopt.facts.operands import Operand
from graphopt.graph.graph import Constant, Graph

__all__ = ["CodebookWeights", "codebook_weights"]

Key = tuple[int, str]


@dataclass(frozen=True)
class CodebookWeights:
    """What a graph stores by codebooks.

    Attributes:
        weights: By the constant that holds the codes, packed or not, what one layer reads of it.
        helpers: Centres, scales and all else that turns codes into weights.
    """

    weights: Mapping[Key, Operand]
    helpers: frozenset[Key]

    def of(self, constant: Constant) -> Operand | None:
        """What is stored in a constant as codes of a codebook; None where it is none."""
        return self.weights.get(_key(constant))

    def helps(self, constant: Constant) -> bool:
        """Whether a constant only turns codes into weights."""
        return _key(constant) in self.helpers


def codebook_weights(graph: Graph) -> CodebookWeights:
    """Look at every layer, bodies included."""
    weights: dict[Key, Operand] = {}
    helpers: set[Key] = set()
    for each in layers(graph):
        if isinstance(each, Layer) and each.weight.form == "codebook":
            weights[_key(each.weight.constant)] = each.weight
            for use in each.weight.path:
                others = [name for at, name in enumerate(use.node.input) if at != use.index]
                behind = [constants_behind(use.scope, name) or [] for name in others]
                helpers.update(_key(constant) for found in behind for constant in found)
    return CodebookWeights(weights, frozenset(helpers))


def _key(constant: Constant) -> Key:
    return id(constant.scope), constant.origin
