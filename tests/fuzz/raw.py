"""The bytes of a file flipped, cut, moved and doubled."""

from __future__ import annotations

import random

__all__ = ["change_bytes"]


def change_bytes(data: bytes, other: bytes, rng: random.Random) -> tuple[bytes, str]:
    """Changed bytes, and what was done; ``other`` is a file of the same kind to take parts from."""
    if not data:
        return rng.randbytes(20), "made up"
    low = rng.randrange(len(data))
    # Most of a model is weights, where a change means nothing: the ends hold the structure.
    if rng.random() < 0.5:
        low = min(low % 300, len(data) - 1) if rng.random() < 0.5 else -(low % 900) % len(data)
    high = min(len(data), low + rng.choice([1, 1, 2, 4, 8, 64, 500]))
    part, rest = data[low:high], (data[:low], data[high:])
    match rng.choice(
        ["flip", "flip", "set", "cut", "delete", "insert", "double", "splice", "long"]
    ):
        case "flip":
            changed = bytes(byte ^ (1 << rng.randrange(8)) for byte in part[:4]) + part[4:]
            return changed.join(rest), f"bits flipped at {low}"
        case "set":
            byte = rng.choice([0, 1, 0x7F, 0x80, 0xFF])
            return bytes([byte] * len(part)).join(rest), f"{len(part)} bytes at {low} set to {byte}"
        case "cut":
            return data[:low], f"cut at {low} of {len(data)}"
        case "delete":
            return b"".join(rest), f"{len(part)} bytes at {low} deleted"
        case "insert":
            return data[:low] + rng.randbytes(len(part)) + data[low:], f"bytes inserted at {low}"
        case "double":
            return data[:high] + part * rng.choice([1, 3]) + data[high:], f"doubled at {low}"
        case "long":
            # The longest varint: a length or a number of 2^63 and more.
            return data[:low] + b"\xff" * 9 + b"\x01" + data[low + 1 :], f"a long varint at {low}"
        case _:
            start = rng.randrange(max(1, len(other)))
            piece = other[start : start + rng.choice([20, 200, len(other)])]
            return data[:low] + piece + data[low:], f"a piece of another file at {low}"
