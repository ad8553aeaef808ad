"""Weights as codes in blocks: the operators that make floats of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from onnx import NodeProto, TensorProto

from graphopt.facts.operators import CONTRIB
from graphopt.facts.shapes import Shapes
from graphopt.graph.graph import Scope, Use
from graphopt.graph.node import is_op
from graphopt.graph.tensors import Array
from graphopt.numerics.block_grids import BlockGrid, half_holds
from graphopt.numerics.grids import CodeType
from graphopt.numerics.packing import pack_rows
from graphopt.rewrite import edit, qdq
from graphopt.rewrite.contrib import declare_type, import_contrib
from graphopt.rewrite.values import drop_unread

__all__ = ["BlockCodes"]

_ROUNDED_TO_INT8 = 4
"""Accuracy level of MatMulNBits: what it reads is rounded to int8, block by block."""


@dataclass(frozen=True, eq=False)
class BlockCodes:
    """Codes and scales that take the place of a float constant.

    Attributes:
        home: Where the constant is.
        name: What it is called.
        grid: Its codes, in its shape.
        kind: Of the codes.
        half: Scales are stored as float16.
    """

    home: Scope
    name: str
    grid: BlockGrid
    kind: CodeType
    half: bool

    @property
    def axis(self) -> int | None:
        """The axis along which there is more than one block of more than one element, if any."""
        sizes = zip(self.grid.block, self.grid.scale.shape, strict=True)
        along = [at for at, (many, count) in enumerate(sizes) if many > 1 and count > 1]
        assert len(along) < 2
        return along[0] if along else None

    @property
    def halved(self) -> bool:
        """Whether the scales are stored as float16."""
        return self.half and half_holds(self.grid.scale)

    def expand(self, uses: Sequence[Use]) -> None:
        """Let readers see ``(Cast(codes) - zero point) * scale``, which is folded at load.

        Scales of blocks are repeated by Expand, Reshape and, where the last block is shorter, a
        Slice. onnxruntime computes all of that once, at every level but none (1.32).
        """
        home, before = self.home, self.home.first_reader(self.name)
        codes = self._codes()
        floats = qdq.add_node(
            home, "Cast", [codes], f"{self.name}_cast", before=before, to=TensorProto.FLOAT
        )
        if self.grid.zero_point.any():
            zeros = self.grid.zero_point.astype(self.kind.dtype)
            zero = self._spread(zeros, f"{self.name}_zero_point", before)
            output = f"{self.name}_centred"
            floats = qdq.add_node(home, "Sub", [floats, zero], output, before=before)
        scale = self._spread(self._scales(), f"{self.name}_scale", before)
        output = f"{self.name}_dequantized"
        floats = qdq.add_node(home, "Mul", [floats, scale], output, before=before)
        edit.redirect(uses, floats)
        drop_unread(home, [self.name])

    def dequantize(self, uses: Sequence[Use]) -> None:
        """Let readers see the result of a DequantizeLinear (opset 21 for blocks)."""
        home, before = self.home, self.home.first_reader(self.name)
        scales, zeros = self._scales(), self.grid.zero_point
        attributes: dict[str, int] = {}
        axis = self.axis
        if axis is not None:
            attributes = {"axis": axis, "block_size": self.grid.block[axis]}
        elif scales.size > 1:
            attributes = {"axis": int(np.argmax(scales.shape))}
            scales, zeros = scales.reshape(-1), zeros.reshape(-1)
        else:
            scales, zeros = scales.reshape(()), zeros.reshape(())
        scale = home.add_constant(f"{self.name}_scale", scales)
        inputs = [self._codes(), self._single(scale, scales.dtype, before)]
        if zeros.any() or self.kind.qmin == 0:
            point = np.ascontiguousarray(zeros).astype(self.kind.dtype)
            inputs.append(home.add_constant(f"{self.name}_zero_point", point))
        output = f"{self.name}_dequantized"
        floats = qdq.add_node(home, "DequantizeLinear", inputs, output, before=before, **attributes)
        edit.redirect(uses, floats)
        drop_unread(home, [self.name])

    def pack(self, uses: Sequence[Use], shapes: Shapes) -> None:
        """Let each Gather of rows, and each MatMul by all of them, read packed codes.

        They become onnxruntime's GatherBlockQuantized and MatMulNBits. Unsigned codes without
        zero points have theirs in the middle, which is what signed codes become.

        Args:
            uses: Gathers of rows, and Transposes in front of MatMuls.
            shapes: Of the tensors of the graph.
        """
        home, bits, block = self.home, self.kind.bits, self.grid.block[1]
        products = [
            each
            for use in uses
            if is_op(use.node, "Transpose")
            for each in use.scope.uses(use.node.output[0])
        ]
        turned = [use.node.output[0] for use in uses if is_op(use.node, "Transpose")]
        held = pack_rows(self.grid.codes + max(0, -self.kind.qmin), bits)
        rows, length = self.grid.codes.shape
        if products:
            held = held.reshape(rows, length // block, -1)
        codes = home.add_constant(f"{self.name}_quantized", held)
        scales = self._scales()
        parameters = [home.add_constant(f"{self.name}_scale", scales)]
        if self.kind.qmin == 0:
            points = pack_rows(self.grid.zero_point, bits)
            parameters.append(home.add_constant(f"{self.name}_zero_point", points))
        for use in uses:
            if is_op(use.node, "Transpose"):
                continue
            table, before = codes, use.scope.first_reader(self.name)
            if products:
                sizes = self._sizes([rows, length * bits // 8])
                output = f"{self.name}_rows"
                table = qdq.add_node(use.scope, "Reshape", [codes, sizes], output, before=before)
            inputs = [table, use.node.input[1], *self._read(parameters, scales.dtype, use)]
            own = {"gather_axis": 0, "quantize_axis": 1}
            self._replace(use, "GatherBlockQuantized", inputs, shapes, own)
        for use in products:
            inputs = [use.node.input[0], codes, *self._read(parameters, scales.dtype, use)]
            own = {"K": length, "N": rows, "accuracy_level": _ROUNDED_TO_INT8}
            self._replace(use, "MatMulNBits", inputs, shapes, own)
        import_contrib(home.graph)
        drop_unread(home, [*turned, self.name])

    def _read(self, parameters: Sequence[str], dtype: Any, use: Use) -> list[str]:
        """Scales as float32, and zero points as they are."""
        single = self._single(parameters[0], dtype, use.node, use.scope)
        return [single, *parameters[1:]]

    def _replace(
        self, use: Use, op_type: str, inputs: list[str], shapes: Shapes, own: Mapping[str, Any]
    ) -> None:
        """An operator of onnxruntime's in the place of a node, under its name."""
        node, scope = use.node, use.scope
        made = onnx.helper.make_node(
            op_type,
            inputs,
            [node.output[0]],
            name=node.name,
            domain=CONTRIB,
            bits=self.kind.bits,
            block_size=self.grid.block[1],
            **own,
        )
        made.doc_string = node.doc_string
        made.metadata_props.extend(node.metadata_props)
        before = scope.following(node)
        scope.remove([node])
        scope.add(made, before=before)
        declare_type(scope, made.output[0], shapes)

    def _codes(self) -> str:
        codes = self.grid.codes.astype(self.kind.dtype)
        return self.home.add_constant(f"{self.name}_quantized", codes)

    def _scales(self) -> Array:
        scale = self.grid.scale
        return scale.astype(np.float16) if self.halved else scale

    def _spread(self, values: Array, name: str, before: NodeProto | None) -> str:
        """What there is one of a block as a tensor that broadcasts to the codes."""
        home, axis = self.home, self.axis
        if axis is None:
            return self._single(home.add_constant(name, values), values.dtype, before)
        block, count = self.grid.block[axis], values.shape[axis]
        rank, size = values.ndim, self.grid.codes.shape[axis]
        apart = np.expand_dims(values, axis + 1)
        held = self._single(home.add_constant(name, apart), values.dtype, before)
        grown = [*values.shape[: axis + 1], block, *values.shape[axis + 1 :]]
        shape = self._sizes(grown)
        held = qdq.add_node(home, "Expand", [held, shape], f"{name}_repeated", before=before)
        merged = [*values.shape[:axis], count * block, *values.shape[axis + 1 :]]
        shape = self._sizes(merged)
        held = qdq.add_node(home, "Reshape", [held, shape], f"{name}_spread", before=before)
        if count * block > size:
            inputs = [held, *(self._sizes([at]) for at in (0, size, axis % rank))]
            held = qdq.add_node(home, "Slice", inputs, f"{name}_cut", before=before)
        return held

    def _single(
        self, name: str, dtype: Any, before: NodeProto | None, scope: Scope | None = None
    ) -> str:
        """A constant as float32."""
        if dtype == np.float32:
            return name
        output = f"{name}_single"
        return qdq.add_node(
            scope or self.home, "Cast", [name], output, before=before, to=TensorProto.FLOAT
        )

    def _sizes(self, sizes: Sequence[int]) -> str:
        """A constant of sizes, shared by all weights that need the same."""
        name = "sizes_" + "_".join(map(str, sizes))
        values = np.array(sizes, np.int64)
        held = self.home.constant(name) if name in self.home.initializers else None
        if held is not None and np.array_equal(held.values, values):
            return name
        return self.home.add_constant(name, values)
