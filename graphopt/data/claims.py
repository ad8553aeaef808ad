"""What tables claim by their shapes, held against the bounds before anything is read."""

from __future__ import annotations

from dataclasses import dataclass

from graphopt.data.bounds import (
    BLOCK_BYTES,
    MOST_CLAIMED_BYTES,
    MOST_EMPTY,
    MOST_LABEL_BYTES,
    MOST_SAMPLES,
    bytes_in_words,
    check_density,
    feed_too_large,
)
from graphopt.data.layout import Table
from graphopt.errors import DataError

__all__ = ["Claims", "check_feed", "rows_per_block", "rows_per_feed"]


@dataclass
class Claims:
    """What all parts of a source claim so far.

    Attributes:
        place: The source as messages say it.
        samples: Their number.
        nbytes: Bytes of all arrays.
        fed: Bytes of all feeds, one at a time or by the model's fixed batch.
        filed: Bytes of those that lie in files.
        stored: Bytes that these files take on the disk.
        label_bytes: Bytes of all labels.
    """

    place: str
    samples: int = 0
    nbytes: int = 0
    fed: int = 0
    filed: int = 0
    stored: int = 0
    label_bytes: int = 0

    def add(self, table: Table, stored: int | None) -> None:
        """Count one part more.

        Args:
            table: The part.
            stored: Bytes of its file on the disk; None without one.

        Raises:
            DataError: It is too much.
        """
        self.samples += table.count
        if self.samples > MOST_SAMPLES:
            raise DataError(f"{self.place}: more than {MOST_SAMPLES:,} samples; give fewer")
        if self.samples > MOST_EMPTY and table.row_bytes == 0:
            raise DataError(f"{table.place}: more than {MOST_EMPTY:,} samples without any element")
        self.nbytes += table.nbytes
        if self.nbytes > MOST_CLAIMED_BYTES:
            most = bytes_in_words(MOST_CLAIMED_BYTES)
            raise DataError(f"{self.place}: more than {most} of samples; give fewer")
        rows = table.count // table.rows_per_feed
        self.fed += rows * table.row_bytes + -(-rows // (table.batch or 1)) * table.shared_bytes
        if stored is not None:
            self.filed, self.stored = self.filed + table.nbytes, self.stored + stored
            check_density(self.filed, self.stored, self.place)
        if table.labels is not None:
            self.add_labels(table.labels.nbytes, table.labels.shape)

    def add_labels(self, nbytes: int, shape: tuple[int, ...]) -> None:
        """Count labels.

        Raises:
            DataError: They are too large.
        """
        self.label_bytes += nbytes
        if self.label_bytes > MOST_LABEL_BYTES:
            raise DataError(
                f"{self.place}: labels of shape {list(shape)} are too large; all together may take "
                f"{bytes_in_words(MOST_LABEL_BYTES)}"
            )


def check_feed(table: Table, most: int) -> None:
    """Refuse a table whose smallest feed takes more than ``most`` bytes.

    Raises:
        DataError: It is that.
    """
    samples = table.batch or 1
    needed = table.shared_bytes + samples * max(1, table.row_bytes)
    if needed > most:
        what = f"a feed of {samples} samples" if samples > 1 else "one sample"
        raise feed_too_large(needed, most, table.place, what)


def rows_per_feed(table: Table, wanted: int, most: int) -> int:
    """How many rows may be joined where ``wanted`` are asked for and the batch is free."""
    return max(1, min(wanted, (most - table.shared_bytes) // max(1, table.row_bytes)))


def rows_per_block(table: Table) -> int:
    """How many rows are looked at together."""
    return max(1, BLOCK_BYTES // max(1, table.row_bytes))
