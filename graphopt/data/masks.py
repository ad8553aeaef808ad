"""Folders of pictures with a mask for each: pictures whose pixels are numbers of classes."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from graphopt.data.columns import Column
from graphopt.data.images import Preprocessing, middle, resized_extent
from graphopt.data.pictures import opened_picture
from graphopt.errors import DataError
from graphopt.graph.tensors import Array
from graphopt.numerics.resized import resized

__all__ = ["Masks", "mask_pairs"]

_PICTURES = frozenset(("images", "image", "imgs", "img", "pictures", "jpegimages"))
_MASKS = frozenset(
    (
        *("masks", "mask", "labels", "label", "annotations", "annotation", "gt", "targets"),
        *("segmentation", "segmentations", "segmentationclass"),
    )
)
_ENDING = re.compile(r"[_.-](masks?|labels?|gt|seg|segmentation|annotation)$", re.IGNORECASE)


def mask_pairs(folder: Path, files: Sequence[str]) -> dict[str, str]:
    """The mask of each picture, where pictures and masks lie in folders side by side.

    ``images/a.jpg`` and ``masks/a.png`` belong together, ``masks/a_mask.png`` too; folders above
    and below (``val/images``, ``images/val``) must be the same.

    Args:
        folder: The folder.
        files: The pictures in it, of both kinds.

    Returns:
        By the picture; nothing where there are no masks, or files that are neither.

    Raises:
        DataError: A picture has no mask, or a mask no picture, or there are several.
    """
    pictures, masks = dict[tuple[str, ...], str](), dict[tuple[str, ...], str]()
    for path in files:
        *above, name = Path(path).relative_to(folder).parts
        kinds = [part.lower() for part in above]
        place = next((n for n, kind in enumerate(kinds) if kind in _PICTURES | _MASKS), None)
        if place is None:
            return {}
        is_mask = kinds[place] in _MASKS
        stem = Path(name).stem
        key = (*above[:place], *above[place + 1 :], _ENDING.sub("", stem) if is_mask else stem)
        found = masks if is_mask else pictures
        if key in found:
            raise DataError(f"{path}: of the same name as {found[key]}; one of them must go")
        found[key] = path
    if not pictures or not masks:
        return {}
    if alone := next(filter(None, (pictures.get(key) for key in pictures.keys() - masks)), None):
        raise DataError(f"{alone}: a picture without a mask of its name; give one for each or none")
    if alone := next(filter(None, (masks.get(key) for key in masks.keys() - pictures)), None):
        raise DataError(f"{alone}: a mask without a picture of its name; give one for each or none")
    return {path: masks[key] for key, path in pictures.items()}


@dataclass(frozen=True)
class Masks:
    """The masks of pictures as labels, resized and cut as the pictures are.

    Attributes:
        pairs: The mask of each picture.
        how: The preprocessing of the pictures, of which size and crop count.
        resized: Masks that were of another size than their pictures; filled as they are read.
    """

    pairs: Mapping[str, str]
    how: Preprocessing
    resized: set[str] = field(default_factory=set)

    def column(self, picture: str) -> Column:
        """The labels of a picture: ``(1, height, width)``, uint8 or uint16.

        Raises:
            DataError: One of the files cannot be read; when read, that it is no mask.
        """
        mask = Path(self.pairs[picture])
        with opened_picture(Path(picture)) as seen:
            before, (height, width) = seen.size, resized_extent(seen.size, self.how, Path(picture))
        with opened_picture(mask) as upright:
            if upright.size != before:
                self.resized.add(str(mask))
            dtype = np.dtype(upright.number_type)
        shape = (height, width) if self.how.crop is None else self.how.crop

        def blocks(_step: int) -> Iterator[Array]:
            with opened_picture(mask) as upright:
                values = resized(upright.numbers().astype(dtype), (height, width))
            if self.how.crop is not None:
                left, top, right, bottom = middle((width, height), self.how.crop, mask)
                values = values[top:bottom, left:right]
            yield values[None]

        return Column((1, *shape), dtype, blocks)

    def notes(self) -> list[str]:
        """What was done to how many of the masks that were read so far."""
        if not self.resized:
            return []
        return [
            f"{len(self.resized)} of {len(self.pairs)} masks were brought to the size of their "
            "pictures, nearest neighbour"
        ]
