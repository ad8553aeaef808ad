"""The memory that observation may take, known beforehand, and the groups that keep to it."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from graphopt.errors import LimitError, Need
from graphopt.observe.request import Request

__all__ = ["DEFAULT_BYTES", "RunPlan", "plan_runs"]

DEFAULT_BYTES = 1 << 30
_COPIES = 2
"""An observed tensor may wait until the end of the run, and once more in another layout."""
_FLOAT_BYTES = 4


@dataclass(frozen=True)
class RunPlan:
    """Which requests are answered by the same runs, and what they take at most.

    Attributes:
        groups: Requests that one pass over the samples answers.
        bound_bytes: Most memory that any group takes beyond plain inference.
    """

    groups: tuple[tuple[Request[Any], ...], ...]
    bound_bytes: int

    def __str__(self) -> str:
        """The bound in words, for progress and reports."""
        requests = sum(len(group) for group in self.groups)
        runs = "one run" if len(self.groups) == 1 else f"{len(self.groups)} runs"
        return (
            f"{requests} statistics in {runs} over the samples, at most "
            f"{math.ceil(self.bound_bytes / 2**20)} MB beyond plain inference, however many samples"
        )


def plan_runs(
    requests: Iterable[Request[Any]],
    shapes: Mapping[str, tuple[int, ...]],
    memory_limit: int | None = None,
) -> RunPlan:
    """Split requests into groups that keep to the limit.

    The bound of a group is two float32 copies of each tensor observed, since onnxruntime may keep
    one until the end of a run, and once more in the layout that the reduction needs; and what the
    requests take themselves. It does not depend on the number of samples.

    Args:
        requests: What is asked, in the order of computation if possible: early tensors together
            make early groups cheap.
        shapes: Of the tensors in one run, by name.
        memory_limit: Bytes that a group may take; None for 1 GB.

    Raises:
        LimitError: One tensor alone is too large for the limit.
    """
    limit = DEFAULT_BYTES if memory_limit is None else memory_limit
    by_tensor: dict[str, list[Request[Any]]] = {}
    for request in requests:
        by_tensor.setdefault(request.tensor, []).append(request)
    groups: list[list[Request[Any]]] = []
    bounds: list[int] = []
    for tensor, asked in by_tensor.items():
        needed = _bytes_for(shapes[tensor], asked)
        if memory_limit is not None and needed > limit:
            raise LimitError(
                f"observing tensor {tensor!r} takes {needed / 1e6:.3g} MB, the memory "
                f"limit leaves {limit / 1e6:.3g} MB",
                Need.MEMORY_LIMIT,
            )
        if not groups or bounds[-1] + needed > limit:
            groups.append([])
            bounds.append(0)
        groups[-1].extend(asked)
        bounds[-1] += needed
    return RunPlan(tuple(tuple(group) for group in groups), max(bounds, default=0))


def _bytes_for(shape: tuple[int, ...], asked: Sequence[Request[Any]]) -> int:
    tensor = math.prod(shape) * _FLOAT_BYTES
    return _COPIES * tensor + sum(request.bytes(shape) for request in asked)
