"""What the passes have in common that make thin products of weights."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar

from graphopt.contract.passes import Option, Pass
from graphopt.contract.preconditions import Precondition, Unquantized
from graphopt.errors import UsageError
from graphopt.numerics.lowrank import Budget

__all__ = ["LowRank"]

_DEFAULT_ENERGY = 0.95
"""Share of a weight's sum of squares that is kept where no budget is given."""


@dataclass(frozen=True, kw_only=True)
class LowRank(Pass):
    """A pass whose ranks follow from one budget; without any it is an energy of 0.95."""

    rank: Annotated[int | None, Option("rank of every layer", low=1)] = None
    energy: Annotated[
        float | None, Option("share of energy to keep", low=0, high=1, low_open=True)
    ] = None
    macs: Annotated[
        float | None, Option("share of MACs to keep", low=0, high=1, low_open=True, high_open=True)
    ] = None
    lossy: ClassVar[bool] = True
    requires: ClassVar[tuple[Precondition, ...]] = (Unquantized(),)

    def __post_init__(self) -> None:
        super().__post_init__()
        budgets = {"rank": self.rank, "energy": self.energy, "macs": self.macs}
        given = [kind for kind, value in budgets.items() if value is not None]
        if len(given) > 1:
            raise UsageError(f"{self.name}: {' and '.join(given)} exclude each other; give one")

    @property
    def budget(self) -> Budget:
        """The budget that was given."""
        if self.rank is not None:
            return Budget("rank", self.rank)
        if self.macs is not None:
            return Budget("macs", self.macs)
        return Budget("energy", _DEFAULT_ENERGY if self.energy is None else self.energy)
