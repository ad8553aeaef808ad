"""Layers solved again one after another, so that the model gives what it gave before."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from onnx import NodeProto

from graphopt.analysis.downstream import Downstream, downstream, result_of, unpooled
from graphopt.contract.passes import Context, SampledRows
from graphopt.errors import DataError
from graphopt.facts.layers import Layer, Refusal, layer
from graphopt.facts.live import peak_elements
from graphopt.families.padding import Padding
from graphopt.families.run_shapes import run_shapes
from graphopt.graph.graph import Graph
from graphopt.graph.node import attribute
from graphopt.numerics.batchnorm import scale_shift
from graphopt.numerics.least_squares import Behind, Solved, solve_layer
from graphopt.numerics.moments import Moments, MomentSums
from graphopt.rewrite.absorb import absorber, store
from graphopt.rewrite.values import set_values

__all__ = ["Fit", "Refit", "blocks_of", "from_blocks", "refit_refusal", "store_solved"]

Floats = NDArray[np.float64]
Singles = NDArray[np.float32]

_ROW_BYTES = 256 << 20
"""Most that the rows of one layer may take."""
_HIDDEN = 1e-4
"""A normalization that scales a channel by no more of its largest factor hides what it was."""
_HELD_BYTES = 5 << 28
"""About what each of the two walks may hold; of samples that take more there are fewer."""


def refit_refusal(one: Layer) -> Refusal | None:
    """Why a layer cannot be solved again; None where it can."""
    needs = ("right", "matrix") if one.kind == "linear" else ()
    if refusal := one.refusal("float", "fixed", *needs, "finite", "bias"):
        return refusal
    if isinstance(request := SampledRows.of(one), Refusal):
        return request
    return None if one.weight.alone else Refusal(one.node, "its weight is shared with others")


@dataclass(frozen=True, eq=False)
class Fit:
    """What one layer is solved by.

    Attributes:
        layer: The layer.
        rows: What it reads now: ``(rows, groups, width)``.
        wanted: What its result, with what is added to it, should be: ``(rows, groups, out)``.
        behind: What becomes of the result.
        weight: As it is, ``(groups, width, out)``.
        bias: As it is, ``(groups, out)``; zero without one.
        start: The weight to stay near where the rows do not tell: that of the float model, or the
            same as ``weight`` where that has none of this shape.
    """

    layer: Layer
    rows: Singles
    wanted: Singles
    behind: Behind
    weight: Floats
    bias: Floats
    start: Floats

    @cached_property
    def moments(self) -> Moments:
        """Mean and covariance of the rows."""
        sums = MomentSums(*self.rows.shape[1:])
        sums.add(self.rows)
        return sums.result()

    def solved(
        self, ridge: float | None, rounds: int, mask: NDArray[np.bool_], *, biased: bool
    ) -> Solved:
        """The weight and bias of least error; see ``solve_layer``.

        Args:
            ridge: How strongly to pull; None for what is best on the last samples.
            rounds: Of the majorisation.
            mask: Which elements may differ from zero.
            biased: Whether the layer has a bias.
        """
        return solve_layer(
            self.rows,
            self.wanted,
            self.start,
            ridge=ridge,
            mask=mask,
            behind=self.behind,
            rounds=rounds,
            biased=biased,
            moments=None if ridge is None else self.moments,
        )

    def error(self, weight: Floats, bias: Floats) -> float:
        """Squared error of the results as it is seen behind the layer, by their variance."""
        now = np.einsum("ngk,gko->ngo", self.rows, weight.astype(np.float32), optimize=True)
        now += bias.astype(np.float32)
        if self.behind.added is not None:
            now += self.behind.added
        wrong = now - self.behind.nearest(self.wanted, now)
        spread = float(self.wanted.var(axis=0, dtype=np.float64).sum())
        error = float(np.square(wrong, dtype=np.float64).sum()) / max(len(self.rows), 1)
        return error / max(spread, 1e-30)


class Refit:
    """The model as it is and as it was before the first lossy pass, walked side by side.

    Args:
        graph: As it is; edited between two questions.
        context: Of the pass.
        pending: The layers to be solved, which come in this order.
        samples: Calibration samples to walk on.
    """

    def __init__(
        self, graph: Graph, context: Context, pending: Iterable[Layer], samples: int
    ) -> None:
        self._graph, self._context = graph, context
        self._pending = {id(one.node) for one in pending}
        sizes = run_shapes(graph, context)
        held = 4 * peak_elements(graph.main, sizes)
        samples = max(1, min(samples, _HELD_BYTES // max(held, 1)))
        self._present = context.walk(graph, samples)
        self._original = context.walk(context.reference, self._present.count)
        self._padding = Padding(graph, context, sizes, self._present.count)

    def fit(self, one: Layer, most: int = SampledRows.most) -> Fit | Refusal:
        """What the layer is solved by; it counts as solved from then on.

        Args:
            one: The next of the layers.
            most: Rows to take.
        """
        found = absorber(one.scope, one.node)
        try:
            given = found if isinstance(found, Refusal) else self._given(one, most)
        except DataError as err:
            given = Refusal(one.node, str(err))
        self._pending.discard(id(one.node))
        if isinstance(given, Refusal):
            return given
        assert not isinstance(found, Refusal)
        _, values, bias = found
        weight = blocks_of(one, values)
        groups, _, outs = weight.shape
        given = self._without_padding(one, given)
        shape = (len(given.rows), groups, outs)
        added = None if given.added is None else given.added.reshape(shape)
        behind = Behind(added, given.look.low, given.look.high)
        wanted = given.wanted.reshape(shape)
        if given.scaled is not None:
            behind, wanted = given.scaled.undone(behind, wanted)
        start = self._start(one)
        if start is None or start.shape != weight.shape:
            start = weight
        return Fit(one, given.rows, wanted, behind, weight, bias.reshape(groups, outs), start)

    def _start(self, one: Layer) -> Floats | None:
        """What is left of the float model's weight ``(groups, width, out)``; None without one."""
        found = self._float_layer(one)
        effective = None if found is None else found.effective()
        if found is None or effective is None or isinstance(effective, Refusal):
            return None
        values, order = effective[0], found.weight.order or ()
        for axis, stored in enumerate(order):
            left = self._context.kept.get((found.weight.constant.origin, stored))
            values = values if left is None else values.take(left, axis)
        same = values.shape == one.weight.shape and found.kind == one.kind
        return blocks_of(one, values) if same else None

    def _float_layer(self, one: Layer) -> Layer | None:
        """The layer of the float model that gives what this one gives."""
        main = self._context.reference.main
        node = main.producer(one.node.output[0])
        found = None if node is None else layer(main, node)
        return found if isinstance(found, Layer) else None

    def _without_padding(self, one: Layer, given: _Given) -> _Given:
        axis = 1 if one.kind == "conv" else -1
        real = self._padding.real(one.data, axis, len(given.rows))
        if real is None or not real.any():
            return given
        added = None if given.added is None else given.added[real]
        return replace(given, rows=given.rows[real], wanted=given.wanted[real], added=added)

    def _given(self, one: Layer, most: int) -> _Given | Refusal:
        """Rows, and what the layer should give for them."""
        context, shapes = self._context, self._context.shapes
        request = SampledRows.of(one)
        info = shapes.get(result_of(one))
        assert isinstance(request, SampledRows)
        if info is None or info.shape is None:
            return Refusal(one.node, "the rank of its result is not known")
        axis = one.result_axis % len(info.shape)
        width = math.prod(one.weight.constant.shape) // one.out_channels * one.groups
        most = max(1, min(round(most / self._padding.share), _ROW_BYTES // (4 * width)))
        if (before := unpooled(one, shapes)) is not None:
            return self._before_pooling(one, *before, most)
        look = downstream(one, shapes)
        scaled = None if look.norm is None else _scaled(one, look.norm)
        known = look.norm is None or scaled is not None
        if not known or not all(self._settled(name) for name in look.beside):
            look, scaled = Downstream(result_of(one)), None
        if context.reference.main.producer(look.total) is None:
            return Refusal(one.node, f"the float model has no tensor {look.total!r}")
        rows = self._present.ask(replace(request, most=most))
        added = None
        for name in look.beside:
            other = self._present.ask(SampledRows(name, axis, most=most))
            added = other if added is None else added + other
        wanted = self._original.ask(SampledRows(look.total, axis, most=most))
        wanted = self._left(wanted, look.total, axis)
        if wanted.shape != (len(rows), 1, one.channels):
            return Refusal(one.node, "its result has another shape than in the float model")
        return _Given(rows, wanted, added, look, scaled)

    def _before_pooling(self, one: Layer, name: str, axis: int, most: int) -> _Given | Refusal:
        result, found = result_of(one), self._float_layer(one)
        if found is None or not self._context.reference.main.defines(name):
            return Refusal(one.node, f"the float model has no layer that gives {result!r}")
        effective = found.effective()
        if isinstance(effective, Refusal):
            return effective
        rows = self._present.ask(SampledRows(name, axis, most=most))
        read = self._original.ask(SampledRows(name, axis, most=most))
        weight, bias = blocks_of(found, effective[0])[0], effective[1]
        wanted = read @ weight.astype(np.float32) + bias.astype(np.float32)
        wanted = self._left(wanted, result, one.result_axis % 2)
        return _Given(rows, wanted, None, Downstream(result))

    def _left(self, wanted: Singles, name: str, axis: int) -> Singles:
        """The channels that the model as it is still has."""
        kept = self._context.kept.get((name, axis))
        return wanted if kept is None else wanted[:, :, kept]

    def _settled(self, name: str) -> bool:
        """Whether a tensor depends on no layer that is still to be solved."""
        nodes = self._graph.main.ancestors([name])
        return not any(id(node) in self._pending for node in nodes)


@dataclass(frozen=True, eq=False)
class _Given:
    """Rows of a layer as the walks give them.

    Attributes:
        rows: ``(rows, groups, width)``.
        wanted: ``(rows, 1, out)``.
        added: The same of what is added to the result; None for nothing.
        look: What becomes of the result.
        scaled: What a normalization does in between; None without one.
    """

    rows: Singles
    wanted: Singles
    added: Singles | None
    look: Downstream
    scaled: _Scaled | None = None


@dataclass(frozen=True, eq=False)
class _Scaled:
    """A BatchNormalization behind a layer as ``factor * x + shift``, each ``(groups, out)``."""

    factor: Floats
    shift: Floats

    def undone(self, behind: Behind, wanted: Singles) -> tuple[Behind, Singles]:
        """The same as it is in front of the normalization."""
        factor = self.factor.astype(np.float32)
        added = None if behind.added is None else behind.added / factor
        bounds = [(each - self.shift) / self.factor for each in (behind.low, behind.high)]
        low, high = np.minimum(*bounds), np.maximum(*bounds)
        return Behind(added, low, high), (wanted - self.shift.astype(np.float32)) / factor


def _scaled(one: Layer, norm: NodeProto) -> _Scaled | None:
    """What a BatchNormalization does; None where it cannot be told, or hides a channel."""
    constants = [one.scope.constant(name) for name in norm.input[1:5]]
    values = [each.values for each in constants if each is not None]
    if len(values) < 4 or attribute(norm, "training_mode", 0):
        return None
    gamma, beta, mean, var = values
    factor, shift = scale_shift(gamma, beta, mean, var, attribute(norm, "epsilon", 1e-5))
    plain = np.isfinite(factor).all() and np.isfinite(shift).all()
    if not plain or np.abs(factor).min() <= _HIDDEN * np.abs(factor).max():
        return None
    groups = (one.groups, -1)
    return _Scaled(factor.reshape(groups), shift.reshape(groups))


def blocks_of(one: Layer, values: Floats) -> Floats:
    """A weight as the node reads it as ``(groups, width, out)``."""
    if one.kind == "conv":
        return values.reshape(one.groups, len(values) // one.groups, -1).transpose(0, 2, 1)
    return (values if one.read_axes[0] % 2 else values.T)[None]


def from_blocks(one: Layer, weight: Floats) -> Floats:
    """The other way round."""
    if one.kind == "conv":
        shape = one.weight.shape
        assert shape is not None
        values: Floats = weight.transpose(0, 2, 1).reshape(shape)
        return values
    matrix: Floats = weight[0]
    return matrix if one.read_axes[0] % 2 else matrix.T


def store_solved(one: Layer, weight: Floats, bias: Floats | None) -> Refusal | None:
    """Give a layer its new weight ``(groups, width, out)`` and bias ``(groups, out)``."""
    values = from_blocks(one, weight)
    flat = None if bias is None else bias.reshape(-1)
    told = store(one, values, flat)
    if isinstance(told, Refusal):
        return told
    if flat is not None and one.bias is not None and one.bias.node is not one.node:
        set_values(one.bias, flat.astype(one.bias.dtype))
    return None
