"""In which order a group loses its units, and what that costs, by criterion."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from graphopt.analysis.channels import ChannelGroup
from graphopt.facts.layers import Refusal
from graphopt.facts.operators import find
from graphopt.facts.shapes import Shapes
from graphopt.families.channels.readers import LayerRows, readers_of
from graphopt.families.channels.unsolved import Energies, reads_like
from graphopt.graph.graph import Graph
from graphopt.numerics.channel_scores import ByWeights, filter_scores, in_order
from graphopt.numerics.elimination import Elimination, Reader, eliminate, output_energy

__all__ = ["Criterion", "Ordering"]

Criterion = Literal[
    "error", "energy", "activation", "l1", "l2", "batchnorm", "median", "taylor", "random"
]
Floats = NDArray[np.float64]

_CODEBOOK = "its weight is codes of a codebook; put prune-channels before palettize-weights"
_SAID = 2
"""Layers that are named one by one."""


@dataclass(frozen=True, eq=False)
class Ordering:
    """Orders groups by one criterion.

    Attributes:
        criterion: It.
        graph: The model.
        shapes: Of its tensors.
        known: The layers that read the groups, where samples were observed.
        rng: For ``random``.
        energies: Of what the other layers read that do, where samples were observed.
        slopes: For ``taylor``, by origin of the weight: what the loss says of each element.
    """

    criterion: Criterion
    graph: Graph
    shapes: Shapes
    known: Mapping[str, LayerRows]
    rng: np.random.Generator
    energies: Energies = field(default_factory=dict)
    slopes: Mapping[str, Floats] = field(default_factory=dict)

    def of(self, group: ChannelGroup) -> Elimination | Refusal:
        """Who goes first; the errors are relative to those of all going."""
        for layer in (*group.producers, *group.consumers):
            if layer.weight.form == "codebook":
                return Refusal(layer.node, _CODEBOOK)
            if not np.isfinite(layer.weight.values()).all():
                return Refusal(layer.node, "the weight holds NaN or infinity")
        if self._by_readers and group.consumers:
            readers = readers_of(group, self.known, self.shapes, self.energies)
            if self.criterion == "error":
                return eliminate(readers)
            scores = output_energy(readers) if self.criterion == "energy" else _inputs(readers)
        else:
            found = self._by_weights(group)
            if isinstance(found, Refusal):
                return found
            scores = found
        return Elimination(*in_order(scores))

    def basis(self, group: ChannelGroup) -> str:
        """What else than the criterion the order of a group goes by, in words; empty for nothing.

        A group that no layer with a weight sums over goes by the weights that make it.
        """
        if not self._by_readers:
            return ""
        if not group.consumers:
            return "by l2 of what makes them, as no layer with a weight sums over them"
        stay = [each for each in group.consumers if each.node.output[0] not in self.known]
        said = list(dict.fromkeys(reads_like(each, self.energies) for each in stay))
        more = [f"so do {len(said) - _SAID} more"] if len(said) > _SAID else []
        return "; ".join(said[:_SAID] + more)

    @property
    def _by_readers(self) -> bool:
        return self.criterion in ("error", "energy", "activation")

    def _by_weights(self, group: ChannelGroup) -> Floats | Refusal:
        if self.criterion == "random":
            return self.rng.random(group.size)
        if self.criterion == "batchnorm":
            return self._scales(group)
        scores, known = np.zeros(group.size), False
        for layer in group.producers:
            constant = layer.weight.constant
            axis = layer.in_axis if layer.kind == "table" else layer.out_axis
            places = group.positions.get((constant.origin, axis))
            if places is None:
                continue
            if self.criterion == "taylor":
                values = self.slopes.get(constant.origin)
            else:
                values = constant.values.astype(np.float64)
            if values is None:
                continue
            filters = np.moveaxis(values, axis, 0).reshape(values.shape[axis], -1)
            held = [filters[list(unit)].reshape(-1) for unit in places]
            if self.criterion == "taylor":
                scores += [part.sum() for part in held]
                known |= bool(scores.any())
            else:
                kind = self.criterion
                by: ByWeights = kind if kind in ("l1", "l2", "median") else "l2"
                scores += filter_scores(_alike(held), by)
                known = True
        if not known:
            first = group.producers[0]
            return Refusal(first.node, f"its weights say nothing by {self.criterion}")
        return scores

    def _scales(self, group: ChannelGroup) -> Floats | Refusal:
        scores, main = np.zeros(group.size), self.graph.main
        for node in main.nodes:
            row = find(node)
            if row is None or row.kind != "normalize" or len(node.input) < 2:
                continue
            scale = main.constant(node.input[1])
            places = group.positions.get((scale.origin, 0)) if scale is not None else None
            if scale is not None and places is not None:
                values = np.abs(scale.values.astype(np.float64))
                scores += [values[list(unit)].sum() for unit in places]
        if scores.any():
            return scores
        return Refusal(
            group.producers[0].node,
            "no BatchNormalization scales it; put the pass before fuse-batchnorm, or take "
            "another criterion",
        )


def _alike(held: Sequence[Floats]) -> Floats:
    """Filters of one length, those of units that hold fewer weights with zeros behind."""
    longest = max(map(len, held))
    return np.array([np.pad(each, (0, longest - len(each))) for each in held])


def _inputs(readers: Sequence[Reader]) -> Floats:
    """The energy of each unit's own values, relative to that of all, mean over the readers."""
    total = np.zeros(len(readers[0].columns))
    for reader in readers:
        energies = np.append(np.diag(reader.moments), 0.0)  # -1: no column
        found = energies[reader.columns].sum(axis=1)
        total += found / max(float(found.sum()), 1e-30)
    return total / len(readers)
