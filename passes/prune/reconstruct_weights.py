"""Pass ``reconstruct-weights``."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Annotated, ClassVar

import numpy as np
from numpy.typing import NDArray

from graphopt.analysis.downstream import Downstream, downstream, result_of, unpooled
from graphopt.contract.examples import Example
from graphopt.contract.passes import Changes, Context, Option, Pass, SampledRows, Walk
from graphopt.contract.preconditions import CalibrationSamples
from graphopt.contract.registry import register
from graphopt.errors import PassError
from graphopt.facts.layers import Layer, Refusal, layer, layers
from graphopt.facts.select import select
from graphopt.families.chosen import Exclude, Nodes
from graphopt.graph.graph import Graph
from graphopt.numerics.least_squares import Behind, solve_layer
from graphopt.rewrite.absorb import absorber, store
from graphopt.rewrite.values import set_values

__all__ = ["ReconstructWeights"]

Floats = NDArray[np.float64]
Singles = NDArray[np.float32]

_ROW_BYTES = 256 << 20
"""Most that the rows of one layer may take."""
_RIGHT_ALREADY = 1e-6
"""Share of the variance of the results that is not worth a change."""
_WORTH_IT = 0.95
"""Share of the error that may be left; a second repair, which would only polish, ends here."""


@register("reconstruct-weights")
@dataclass(frozen=True, kw_only=True)
class ReconstructWeights(Pass):
    """Solve each layer again so that the model gives what it gave before a lossy pass, untrained.

        x' -> Conv(W) -> y'      becomes      x' -> Conv(W', b') -> y'' near y

    Layer after layer, weight and bias follow by regularised least squares from what the layer now
    reads (behind layers that are solved already) to what it gave in the float model. Where the
    result is added to a shortcut, the sum is what counts: the layer makes up for what the
    shortcut has lost. Where a Relu or Clip stands behind, values that it does not tell apart count
    as equal (``rounds`` of majorisation). Behind a global pooling the rows before it are taken.
    Weights that are zero stay zero; neither nodes nor shapes change.

    Put it behind prune-channels, mask-weights or factorize-conv, before any quantize pass: weights
    that are stored as codes stay as they are. Needs calibration samples, no labels and no torch.
    Source: He et al. 2017, Channel Pruning for Accelerating Very Deep Neural Networks, section 3;
    Zhang et al. 2015, Accelerating Very Deep Convolutional Networks, section 3.2 (the answers
    behind a Relu).
    """

    samples: Annotated[int, Option("calibration samples to take rows from", low=1)] = 512
    rows: Annotated[int, Option("most rows of a layer to solve it by", low=1)] = 32768
    ridge: Annotated[
        float, Option("pull towards the weights as they are, by the mean square of the input", 0)
    ] = 1e-3
    rounds: Annotated[int, Option("solutions behind a function that is flat", 0, 100)] = 3
    nodes: Nodes = ()
    exclude: Exclude = ()
    lossy: ClassVar[bool] = True
    joins: ClassVar[bool] = True
    must_help: ClassVar[bool] = True
    may_grow: ClassVar[str] = "a layer may get a bias"
    requires = (CalibrationSamples(),)

    def check(self, graph: Graph, context: Context) -> None:
        if graph is context.reference:
            raise PassError("no lossy pass stands before it, so there is nothing to repair")

    def run(self, graph: Graph, context: Context) -> Changes:
        changes = Changes()
        chosen = select(self.nodes, self.exclude)
        listed: list[Layer] = []
        for each in layers(graph.main):
            if isinstance(each, Layer) and not (each.multiplies and chosen(each.node)):
                continue
            refusal = each if isinstance(each, Refusal) else _refusal(each)
            if refusal is not None:
                changes.skip(refusal)
            elif isinstance(each, Layer):
                listed.append(each)
        present = context.walk(graph, self.samples)
        original = context.walk(context.reference, present.count)
        both = _Both(graph, context, present, original, {id(each.node) for each in listed})
        for one in listed:
            told = self._solve(one, both)
            both.pending.discard(id(one.node))
            if isinstance(told, Refusal):
                changes.skip(told)
            else:
                changes.edit(one.node, told)
        return changes

    def _solve(self, one: Layer, both: _Both) -> str | Refusal:
        """Solve one layer and store it; what came of it."""
        found = absorber(one.scope, one.node)
        if isinstance(found, Refusal):
            return found
        _, values, bias = found
        task = both.task(one, self.rows)
        if isinstance(task, Refusal):
            return task
        start = _blocks(one, values)
        groups, _, outs = start.shape
        shape = (len(task.rows), groups, outs)
        added = None if task.added is None else task.added.reshape(shape)
        behind = Behind(added, task.look.low, task.look.high)
        wanted = task.wanted.reshape(shape)
        before = _error(task.rows, wanted, start, bias.reshape(groups, outs), behind)
        if before < _RIGHT_ALREADY:
            return Refusal(one.node, "it gives what it should already")
        biased = one.bias_place is not None
        solved = solve_layer(
            task.rows,
            wanted,
            start,
            ridge=self.ridge,
            mask=start != 0,
            behind=behind,
            rounds=self.rounds,
            biased=biased,
        )
        after = _error(task.rows, wanted, solved.weight, solved.bias, behind)
        if after > _WORTH_IT * before:
            return Refusal(one.node, "no other weights come much nearer to what it should give")
        refusal = _store(one, solved.weight, solved.bias if biased else None)
        return refusal or f"error of its result {before:.2%}, now {after:.2%}"

    @classmethod
    def examples(cls) -> Sequence[Example]:
        plain = Example("cnn", {}, "mask-weights{min_size=0}", samples=16)
        return [
            plain,
            plain.but(rounds=0, ridge=0.01, rows=100, samples=8),
            plain.but(nodes=("Conv",)),
            plain.but(exclude=("conv_0",)),
        ]


def _refusal(one: Layer) -> Refusal | None:
    """Why a layer cannot be solved; None where it can."""
    needs = ("right", "matrix") if one.kind == "linear" else ()
    if refusal := one.refusal("float", "fixed", *needs, "finite", "bias"):
        return refusal
    if isinstance(request := SampledRows.of(one), Refusal):
        return request
    return None if one.weight.alone else Refusal(one.node, "its weight is shared with others")


@dataclass(frozen=True, eq=False)
class _Task:
    """What one layer is solved by.

    Attributes:
        rows: ``(rows, groups, width)``.
        wanted: ``(rows, 1, out)``.
        added: The same of what is added to the result; None for nothing.
        look: What becomes of the result.
    """

    rows: Singles
    wanted: Singles
    added: Singles | None
    look: Downstream


@dataclass(frozen=True, eq=False)
class _Both:
    """The model as it is and as it was, walked side by side.

    Attributes:
        graph: As it is; edited.
        context: Has the reference.
        present: Follows ``graph``.
        original: Follows the reference.
        pending: Nodes of the layers that are still to be solved, by id.
    """

    graph: Graph
    context: Context
    present: Walk
    original: Walk
    pending: set[int]

    def task(self, one: Layer, most: int) -> _Task | Refusal:
        """Rows, and what the layer should give for them."""
        context, shapes = self.context, self.context.shapes
        request = SampledRows.of(one)
        info = shapes.get(result_of(one))
        assert isinstance(request, SampledRows)
        if info is None or info.shape is None:
            return Refusal(one.node, "the rank of its result is not known")
        axis = one.result_axis % len(info.shape)
        width = math.prod(one.weight.constant.shape) // one.out_channels * one.groups
        most = max(1, min(most, _ROW_BYTES // (4 * width)))
        if (before := unpooled(one, shapes)) is not None:
            return self._before_pooling(one, *before, most)
        look = downstream(one, shapes)
        if not all(self._settled(name) for name in look.beside):
            look = Downstream(result_of(one))
        if context.reference.main.producer(look.total) is None:
            return Refusal(one.node, f"the float model has no tensor {look.total!r}")
        rows = self.present.ask(replace(request, most=most))
        added = None
        for name in look.beside:
            other = self.present.ask(SampledRows(name, axis, most=most))
            added = other if added is None else added + other
        wanted = self.original.ask(SampledRows(look.total, axis, most=most))
        wanted = self._left(wanted, look.total, axis)
        if wanted.shape != (len(rows), 1, one.channels):
            return Refusal(one.node, "its result has another shape than in the float model")
        return _Task(rows, wanted, added, look)

    def _before_pooling(self, one: Layer, name: str, axis: int, most: int) -> _Task | Refusal:
        main = self.context.reference.main
        result = result_of(one)
        node = main.producer(result)
        found = None if node is None else layer(main, node)
        if not isinstance(found, Layer) or not main.defines(name):
            return Refusal(one.node, f"the float model has no layer that gives {result!r}")
        effective = found.effective()
        if isinstance(effective, Refusal):
            return effective
        rows = self.present.ask(SampledRows(name, axis, most=most))
        read = self.original.ask(SampledRows(name, axis, most=most))
        weight, bias = _blocks(found, effective[0])[0], effective[1]
        wanted = read @ weight.astype(np.float32) + bias.astype(np.float32)
        return _Task(
            rows, self._left(wanted, result, one.result_axis % 2), None, Downstream(result)
        )

    def _left(self, wanted: Singles, name: str, axis: int) -> Singles:
        """The channels that the model as it is still has."""
        kept = self.context.kept.get((name, axis))
        return wanted if kept is None else wanted[:, :, kept]

    def _settled(self, name: str) -> bool:
        """Whether a tensor depends on no layer that is still to be solved."""
        nodes = self.graph.main.ancestors([name])
        return not any(id(node) in self.pending for node in nodes)


def _error(rows: Singles, wanted: Singles, weight: Floats, bias: Floats, behind: Behind) -> float:
    """Squared error of the results as it is seen behind the layer, by their variance."""
    now = np.einsum("ngk,gko->ngo", rows, weight.astype(np.float32), optimize=True)
    now += bias.astype(np.float32)
    if behind.added is not None:
        now += behind.added
    wrong = now - behind.nearest(wanted, now)
    spread = float(wanted.var(axis=0, dtype=np.float64).sum())
    return float(np.square(wrong, dtype=np.float64).sum()) / max(len(rows), 1) / max(spread, 1e-30)


def _blocks(one: Layer, values: Floats) -> Floats:
    """A weight as the node reads it as ``(groups, width, out)``."""
    if one.kind == "conv":
        return values.reshape(one.groups, len(values) // one.groups, -1).transpose(0, 2, 1)
    return (values if one.read_axes[0] % 2 else values.T)[None]


def _store(one: Layer, weight: Floats, bias: Floats | None) -> Refusal | None:
    """Give a layer its new weight ``(groups, width, out)`` and bias."""
    if one.kind == "conv":
        shape = one.weight.shape
        assert shape is not None
        values = weight.transpose(0, 2, 1).reshape(shape)
    else:
        values = weight[0] if one.read_axes[0] % 2 else weight[0].T
    flat = None if bias is None else bias.reshape(-1)
    told = store(one, values, flat)
    if isinstance(told, Refusal):
        return told
    if flat is not None and one.bias is not None and one.bias.node is not one.node:
        set_values(one.bias, flat.astype(one.bias.dtype))
    return None
