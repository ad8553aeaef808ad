"""Any field of any message of a model set to something odd."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import onnx
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message

__all__ = ["INTEGERS", "change_field", "messages", "unclean"]

_MARK = b"\x01BAD~"
_NO_UTF8 = b"\xff\xfe\xc0\x80~"
INTEGERS = (
    0,
    1,
    2,
    3,
    -1,
    -2,
    16,
    255,
    2**31 - 1,
    -(2**31),
    2**31,
    2**32,
    2**62,
    2**63 - 1,
    -(2**63),
)
_FLOATS = (0.0, -0.0, 1.0, -1.0, float("nan"), float("inf"), float("-inf"), 1e-45, 3e38, -1e-5)
_TEXTS = (
    "", _MARK.decode(), "\0", "x\0y", "a\nb", "../../x", "/etc/hostname", ".", "\u202e\x1b[31m",
    "ai.onnx", "ai.onnx.ml", "com.microsoft", "local", "Conv", "MatMul", "Constant", "If", "twice",
    "-1", "1e9", "9" * 40, "N", "y" * 5000, "*/_ORT_MEM_ADDR_/*",
)  # fmt: skip


def messages(root: Message) -> list[Message]:
    """A message and all that are in it."""
    found = [root]
    for message in found:
        for _, value in message.ListFields():
            if isinstance(value, Message):
                found.append(value)
            elif not isinstance(value, (str, bytes, int, float)):
                found += [item for item in value if isinstance(item, Message)]
    return found


def unclean(serialized: bytes) -> bytes:
    """Texts that are to be no UTF-8, which no library of protobuf writes."""
    return serialized.replace(_MARK, _NO_UTF8)


def change_field(model: onnx.ModelProto, rng: random.Random) -> str:
    """Change a field of a message, each kind of message as likely as the others."""
    kinds: dict[str, list[Message]] = {}
    for message in messages(model):
        kinds.setdefault(message.DESCRIPTOR.name, []).append(message)
    name = rng.choice(sorted(kinds))
    message = rng.choice(kinds[name])
    used = [field for field, _ in message.ListFields()]
    fields = used if used and rng.random() < 0.6 else list(message.DESCRIPTOR.fields)
    field = rng.choice(fields)
    if field.message_type is not None:
        what = _change_part(message, field, kinds, rng)
    else:
        what = _change_value(message, field, model, rng)
    return f"{name}.{field.name}: {what}"


def _change_part(
    message: Message, field: FieldDescriptor, kinds: dict[str, list[Message]], rng: random.Random
) -> str:
    """Delete, double, swap or replace messages; one from elsewhere may come in."""
    assert field.message_type is not None
    others = kinds.get(field.message_type.name, [])
    value: Any = getattr(message, field.name)
    if isinstance(value, Message):
        if others and rng.random() < 0.7:
            value.CopyFrom(_copy(rng.choice(others)))
            return "another one copied"
        message.ClearField(field.name)
        return "cleared"
    choice = rng.choice(["delete", "double", "swap", "clear", "foreign", "empty", "many"])
    if choice == "empty":
        value.add()
    elif choice == "foreign" and others:
        value.append(_copy(rng.choice(others)))
    elif len(value) == 0:
        return "nothing to change"
    elif choice == "clear":
        message.ClearField(field.name)
    else:
        index = rng.randrange(len(value))
        if choice == "delete":
            del value[index]
        elif choice == "many":
            value.extend([_copy(value[index])] * rng.choice([7, 100]))
        elif choice == "swap":
            first, second = _copy(value[index]), _copy(value[rng.randrange(len(value))])
            value[index].CopyFrom(second)
            value[rng.randrange(len(value))].CopyFrom(first)
        else:
            value.append(_copy(value[index]))
    return choice


def _copy(message: Message) -> Any:
    copy = type(message)()
    copy.CopyFrom(message)
    return copy


def _change_value(
    message: Message, field: FieldDescriptor, model: onnx.ModelProto, rng: random.Random
) -> str:
    odd = _odd(field, model, rng)
    value: Any = getattr(message, field.name)
    if isinstance(value, (str, bytes, int, float)):
        if rng.random() < 0.1:
            message.ClearField(field.name)
            return "cleared"
        new = odd(value)
        setattr(message, field.name, new)
        return f"{str(value)[:40]!r} -> {str(new)[:40]!r}"
    choice = rng.choice(["set", "set", "append", "delete", "clear", "double", "long"])
    if choice == "append" or not len(value):
        value.append(odd(value[0] if len(value) else None))
    elif choice == "clear":
        message.ClearField(field.name)
    elif choice == "double":
        value.extend(list(value))
    elif choice == "long":
        value.extend([value[0]] * 100)
    else:
        index = rng.randrange(len(value))
        if choice == "delete":
            del value[index]
        else:
            value[index] = odd(value[index])
            return f"[{index}] set to {str(value[index])[:40]!r}"
    return choice


def _odd(
    field: FieldDescriptor, model: onnx.ModelProto, rng: random.Random
) -> Callable[[Any], Any]:
    """A function from the value that a field has to one that it does not expect."""
    kind = field.cpp_type
    if kind == FieldDescriptor.CPPTYPE_ENUM:
        assert field.enum_type is not None
        numbers = sorted(field.enum_type.values_by_number)
        return lambda _: rng.choice(numbers)
    if kind in {FieldDescriptor.CPPTYPE_FLOAT, FieldDescriptor.CPPTYPE_DOUBLE}:
        return lambda _: rng.choice(_FLOATS)
    if kind == FieldDescriptor.CPPTYPE_STRING:
        if field.type == FieldDescriptor.TYPE_BYTES:
            return lambda old: _odd_bytes(old or b"", rng)
        return lambda old: _odd_text(old or "", model, rng)
    low, high = _BOUNDS[kind]
    fitting = [number for number in INTEGERS if low <= number <= high]
    return lambda old: rng.choice([*fitting, min((old or 0) + 1, high), max((old or 0) - 1, low)])


_BOUNDS = {
    FieldDescriptor.CPPTYPE_INT32: (-(2**31), 2**31 - 1),
    FieldDescriptor.CPPTYPE_INT64: (-(2**63), 2**63 - 1),
    FieldDescriptor.CPPTYPE_UINT32: (0, 2**32 - 1),
    FieldDescriptor.CPPTYPE_UINT64: (0, 2**64 - 1),
    FieldDescriptor.CPPTYPE_BOOL: (0, 1),
}


def _odd_bytes(old: bytes, rng: random.Random) -> bytes:
    return rng.choice([
        b"", old[: len(old) // 2], old + b"\0", old[1:], old * 3, b"\xff" * len(old),
        rng.randbytes(min(len(old), 1000) + 1),
    ])  # fmt: skip


def _odd_text(old: str, model: onnx.ModelProto, rng: random.Random) -> str:
    nodes: list[onnx.NodeProto] = list(model.graph.node)
    names = [name for node in nodes for name in (*node.input, *node.output, node.op_type)]
    likely: list[str] = [rng.choice(names or [""]) for _ in range(12)]
    texts: list[str] = [*_TEXTS, *likely, old + "x", old[1:]]
    return texts[rng.randrange(len(texts))]
