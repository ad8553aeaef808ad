"""One picture: read by the decoders that are meant, bounded before it is decoded, made upright."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from graphopt import outside
from graphopt.data.headers import (
    PIXEL_READS,
    BoundedReads,
    check_pnm_header,
    check_scans,
    check_tiff_tables,
)
from graphopt.errors import DataError, GraphoptError, SystemFailure

if TYPE_CHECKING:
    from PIL import Image

__all__ = ["MOST_PIXELS", "PictureNote", "UprightPicture", "opened_picture", "pillow"]

MOST_PIXELS = 1 << 26
"""Of a picture: 67 million, more than cameras have."""
_MOST_BYTES = 1 << 29  # of its file: eight for each of so many pixels
_MOST_SLOW_VALUES = 1 << 23  # which Pillow decodes one by one, a microsecond each
_SLOW_READS = 2 * _MOST_SLOW_VALUES
_DECODERS = ("BMP", "JPEG", "PNG", "PPM", "TIFF", "WEBP")
"""All that Pillow may try, whatever a file is called: its reader of PostScript starts a program."""
_MODES = ("1", "L", "LA", "La", "P", "PA", "RGB", "RGBA", "RGBX", "RGBa", "CMYK", "YCbCr")
_ORIENTATION = 0x0112
_TURNS = {
    2: "FLIP_LEFT_RIGHT",
    3: "ROTATE_180",
    4: "FLIP_TOP_BOTTOM",
    5: "TRANSPOSE",
    6: "ROTATE_270",
    7: "TRANSVERSE",
    8: "ROTATE_90",
}
"""By the value of the tag: what brings the picture upright (EXIF 2.32, section 4.6.4)."""


class PictureNote(StrEnum):
    """What was done to a picture that a reader of figures should know."""

    TURNED = "were turned as their EXIF tag says"
    REDUCED = "have 16 bits a channel, of which the upper 8 were read"
    ON_WHITE = "have transparent parts and were laid on white"
    FIRST = "hold several pictures, of which the first was read"


def pillow() -> ModuleType:
    """``PIL.Image``, which is an extra.

    Raises:
        SystemFailure: Pillow is not installed.
    """
    try:
        from PIL import Image  # noqa: PLC0415
    except ImportError as err:
        needed = "a folder of images needs Pillow: pip install 'graphopt[images]'"
        raise SystemFailure(needed) from err
    return Image


class UprightPicture:
    """A picture whose header was read and is within the bounds.

    Attributes:
        size: Width and height as it is to be seen, pixels.
        notes: What is told of it; whether it has transparent parts is known once it is decoded.
    """

    def __init__(self, image: Image.Image, file: BoundedReads) -> None:
        self._image, self._file = image, file
        self._reduced = _is_deep(image)
        turn = _orientation(image)
        # Pillow turns a TIFF itself, and says its size as it will be.
        self._turn = None if image.format == "TIFF" else _TURNS.get(turn)
        width, height = image.size
        self.size = (height, width) if self._turn and turn >= 5 else (width, height)
        self.notes = {
            note
            for note, holds in (
                (PictureNote.TURNED, turn in _TURNS),
                (PictureNote.REDUCED, self._reduced),
                (PictureNote.FIRST, bool(getattr(image, "is_animated", False))),
            )
            if holds
        }

    def decoded(self, mode: Literal["L", "RGB"]) -> Image.Image:
        """All pixels, 8 bits a channel, upright and without transparency."""
        if self._image.format in ("JPEG", "MPO"):
            check_scans(self._file, self._image.width * self._image.height)
        self._image.load()
        flat = self._flat(_halved(self._image) if self._reduced else self._image, mode)
        if self._turn is None:
            return flat
        return flat.transpose(getattr(pillow().Transpose, self._turn))

    @property
    def number_type(self) -> type[np.unsignedinteger[Any]]:
        """What holds the number of each pixel."""
        return np.uint16 if self._reduced else np.uint8

    def numbers(self) -> NDArray[Any]:
        """The number at each pixel, upright: ``(height, width)``; of a palette the place in it.

        Raises:
            DataError: It has colours, or is stored in a form that changes numbers.
        """
        if self._image.format in ("JPEG", "MPO"):
            raise DataError("a JPEG does not keep the numbers of classes; save masks as PNG")
        self._image.load()
        turned = self._image
        if self._turn is not None:
            turned = turned.transpose(getattr(pillow().Transpose, self._turn))
        values = np.asarray(turned)
        if values.ndim > 2:
            colours = values[..., :3] if values.shape[2] > 2 else values[..., :1]
            if (colours != colours[..., :1]).any():
                raise DataError(
                    "has colours, where a mask has one number a pixel; save it in gray or with a "
                    "palette"
                )
            values = colours[..., 0]
        return values

    def _flat(self, image: Image.Image, mode: Literal["L", "RGB"]) -> Image.Image:
        if image.mode == "La":
            image = image.convert("LA")
        if "transparency" in image.info or image.mode in ("LA", "PA", "RGBA", "RGBa"):
            image = image.convert("RGBA")
            least, _ = image.getchannel("A").getextrema()
            if least < 255:  # type: ignore[operator]  # one band, so a number
                self.notes.add(PictureNote.ON_WHITE)
                white = pillow().new("RGBA", image.size, (255, 255, 255, 255))
                image = pillow().alpha_composite(white, image)
        if image.mode in ("CMYK", "YCbCr", "RGBX"):
            image = image.convert("RGB")
        return image.convert(mode)


@contextmanager
def opened_picture(path: Path) -> Iterator[UprightPicture]:
    """A picture whose header was read; errors, of decoding as well, become one line about its file.

    Raises:
        DataError: It is none of the formats, truncated, or larger than a picture may be.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of odd metadata; what matters is checked here
            with outside.opened(path) as file:
                watched = BoundedReads(file)
                _check_bytes(watched)
                with pillow().open(watched, formats=_DECODERS) as image:
                    # Pillow reads some PNM value by value and packed BMP run by run.
                    slow = image.format in ("BMP", "DIB", "PPM")
                    watched.allow(_SLOW_READS if slow else PIXEL_READS)
                    _check_image(image)
                    yield UprightPicture(image, watched)
    except GraphoptError as err:
        said = str(err)
        raise type(err)(
            said if said.startswith(str(path)) else f"{path}: {said}", *err.needs
        ) from err
    except outside.IrregularFile as err:
        raise DataError(f"{path}: cannot be read: {err.strerror}") from err
    except MemoryError:
        raise
    except pillow().DecompressionBombError as err:
        raise DataError(f"{path}: too many pixels, refused: {err}") from err
    except Exception as err:  # whatever a decoder makes of a damaged file
        if isinstance(err, pillow().UnidentifiedImageError):
            formats = ", ".join(_DECODERS)
            raise DataError(f"{path}: cannot be read as an image; {formats} are") from err
        raise DataError(f"{path}: cannot be read as an image: {err}") from err


