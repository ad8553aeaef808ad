"""The budget of a low-rank pass, from the option that was given."""

from __future__ import annotations

from graphopt.errors import UsageError
from graphopt.numerics.lowrank import Budget

__all__ = ["DEFAULT_ENERGY", "low_rank_budget"]

DEFAULT_ENERGY = 0.95
"""Share of a weight's sum of squares that is kept where no budget is given."""


def low_rank_budget(
    pass_name: str, rank: int | None, energy: float | None, macs: float | None
) -> Budget:
    """The one budget that was given, else an energy of ``DEFAULT_ENERGY``.

    Raises:
        UsageError: More than one was given.
    """
    given = {"rank": rank, "energy": energy, "macs": macs}
    set_ones = [kind for kind, value in given.items() if value is not None]
    if len(set_ones) > 1:
        raise UsageError(f"{pass_name}: {' and '.join(set_ones)} exclude each other; give one")
    if rank is not None:
        return Budget("rank", rank)
    if macs is not None:
        return Budget("macs", macs)
    return Budget("energy", DEFAULT_ENERGY if energy is None else energy)
