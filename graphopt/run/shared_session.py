"""One session of a model for all who want one at a time."""

from __future__ import annotations

from collections.abc import Callable
from weakref import ref

from graphopt.graph.graph import Graph
from graphopt.runtime.session import Session

__all__ = ["HELD_WEIGHTS_BYTES", "SharedSession"]

HELD_WEIGHTS_BYTES = 256 << 20
"""Sessions of models with more weights than that are made anew whenever they are wanted."""


class SharedSession:
    """A session of a model with its own outputs, opened when it is first wanted.

    That of a model with few weights is held; another one goes with the last of those who hold it.

    Args:
        graph: The model; not modified.
        threads: Threads of the session; 0 for all cores.
        held: Whether there is memory to hold one at all.
    """

    def __init__(self, graph: Graph, threads: int, *, held: bool = True) -> None:
        self._graph, self._threads = graph, threads
        self._holds = held
        self._held: Session | None = None
        self._open: Callable[[], Session | None] = lambda: None

    def get(self) -> Session:
        """The session that is open, else a new one.

        Raises:
            ModelError: onnxruntime cannot load the model.
        """
        session = self.passing()
        if self._holds and self._graph.weight_bytes <= HELD_WEIGHTS_BYTES:
            self._held = session
        return session

    def passing(self) -> Session:
        """The same for who needs it only once: it is not held for that.

        Raises:
            ModelError: onnxruntime cannot load the model.
        """
        session = self._open() or Session(self._graph, threads=self._threads)
        self._open = ref(session)
        return session
