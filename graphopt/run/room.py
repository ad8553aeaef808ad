"""Whether there is room for a second session of each model that is timed."""

from __future__ import annotations

from collections.abc import Sequence

from graphopt.graph.graph import Graph
from graphopt.run.shared_session import HELD_WEIGHTS_BYTES

__all__ = ["room_beside"]

_MOST_MACS = 5_000_000_000
"""Sessions of a larger model hold much memory for what they compute, whatever its weights."""


def room_beside(graphs: Sequence[Graph], macs: int | None, memory_limit: int | None) -> bool:
    """Whether a session of one thread of each model may be held besides those that there are.

    It follows from the models and not from the machine's state, so that a busy one finds the same.

    Args:
        graphs: The models.
        macs: Of one run of the first one; None where that is not known.
        memory_limit: Bytes that running models may take; None without a limit.
    """
    if memory_limit is not None or macs is None or macs > _MOST_MACS:
        return False
    return sum(graph.weight_bytes for graph in graphs) <= HELD_WEIGHTS_BYTES
