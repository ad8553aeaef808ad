"""Types that a file declares for tensors between inputs and outputs (``value_info``)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from onnx import TypeProto, ValueInfoProto

__all__ = ["ValueInfos"]


class ValueInfos:
    """The declarations of a graph in order, found by name.

    Messages are replaced, never edited in place: copies of a graph share them. A file that
    declares a name twice keeps both.
    """

    def __init__(self, messages: Iterable[ValueInfoProto] = ()) -> None:
        self._messages: dict[int, ValueInfoProto] = {}
        self._places: dict[str, list[int]] = {}
        self._next = 0
        self.extend(messages)

    def __iter__(self) -> Iterator[ValueInfoProto]:
        return iter(self._messages.values())

    def __contains__(self, name: str) -> bool:
        return name in self._places

    def extend(self, messages: Iterable[ValueInfoProto]) -> None:
        """Add declarations at the end."""
        for message in messages:
            self._messages[self._next] = message
            self._places.setdefault(message.name, []).append(self._next)
            self._next += 1

    def drop(self, name: str) -> None:
        """Remove the declarations of a name, if there are any."""
        for place in self._places.pop(name, ()):
            del self._messages[place]

    def rename(self, old: str, new: str) -> None:
        """Let a declaration speak of another name, at its old place."""
        for place in self._places.pop(old, ()):
            message = _copied(self._messages[place])
            message.name = new
            self._messages[place] = message
            self._places.setdefault(new, []).append(place)

    def retype(self, name: str, kind: TypeProto) -> None:
        """Declare another type, where one is declared."""
        for place in self._places.get(name, ()):
            message = _copied(self._messages[place])
            message.type.CopyFrom(kind)
            self._messages[place] = message


def _copied(message: ValueInfoProto) -> ValueInfoProto:
    copy = ValueInfoProto()
    copy.CopyFrom(message)
    return copy
