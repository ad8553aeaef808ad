"""How long work tells how far it is."""

from __future__ import annotations

from typing import Protocol

__all__ = ["Progress"]


class Progress(Protocol):
    """Told what is going on; a plain function will do."""

    def __call__(self, what: str, done: int, total: int, detail: str = "", /) -> None:
        """Take note.

        Args:
            what: What is going on; the same text for the same piece of work.
            done: How far it is.
            total: How far it goes.
            detail: How it goes, in words, such as the loss of a training; mostly empty.
        """
