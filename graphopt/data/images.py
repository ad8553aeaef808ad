"""Folders of images with the preprocessing that the model was trained with."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Literal

import numpy as np

from graphopt.data.columns import LABELS, Column, Part
from graphopt.data.inputs import Input
from graphopt.data.pictures import (
    MOST_PIXELS,
    PictureNote,
    UprightPicture,
    opened_picture,
    pillow,
)
from graphopt.errors import DataError, Need, UsageError, quoted
from graphopt.graph.tensors import Array
from graphopt.options import near_miss

__all__ = [
    "ImageParts",
    "Preprocessing",
    "image_files",
    "image_parts",
    "middle",
    "parse_preprocessing",
    "resized_extent",
]

_SUFFIXES = (
    *(".bmp", ".dib", ".jfif", ".jpe", ".jpeg", ".jpg", ".apng", ".png", ".tif", ".tiff", ".webp"),
    *(".pbm", ".pgm", ".pnm", ".ppm"),
    *(".avif", ".gif", ".heic", ".heif", ".jp2"),  # refused aloud rather than passed over
)
_LEAST, _MOST = 1e-18, 1e18  # of scale, mean and std: their products and quotients are float32 too


@dataclass(frozen=True)
class Preprocessing:
    """From a picture to an array: ``(pixels * scale - mean) / std`` in the model's layout.

    Attributes:
        size: Shorter side in pixels, or height and width; None leaves the size.
        crop: Height and width cut out of the middle after that; None leaves all.
        scale: Factor on the pixels, which are 0 to 255.
        mean: Subtracted; one value or one a channel, in the order that ``color`` names.
        std: Divisor; the same.
        layout: Order of the axes; None takes it from the model.
        color: Channels and their order; None takes ``L`` for a model of one channel, else ``RGB``.
    """

    size: int | tuple[int, int] | None = None
    crop: tuple[int, int] | None = None
    scale: float = 1.0
    mean: tuple[float, ...] = (0.0,)
    std: tuple[float, ...] = (1.0,)
    layout: Literal["NCHW", "NHWC"] | None = None
    color: Literal["RGB", "BGR", "L"] | None = None

    @property
    def keeps_pixels(self) -> bool:
        """Whether the numbers stay the integers 0 to 255."""
        return (self.scale, set(self.mean), set(self.std)) == (1.0, {0.0}, {1.0})


def parse_preprocessing(values: Mapping[str, Any]) -> Preprocessing:
    """The preprocessing that a recipe or options describe.

    Raises:
        UsageError: An unknown name, or a value out of its range.
    """
    names = [each.name for each in fields(Preprocessing)]
    parsed: dict[str, Any] = {}
    for name, value in values.items():
        if name not in names:
            raise UsageError(f"images: unknown {quoted(name)}{near_miss(name, names)}")
        if name in ("size", "crop"):
            parsed[name] = _extent(name, value)
        elif name in ("layout", "color"):
            parsed[name] = _choice(name, value)
        else:
            numbers = _numbers(name, value)
            parsed[name] = numbers[0] if name == "scale" else numbers
    return Preprocessing(**parsed)


def _extent(name: str, value: Any) -> int | tuple[int, int]:
    sides = list(value) if isinstance(value, list | tuple) else [value]
    whole = all(isinstance(side, int) and not isinstance(side, bool) for side in sides)
    if not whole or len(sides) not in (1, 2) or not all(0 < side <= 1 << 14 for side in sides):
        raise UsageError(
            f"images: {name} = {quoted(value)} must be 1 to 16384 pixels, or height and width"
        )
    if len(sides) == 2:
        return sides[0], sides[1]
    return sides[0] if name == "size" else (sides[0], sides[0])


def _choice(name: str, value: Any) -> str:
    allowed = {"layout": ("NCHW", "NHWC"), "color": ("RGB", "BGR", "L")}[name]
    if value not in allowed:
        raise UsageError(f"images: {name} = {quoted(value)} must be one of {', '.join(allowed)}")
    return str(value)


def _numbers(name: str, value: Any) -> tuple[float, ...]:
    given = list(value) if isinstance(value, list | tuple) and name != "scale" else [value]
    if len(given) not in (1, 3) or not all(map(_is_number, given)):
        raise UsageError(
            f"images: {name} = {quoted(value)} must be a number, or one for each channel"
        )
    numbers = tuple(float(one) for one in given)
    if name != "mean" and any(abs(one) < _LEAST for one in numbers):
        raise UsageError(f"images: {name} must not be zero, nor nearly so")
    return numbers


def _is_number(value: Any) -> bool:
    """Whether it is a number that the arithmetic, which is float32, can hold."""
    numeric = isinstance(value, int | float) and not isinstance(value, bool)
    return numeric and abs(value) <= _MOST


def image_files(files: Sequence[str]) -> list[str]:
    """Those whose names end like those of pictures."""
    return [path for path in files if path.lower().endswith(_SUFFIXES)]


@dataclass(frozen=True)
class ImageParts:
    """One part, of one sample, a picture; called, it gives them from the first.

    Attributes:
        files: The pictures.
        wanted: The input that takes them.
        how: The preprocessing, complete.
        labels: Gives the labels of a picture; None without any.
        noted: Numbers of the pictures of which something is to be told; filled as they are read.

    Raises:
        DataError: When iterated: a picture cannot be read or is too large.
    """

    files: Sequence[str]
    wanted: Input
    how: Preprocessing
    labels: Callable[[str], Column] | None = None
    noted: dict[PictureNote, set[int]] = field(default_factory=lambda: defaultdict(set))

    def __call__(self) -> Iterator[Part]:
        """The parts in the order of the files."""
        for number, path in enumerate(self.files):
            column = _column(Path(path), self.how, self.wanted, self._noting(number))
            beside = {} if self.labels is None else {LABELS: self.labels(path)}
            yield Part(path, {**beside, self.wanted.name: column})

    def notes(self) -> list[str]:
        """What was done to how many of the pictures that were read so far."""
        total = len(self.files)
        return [
            f"{len(self.noted[note])} of {total} pictures {note}"
            for note in PictureNote
            if self.noted.get(note)
        ]

    def _noting(self, number: int) -> Callable[[UprightPicture], None]:
        def enter(picture: UprightPicture) -> None:
            for note in picture.notes:
                self.noted[note].add(number)

        return enter


def image_parts(
    files: Sequence[str],
    inputs: Sequence[Input],
    how: Preprocessing,
    labels: Callable[[str], Column] | None = None,
) -> ImageParts:
    """The parts of a folder of pictures; ``labels`` gives those of one.

    Raises:
        DataError: The model has several inputs or none of rank 4.
        UsageError: ``mean`` or ``std`` do not fit the channels.
        SystemFailure: Pillow is not installed.
    """
    pillow()
    required = [each for each in inputs if each.required]
    if len(required) != 1 or (required[0].shape is not None and len(required[0].shape) != 4):
        listed = ", ".join(f"{each.name!r} {each}" for each in required)
        raise DataError(f"images fit a model of one input with four axes; this one takes {listed}")
    wanted, how = required[0], _completed(how, required[0])
    channels = 1 if how.color == "L" else 3
    for name, numbers in (("mean", how.mean), ("std", how.std)):
        if len(numbers) not in (1, channels):
            raise UsageError(f"images: {name} has {len(numbers)} values for {channels} channel(s)")
    return ImageParts(files, wanted, how, labels)


def _completed(how: Preprocessing, wanted: Input) -> Preprocessing:
    """Layout and colour filled in from the shape that the model declares."""
    _, first, _, last = wanted.shape or (None, None, None, None)
    layout = how.layout or ("NHWC" if last in (1, 3) and first not in (1, 3) else "NCHW")
    channels = first if layout == "NCHW" else last
    color = how.color or ("L" if channels == 1 else "RGB")
    return Preprocessing(how.size, how.crop, how.scale, how.mean, how.std, layout, color)


def _column(
    path: Path, how: Preprocessing, wanted: Input, enter: Callable[[UprightPicture], None]
) -> Column:
    with opened_picture(path) as picture:
        enter(picture)
        height, width = resized_extent(picture.size, how, path)
        if how.crop is not None:
            middle((width, height), how.crop, path)
            height, width = how.crop
    channels = 1 if how.color == "L" else 3
    shape = (1, channels, height, width) if how.layout == "NCHW" else (1, height, width, channels)
    fixed = zip(wanted.shape or (), shape, strict=False)
    if any(isinstance(d, int) and d != s for d, s in list(fixed)[1:]):
        raise DataError(
            f"{path}: gives {list(shape)} where {wanted.name!r} is {wanted}; "
            "set size and crop, layout and color to fit",
            Need.IMAGE_SIZE,
        )
    dtype = np.uint8 if how.keeps_pixels and wanted.dtype.kind in "iu" else np.float32

    def blocks(_step: int) -> Iterator[Array]:
        yield _pixels(path, how, enter).astype(dtype).reshape(shape)

    return Column(shape, np.dtype(dtype), blocks)


def resized_extent(size: tuple[int, int], how: Preprocessing, path: Path) -> tuple[int, int]:
    """Height and width after resizing, from width and height before.

    Raises:
        DataError: They become too many pixels.
    """
    width, height = size
    if isinstance(how.size, int):
        factor = how.size / min(width, height)
        height, width = max(how.size, int(height * factor)), max(how.size, int(width * factor))
        if width * height > MOST_PIXELS:
            raise DataError(f"{path}: {size[0]} x {size[1]} pixels become too many when resized")
    elif how.size is not None:
        height, width = how.size
    return height, width


def _pixels(path: Path, how: Preprocessing, enter: Callable[[UprightPicture], None]) -> Array:
    """The prepared picture, float32 ``(channels, height, width)`` or with channels last."""
    with opened_picture(path) as upright:
        height, width = resized_extent(upright.size, how, path)
        picture = upright.decoded("L" if how.color == "L" else "RGB")
        enter(upright)
        if (width, height) != picture.size:
            picture = picture.resize((width, height), pillow().Resampling.BILINEAR)
    if how.crop is not None:
        picture = picture.crop(middle(picture.size, how.crop, path))
    values = np.atleast_3d(np.asarray(picture, dtype=np.float32))
    if how.color == "BGR":
        values = values[:, :, ::-1]
    if not how.keeps_pixels:
        mean, std = (np.asarray(numbers, dtype=np.float32) for numbers in (how.mean, how.std))
        values = (values * np.float32(how.scale) - mean) / std
    return values.transpose(2, 0, 1) if how.layout == "NCHW" else values


def middle(size: tuple[int, int], crop: tuple[int, int], path: Path) -> tuple[int, int, int, int]:
    """The crop out of the middle: left, top, right and bottom, from width and height.

    Raises:
        DataError: There are fewer pixels.
    """
    (width, height), (rows, columns) = size, crop
    if rows > height or columns > width:
        raise DataError(
            f"{path}: {height} x {width} pixels are fewer than the crop of {rows} x {columns}; "
            "set size to at least that",
            Need.IMAGE_SIZE,
        )
    top, left = round((height - rows) / 2), round((width - columns) / 2)
    return left, top, left + columns, top + rows
