"""Files of arrays whose headers, members and bytes are odd."""

from __future__ import annotations

import io
import random
import struct
import warnings
import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tests.fuzz.fields import INTEGERS
from tests.fuzz.raw import change_bytes

__all__ = ["npy", "write_npy", "write_npz"]

_TYPES = (
    "<f4", "<f4", "<f4", "<f8", ">f4", "<f2", "<i8", "<i4", "|u1", "|i1", "|b1", "|O", "<U5", "<U999999999",
    "|S0", "|V10", "<M8[s]", "<c8", "<f16", "<f3", "f", "object", "nonsense", "\\x00", "[('a','<f4')]*9",
)  # fmt: skip
_TEXTS = (
    "9**9**9", "(" * 300, "[" * 5000, "-" * 20000 + "1", "9" * 5000, "'x'", "None", "True", "{}",
    "__import__('os').system('touch ran')", "1.5", "(2, 'x')", "((2,),)", "(2, True)", "2", "(2,)*40",
)  # fmt: skip
_HUGE = 8 * 2**30


@dataclass(frozen=True)
class _Array:
    """Bytes of a file, and how long it claims to be: what is missing may be holes."""

    data: bytes
    claimed: int


def npy(shape: tuple[int, ...], rng: random.Random) -> tuple[_Array, str]:
    """An array of this shape in which something is odd, or nothing."""
    dtype, sizes, fortran = "<f4", str(shape), "False"
    dims = list(shape)
    match rng.randrange(9):
        case 0 | 1:
            dtype = rng.choice(_TYPES)
        case 2 | 3:
            dims[rng.randrange(len(dims))] = rng.choice([*INTEGERS, 10**7, 10**8, 10**10])
            sizes = str(tuple(dims))
        case 4:
            dims = rng.choice([[], [0], dims[::-1], [1] * 70, [2, *dims], dims[1:], [10**9, 0]])
            sizes = str(tuple(dims))
        case 5:
            sizes = rng.choice(_TEXTS)
        case 6:
            fortran = rng.choice(["True", "1", "'x'", "None"])
        case _:
            pass
    described = dtype if dtype.startswith("[") else f"'{dtype}'"
    text = f"{{'descr': {described}, 'fortran_order': {fortran}, 'shape': {sizes}, }}"
    if rng.random() < 0.1:
        text = rng.choice(
            [text[:-1], text * 2, text.replace("descr", "desc"), "{}", "", text + "x"]
        )
    padded = text.encode() + b" " * rng.choice([0, 1, 60, 60, 70_000]) + b"\n"
    version = rng.choice([1, 1, 1, 1, 2, 3, 0, 9]) if len(padded) < 2**16 else 2
    length = len(padded) if rng.random() < 0.95 else rng.choice([0, 2**16 - 1, 2**32 - 1])
    code = "<H" if version <= 1 else "<I"
    length = min(length, 2**16 - 1) if version <= 1 else length
    head = b"\x93NUMPY" + bytes([version, 0]) + struct.pack(code, length) + padded
    count = 1
    for size in dims:
        count *= size
    body = np.random.default_rng(0).standard_normal(max(0, min(count, 10_000)))
    if rng.random() < 0.15 and body.size:
        body[rng.randrange(body.size)] = rng.choice([float("nan"), float("inf"), 1e300, -1e38])
    with np.errstate(over="ignore"):
        data = head + body.astype("<f4").tobytes()
    if rng.random() < 0.15:
        data, what = change_bytes(data, data, rng)
    else:
        what = text[:150]
    claimed = len(head) + 4 * count if 0 < count < _HUGE else len(data)
    return _Array(data, claimed), f"npy v{version} {what}"


def write_npy(path: Path, shape: tuple[int, ...], rng: random.Random) -> str:
    """Write an array; where it claims more than is there, holes may make up for it."""
    array, what = npy(shape, rng)
    path.write_bytes(array.data)
    if array.claimed > len(array.data) and rng.random() < 0.7:
        with path.open("r+b") as file:
            file.truncate(array.claimed)
        what += f" with holes up to {array.claimed}"
    return what


def write_npz(path: Path, shapes: dict[str, tuple[int, ...]], rng: random.Random) -> str:
    """Write arrays under the names of inputs, with odd members, sizes or bytes."""
    story, buffer = [], io.BytesIO()
    odd = rng.choice([*shapes, "labels", "none"])
    way = rng.choice(
        [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA]
    )
    with zipfile.ZipFile(buffer, "w", way) as file:
        for name, shape in shapes.items():
            array, what = npy(shape, rng if name == odd else random.Random(3))
            story += [f"{name}: {what}"] if name == odd else []
            _write(file, f"{name}.npy", array.data)
        if odd == "labels":
            sizes = rng.choice([(3,), (4,), (4, 1), (10**9,), ()])
            _write(file, "labels.npy", npy(sizes or (4,), rng)[0].data)
        if rng.random() < 0.3:
            member = rng.choice(
                ["y.npy", "../x.npy", "/x.npy", "x", "x.npy", ".npy", "a\nb.npy", "d/"]
            )
            _write(file, member, rng.choice([b"", b"junk", npy((4, 4), rng)[0].data]))
            story.append(f"member {member!r}")
        if rng.random() < 0.1:
            head = npy((1,), random.Random(3))[0].data[:64]
            _write(file, "bomb.npy" if rng.random() < 0.5 else "x.npy", head + bytes(60_000_000))
            story.append("a member of 60 MB")
        if rng.random() < 0.05:
            for index in range(3000):
                _write(file, f"m{index}.npy", b"")
            story.append("3000 members")
    data = buffer.getvalue()
    if rng.random() < 0.3:
        data, what = _changed_directory(data, rng)
        story.append(what)
    path.write_bytes(data)
    return "npz " + "; ".join(story)


def _write(file: zipfile.ZipFile, name: str, data: bytes) -> None:
    """A member whose date is always the same; numpy does it so too."""
    info = zipfile.ZipInfo(name)
    info.compress_type = file.compression
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of a name that is there already: it is to be twice
        file.writestr(info, data)


def _changed_directory(data: bytes, rng: random.Random) -> tuple[bytes, str]:
    """Sizes, flags and places that the directory of a zip claims."""
    start = data.rfind(b"PK\x01\x02")
    if start < 0 or rng.random() < 0.4:
        return change_bytes(data, data[len(data) // 2 :], rng)
    what, offset, length = rng.choice([
        ("flags", 8, 2), ("method", 10, 2), ("packed size", 20, 4), ("size", 24, 4),
        ("length of name", 28, 2), ("extra", 30, 2), ("place", 42, 4),
    ])  # fmt: skip
    value = rng.choice([0, 1, 8, 9, 99, 2 ** (8 * length) - 1, 10**6 % 2 ** (8 * length)])
    place = start + offset
    changed = data[:place] + value.to_bytes(length, "little") + data[place + length :]
    return changed, f"{what} in the directory: {value}"
