"""What passes found out about one state of a graph and need again, with other options."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Any, TypeVar

__all__ = ["Findings"]

T = TypeVar("T")


class Findings:
    """Values by key, each made once; they go with the state of the graph that they are of.

    Nobody changes what he gets, and nothing in it is the graph that a pass edits.
    """

    def __init__(self) -> None:
        self._made: dict[Hashable, Any] = {}

    def once(self, key: Hashable, make: Callable[[], T]) -> T:
        """The value of a key; made where nobody asked for it before.

        >>> found = Findings()
        >>> found.once("sum", lambda: sum(range(4))), found.once("sum", lambda: 0)
        (6, 6)

        Args:
            key: All that the value depends on besides the graph, the samples and the seed.
            make: Makes it; what it raises is raised each time.
        """
        if key not in self._made:
            self._made[key] = make()
        found: T = self._made[key]
        return found
