"""Numbers that a user gives for sizes that a file leaves open, held against the inputs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from onnx import ValueInfoProto

from graphopt.errors import ModelError, UsageError, quoted
from graphopt.facts.shapes import Dim
from graphopt.graph.graph import Graph
from graphopt.options import near_miss

__all__ = ["GivenSizes", "Shape", "declared_shape", "parse_sizes"]

Shape = tuple[Dim, ...]
_LARGEST = 2**31 - 1


@dataclass(frozen=True)
class GivenSizes:
    """Numbers for sizes that a file leaves open.

    Attributes:
        batch: The first axis of each input that has others besides, and what is called like it.
        named: Sizes by the name of the axis.
        shapes: Whole shapes by the name of the input.
    """

    batch: int | None = None
    named: Mapping[str, int] = field(default_factory=dict)
    shapes: Mapping[str, tuple[int, ...]] = field(default_factory=dict)

    def inputs(self, graph: Graph) -> dict[str, Shape]:
        """The shapes that inputs get, by name: of those alone that change.

        Raises:
            ModelError: A size is another one in the model, there is no such axis or input, or one
                name would stand for two sizes.
        """
        before = {value.name: declared_shape(value) for value in graph.required_inputs}
        sizes = self._sizes(before)
        shapes = {name: self._shape(name, shape, sizes) for name, shape in before.items()}
        return {
            name: shape
            for name, shape in shapes.items()
            if shape is not None and shape != before[name]
        }

    def _sizes(self, inputs: Mapping[str, Shape | None]) -> dict[str, int]:
        """Numbers by the names of axes, those that follow from whole shapes and batch as well."""
        names = {dim for shape in inputs.values() for dim in shape or () if isinstance(dim, str)}
        for name in self.named:
            if name not in names:
                miss = near_miss(name, names) or "; all sizes are numbers or have no name"
                raise ModelError(f"no axis of an input is called {quoted(name)}{miss}")
        sizes = dict(self.named)
        for name, whole in self.shapes.items():
            if name not in inputs:
                raise ModelError(f"there is no input {quoted(name)}{near_miss(name, inputs)}")
            for dim, size in zip(inputs[name] or (), whole, strict=False):
                _set(sizes, dim, size)
        for name, shape in inputs.items():
            first = shape[0] if shape and self._batched(shape) else None
            if first is None or name in self.shapes or first in self.named:
                continue
            if isinstance(first, int) and first != self.batch:
                raise ModelError(f"input {name!r} has a fixed batch of {first}, not {self.batch}")
            _set(sizes, first, self.batch or 1)
        return sizes

    def _batched(self, shape: Shape) -> bool:
        """Whether the first axis of an input is to be the batch; a lone axis may be anything."""
        return self.batch is not None and len(shape) > 1

    def _shape(self, name: str, shape: Shape | None, sizes: Mapping[str, int]) -> Shape | None:
        """The shape that an input gets; None where it has none and gets none."""
        given = self.shapes.get(name)
        if given is not None:
            if shape is not None and not _fits(shape, given):
                told = f"input {name!r} is {_words(shape)}, not {_words(given)}"
                raise ModelError(told)
            return given
        if shape is None:
            return None
        sized = [sizes.get(dim, dim) if isinstance(dim, str) else dim for dim in shape]
        if self._batched(shape) and sized[0] is None:
            sized[0] = self.batch
        return tuple(sized)


def _set(sizes: dict[str, int], dim: Dim, size: int) -> None:
    if isinstance(dim, str) and sizes.setdefault(dim, size) != size:
        raise ModelError(f"the axis {quoted(dim)} would be both {sizes[dim]} and {size}")


def _fits(shape: Shape, given: Sequence[int]) -> bool:
    pairs = zip(shape, given, strict=False)
    return len(shape) == len(given) and all(not isinstance(a, int) or a == b for a, b in pairs)


def _words(shape: Shape | Sequence[int]) -> str:
    return f"[{', '.join('?' if dim is None else str(dim) for dim in shape)}]"


def declared_shape(value: ValueInfoProto) -> Shape | None:
    """A shape as the file has it, a size that it leaves open as its name; None without one."""
    tensor = value.type.tensor_type
    if not tensor.HasField("shape"):
        return None
    return tuple(  # exporters write 0 and -1 for a free axis
        int(dim.dim_value) if dim.dim_value > 0 else dim.dim_param or None
        for dim in tensor.shape.dim
    )


def parse_sizes(
    batch: int | None, named: Sequence[str], shapes: Sequence[str], *, place: str
) -> GivenSizes:
    """Sizes from text.

    Args:
        batch: The batch.
        named: ``name:number`` each.
        shapes: ``input:2x3x4`` each.
        place: What the text belongs to, for messages.

    Raises:
        UsageError: Text is of another form, or a name comes twice.
    """
    sizes = {name: size for name, (size,) in _parsed(named, f"{place}: sizes", "height:224")}
    whole = dict(_parsed(shapes, f"{place}: shapes", "x:1x3x224x224"))
    for texts, given in ((named, sizes), (shapes, whole)):
        if len(given) != len(texts):
            raise UsageError(f"{place}: a name is given twice in {', '.join(map(quoted, texts))}")
    return GivenSizes(batch, sizes, whole)


def _parsed(
    texts: Sequence[str], place: str, example: str
) -> Iterator[tuple[str, tuple[int, ...]]]:
    for text in texts:
        name, colon, numbers = text.rpartition(":")
        parts = numbers.split("x") if "x" in example.rpartition(":")[2] else [numbers]
        valid = all(part.isascii() and part.isdigit() and len(part) < 19 for part in parts)
        sizes = tuple(map(int, parts)) if valid else ()
        if not (name and colon and sizes and all(0 < size <= _LARGEST for size in sizes)):
            raise UsageError(f"{place}={quoted(text)} must be of the form {example}")
        yield name, sizes
