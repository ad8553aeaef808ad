"""Weights stored as codes that pick centres from a codebook, in operators that any runtime folds.

What onnxruntime (1.32) and others compute once, when they load the model:

    codes -> Cast -> Gather(centres) -> Mul(scale) -> weight

Codes of 8 bits are stored as uint8, of 4 bits as uint4 where the opset has it. Others are packed in
bytes, which a table unpacks that all weights share: fields of 1, 2 or 4 bits side by side by
``Gather(table)`` and a Reshape; other widths as bit planes, whose bits are added up by a Mul by
powers of two and a ReduceSum.

A weight with many zeros is stored as a bit for each value and codes of the others alone: the bits
count up to the place of each code, and set to zero what has none:

    codes -> Gather(CumSum(bits)) -> Gather(centres) -> Mul(bits) -> Reshape -> Mul(scale) -> weight
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import ml_dtypes
import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import NodeProto, TensorProto

from graphopt.graph.graph import Constant, Scope
from graphopt.graph.tensors import Array
from graphopt.numerics.packing import BYTE, fields_table, held_codes, pack_fields, pack_planes

__all__ = [
    "SCALE_TOLERANCE",
    "Palette",
    "Shared",
    "StoredAs",
    "store_half",
    "store_palette",
    "stored_as",
    "stored_floats",
]

Shared = dict[tuple[int, str, str], str]
"""Names of constants that weights share, by scope, kind and values."""

_UINT4_OPSET = 21
_AXES_INPUT_OPSET = 13
_FIELDS = (1, 2, 4)

_TENSOR = 24
"""Bytes that a file needs for an initializer with a short name beside its values, and likewise:"""
_NODE = 27
_CAST = 36
SCALE_TOLERANCE = 2.0**-7
"""Share by which a scale may change when it is stored as a half float."""


@dataclass(frozen=True, eq=False)
class Palette:
    """A weight by its codes.

    Attributes:
        codes: From 0 to ``2^bits - 1``, in the shape of the weight; int8 without centres.
        bits: Of each, 1 to 8.
        centres: ``(2^bits,)``, float32; None where the codes are numbers themselves.
        scale: What the picked centres are multiplied by, float32, broadcast to the codes.
        mask: Which values are not zero, and have codes stored; None where all have.
    """

    codes: NDArray[Any]
    bits: int
    centres: NDArray[np.float32] | None
    scale: NDArray[np.float32]
    mask: NDArray[np.bool_] | None = None

    def values(self) -> NDArray[np.float32]:
        """The weight as a runtime computes it."""
        picked = np.float32(self.codes) if self.centres is None else self.centres[self.codes]
        if self.mask is not None:
            picked = picked * self.mask
        return np.asarray(picked * self.scale)


def stored_width(bits: int, count: int, opset: int) -> int:
    """Bits that a code takes: the least, from ``bits`` on, that fill whole bytes."""
    for width in range(bits, BYTE):
        if count % _together(width) == 0 or (width == 4 and opset >= _UINT4_OPSET):
            return width
    return BYTE


def _together(width: int) -> int:
    """Codes that fill bytes together."""
    return BYTE // width if width in _FIELDS else BYTE


@dataclass(frozen=True)
class StoredAs:
    """How a weight is stored, and about what it takes in a file with the nodes that expand it."""

    sparse: bool
    nbytes: int


def stored_as(bits: int | None, weight: NDArray[Any], scales: int, opset: int) -> StoredAs:
    """The smaller form of a weight: all codes, or bits and the codes of what is not zero.

    Args:
        bits: Of a code; None for integers of 8 bits without a codebook.
        weight: As floats.
        scales: How many it has.
        opset: Of the model.
    """
    if bits is None:
        return StoredAs(False, weight.size + _float_bytes(scales) + 2 * _NODE + 2 * _TENSOR)
    floats = _float_bytes(1 << bits) + _float_bytes(scales) + 3 * _NODE + _CAST + 3 * _TENSOR
    dense = _code_bytes(weight.size, stored_width(bits, weight.size, opset), opset)
    if weight.size % BYTE:
        return StoredAs(False, dense + floats)
    left = int(np.count_nonzero(weight))
    sparse = weight.size // BYTE + _code_bytes(left, bits, opset) + 6 * _NODE + 2 * _CAST
    return StoredAs(sparse < dense, min(sparse, dense) + floats)


def _code_bytes(count: int, width: int, opset: int) -> int:
    nodes = 0
    if width < BYTE and not (width == 4 and opset >= _UINT4_OPSET):
        nodes = (2 if width in _FIELDS else 4) * _NODE
    return count * width // BYTE + nodes


def _float_bytes(count: int) -> int:
    return min(4 * count, 2 * count + _CAST)


def stored_floats(values: NDArray[np.float32], tolerance: float = 2.0**-10) -> NDArray[np.float32]:
    """Floats as they are read again: rounded to half floats where these are stored.

    That is where it makes the file smaller, Cast included, and no value changes by more than a
    share of it, or by a 2^25th of the largest.

    Args:
        values: Of any shape.
        tolerance: The share; scales may have more of it, as codes are chosen for what is stored.
    """
    values = np.asarray(values, np.float32)
    with np.errstate(over="ignore"):
        half = values.astype(np.float16).astype(np.float32)
    error, size = np.abs(half - values), np.abs(values)
    held = (error <= size * tolerance + size.max(initial=0.0) * 2**-25).all()
    return half if held and 2 * values.size > _CAST else values


def store_palette(constant: Constant, palette: Palette, shared: Shared) -> None:
    """Put a palette in place of a constant; what computes the weight takes over its name.

    Args:
        constant: A weight of float32 in the main graph or a body, which no caller may replace.
        palette: Of its shape; scales and centres as ``stored_floats`` gives them.
        shared: What earlier calls for the same graph have added; it is added to.
    """
    home, name = constant.scope, constant.origin
    build = _Builder(home, home.first_reader(name), shared)
    if palette.centres is None:
        picked = build.node("Cast", [build.constant(palette.codes)], to=TensorProto.FLOAT)
    else:
        picked = build.picked(palette, palette.centres)
    factors = [picked, build.floats(palette.scale)]
    if constant.node is not None:
        home.remove([constant.node])
    else:
        home.drop_initializer(name)
    build.node("Mul", factors, output=name)


def store_half(constant: Constant) -> bool:
    """Store float32 as half floats behind a Cast, under the same name, where that is smaller.

    Returns:
        False, with nothing done, where it is not, half floats do not hold the values, or a caller
        may replace them.
    """
    values, home, name = constant.values, constant.scope, constant.origin
    if constant.data_type != TensorProto.FLOAT or constant.overridable or home.is_output(name):
        return False
    half = stored_floats(values)
    if half is values or constant.node is not None:
        return False
    build = _Builder(home, home.first_reader(name), {})
    home.drop_initializer(name)
    build.node("Cast", [build.constant(half.astype(np.float16))], output=name, to=TensorProto.FLOAT)
    return True


class _Builder:
    """Adds nodes with short names in front of the first reader of a weight."""

    def __init__(self, scope: Scope, before: NodeProto | None, shared: Shared) -> None:
        self.scope = scope
        self.before = before
        self.shared = shared

    def node(self, op_type: str, inputs: Iterable[str], *, output: str = "", **attrs: Any) -> str:
        """Add a node without a name of its own; the name of its output."""
        made = output or self.scope.graph.unique_name("p")
        node = onnx.helper.make_node(op_type, list(inputs), [made], **attrs)
        self.scope.add(node, before=self.before)
        return made

    def constant(self, values: Array) -> str:
        return self.scope.add_constant("p", values)

    def once(self, values: Array) -> str:
        """A constant that all weights of the scope share."""
        key = id(self.scope), repr(values.dtype), str(values.tolist())
        if key not in self.shared:
            self.shared[key] = self.constant(values)
        return self.shared[key]

    def floats(self, values: NDArray[np.float32]) -> str:
        """Store floats, as half floats behind a Cast where ``stored_floats`` says so."""
        half = stored_floats(values)
        if half is values or not np.array_equal(half, values):
            return self.constant(values)
        return self.node("Cast", [self.constant(half.astype(np.float16))], to=TensorProto.FLOAT)

    def integers(self, codes: Array) -> str:
        return self.node("Cast", [self.constant(codes)], to=TensorProto.INT32)

    def table(self, bits: int) -> str:
        """What each byte holds as fields, as int32."""
        key = id(self.scope), "table", str(bits)
        if key not in self.shared:
            self.shared[key] = self.integers(fields_table(bits))
        return self.shared[key]

    def picked(self, palette: Palette, centres: NDArray[np.float32]) -> str:
        """The centres that codes pick, in the shape of the weight."""
        shape = self.once(np.array(palette.codes.shape, np.int64))
        if palette.mask is None:
            width = stored_width(palette.bits, palette.codes.size, self.scope.graph.opset)
            codes = self.codes(palette.codes, width, shape)
            return self.node("Gather", [self.floats(centres), codes])
        flat = self.once(np.array([-1], np.int64))
        held = held_codes(palette.codes, palette.mask)
        stored = self.codes(held, palette.bits, flat)
        packed = self.integers(pack_fields(palette.mask, 1))
        bits = self.node("Reshape", [self.node("Gather", [self.table(1), packed]), flat])
        counted = self.node("CumSum", [bits, self.once(np.array(0, np.int64))], exclusive=1)
        indices = self.node("Gather", [stored, counted])
        values = self.node("Gather", [self.floats(centres), indices])
        masked = self.node("Mul", [values, self.node("Cast", [bits], to=TensorProto.FLOAT)])
        return self.node("Reshape", [masked, shape])

    def codes(self, codes: Array, width: int, shape: str) -> str:
        """Codes as indices, in the shape of that name or, where they are not packed, as given."""
        if width == BYTE:
            return self.integers(codes.astype(np.uint8))
        if width == 4 and self.scope.graph.opset >= _UINT4_OPSET:
            return self.integers(codes.astype(ml_dtypes.uint4))
        if width in _FIELDS:
            packed = self.integers(pack_fields(codes, width))
            unpacked = self.node("Gather", [self.table(width), packed])
        else:
            packed = self.integers(pack_planes(codes, width))
            planes = self.node("Gather", [self.table(1), packed])
            powers = self.once((1 << np.arange(width, dtype=np.int32)).reshape(-1, 1))
            unpacked = self._summed(self.node("Mul", [planes, powers]))
        return self.node("Reshape", [unpacked, shape])

    def _summed(self, planes: str) -> str:
        if self.scope.graph.opset < _AXES_INPUT_OPSET:
            return self.node("ReduceSum", [planes], axes=[1])
        return self.node("ReduceSum", [planes, self.once(np.array([1], np.int64))])
