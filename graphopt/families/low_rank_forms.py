"""What the low-rank forms of a weight are, whatever operator reads it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from graphopt.facts.layers import Layer
from graphopt.facts.weights import WeightGroup
from graphopt.families.layer_inputs import Inputs
from graphopt.numerics.lowrank import Budget

__all__ = ["Factored", "Forms"]


class Factored(Protocol):
    """One low-rank form of a weight."""

    @property
    def energy(self) -> float:
        """Share of the energy that it keeps."""

    @property
    def macs_share(self) -> float:
        """Its multiply-accumulates over those of the layer."""

    @property
    def elements(self) -> int:
        """Elements of all its weights."""

    @property
    def kind(self) -> str:
        """What it is but for its ranks, such as ``spatial``."""

    @property
    def ranks(self) -> tuple[int, ...]:
        """Its ranks, one for each axis between its weights."""

    @property
    def full_ranks(self) -> tuple[int, ...]:
        """The most that these could be for a weight of that shape."""

    @property
    def words(self) -> str:
        """What it is, such as ``spatial, rank 8``; two forms of a weight have other words."""


@dataclass(frozen=True, eq=False)
class Forms(ABC):
    """The low-rank forms of one weight.

    Attributes:
        group: The weight with its layers.
        read: What these read; None where nobody knows.
    """

    group: WeightGroup
    read: Inputs | None

    @abstractmethod
    def at(self, budget: Budget) -> Factored | str:
        """The form that a budget of its own gives, or why there is none."""

    @abstractmethod
    def grid(self, share: float) -> Sequence[Factored]:
        """A dozen forms cheaper than the layer, to choose among.

        Args:
            share: Of the layer's multiply-accumulates; forms far below it are left out.
        """

    @abstractmethod
    def finished(self, found: Factored) -> Factored:
        """The same form as good as it can be made."""

    @abstractmethod
    def put(self, found: Factored, layers: Sequence[Layer]) -> None:
        """Let layers compute it, and their biases make up for what is lost of the means.

        Args:
            found: The form.
            layers: Those of the group, or the same ones of a copy of the graph.
        """
