"""Folders of pictures: formats, modes and sizes that nobody expects, and what is no picture."""

from __future__ import annotations

import io
import os
import random
import struct
import zlib
from pathlib import Path

import numpy as np
from PIL import Image

from tests.fuzz.raw import change_bytes

__all__ = ["picture_options", "write_pictures"]

_FORMATS = ("PNG", "JPEG", "BMP", "TIFF", "WEBP", "PPM", "GIF", "ICO", "TGA", "PCX")
_MODES = (
    "RGB",
    "RGB",
    "L",
    "P",
    "RGBA",
    "LA",
    "1",
    "I;16",
    "I",
    "F",
    "CMYK",
    "YCbCr",
    "LAB",
    "HSV",
)
_JUNK = (
    b"", b"text", b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 32 32\n%%EOF\n", b"\x89PNG\r\n\x1a\n",
    b"GIF89a\xff\xff\xff\xff", b"BM" + b"\xff" * 60, b"P6 99999 99999 255\n", b"P6 8 8 65535\n" + b"\0" * 384,
    b"P4 2147483647 1\n", b"P5 # " + b"x" * 10_000, b"II*\0\x08\0\0\0\xff\xff" + b"\xff" * 40,
    b"RIFF\xff\xff\xff\xffWEBPVP8X" + b"\xff" * 30, b"\xff\xd8\xff" * 300,
)  # fmt: skip
_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".tiff", ".webp", ".ppm", ".PNG", ".gif", ".txt", "")


def write_pictures(folder: Path, rng: random.Random) -> str:
    """A folder of one to three pictures, of which the last is odd."""
    folder.mkdir()
    for index in range(rng.choice([0, 1, 2])):
        _plain((8, 8)).save(folder / f"a{index}.png")
    path = folder / f"odd{rng.choice(_SUFFIXES)}"
    match rng.randrange(10):
        case 0:
            path.write_bytes(rng.choice(_JUNK))
            return f"{path.name}: junk"
        case 1:
            width, height = (
                rng.choice([2**31 - 1, 60_000, 20_000, 0, 1]),
                rng.choice([1, 0, 30_000]),
            )
            path.write_bytes(_png(width, height))
            return f"{path.name}: a PNG that claims {width} x {height}"
        case 2:
            targets = {"device": "/dev/zero", "loop": path.name, "dangling": "nowhere.png"}
            what = rng.choice(["pipe", "folder", *targets])
            if what == "pipe":
                os.mkfifo(path)
            elif what == "folder":
                path.mkdir()
            else:
                path.symlink_to(targets[what])
            return f"{path.name}: {what}"
        case 3:
            side = rng.choice([1, 2, 3000, 5000])
            Image.new("RGB", (side, rng.choice([1, side]))).save(folder / "odd.png")
            return f"odd.png: {side} pixels wide"
        case _:
            return _encoded(path, rng)


def _encoded(path: Path, rng: random.Random) -> str:
    """Any mode in any format that takes it, with several frames, turned, or with bytes changed."""
    form, mode = rng.choice(_FORMATS), rng.choice(_MODES)
    image = _plain(rng.choice([(8, 8), (9, 7), (33, 31), (1, 1)])).convert("RGB")
    options: dict[str, object] = {}
    story = [f"{path.name}: {mode} as {form}"]
    if rng.random() < 0.2:
        options["exif"] = b"Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0" + bytes([
            rng.choice([1, 3, 6, 8, 9, 255]), 0, 0, 0, 0, 0, 0,
        ])  # fmt: skip
        story.append("turned")
    if rng.random() < 0.15:
        options |= {"save_all": True, "append_images": [image] * rng.choice([1, 50])}
        story.append("frames")
    buffer = io.BytesIO()
    try:
        image.convert(mode).save(buffer, form, **options)
    except (OSError, ValueError, KeyError, AttributeError):
        image.save(buffer, "PNG")
        story.append("which there is not: a plain PNG")
    data = buffer.getvalue()
    if rng.random() < 0.4:
        data, what = change_bytes(data, _png(8, 8), rng)
        story.append(what)
    path.write_bytes(data)
    return ", ".join(story)


def _plain(size: tuple[int, int]) -> Image.Image:
    values = np.random.default_rng(0).integers(0, 256, (size[1], size[0], 3)).astype(np.uint8)
    return Image.fromarray(values)


def _png(width: int, height: int) -> bytes:
    """A PNG whose head claims a size; its few pixels do not fill it."""
    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    parts = ((b"IHDR", head), (b"IDAT", zlib.compress(bytes(200))), (b"IEND", b""))
    chunks = [
        struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))
        for name, body in parts
    ]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


def picture_options(rng: random.Random) -> list[str]:
    """Options that fit a model of (N, 3, 8, 8), one of which may be odd."""
    options = {"--image-size": "8x8", "--image-scale": "0.01"}
    odd = {
        "--image-size": ["8", "0", "-1", "8x", "x8", "8x8x8", "1e9", "99999999x8", "65536x65536", "", "é"],
        "--image-crop": ["8", "8x8", "9", "0", "-8", "1000000", "nan"],
        "--image-scale": ["nan", "inf", "1e400", "0", "-1", "x", "", "1e-400", "1,2,3"],
        "--image-mean": ["0.5", "1,2,3", "1,2", "nan", "", ",", "1e39,0,0", "1," * 1000],
        "--image-std": ["0", "1,0,1", "-1", "1e-45", "inf", "1 2 3"],
        "--image-layout": ["NHWC", "NCHW", "nchw", "HW"],
        "--image-color": ["L", "BGR", "RGB", "CMYK"],
    }  # fmt: skip
    for name in rng.sample(sorted(odd), rng.choice([0, 0, 1, 2])):
        options[name] = rng.choice(odd[name])
    return [part for pair in options.items() for part in pair]
