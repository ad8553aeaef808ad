"""How much samples may claim; a header is held against that before anything behind it is read.

The bounds are far above what people feed to a model. They are there because a few bytes, or a
function of two lines, can claim any amount.
"""

from __future__ import annotations

import math

from graphopt.errors import DataError, Need

__all__ = [
    "BLOCK_BYTES",
    "MOST_ARRAYS",
    "MOST_CLAIMED_BYTES",
    "MOST_EMPTY",
    "MOST_FEEDS",
    "MOST_FILES",
    "MOST_LABEL_BYTES",
    "MOST_SAMPLES",
    "MOST_TEXT_BYTES",
    "bytes_in_words",
    "check_claim",
    "check_density",
    "feed_bound",
    "feed_too_large",
]

MOST_SAMPLES = 10_000_000
"""ImageNet has 1.3 million; whoever has more chooses some."""
MOST_EMPTY = 1_000
"""Samples without any element: they take no room, so that nothing else bounds their number."""
MOST_FEEDS = 100_000
"""Feeds of a function; one that has more samples joins some in a feed."""
MOST_FILES = 2_000_000
"""Files and folders in a folder; their names alone take some 200 MB."""
MOST_ARRAYS = 10_000
"""Arrays that belong together: a model has an input for each."""
MOST_LABEL_BYTES = 256 * 10**6
"""Labels are held in memory, all of them."""
MOST_TEXT_BYTES = 10**9
"""Texts are held in memory, each with the room of the longest."""
BLOCK_BYTES = 1 << 20
"""Rows are checked in blocks of about that, which stay in the processor's cache."""

MOST_CLAIMED_BYTES = 10**12
"""Larger than the data sets of language models; reading it takes hours."""
_DENSE_BYTES = 256 * 10**6
_DENSE = 200
"""A compressed array of one repeated value takes a thousandth of what it claims."""
_FEED_BYTES = 256 * 10**6
"""Without a memory limit: a volume of 400 x 400 x 400 float32."""
_LEAST_FEED_BYTES = 10**6
_FEED_SHARE = 4
"""A feed, its conversion and the first results of the model lie in memory together."""


def feed_bound(memory_limit: int | None) -> int:
    """Most bytes of one feed: a quarter of the memory limit, 256 MB without one, at least 1 MB."""
    if memory_limit is None:
        return _FEED_BYTES
    return max(_LEAST_FEED_BYTES, memory_limit // _FEED_SHARE)


def check_claim(shape: tuple[int, ...], itemsize: int, place: str) -> None:
    """Refuse an array of immense size, or with an axis of that size though it has no element.

    Raises:
        DataError: It is that.
    """
    if math.prod(max(size, 1) for size in shape) * itemsize > MOST_CLAIMED_BYTES:
        raise DataError(
            f"{place} claims the shape {_short(shape)}; more than "
            f"{bytes_in_words(MOST_CLAIMED_BYTES)} are refused"
        )


def check_density(claimed: int, stored: int, place: str) -> None:
    """Refuse files that claim far more than lies on the disk: holes, or one value repeated.

    Args:
        claimed: Bytes of the arrays.
        stored: Bytes that their files take on the disk.
        place: Where they are from.

    Raises:
        DataError: They are that.
    """
    if claimed > max(_DENSE_BYTES, _DENSE * stored):
        raise DataError(
            f"{place}: claims {bytes_in_words(claimed)} with {bytes_in_words(stored)} on the disk; "
            "such data hold nearly nothing but zeros; give fewer samples"
        )


def feed_too_large(needed: int, most: int, place: str, what: str) -> DataError:
    """The refusal of a feed that takes more than ``feed_bound`` allows."""
    return DataError(
        f"{place}: {what} takes {bytes_in_words(needed)}, where {bytes_in_words(most)} are allowed "
        f"(1/{_FEED_SHARE} of the memory limit, {bytes_in_words(_FEED_BYTES)} without one)",
        Need.MEMORY_LIMIT,
    )


def bytes_in_words(count: int) -> str:
    """Bytes as people read them: ``256 MB``, ``8.39 GB``."""
    for unit, name in ((10**12, "TB"), (10**9, "GB"), (10**6, "MB"), (10**3, "kB")):
        if count >= unit:
            return (
                f"{count // unit} {name}" if count >= 1000 * unit else f"{count / unit:.3g} {name}"
            )
    return f"{count} bytes"


def _short(shape: tuple[int, ...]) -> str:
    """A shape in words that fit a line: numbers of any length may stand in a header."""
    text = ", ".join(
        f"{size:.3g}" if size > MOST_CLAIMED_BYTES else str(size) for size in shape[:8]
    )
    return f"[{text}{', ...' if len(shape) > 8 else ''}]"