def _check_bytes(file: BoundedReads) -> None:
    """Refuse what would be long or large to read before its pixels are known."""
    size = os.fstat(file.fileno()).st_size
    if size > _MOST_BYTES:
        raise DataError(f"its {size} bytes are too many for a picture; at most {_MOST_BYTES}")
    check_pnm_header(file, size)
    check_tiff_tables(file, MOST_PIXELS)


def _check_image(image: Image.Image) -> None:
    """Refuse what must not or cannot be decoded.

    Raises:
        DataError: Size, depth, colours or number of pixels.
    """
    width, height = image.size
    if min(width, height) < 1:
        raise DataError(f"cannot be read as an image: it has {width} x {height} pixels")
    if width * height > MOST_PIXELS:
        raise DataError(f"{width} x {height} pixels are too many; at most {MOST_PIXELS}")
    raw = str([tile[3] for tile in _tiles(image)])
    deep = _is_deep(image)
    if (not deep and image.mode not in _MODES) or "I;12" in raw or "I;16S" in raw:
        raise DataError(f"mode {image.mode}; convert it to 8 bits a channel, gray or RGB")
    if deep and ((image.mode == "RGB" and "transparency" in image.info) or _white_is_zero(image)):
        raise DataError("16 bits with a transparent colour or inverted; convert it to 8 bits")
    slow = any(tile[0] in ("ppm", "ppm_plain") for tile in _tiles(image))
    if slow and width * height * len(image.getbands()) > _MOST_SLOW_VALUES:
        raise DataError(f"{width} x {height} pixels are too many for this form of PNM; save as PNG")


def _tiles(image: Any) -> list[Any]:
    """What Pillow has read of the header: decoder, place, offset and form of the pixels."""
    return list(getattr(image, "tile", ()))


def _is_deep(image: Image.Image) -> bool:
    """Whether a channel has 16 bits, which Pillow reduces to 8 unsaid where there are several."""
    if image.format == "PPM":
        args = [tile[3] for tile in _tiles(image) if isinstance(tile[3], tuple)]
        return image.mode == "I" or any(each[-1] > 255 for each in args)
    if image.mode == "I":  # as older versions have it
        return image.format == "PNG"
    deep = any(";16" in str(tile[3]) for tile in _tiles(image))
    return image.mode.startswith("I;16") or (deep and image.format in ("PNG", "TIFF"))


def _white_is_zero(image: Image.Image) -> bool:
    tags: Any = getattr(image, "tag_v2", {})
    return bool(tags.get(262) == 0)


def _halved(image: Image.Image) -> Image.Image:
    """The upper byte of gray pixels of 16 bits, as libpng and Pillow halve those of colours."""
    if image.mode[0] != "I":
        return image
    values = np.asarray(image)
    gray = pillow().fromarray((values >> 8).astype(np.uint8))
    unseen = image.info.get("transparency")
    if isinstance(unseen, int):
        gray.putalpha(pillow().fromarray(np.where(values == unseen, 0, 255).astype(np.uint8)))
    return gray  # type: ignore[no-any-return]  # of Pillow, which is an extra


def _orientation(image: Image.Image) -> int:
    """The tag of EXIF that says which way is up, 1 to 8; 1 where it is missing or damaged."""
    base = pillow().Image
    try:  # the one of PNG files would decode the picture first
        value = base.getexif(image).get(_ORIENTATION, 1)
    except MemoryError:
        raise
    except Exception:  # damaged, and as good as missing
        return 1
    return value if isinstance(value, int) else 1
