"""Pass ``fix-shapes``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

from graphopt.contract.examples import Example
from graphopt.contract.passes import Changes, Context, Option, Pass
from graphopt.contract.registry import register
from graphopt.errors import ModelError, PassError, UsageError
from graphopt.graph.graph import Graph
from graphopt.rewrite.fixed_sizes import declare_shapes, fix_inputs
from graphopt.rewrite.given_sizes import GivenSizes, Shape, declared_shape, parse_sizes

__all__ = ["FixShapes"]

_LISTED = 3


@register("fix-shapes")
@dataclass(frozen=True, kw_only=True)
class FixShapes(Pass):
    """Give free sizes a number, and declare the shape of every tensor.

        x float[N, 3, height, width]      becomes      x float[1, 3, 224, 224]

    For runtimes that compile a model for one shape: NNAPI, QNN, TensorRT and most converters. The
    file then takes no other sizes, so samples are read for these: cut to the batch, or refused
    where they have another size. Without options no size changes, and what is known of the tensors
    is declared. Put it first, and ``fold-constants`` behind it, which computes what follows from
    fixed sizes. Source: ONNX operator specifications (shape inference).
    """

    batch: Annotated[
        int | None,
        Option("first axis of each input with further axes", low=1),
    ] = None
    sizes: Annotated[tuple[str, ...], Option("sizes by the name of the axis, as height:224")] = ()
    shapes: Annotated[
        tuple[str, ...], Option("whole shapes by the name of the input, as x:1x3x224x224")
    ] = ()

    def __post_init__(self) -> None:
        super().__post_init__()
        _ = self._given

    @property
    def _given(self) -> GivenSizes:
        return parse_sizes(self.batch, self.sizes, self.shapes, place=self.name)

    def fed(self, graph: Graph) -> Graph:
        try:
            shapes = self._given.inputs(graph)
        except ModelError as err:
            raise UsageError(f"{self.name}: {err}") from err
        if not shapes:
            return graph
        fixed = graph.copy()
        fix_inputs(fixed, shapes)
        return fixed

    def check(self, graph: Graph, context: Context) -> None:
        try:
            self._given.inputs(graph)
        except ModelError as err:
            raise PassError(str(err)) from err

    def run(self, graph: Graph, context: Context) -> Changes:
        changes = Changes(nothing="every tensor is declared with its shape already")
        before = {value.name: declared_shape(value) for value in graph.required_inputs}
        shapes = self._given.inputs(graph)
        fix_inputs(graph, shapes)
        for name, shape in shapes.items():
            changes.edit(name, f"{_words(before[name])} becomes {_words(shape)}")
        changed, unsized = declare_shapes(graph, _numbers(before, shapes))
        if changed:
            changes.edit("model", f"declares the shapes of {changed} tensors")
        for value in graph.required_inputs:
            if free := _free(declared_shape(value)):
                changes.skip(value.name, free)
        if unsized:
            more = f" and {len(unsized) - _LISTED} more" if len(unsized) > _LISTED else ""
            listed = f"{', '.join(map(repr, unsized[:_LISTED]))}{more}"
            changes.skip("model", f"sizes are not known before it runs of {listed}")
        return changes

    @classmethod
    def examples(cls) -> Sequence[Example]:
        return [
            Example("cnn", {"batch": 1}),
            Example("embedding", {"sizes": ("T:8",), "shapes": ("x:1x4",)}),
        ]


def _numbers(before: dict[str, Shape | None], after: dict[str, Shape]) -> dict[str, int]:
    """The numbers that named sizes have become."""
    return {
        old: new
        for name, shape in after.items()
        for old, new in zip(before[name] or (), shape, strict=False)
        if isinstance(old, str) and isinstance(new, int)
    }


def _free(shape: Shape | None) -> str:
    """What to do about the sizes of an input that are still free; empty where there are none."""
    if shape is None:
        return "the file does not declare its shape; give it whole, by the option shapes"
    batch = len(shape) > 1 and not isinstance(shape[0], int)
    others = [dim for dim in (shape[1:] if batch else shape) if not isinstance(dim, int)]
    named = next((dim for dim in others if dim is not None), None)
    ways = [
        *(["batch=1"] if batch else []),
        *([f"sizes={named}:8"] if named is not None else []),
        *(["shapes"] if None in others else []),
    ]
    return f"{_words(shape)} keeps free sizes, for {' and '.join(ways)} to fix" if ways else ""


def _words(shape: Shape | None) -> str:
    if shape is None:
        return "any shape"
    return f"[{', '.join('?' if dim is None else str(dim) for dim in shape)}]"
