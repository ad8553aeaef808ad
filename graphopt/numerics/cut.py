"""Minimum cuts of directed graphs: which of two sides each node takes, at least cost."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable

__all__ = ["UNCUT", "source_side"]

UNCUT = 1 << 80
"""A capacity that no cut pays; the sum of all others must be less."""


def source_side(count: int, edges: Iterable[tuple[int, int, int]]) -> set[int]:
    """The nodes on the side of node 0 in the minimum cut between node 0 and node 1.

    The cost of a cut is the sum of the capacities of the edges from the side of node 0 to the other
    one. Of several minimum cuts it is the one with the fewest nodes on the side of node 0.

    Args:
        count: Nodes are ``0`` to ``count - 1``.
        edges: Tail, head and capacity, a whole number from 0 to ``UNCUT``.

    Source: Dinic 1970, Algorithm for solution of a problem of maximum flow.

    >>> sorted(source_side(4, [(0, 2, 3), (2, 3, 1), (3, 1, 2)]))
    [0, 2]
    """
    heads, room, leaving = list[int](), list[int](), [list[int]() for _ in range(count)]
    for tail, head, capacity in edges:
        for start, end, most in ((tail, head, capacity), (head, tail, 0)):
            leaving[start].append(len(heads))
            heads.append(end)
            room.append(most)
    while True:
        levels = _levels(count, heads, room, leaving)
        if levels[1] < 0:
            return {node for node in range(count) if levels[node] >= 0}
        _fill(levels, heads, room, leaving)


def _levels(count: int, heads: list[int], room: list[int], leaving: list[list[int]]) -> list[int]:
    """How many edges with room it takes to reach each node from node 0; -1 where none leads."""
    levels = [-1] * count
    levels[0] = 0
    waiting = deque([0])
    while waiting:
        node = waiting.popleft()
        for edge in leaving[node]:
            if room[edge] and levels[heads[edge]] < 0:
                levels[heads[edge]] = levels[node] + 1
                waiting.append(heads[edge])
    return levels


def _fill(levels: list[int], heads: list[int], room: list[int], leaving: list[list[int]]) -> None:
    """Send as much as goes along edges that lead one level on; ``room`` is changed."""
    tried = [0] * len(levels)
    path: list[int] = []  # edges from node 0 on
    node = 0
    while True:
        if node == 1:
            least = min(room[edge] for edge in path)
            for edge in path:
                room[edge] -= least
                room[edge ^ 1] += least
            first = next(at for at, edge in enumerate(path) if not room[edge])
            node = heads[path[first] ^ 1]
            del path[first:]
            continue
        while tried[node] < len(leaving[node]):
            edge = leaving[node][tried[node]]
            if room[edge] and levels[heads[edge]] == levels[node] + 1:
                break
            tried[node] += 1
        else:
            if not path:
                return
            node = heads[path.pop() ^ 1]
            tried[node] += 1
            continue
        path.append(edge)
        node = heads[edge]
