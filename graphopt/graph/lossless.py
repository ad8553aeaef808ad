"""What differs between two models as messages: the proof that nothing was lost on the way."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message
from onnx import ModelProto

from graphopt.graph.graph import Graph

__all__ = ["differences", "same_model"]

_KEYS = ("name", "key", "tensor_name", "domain")
_SHOWN = 60  # characters of a value


def differences(a: ModelProto, b: ModelProto) -> list[str]:
    """Each place where two models differ, as a path into the message; empty if they are equal.

    Every field counts, presence and order included; values are compared bit by bit (NaN equals
    NaN). Items of a repeated field that have unique names are matched by name, others by place.
    """
    if _canonical(a) == _canonical(b):
        return []
    found = list(_compare(a, b, "model"))
    return found or ["model: fields that this version of ONNX does not know"]


def _canonical(message: Message) -> bytes:
    data: bytes = message.SerializeToString(deterministic=True)
    return data


def _compare(a: Message, b: Message, path: str) -> Iterator[str]:
    ours = {field.name: (field, value) for field, value in a.ListFields()}
    theirs = {field.name: (field, value) for field, value in b.ListFields()}
    for name in dict.fromkeys([*ours, *theirs]):
        where = f"{path}.{name}"
        if name not in theirs:
            yield f"{where}: lost {_show(ours[name][1])}"
        elif name not in ours:
            yield f"{where}: added {_show(theirs[name][1])}"
        else:
            yield from _compare_field(ours[name][0], ours[name][1], theirs[name][1], where)


def _compare_field(field: FieldDescriptor, a: Any, b: Any, where: str) -> Iterator[str]:
    single = isinstance(a, Message) or not hasattr(a, "__len__") or isinstance(a, str | bytes)
    if field.message_type is None:
        if repr(a if single else list(a)) != repr(b if single else list(b)):
            yield f"{where}: {_show(a)} became {_show(b)}"
    elif single:
        yield from _compare(a, b, where)
    else:
        yield from _compare_items(a, b, where)


def _compare_items(a: Sequence[Message], b: Sequence[Message], where: str) -> Iterator[str]:
    key = _unique_key(a, b)
    if key is None:
        for index in range(max(len(a), len(b))):
            place = f"{where}[{index}]"
            if index >= len(b):
                yield f"{place}: lost {_show(a[index])}"
            elif index >= len(a):
                yield f"{place}: added {_show(b[index])}"
            else:
                yield from _compare(a[index], b[index], place)
        return
    ours = {getattr(item, key): item for item in a}
    theirs = {getattr(item, key): item for item in b}
    for name in dict.fromkeys([*ours, *theirs]):
        place = f"{where}[{name!r}]"
        if name not in theirs:
            yield f"{place}: lost {_show(ours[name])}"
        elif name not in ours:
            yield f"{place}: added {_show(theirs[name])}"
        else:
            yield from _compare(ours[name], theirs[name], place)
    common = [name for name in ours if name in theirs]
    if common != [name for name in theirs if name in ours]:
        yield f"{where}: the order changed"


def _unique_key(a: Sequence[Message], b: Sequence[Message]) -> str | None:
    """The field that names the items of both lists; None where names repeat or are missing."""
    known = (a or b)[0].DESCRIPTOR.fields_by_name
    for key in _KEYS:
        if key in known:
            names = [[getattr(item, key) for item in items] for items in (a, b)]
            if all(len(set(listed)) == len(listed) for listed in names):
                return key
    return None


def _show(value: Any) -> str:
    if isinstance(value, bytes) and len(value) > _SHOWN:
        return f"{len(value)} bytes"
    text = " ".join(str(value).split()) if isinstance(value, Message) else repr(value)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."


def same_model(a: Graph, b: Graph) -> bool:
    """Whether the main graphs have equal nodes, and all weights are equal."""
    return a.main.nodes == b.main.nodes and [*a.tensors()] == [*b.tensors()]
