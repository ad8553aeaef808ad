"""What a pass took from where, in figures for the report."""

from __future__ import annotations

from dataclasses import dataclass, field

__all__ = ["GroupWidth", "LayerRank", "LayerZeros", "Taken"]


@dataclass(frozen=True)
class GroupWidth:
    """A group of channels that go together, as it was and as it is.

    Attributes:
        name: That of the group.
        makers: Layers whose output channels they are.
        readers: Layers that sum over them.
        before: Units before; each can go without the others.
        after: Those that are left.
        channels: Channels of a unit: mostly 1, those of a head more.
        basis: What else than the criterion their order goes by, in words; empty for nothing.
        loss: Pairs of units gone, rising from 0, and what the readers lose by it, of 0 to 1.
        damage: Pairs of units gone and what the answers suffer; empty where none were looked at.
    """

    name: str
    makers: list[str]
    readers: list[str]
    before: int
    after: int
    channels: int
    basis: str
    loss: list[tuple[int, float]]
    damage: list[tuple[int, float]]


@dataclass(frozen=True)
class LayerZeros:
    """The elements of a weight, and how many of them were zero before and are now."""

    node: str
    elements: int
    before: int
    after: int


@dataclass(frozen=True)
class LayerRank:
    """A weight that is a product of thin ones now.

    Attributes:
        node: The layer.
        form: What product it is.
        before: Ranks that a full product of that form would have, one for each inner axis.
        after: Those that it has.
    """

    node: str
    form: str
    before: tuple[int, ...]
    after: tuple[int, ...]


@dataclass
class Taken:
    """What a pass took; empty lists for what it does not deal with.

    Attributes:
        criterion: By what groups of channels were ordered; empty without any.
        groups: Groups of channels that could have lost some, whether they did or not.
        zeros: Weights that are to hold zeros.
        ranks: Weights that are of low rank now.
    """

    criterion: str = ""
    groups: list[GroupWidth] = field(default_factory=list)
    zeros: list[LayerZeros] = field(default_factory=list)
    ranks: list[LayerRank] = field(default_factory=list)
