"""Pictures of every kind: what comes out of tiny files, what is said of them, what is refused."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageCms

from graphopt.data.headers import BoundedReads, check_scans
from graphopt.data.pictures import PictureNote, opened_picture
from graphopt.errors import DataError

Pixels = NDArray[Any]
PLAIN = np.random.default_rng(0).integers(0, 256, (4, 6, 3), dtype=np.uint8)
GRAY = PLAIN[..., 0]
DEEP = np.random.default_rng(1).integers(0, 1 << 16, (4, 6, 3), dtype=np.uint16)


def read(path: Path, mode: Any = "RGB") -> tuple[Pixels, set[PictureNote]]:
    with opened_picture(path) as picture:
        pixels = np.asarray(picture.decoded(mode))
        assert picture.size == (pixels.shape[1], pixels.shape[0])
        return pixels, picture.notes


def saved(image: Image.Image, form: str, **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, form, **options)
    return file.getvalue()


def chunk(kind: bytes, data: bytes) -> bytes:
    body = kind + data
    return struct.pack(">I", len(data)) + body + struct.pack(">I", zlib.crc32(body))


def png(width: int, height: int, bits: int, color: int, rows: bytes, *more: bytes) -> bytes:
    """A PNG as the standard has it; ``rows`` begin with their filter, ``more`` are chunks."""
    header = struct.pack(">IIBBBBB", width, height, bits, color, 0, 0, 0)
    parts = (
        chunk(b"IHDR", header),
        *more,
        chunk(b"IDAT", zlib.compress(rows)),
        chunk(b"IEND", b""),
    )
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def deep_png(values: Pixels, *more: bytes) -> bytes:
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)
    color = {1: 0, 2: 4, 3: 2, 4: 6}[1 if values.ndim == 2 else values.shape[2]]
    return png(values.shape[1], values.shape[0], 16, color, rows, *more)


def tiff(tags: dict[int, tuple[int, int, int]], data: bytes = b"", next_page: int = 0) -> bytes:
    """A TIFF of type, count and value of each tag; ``data`` lies at offset 8."""
    table = b"".join(struct.pack("<HHII", tag, *entry) for tag, entry in sorted(tags.items()))
    start = struct.pack("<2sHI", b"II", 42, 8 + len(data))
    return start + data + struct.pack("<H", len(tags)) + table + struct.pack("<I", next_page)


def tiff_tags(
    width: int, height: int, bits: int = 8, **more: int
) -> dict[int, tuple[int, int, int]]:
    tags = {256: width, 257: height, 258: bits, 259: 1, 262: 1, 273: 8, 277: 1, 278: height}
    tags[279] = width * height * bits // 8
    tags.update({int(tag[1:]): value for tag, value in more.items()})
    return {tag: (4, 1, value) for tag, value in tags.items()}


TURNED = {
    1: PLAIN,
    2: PLAIN[:, ::-1],
    3: PLAIN[::-1, ::-1],
    4: PLAIN[::-1],
    5: PLAIN.transpose(1, 0, 2),
    6: np.rot90(PLAIN, -1),
    7: PLAIN[::-1, ::-1].transpose(1, 0, 2),
    8: np.rot90(PLAIN),
}


@pytest.mark.parametrize("form", ["PNG", "TIFF", "WEBP"])
@pytest.mark.parametrize("tag", TURNED)
def test_a_picture_is_turned_as_its_tag_says(tmp_path: Path, form: str, tag: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = tag
    options = {"lossless": True} if form == "WEBP" else {}
    (tmp_path / "a").write_bytes(saved(Image.fromarray(PLAIN), form, exif=exif, **options))
    pixels, notes = read(tmp_path / "a")
    assert np.array_equal(pixels, TURNED[tag])
    assert notes == ({PictureNote.TURNED} if tag > 1 else set())


def test_a_jpeg_is_turned_too(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    big = Image.fromarray(np.repeat(np.repeat(GRAY, 8, 0), 8, 1))
    (tmp_path / "a").write_bytes(saved(big, "JPEG", quality=100, exif=exif))
    pixels, notes = read(tmp_path / "a", "L")
    assert np.abs(pixels.astype(int) - np.rot90(np.asarray(big), -1)).max() < 10
    assert notes == {PictureNote.TURNED}


@pytest.mark.parametrize(
    "exif", [b"", b"junk", b"II*\0", b"II*\0\xff\xff\xff\xff", b"MM\0*\0\0\0\x08\0\x01"]
)
def test_damaged_exif_counts_as_none(tmp_path: Path, exif: bytes) -> None:
    (tmp_path / "a").write_bytes(saved(Image.fromarray(PLAIN), "PNG", exif=b"Exif\0\0" + exif))
    pixels, notes = read(tmp_path / "a")
    assert np.array_equal(pixels, PLAIN)
    assert notes == set()


def ppm(kind: bytes, values: Pixels, most: int) -> bytes:
    head = b"%s\n%d %d\n%d\n" % (kind, values.shape[1], values.shape[0], most)
    return head + values.astype(">u2" if most > 255 else np.uint8).tobytes()


@pytest.mark.parametrize(
    ("data", "values"),
    [
        (deep_png(DEEP[..., 0]), DEEP[..., :1]),
        (deep_png(DEEP), DEEP),
        (saved(Image.fromarray(DEEP[..., 0]), "TIFF"), DEEP[..., :1]),
        (saved(Image.fromarray(DEEP[..., 0]), "TIFF", compression="tiff_lzw"), DEEP[..., :1]),
        (ppm(b"P5", DEEP[..., 0], 65535), DEEP[..., :1]),
        (ppm(b"P6", DEEP, 65535), DEEP),
    ],
    ids=["png-gray", "png-rgb", "tiff", "tiff-lzw", "pgm", "ppm"],
)
def test_16_bits_are_reduced_to_8_and_it_is_said(
    tmp_path: Path, data: bytes, values: Pixels
) -> None:
    (tmp_path / "a").write_bytes(data)
    pixels, notes = read(tmp_path / "a")
    assert pixels.shape == (4, 6, 3)
    assert np.abs(pixels.astype(float) - values / 257).max() <= 1
    assert notes == {PictureNote.REDUCED}


def test_16_bit_alpha_and_transparent_gray(tmp_path: Path) -> None:
    alpha = np.full((4, 6, 1), 65535, np.uint16)
    (tmp_path / "a").write_bytes(deep_png(np.concatenate([DEEP, alpha], axis=2)))
    pixels, notes = read(tmp_path / "a")
    assert np.abs(pixels - DEEP / 257).max() <= 1
    assert notes == {PictureNote.REDUCED}
    key = chunk(b"tRNS", struct.pack(">H", int(DEEP[0, 0, 0])))
    (tmp_path / "a").write_bytes(deep_png(DEEP[..., 0], key))
    pixels, notes = read(tmp_path / "a", "L")
    assert pixels[0, 0] == 255
    assert np.array_equal(pixels[1:], DEEP[1:, :, 0] >> 8)
    assert notes == {PictureNote.REDUCED, PictureNote.ON_WHITE}


def with_alpha(image: Image.Image, alpha: int) -> Image.Image:
    image.putalpha(alpha)
    return image


def palette(**options: Any) -> bytes:
    image = Image.new("P", (6, 4))
    image.putpalette([10, 20, 30, 200, 100, 0])
    image.putpixel((0, 0), 1)
    return saved(image, "PNG", **options)


@pytest.mark.parametrize(
    ("data", "corner", "noted"),
    [
        (
            saved(with_alpha(Image.new("RGB", (6, 4), (200, 100, 0)), 255), "PNG"),
            (200, 100, 0),
            False,
        ),
        (
            saved(with_alpha(Image.new("RGB", (6, 4), (200, 100, 0)), 0), "PNG"),
            (255, 255, 255),
            True,
        ),
        (saved(with_alpha(Image.new("RGB", (6, 4), (0, 0, 0)), 51), "PNG"), (204, 204, 204), True),
        (saved(with_alpha(Image.new("L", (6, 4), 0), 51), "PNG"), (204, 204, 204), True),
        (saved(with_alpha(Image.new("RGB", (6, 4)), 51), "TIFF"), (204, 204, 204), True),
        (
            saved(with_alpha(Image.new("RGB", (6, 4)), 51), "WEBP", lossless=True, exact=True),
            (204, 204, 204),
            True,
        ),
        (
            saved(Image.new("RGB", (6, 4), (1, 2, 3)), "PNG", transparency=(1, 2, 3)),
            (255,) * 3,
            True,
        ),
        (
            saved(Image.new("RGB", (6, 4), (1, 2, 3)), "PNG", transparency=(1, 2, 4)),
            (1, 2, 3),
            False,
        ),
        (saved(Image.new("L", (6, 4), 7), "PNG", transparency=7), (255,) * 3, True),
        (saved(Image.new("1", (6, 4), 0), "PNG", transparency=0), (255,) * 3, True),
        (palette(), (200, 100, 0), False),
        (palette(transparency=1), (255,) * 3, True),
        (palette(transparency=b"\xff\x00"), (255,) * 3, True),
        (palette(transparency=b"\xff\xff"), (200, 100, 0), False),
    ],
)
def test_transparent_parts_are_laid_on_white(
    tmp_path: Path, data: bytes, corner: tuple[int, ...], noted: bool
) -> None:
    (tmp_path / "a").write_bytes(data)
    pixels, notes = read(tmp_path / "a")
    assert tuple(pixels[0, 0]) == corner
    assert notes == ({PictureNote.ON_WHITE} if noted else set())


@pytest.mark.parametrize("form", ["PNG", "TIFF", "WEBP"])
def test_of_several_pictures_the_first_is_read(tmp_path: Path, form: str) -> None:
    others = [Image.new("RGB", (6, 4), color) for color in ("blue", "red")]
    options = {"lossless": True} if form == "WEBP" else {}
    data = saved(Image.fromarray(PLAIN), form, save_all=True, append_images=others, **options)
    (tmp_path / "a").write_bytes(data)
    pixels, notes = read(tmp_path / "a")
    assert np.array_equal(pixels, PLAIN)
    assert notes == {PictureNote.FIRST}


@pytest.mark.parametrize(
    ("mode", "form", "color", "expected"),
    [
        ("CMYK", "JPEG", (0, 0, 0, 0), (255, 255, 255)),
        ("CMYK", "JPEG", (0, 255, 255, 0), (255, 0, 0)),
        ("CMYK", "TIFF", (0, 255, 255, 0), (255, 0, 0)),
        ("YCbCr", "JPEG", (255, 128, 128), (255, 255, 255)),
        ("YCbCr", "TIFF", (76, 85, 255), (254, 0, 0)),
        ("1", "PNG", 1, (255, 255, 255)),
        ("1", "TIFF", 0, (0, 0, 0)),
        ("L", "BMP", 77, (77, 77, 77)),
        ("P", "BMP", 0, (0, 0, 0)),
    ],
)
def test_other_colours(
    tmp_path: Path, mode: str, form: str, color: Any, expected: tuple[int, ...]
) -> None:
    (tmp_path / "a").write_bytes(saved(Image.new(mode, (16, 16), color), form))
    for wanted in ("RGB", "L"):
        pixels, notes = read(tmp_path / "a", wanted)
        gray = np.dot(expected, (0.299, 0.587, 0.114))
        assert np.abs(pixels[8, 8] - (np.array(expected) if wanted == "RGB" else gray)).max() <= 3
        assert notes == set()


def lab() -> bytes:
    profiles = ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB")
    made = ImageCms.profileToProfile(Image.fromarray(PLAIN), *profiles, outputMode="LAB")
    assert made is not None
    return saved(made, "TIFF")


def flood(kind: bytes, times: int = 120_000) -> bytes:
    return png(6, 4, 8, 0, (b"\0" * 7) * 4, chunk(kind, b"") * times)


REFUSED: list[tuple[str, Callable[[], bytes], str]] = [
    ("lab", lab, "mode LAB; convert it to 8 bits"),
    ("int", lambda: saved(Image.fromarray(GRAY.astype(np.int32)), "TIFF"), "mode I; convert"),
    ("float", lambda: saved(Image.fromarray(GRAY.astype(np.float32)), "TIFF"), "mode F; convert"),
    ("12-bit", lambda: tiff(tiff_tags(4, 4, 12), bytes(24)), "convert it to 8 bits"),
    ("white-0", lambda: tiff(tiff_tags(4, 4, 16, t262=0), bytes(32)), "inverted; convert it"),
    (
        "transparent-colour",
        lambda: deep_png(DEEP, chunk(b"tRNS", DEEP[0, 0].astype(">u2").tobytes())),
        "16 bits with a transparent colour",
    ),
    ("no-pixels", lambda: png(0, 4, 8, 0, b"\0" * 4), "cannot be read as an image"),
    ("no-rows", lambda: b"P5\n6 0\n255\n", "cannot be read as an image"),
    ("large", lambda: png(9_000, 9_000, 8, 0, b"\0"), "9000 x 9000 pixels are too many"),
    ("huge", lambda: png(1 << 30, 1 << 30, 8, 0, b"\0"), "too many pixels"),
    (
        "huge-bmp",
        lambda: saved(Image.new("L", (1, 1)), "BMP")[:18] + b"\xff\xff\xff\x7f" * 2,
        "image",
    ),
    ("text-bomb", lambda: png(6, 4, 8, 0, b"\0" * 28, ztxt(1 << 27)), "cannot be read as an image"),
    (
        "profile-bomb",
        lambda: png(6, 4, 8, 0, b"\0" * 28, iccp(1 << 27)),
        "cannot be read as an image",
    ),
    ("chunks", lambda: flood(b"tEXt"), "it is in too many pieces"),
    ("chunks-of-pixels", lambda: flood(b"IDAT", 400_000), "it is in too many pieces"),
    ("many-comments", lambda: b"P3 6 4 255\n" + b"#\n" * 2000 + b"1 " * 72, "too long for a PNM"),
    ("long-text", lambda: b"P3 6 4 255\n" + b" " * (1 << 25) + b"1 " * 72, "too long for a PNM"),
    ("markers", lambda: b"\xff\xd8" + b"\xff\xe0\0\x02" * 120_000, "in too many pieces"),
    (
        "comments",
        lambda: b"P5\n#" + b"x" * (1 << 20) + b"\n6 4\n255\n" + bytes(24),
        "header is too long",
    ),
    ("blanks", lambda: b"P5" + b" " * (1 << 20) + b"6 4 255\n" + bytes(24), "header is too long"),
    ("slow-pnm", lambda: b"P6 4000 4000 254\n", "too many for this form of PNM"),
    ("plain-pnm", lambda: b"P3 4000 4000 255\n", "too many for this form of PNM"),
    ("strips", lambda: tiff({**tiff_tags(4, 4), 273: (4, 1 << 20, 8)}), "1048576 strips"),
    ("tags", lambda: tiff(dict.fromkeys(range(5000), (4, 1, 0))), "5000 tags"),
    ("tiles", lambda: tiff(tiff_tags(4, 4, t322=1 << 16, t323=1 << 16)), "tiles of 4294967296"),
    ("cut-png", lambda: saved(Image.fromarray(PLAIN), "PNG")[:-30], "cannot be read as an image"),
    ("cut-jpeg", lambda: saved(Image.new("RGB", (64, 64)), "JPEG")[:-40], "truncated"),
    ("cut-webp", lambda: saved(Image.fromarray(PLAIN), "WEBP")[:-20], "cannot be read as an image"),
    ("cut-tiff", lambda: saved(Image.fromarray(PLAIN), "TIFF")[:40], "cannot be read as an image"),
    ("cut-bmp", lambda: saved(Image.fromarray(PLAIN), "BMP")[:60], "cannot be read as an image"),
    ("junk", lambda: b"junk", "BMP, JPEG, PNG, PPM, TIFF, WEBP are"),
    ("gif", lambda: saved(Image.new("L", (6, 4)), "GIF"), "BMP, JPEG, PNG, PPM, TIFF, WEBP are"),
]


def ztxt(size: int) -> bytes:
    return chunk(b"zTXt", b"key\0\0" + zlib.compress(bytes(size)))


def iccp(size: int) -> bytes:
    return chunk(b"iCCP", b"name\0\0" + zlib.compress(bytes(size)))


@pytest.mark.parametrize(
    ("make", "words"),
    [(make, words) for _, make, words in REFUSED],
    ids=[name for name, *_ in REFUSED],
)
def test_refused_in_one_line(tmp_path: Path, make: Callable[[], bytes], words: str) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(make())
    with pytest.raises(DataError) as caught:
        read(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert str(caught.value).count(str(path)) == 1
    assert words in str(caught.value)


def test_a_file_of_gigabytes_is_refused_unread(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(saved(Image.fromarray(PLAIN), "PNG"))
    with path.open("r+b") as file:
        file.truncate(1 << 40)
    with pytest.raises(DataError, match=r"its 1099511627776 bytes are too many for a picture"):
        read(path)


def test_scans_without_end(tmp_path: Path) -> None:
    path = tmp_path / "a.jpg"
    path.write_bytes(saved(Image.new("RGB", (64, 64)), "JPEG", progressive=True))
    with path.open("rb") as file:
        file.seek(5)
        check_scans(file, 1 << 26)
        assert file.tell() == 5
    path.write_bytes(b"\xff\xd8" + b"\xff\xda" * 17 + bytes((1 << 20) - 36) + b"\xff\xda")
    with path.open("rb") as file, pytest.raises(DataError, match="18 scans of 67108864 pixels"):
        check_scans(file, 1 << 26)


def test_reads_are_bounded(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(bytes(200_000))
    with path.open("rb") as file:
        watched = BoundedReads(file)
        with pytest.raises(DataError, match="it is in too many pieces"):
            while watched.read(1):
                pass
        watched.allow()
        assert (watched.read(1), watched.tell()) == (b"\0", 100_001)
