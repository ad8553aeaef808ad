"""What a graph says of its tensors: types (``value_info``) and quantization annotations."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import ClassVar, Generic, TypeVar

from onnx import TensorAnnotation, TypeProto, ValueInfoProto

__all__ = ["Annotations", "ValueInfos"]

M = TypeVar("M", ValueInfoProto, TensorAnnotation)


class _Declarations(Generic[M]):
    """Messages on the tensors of a graph in order, found by name.

    They are replaced, never edited in place: copies of a graph share them. A file that declares a
    name twice keeps both.
    """

    field: ClassVar[str]  # which field of a message holds the name

    def __init__(self, messages: Iterable[M] = ()) -> None:
        self._messages: dict[int, M] = {}
        self._places: dict[str, list[int]] = {}
        self._next = 0
        self.extend(messages)

    def __iter__(self) -> Iterator[M]:
        return iter(self._messages.values())

    def __contains__(self, name: str) -> bool:
        return name in self._places

    def extend(self, messages: Iterable[M]) -> None:
        """Add declarations at the end."""
        for message in messages:
            self._messages[self._next] = message
            self._places.setdefault(getattr(message, self.field), []).append(self._next)
            self._next += 1

    def drop(self, name: str) -> None:
        """Remove the declarations of a name, if there are any."""
        for place in self._places.pop(name, ()):
            del self._messages[place]

    def rename(self, old: str, new: str) -> None:
        """Let a declaration speak of another name, at its old place."""
        for place in self._places.pop(old, ()):
            message = _copied(self._messages[place])
            setattr(message, self.field, new)
            self._messages[place] = message
            self._places.setdefault(new, []).append(place)


class ValueInfos(_Declarations[ValueInfoProto]):
    """Types of the tensors between inputs and outputs."""

    field = "name"

    def retype(self, name: str, kind: TypeProto) -> None:
        """Declare another type, where one is declared."""
        for place in self._places.get(name, ()):
            message = _copied(self._messages[place])
            message.type.CopyFrom(kind)
            self._messages[place] = message


class Annotations(_Declarations[TensorAnnotation]):
    """Names of the scales and zero points that a file gives for tensors."""

    field = "tensor_name"


def _copied(message: M) -> M:
    copy = type(message)()
    copy.CopyFrom(message)
    return copy
