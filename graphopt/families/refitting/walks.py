"""The model as it is and as it was before the first lossy pass, walked side by side."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from onnx import TensorProto

from graphopt.analysis.downstream import (
    Downstream,
    before_rounding,
    downstream,
    requantized,
    result_of,
    unpooled,
)
from graphopt.contract.kept import Kept
from graphopt.contract.passes import Context, SampledRows, Walk
from graphopt.errors import DataError
from graphopt.facts.layers import Layer, Refusal, layer
from graphopt.facts.live import peak_elements
from graphopt.families.padding import Padding
from graphopt.families.refitting.blocks import blocks_of
from graphopt.families.refitting.codes import SolvableCodes
from graphopt.families.refitting.fit import Fit
from graphopt.families.refitting.normalization import Normalization, normalization
from graphopt.families.refitting.solvable import Solvable, SolvableLayer
from graphopt.families.run_shapes import run_shapes
from graphopt.graph.graph import Graph, Scope
from graphopt.graph.node import attribute, is_op, label
from graphopt.numerics.least_squares import Behind
from graphopt.rewrite.edit import only_reader

__all__ = ["Refit"]

Floats = NDArray[np.float64]
Singles = NDArray[np.float32]

_ROW_BYTES = 256 << 20
"""Most that the rows of one layer may take."""
_HELD_BYTES = 5 << 28
"""About what each of the two walks may hold; of samples that take more there are fewer."""


class Refit:
    """The model as it is and as it was before the first lossy pass, walked side by side.

    Args:
        graph: As it is; edited between two questions.
        context: Of the pass.
        pending: What is to be solved for, which comes in this order.
        samples: Calibration samples to walk on.
        unrounded: Walk the model as it was before the first pass that quantizes instead, which is
            what earlier passes left of the former.
    """

    def __init__(
        self,
        graph: Graph,
        context: Context,
        pending: Sequence[Solvable],
        samples: int,
        *,
        unrounded: bool = False,
    ) -> None:
        self.shapes = context.shapes
        self._source = context.unrounded if unrounded else context.reference
        self._kept: Kept = {} if unrounded else context.kept
        self._by_label = {label(node): node for node in self._source.main.nodes}
        self._graph, self._context = graph, context
        self._pending = {id(one.node) for one in pending}
        self._starts: dict[int, Floats] = {}
        sizes = run_shapes(graph, context)
        infos = [context.shapes.get(one.result) for one in pending]
        double = any(info and info.data_type == TensorProto.DOUBLE for info in infos)
        held = (8 if double else 4) * peak_elements(graph.main, sizes)
        samples = max(1, min(samples, _HELD_BYTES // max(held, 1)))
        self._present = context.walk(graph, samples)
        self._original = context.walk(self._source, self._present.count)
        self._padding = Padding(graph, context, sizes, self._present.count)

    def fit(self, one: Solvable, most: int = SampledRows.most) -> Fit | Refusal:
        """What something is solved by; it counts as solved from then on.

        Args:
            one: The next of those that are pending.
            most: Rows to take.
        """
        found = one.values()
        try:
            given = found if isinstance(found, Refusal) else self._given(one, most)
        except DataError as err:
            given = Refusal(one.node, str(err))
        self._pending.discard(id(one.node))
        if isinstance(given, Refusal):
            return given
        assert not isinstance(found, Refusal)
        weight, bias = found
        given = self._without_padding(one, given)
        groups, width, outs = weight.shape
        shape = (len(given.wanted), groups, outs)
        added = None if given.added is None else given.added.reshape(shape)
        behind = Behind(added, given.look.low, given.look.high)
        wanted = given.wanted.reshape(shape)
        if given.norm is not None:
            behind, wanted = given.norm.undone(groups, behind, wanted)
        if given.now is not None:
            now = given.now.reshape(shape)
            behind = replace(behind, added=now if behind.added is None else behind.added + now)
        rows = np.zeros((*shape[:2], 0), np.float32) if given.rows is None else given.rows
        rows = rows.reshape(len(rows), groups, width)
        start = self._starts.get(id(one.node), self._start(one))
        if start is None or start.shape != weight.shape:
            start = weight
        return Fit(one, rows, wanted, behind, weight, bias, start)

    def walks_at(self, one: Solvable) -> tuple[Walk, Walk]:
        """Walks of their own from one that was solved for: of the model as it is, and as it was.

        Raises:
            PassError: They take too much memory.
        """
        main = self._source.main
        node = main.producer(one.node.output[0])
        assert node is not None
        self._present.advance(one.node)
        self._original.advance(node)
        return self._present.fork(self._graph), self._original.fork(self._source)

    def narrowed(self, one: Solvable) -> bool:
        """Whether its result has fewer channels than in the float model."""
        return (one.result, one.axis) in self._kept

    def begin(self, one: Solvable, weight: Floats) -> None:
        """Let one that is pending stay near this weight, ``(groups, width, out)``."""
        self._starts[id(one.node)] = weight

    def has_floats(self, one: Solvable) -> bool:
        """Whether the other model has the weight of a layer, and as floats."""
        found = self._float_layer(one)
        return found is not None and found.weight.form == "float" and self._start(one) is not None

    def _start(self, one: Solvable) -> Floats | None:
        """What is left of the float model's weight ``(groups, width, out)``; None without one."""
        found = self._float_layer(one)
        effective = None if found is None else found.effective()
        if found is None or effective is None or isinstance(effective, Refusal):
            return None
        values, order = effective[0], found.weight.order or ()
        for axis, stored in enumerate(order):
            left = self._kept.get((found.weight.constant.origin, stored))
            values = values if left is None else values.take(left, axis)
        if not isinstance(one, SolvableLayer | SolvableCodes):
            return None
        same = values.shape == one.layer.weight.shape and found.kind == one.layer.kind
        return blocks_of(one.layer, values) if same else None

    def _counterpart(self, name: str) -> str | None:
        """The tensor of the float model that one is, or becomes behind Q and DQ; None without."""
        main = self._source.main
        while main.producer(name) is None:
            behind = requantized(self._graph.main, name)
            if behind is None:
                return None
            name = behind
        return name

    def _float_layer(self, one: Solvable) -> Layer | None:
        """The layer of the float model that gives what this one gives."""
        main = self._source.main
        node = main.producer(self._counterpart(one.node.output[0]) or "")
        if node is None and isinstance(one, SolvableCodes):  # integer operators give other tensors
            node = self._by_label.get(label(one.node))
        found = None if node is None else layer(main, node)
        return found if isinstance(found, Layer) else None

    def _without_padding(self, one: Solvable, given: _Given) -> _Given:
        request = one.request()
        if request is None:
            seen = one.result, one.axis
        else:
            seen = request.tensor, 1 if request.window is not None else request.axis
        real = self._padding.real(*seen, len(given.wanted))
        if real is None or not real.any():
            return given
        return given.only(real)

    def _given(self, one: Solvable, most: int) -> _Given | Refusal:
        """Rows, and what should come of them."""
        shapes = self.shapes
        info = shapes.get(one.result)
        if info is None or info.shape is None:
            return Refusal(one.node, "the rank of its result is not known")
        axis = one.axis % len(info.shape)
        wide = 4 * max(one.width, one.channels)
        most = max(1, min(round(most / self._padding.share), _ROW_BYTES // wide))
        if isinstance(one, SolvableLayer | SolvableCodes) and (
            before := unpooled(one.layer, shapes)
        ):
            return self._before_pooling(one, *before, most)
        look = downstream(self._graph.main, one.result, shapes)
        norm = None if look.norm is None else normalization(self._graph.main, look.norm)
        told = not isinstance(norm, Refusal) and (norm is None or not norm.hides)
        if not told or not all(self.settled(name) for name in look.beside):
            look, norm = Downstream(one.result), None
        assert not isinstance(norm, Refusal)
        total = self._counterpart(look.total)
        if total is None:
            return self._before_factor(one, axis, most)
        request = one.request()
        rows = None if request is None else self._present.ask(replace(request, most=most))
        added = None
        for name in look.beside:
            other = self._present.ask(SampledRows(name, axis, most=most))
            added = other if added is None else added + other
        wanted = self._original.ask(SampledRows(total, axis, most=most))
        wanted = self.left(wanted, total, axis)
        now = None
        if rows is None:  # asked for last: its node may be edited until the next question
            now = self._present.ask(SampledRows(one.result, axis, most=most))
        read = rows if now is None else now
        if read is None or wanted.shape != (len(read), 1, one.channels):
            return Refusal(one.node, "its result has another shape than in the float model")
        return _Given(rows, now, wanted, added, look, norm)

    def _before_factor(self, one: Solvable, axis: int, most: int) -> _Given | Refusal:
        """The same of the first factor of a product, which the float model has not.

        With the other factor P as it is, ``X W P`` is nearest to ``T`` where ``X W`` is nearest to
        ``T P^+``, P having at least as many outputs as inputs.
        """
        main, request = self._graph.main, one.request()
        missing = Refusal(one.node, f"the float model has no tensor {one.result!r}")
        factor = _pointwise(main, one.result)
        found = None if factor is None else factor.effective()
        if request is None or factor is None or found is None or isinstance(found, Refusal):
            return missing
        result, (read, given) = result_of(factor), (factor.in_channels, factor.channels)
        if self._source.main.producer(result) is None or given < read:
            return missing
        rows = self._present.ask(replace(request, most=most))
        wanted = self._original.ask(SampledRows(result, axis, most=most))
        wanted = self.left(wanted, result, axis)
        if wanted.shape != (len(rows), 1, given):
            return missing
        inverse = np.linalg.pinv(blocks_of(factor, found[0])[0]).astype(np.float32)
        back = (wanted - found[1].astype(np.float32)) @ inverse
        return _Given(rows, None, back, None, Downstream(one.result), None)

    def _before_pooling(
        self, one: SolvableLayer | SolvableCodes, name: str, axis: int, most: int
    ) -> _Given | Refusal:
        result, found = one.result, self._float_layer(one)
        source = name
        if not self._source.main.defines(source):
            source = before_rounding(self._graph.main, name) or ""
        if found is None or not self._source.main.defines(source):
            return Refusal(one.node, f"the float model has no layer that gives {result!r}")
        effective = found.effective()
        if isinstance(effective, Refusal):
            return effective
        rows = self._present.ask(SampledRows(name, axis, most=most))
        read = self._original.ask(SampledRows(source, axis, most=most))
        weight, bias = blocks_of(found, effective[0])[0], effective[1]
        wanted = read @ weight.astype(np.float32) + bias.astype(np.float32)
        wanted = self.left(wanted, result, one.axis % 2)
        return _Given(rows, None, wanted, None, Downstream(result), None)

    def left(self, wanted: Singles, name: str, axis: int) -> Singles:
        """The channels that the model as it is still has."""
        kept = self._kept.get((name, axis))
        return wanted if kept is None else wanted[:, :, kept]

    def settled(self, name: str) -> bool:
        """Whether a tensor depends on nothing that is still to be solved."""
        nodes = self._graph.main.ancestors([name])
        return not any(id(node) in self._pending for node in nodes)


def _pointwise(scope: Scope, name: str) -> Layer | None:
    """The layer that alone reads a tensor, position by position; None without such a one."""
    use = only_reader(scope, name)
    found = layer(scope, use.node) if use is not None and use.scope is scope else None
    if not isinstance(found, Layer) or found.data != name or not found.multiplies:
        return None
    if is_op(found.node, "Conv"):
        moved = [*attribute(found.node, "strides", ()), *(found.weight.shape or (2, 2, 2))[2:]]
        plain = found.groups == 1 and not any(attribute(found.node, "pads", ()))
        return found if plain and set(moved) <= {1} else None
    usable = found.kind == "linear" and found.refusal("float", "right", "matrix") is None
    return found if usable else None


@dataclass(frozen=True, eq=False)
class _Given:
    """Rows of a layer as the walks give them.

    Attributes:
        rows: What is read: ``(rows, groups, width)``; None where that does not count.
        now: What is given now, ``(rows, 1, out)``, where that cannot change but by a bias.
        wanted: What should come of it: ``(rows, 1, out)``.
        added: The same of what is added to the result; None for nothing.
        look: What becomes of the result.
        norm: What it goes through first; None for nothing.
    """

    rows: Singles | None
    now: Singles | None
    wanted: Singles
    added: Singles | None
    look: Downstream
    norm: Normalization | None

    def only(self, chosen: NDArray[np.bool_]) -> _Given:
        """The same of some rows."""
        rows, now, added = (
            None if each is None else each[chosen] for each in (self.rows, self.now, self.added)
        )
        return replace(self, rows=rows, now=now, added=added, wanted=self.wanted[chosen])
