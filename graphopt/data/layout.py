"""How the arrays of a part relate to samples: checked by shape, before anything is read.

For an input of rank r, in this order:

- an array of rank r: its leading axis counts samples (``rows``);
- an input of rank 0, and an input of fixed first axis beside inputs whose first axis is free or
  another one: an array of exactly its shape holds for all samples (``shared``);
- an array of rank r + 1: its leading axis counts feeds, each handed over whole (``whole``), for
  models without a batch axis;
- in a folder or from a function, an array of rank r - 1: one sample, without the batch axis.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from math import prod
from typing import Literal

from graphopt.data.columns import LABELS, Column, Part
from graphopt.data.conversion import convert
from graphopt.data.inputs import Input
from graphopt.data.samples import Feeds
from graphopt.errors import DataError
from graphopt.graph.tensors import Array
from graphopt.options import close_names, near_miss

__all__ = ["Table", "fit"]

Role = Literal["rows", "shared", "whole"]


@dataclass(frozen=True)
class Table:
    """A part whose arrays fit the model by name and shape.

    Attributes:
        place: Where it comes from.
        columns: By input name, each with its input and its role.
        count: Number of samples.
        rows_per_feed: Samples in each feed of those that cannot be joined.
        batch: Samples that each feed must have; None where the model leaves it free.
        labels: The labels of these samples, if there are any.
    """

    place: str
    columns: Mapping[str, tuple[Input, Column, Role]]
    count: int
    rows_per_feed: int
    batch: int | None
    labels: Column | None

    @cached_property
    def alone(self) -> bool:
        """Whether samples cannot be joined: some input has no axis that counts them."""
        roles = {role for _, _, role in self.columns.values()}
        return "whole" in roles or "rows" not in roles

    @cached_property
    def row_bytes(self) -> int:
        """Bytes of one row of all that is not shared, as it lies or as the model takes it."""
        return self._bytes_per(lambda c: prod(c.shape[1:]), {"rows", "whole"})

    @cached_property
    def shared_bytes(self) -> int:
        """Bytes of what holds for all samples."""
        return self._bytes_per(lambda c: prod(c.shape), {"shared"})

    @property
    def nbytes(self) -> int:
        """Bytes of all its arrays as they lie."""
        return sum(column.nbytes for _, column, _ in self.columns.values())

    def _bytes_per(self, elements: Callable[[Column], int], roles: Collection[Role]) -> int:
        return sum(
            elements(column) * max(column.dtype.itemsize, wanted.dtype.itemsize)
            for wanted, column, role in self.columns.values()
            if role in roles
        )

    def feeds_alone(self) -> Iterator[Feeds]:
        """One feed for each leading index, or the only feed where all is shared.

        Raises:
            DataError: A value or its dtype does not fit the input.
        """
        shared = self.shared()
        if len(shared) == len(self.columns):
            yield shared
            return
        for block in self.blocks(1):
            feeds = {n: v[0, ...] if self.columns[n][2] == "whole" else v for n, v in block.items()}
            yield {**feeds, **shared}

    def shared(self) -> Feeds:
        """What holds for all samples.

        Raises:
            DataError: A value or its dtype does not fit the input.
        """
        return {
            name: convert(column.whole(), wanted, self.place, 0)
            for name, (wanted, column, role) in self.columns.items()
            if role == "shared"
        }

    def blocks(self, step: int) -> Iterator[Feeds]:
        """Successive blocks of up to ``step`` rows of everything that is not shared.

        Raises:
            DataError: A value or its dtype does not fit the input.
        """
        moving = [item for item in self.columns.values() if item[2] != "shared"]
        streams = [column.blocks(step) for _, column, _ in moving]
        first = 0
        for arrays in zip(*streams, strict=True):
            yield {
                wanted.name: convert(values, wanted, self.place, first)
                for (wanted, _, _), values in zip(moving, arrays, strict=True)
            }
            first += step


def fit(part: Part, inputs: Sequence[Input], *, single: bool) -> Table:
    """Check the names and shapes of a part against the model.

    Args:
        part: The arrays.
        inputs: The model's inputs.
        single: Whether an array may be one sample without the batch axis.

    Raises:
        DataError: An input is missing, a name is unknown, a shape does not fit, the numbers of
            rows differ, or there is no sample.
    """
    known = {each.name: each for each in inputs}
    labels = part.columns.get(LABELS) if LABELS not in known else None
    _check_names(part, inputs, known)
    columns: dict[str, tuple[Input, Column, Role]] = {}
    for name, column in part.columns.items():
        if name in known:
            columns[name] = _role(known[name], column, inputs, part.place, single)
    count, rows = _count(columns, part.place), _rows_per_feed(columns)
    batch = _batch(columns, part.place)
    return Table(part.place, columns, count * rows, rows, batch, labels)


def _check_names(part: Part, inputs: Sequence[Input], known: Mapping[str, Input]) -> None:
    for name in part.columns:
        if name not in known and name != LABELS:
            raise DataError(f"{part.place}: {name!r} is no input of the model{_hint(name, inputs)}")
    missing = [each for each in inputs if each.required and each.name not in part.columns]
    if missing:
        raise DataError(f"{part.place}: no array {missing[0].name!r} ({missing[0]})")


def _hint(name: str, inputs: Sequence[Input]) -> str:
    """The nearest input name or, where none is near, those that must be fed."""
    names = [each.name for each in inputs]
    if close_names(name, names):
        return near_miss(name, names)
    required = [repr(each.name) for each in inputs if each.required]
    return f"; it takes {', '.join(required) or 'nothing'}"


def _role(
    wanted: Input, column: Column, inputs: Sequence[Input], place: str, single: bool
) -> tuple[Input, Column, Role]:
    shape = column.shape
    if wanted.shape is None:
        return wanted, column, "rows" if shape else "shared"
    rank = len(wanted.shape)
    if len(shape) == rank and rank:
        role: Role = "shared" if _stands_alone(wanted, shape, inputs) else "rows"
        axes = shape[1:] if role == "rows" else shape
    elif len(shape) == rank:
        role, axes = "shared", shape
    elif len(shape) == rank + 1:
        role, axes = "whole", shape[1:]
    elif single and len(shape) == rank - 1:
        role, axes = "rows", shape
        column = _with_batch_axis(column)
    else:
        raise _wrong_shape(wanted, shape, place)
    declared = wanted.shape[rank - len(axes) :]
    if any(isinstance(d, int) and d != size for d, size in zip(declared, axes, strict=True)):
        raise _wrong_shape(wanted, shape, place)
    return wanted, column, role


def _stands_alone(wanted: Input, shape: tuple[int, ...], inputs: Sequence[Input]) -> bool:
    """Whether a fixed first axis is no batch axis, seen from the other inputs."""
    if wanted.batch is None or shape[0] != wanted.batch:
        return False
    batches = [each.batch for each in inputs if each.required and each.shape]
    return None in batches or (bool(batches) and batches[0] != wanted.batch)


def _with_batch_axis(column: Column) -> Column:
    def blocks(_step: int) -> Iterator[Array]:
        yield column.whole()[None]

    return Column((1, *column.shape), column.dtype, blocks)


def _wrong_shape(wanted: Input, shape: tuple[int, ...], place: str) -> DataError:
    return DataError(
        f"{place}: {wanted.name!r} has shape {list(shape)} where the model takes {wanted}, "
        "the leading axis counting samples"
    )


def _count(columns: Mapping[str, tuple[Input, Column, Role]], place: str) -> int:
    lengths = {n: c.shape[0] for n, (_, c, role) in columns.items() if role != "shared"}
    if len(set(lengths.values())) > 1:
        listed = ", ".join(f"{name!r} {length}" for name, length in lengths.items())
        raise DataError(f"{place}: different numbers of samples: {listed}")
    count = next(iter(lengths.values()), 1)
    if count == 0:
        raise DataError(f"{place}: empty, there is no sample in it")
    return count


def _rows_per_feed(columns: Mapping[str, tuple[Input, Column, Role]]) -> int:
    """Rows that all inputs of a whole feed agree on; 1 where they do not, or are joined."""
    lengths = {
        c.shape[1] if role == "whole" and len(c.shape) > 1 else 1
        for _, c, role in columns.values()
        if role != "shared"
    }
    return max(1, lengths.pop()) if len(lengths) == 1 else 1


def _batch(columns: Mapping[str, tuple[Input, Column, Role]], place: str) -> int | None:
    fixed = {w.name: w.batch for w, _, role in columns.values() if role == "rows" and w.batch}
    if len(set(fixed.values())) > 1:
        listed = ", ".join(f"{name!r} {batch}" for name, batch in fixed.items())
        raise DataError(f"{place}: the model fixes different batches: {listed}")
    batch = next(iter(fixed.values()), None)
    whole = [name for name, (_, _, role) in columns.items() if role == "whole"]
    if whole and batch not in (None, 1):
        raise DataError(
            f"{place}: {whole[0]!r} is given per sample, but batches of {batch} are fixed"
        )
    return batch
