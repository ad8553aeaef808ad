"""What differs between two models as messages: the proof that nothing was lost on the way."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from operator import attrgetter
from typing import Any

from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message
from onnx import ModelProto, NodeProto

from graphopt.graph.graph import Graph

__all__ = ["Difference", "differences", "same_model"]

_KEYS = ("name", "key", "tensor_name", "domain")
_SHOWN = 60  # characters of a value
_Path = tuple[tuple[str, str | int | None], ...]


@dataclass(frozen=True)
class Difference:
    """One place where two models differ; as text, a path into the message and what is there.

    Attributes:
        path: Names of fields from the model down; with the item's name, or its place, in lists.
        before: The value in the first model; None where it has none, or only the order differs.
        after: That in the second.
    """

    path: _Path
    before: Any = None
    after: Any = None

    @property
    def fields(self) -> tuple[str, ...]:
        """The names of the fields alone."""
        return tuple(name for name, _ in self.path)

    def __str__(self) -> str:
        steps = (f".{name}" if at is None else f".{name}[{at!r}]" for name, at in self.path)
        return f"model{''.join(steps)}: {self._what()}"

    def _what(self) -> str:
        if not self.path:
            return "fields that this version of ONNX does not know"
        if self.before is None and self.after is None:
            return "the order changed"
        if self.after is None:
            return f"lost {_show(self.before)}"
        if self.before is None:
            return f"added {_show(self.after)}"
        return f"{_show(self.before)} became {_show(self.after)}"


def differences(a: ModelProto, b: ModelProto) -> list[Difference]:
    """Each place where two models differ; empty if they are equal.

    Every field counts, presence and order included; values are compared bit by bit (NaN equals
    NaN). Nodes are matched by their outputs, items of other repeated fields by unique names,
    what has none by place.
    """
    if _canonical(a) == _canonical(b):
        return []
    return list(_compare(a, b, ())) or [Difference(())]


def _canonical(message: Message) -> bytes:
    data: bytes = message.SerializeToString(deterministic=True)
    return data


def _compare(a: Message, b: Message, path: _Path) -> Iterator[Difference]:
    ours = {field.name: (field, value) for field, value in a.ListFields()}
    theirs = {field.name: (field, value) for field, value in b.ListFields()}
    for name in dict.fromkeys([*ours, *theirs]):
        where = (*path, (name, None))
        if name in ours and name in theirs:
            yield from _compare_field(ours[name][0], ours[name][1], theirs[name][1], where)
        else:
            (_, before), (_, after) = (side.get(name, (None, None)) for side in (ours, theirs))
            yield Difference(where, before, after)


def _compare_field(field: FieldDescriptor, a: Any, b: Any, where: _Path) -> Iterator[Difference]:
    single = isinstance(a, Message) or not hasattr(a, "__len__") or isinstance(a, str | bytes)
    if field.message_type is None:
        if repr(a if single else list(a)) != repr(b if single else list(b)):
            yield Difference(where, a, b)
    elif single:
        yield from _compare(a, b, where)
    else:
        yield from _compare_items(a, b, where)


def _compare_items(
    a: Sequence[Message], b: Sequence[Message], where: _Path
) -> Iterator[Difference]:
    key = _unique_key(a, b)
    ours, theirs = (
        {index if key is None else key(item): item for index, item in enumerate(items)}
        for items in (a, b)
    )
    for name in dict.fromkeys([*ours, *theirs]):
        place = (*where[:-1], (where[-1][0], name))
        if name in ours and name in theirs:
            yield from _compare(ours[name], theirs[name], place)
        else:
            yield Difference(place, ours.get(name), theirs.get(name))
    common = [name for name in ours if name in theirs]
    if common != [name for name in theirs if name in ours]:
        yield Difference(where)


def _unique_key(a: Sequence[Message], b: Sequence[Message]) -> Callable[[Any], str] | None:
    """What names the items of both lists; None where names repeat or are missing."""
    known = a[0].DESCRIPTOR.fields_by_name
    is_node = isinstance(a[0], NodeProto)
    for key in [_outputs] if is_node else [attrgetter(key) for key in _KEYS if key in known]:
        names = [[key(item) for item in items] for items in (a, b)]
        if all(len(set(listed)) == len(listed) for listed in names):
            return key
    return None


def _outputs(node: NodeProto) -> str:
    return ", ".join(node.output)


def _show(value: Any) -> str:
    if isinstance(value, bytes) and len(value) > _SHOWN:
        return f"{len(value)} bytes"
    text = " ".join(str(value).split()) if isinstance(value, Message) else repr(value)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."


def same_model(a: Graph, b: Graph) -> bool:
    """Whether the main graphs have equal nodes, and all weights are equal."""
    return a.main.nodes == b.main.nodes and [*a.tensors()] == [*b.tensors()]
