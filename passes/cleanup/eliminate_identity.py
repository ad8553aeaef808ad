"""Pass ``eliminate-identity``."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from onnx import NodeProto

from graphopt.contract.examples import Example
from graphopt.contract.passes import Changes, Context, Pass
from graphopt.contract.registry import register
from graphopt.facts.shapes import Shapes, TensorInfo, proven
from graphopt.graph.graph import Graph, Scope
from graphopt.graph.node import attribute, is_op
from graphopt.graph.tensors import Array
from graphopt.rewrite import edit
from graphopt.rewrite.values import drop_unread

__all__ = ["EliminateIdentity"]


@register("eliminate-identity")
@dataclass(frozen=True, kw_only=True)
class EliminateIdentity(Pass):
    """Remove nodes that hand their input on unchanged.

        x -> Identity -> Conv -> Dropout -> y      becomes      x -> Conv -> y

    Besides Identity and Dropout at inference: Reshape, Flatten and Expand to the shape that is
    there, Transpose to the same order or back again, Cast to the same type, Slice of everything,
    Pad by nothing, Tile once, Resize by 1, Concat, Sum, Max, Min and Mean of one tensor, Mul and
    Div by 1, Add and Sub of 0, Pow 1 - each only where types, shapes and constants prove it.
    Outputs keep their names; where an output is an input or a constant of the graph, the node
    stays, because something has to carry the name.
    """

    def run(self, graph: Graph, context: Context) -> Changes:
        changes = Changes()
        shapes = proven(graph)
        for scope in list(graph.scopes()):
            view = _View(scope, shapes, graph.opset)
            for node in list(scope.nodes):
                reason = _no_op(node, view)
                if reason is None:
                    continue
                source, before = view.source(node), scope.producer(node.input[0])
                constants = [name for name in node.input if scope.constant(name) is not None]
                if edit.bypass(scope, node, source, node.output[0]):
                    changes.edit(node, f"removed: {reason}")
                    drop_unread(scope, constants)
                    if before is not None and source not in before.output and _idle(scope, before):
                        scope.remove([before])
                        changes.edit(before, "removed: what undid it was its only reader")
                else:
                    changes.skip(node, f"{reason}, but it carries the output {node.output[0]!r}")
        if not changes.edits and not changes.skips:
            changes.skip("model", "no node hands its input on unchanged")
        return changes

    @classmethod
    def examples(cls) -> Sequence[Example]:
        return [Example("cnn"), Example("opset-9"), Example("bodies"), Example("function")]


def _idle(scope: Scope, node: NodeProto) -> bool:
    """Whether nothing reads what a node computes."""
    return not any(scope.is_read(name) or scope.is_output(name) for name in node.output)


@dataclass(frozen=True)
class _View:
    """What the rules may ask about the tensors of a scope."""

    scope: Scope
    shapes: Shapes
    opset: int

    def info(self, name: str) -> TensorInfo | None:
        return self.shapes.get(name)

    def rank(self, name: str) -> int | None:
        info = self.info(name)
        return None if info is None or info.shape is None else len(info.shape)

    def constant(self, node: NodeProto, index: int) -> Array | None:
        """Value of a small constant input that no caller can replace."""
        if index >= len(node.input) or not node.input[index]:
            return None
        found = self.scope.constant(node.input[index])
        if found is None or found.overridable or found.nbytes > _SMALL_BYTES:
            return None
        return found.values

    def given(self, node: NodeProto, index: int) -> bool:
        return index < len(node.input) and bool(node.input[index])

    def source(self, node: NodeProto) -> str:
        """The tensor that the node hands on."""
        if is_op(node, "Mul", "Add") and self.neutral(node, 0) and not self.neutral(node, 1):
            return str(node.input[1])
        if is_op(node, "Transpose") and not _same_order(node, self):
            before = self.scope.producer(node.input[0])
            assert before is not None
            return str(before.input[0])
        return str(node.input[0])

    def neutral(self, node: NodeProto, index: int) -> bool:
        """Whether operand ``index`` is a constant that changes nothing, not even the shape."""
        value = self.constant(node, index)
        wanted = 1 if is_op(node, "Mul", "Div", "Pow") else 0
        if value is None or value.size == 0 or not bool(np.all(value == wanted)):
            return False
        if value.ndim == 0:
            return True
        info = self.info(node.input[1 - index])
        if info is None or info.shape is None or value.ndim > len(info.shape):
            return False
        have = info.shape[len(info.shape) - value.ndim :]
        return all(size in (1, dim) for size, dim in zip(value.shape, have, strict=True))


_SMALL_BYTES = 1 << 20
_Rule = Callable[[NodeProto, _View], bool]


def _dropout(node: NodeProto, view: _View) -> bool:
    mask = node.output[1] if len(node.output) > 1 else ""
    if mask and (view.scope.is_read(mask) or view.scope.is_output(mask)):
        return False
    if view.opset >= 12 and view.given(node, 2):
        training = view.constant(node, 2)
        return training is not None and not bool(training.reshape(-1)[0])
    return view.opset >= 7 or bool(attribute(node, "is_test", 0))


def _same_type(node: NodeProto, view: _View) -> bool:
    info = view.info(node.input[0])
    return info is not None and info.data_type == attribute(node, "to", 0)


def _same_shape(node: NodeProto, view: _View) -> bool:
    """Input and output have the same shape, by inference or because the request copies it."""
    before = view.shapes.static_shape(node.input[0])
    if before is not None and before == view.shapes.static_shape(node.output[0]):
        return True
    asked = view.constant(node, 1) if is_op(node, "Reshape") else None
    info = view.info(node.input[0])
    if asked is None or info is None or info.shape is None or len(info.shape) != asked.size:
        return False
    if attribute(node, "allowzero", 0):
        return False
    pairs = list(zip(asked.tolist(), info.shape, strict=True))
    return sum(want == -1 for want, _ in pairs) <= 1 and all(
        want in (0, -1) or want == have for want, have in pairs
    )


def _expand(node: NodeProto, view: _View) -> bool:
    before = view.shapes.static_shape(node.input[0])
    if before is not None and before == view.shapes.static_shape(node.output[0]):
        return True
    asked, rank = view.constant(node, 1), view.rank(node.input[0])
    return (
        asked is not None and rank is not None and asked.size <= rank and bool((asked == 1).all())
    )


def _flatten(node: NodeProto, view: _View) -> bool:
    return view.rank(node.input[0]) == 2 and attribute(node, "axis", 1) in (1, -1)


def _same_order(node: NodeProto, view: _View) -> bool:
    order, rank = attribute(node, "perm", []), view.rank(node.input[0])
    return order == sorted(order) if order else rank is not None and rank <= 1


def _back_again(node: NodeProto, view: _View) -> bool:
    """A Transpose that undoes the one before it."""
    before = view.scope.producer(node.input[0])
    if before is None or not is_op(before, "Transpose"):
        return False
    first, second = attribute(before, "perm", []), attribute(node, "perm", [])
    if not first and not second:
        return True
    return len(first) == len(second) and [first[i] for i in second] == sorted(first)


def _transpose(node: NodeProto, view: _View) -> bool:
    return _same_order(node, view) or _back_again(node, view)


def _slice(node: NodeProto, view: _View) -> bool:
    if view.opset < 10:
        starts, ends = attribute(node, "starts", []), attribute(node, "ends", [])
        axes, steps = attribute(node, "axes", []) or list(range(len(starts))), [1] * len(starts)
    else:
        lists = [view.constant(node, index) for index in (1, 2, 3, 4)]
        if any(v is None and view.given(node, i + 1) for i, v in enumerate(lists)):
            return False
        if lists[0] is None or lists[1] is None:
            return False
        starts, ends = lists[0].tolist(), lists[1].tolist()
        axes = list(range(len(starts))) if lists[2] is None else lists[2].tolist()
        steps = [1] * len(starts) if lists[3] is None else lists[3].tolist()
    if not len(starts) == len(ends) == len(axes) == len(steps):
        return False
    info = view.info(node.input[0])
    shape = None if info is None else info.shape
    return all(
        start == 0 and step == 1 and _reaches_end(end, axis, shape)
        for start, end, axis, step in zip(starts, ends, axes, steps, strict=True)
    )


def _reaches_end(end: int, axis: int, shape: tuple[int | str | None, ...] | None) -> bool:
    if end >= np.iinfo(np.int32).max:  # the customary way to write "to the end"
        return True
    if shape is None or not -len(shape) <= axis < len(shape):
        return False
    size = shape[axis]
    return isinstance(size, int) and end >= size


def _pad(node: NodeProto, view: _View) -> bool:
    if view.opset < 11:
        pads = attribute(node, "pads", []) or attribute(node, "paddings", [])
        return bool(pads) and not any(pads)
    asked = view.constant(node, 1)
    return asked is not None and asked.size > 0 and not asked.any()


def _tile(node: NodeProto, view: _View) -> bool:
    repeats = view.constant(node, 1) if view.opset >= 6 else None
    return repeats is not None and bool((repeats == 1).all())


def _resize(node: NodeProto, view: _View) -> bool:
    if attribute(node, "coordinate_transformation_mode", "") == "tf_crop_and_resize":
        return False
    if is_op(node, "Upsample") and view.opset < 9:
        scales = np.array(attribute(node, "scales", []))
    else:
        found = view.constant(node, 1 if view.opset < 11 or is_op(node, "Upsample") else 2)
        scales = np.array([]) if found is None else found
    return scales.size > 0 and bool((scales == 1).all())


def _one_input(node: NodeProto, view: _View) -> bool:  # noqa: ARG001
    return len(node.input) == 1


def _either_neutral(node: NodeProto, view: _View) -> bool:
    return view.neutral(node, 1) or view.neutral(node, 0)


def _second_neutral(node: NodeProto, view: _View) -> bool:
    return view.neutral(node, 1)


def _always(node: NodeProto, view: _View) -> bool:  # noqa: ARG001
    return True


_RULES: dict[str, tuple[_Rule, str]] = {
    "Identity": (_always, "it copies"),
    "Dropout": (_dropout, "it drops nothing at inference"),
    "Cast": (_same_type, "the type is the same"),
    "Reshape": (_same_shape, "the shape is the same"),
    "Flatten": (_flatten, "the tensor is flat already"),
    "Expand": (_expand, "the shape is the same"),
    "Transpose": (_transpose, "the order of the axes is the same"),
    "Slice": (_slice, "it takes everything"),
    "Pad": (_pad, "it pads by nothing"),
    "Tile": (_tile, "it repeats once"),
    "Resize": (_resize, "it scales by 1"),
    "Upsample": (_resize, "it scales by 1"),
    "Concat": (_one_input, "there is nothing to join"),
    "Sum": (_one_input, "it has one operand"),
    "Max": (_one_input, "it has one operand"),
    "Min": (_one_input, "it has one operand"),
    "Mean": (_one_input, "it has one operand"),
    "Mul": (_either_neutral, "it multiplies by 1"),
    "Add": (_either_neutral, "it adds 0"),
    "Div": (_second_neutral, "it divides by 1"),
    "Sub": (_second_neutral, "it subtracts 0"),
    "Pow": (_second_neutral, "the power is 1"),
}


def _no_op(node: NodeProto, view: _View) -> str | None:
    """Why the node does nothing; None where that is not proven."""
    if not is_op(node, *_RULES) or not node.output or not node.output[0]:
        return None
    if not node.input or not node.input[0]:
        return None
    rule, reason = _RULES[node.op_type]
    return reason if rule(node, view) else None
