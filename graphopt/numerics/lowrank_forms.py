"""A convolution as cheaper ones in a row: the forms of all ranks, best for weights or outputs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from graphopt.numerics.cp import choose_cp, cp_cost
from graphopt.numerics.lowrank import Budget, Decomposition, decompose, ranks_between
from graphopt.numerics.lowrank_conv import (
    ConvFactors,
    ConvStage,
    Scheme,
    applies,
    compose,
    conv_cost,
    fold,
    unfold,
)
from graphopt.numerics.lowrank_fit import OutputMetric, fit_factors, root
from graphopt.numerics.lowrank_stages import evened, pointwise, stage_factors, unwhitened
from graphopt.numerics.tucker import Spectrum, choose_ranks, spectrum, tucker, tucker_cost

__all__ = ["ConvForms", "factorize_conv"]

_Floats = NDArray[np.float64]

_SOME, _FEW = 8, 4
"""Forms of tucker and of cp to choose among; each of cp is a search."""
_LEAST_SHARE, _MOST_SHARE = 0.05, 0.9
_SWEEPS = 6
"""More gain less than a hundredth of what is lost, mostly."""


def factorize_conv(
    weight: NDArray[Any],
    budget: Budget,
    strides: Sequence[int] = (1, 1),
    schemes: Sequence[Scheme] = ("spatial", "channel"),
    seed: int = 0,
    gram: NDArray[np.float64] | None = None,
) -> ConvFactors | None:
    """The scheme that loses less per multiply-accumulate saved, at the rank that the budget gives.

    What is lost is the share of the weight's sum of squares, or with a Gram matrix that of the
    output's; a scheme that does not apply to the kernel (see ``applies``) or saves nothing is left
    out.

    Args:
        weight: ``(out, in, *kernel)`` of an ungrouped convolution, finite.
        budget: Rank, energy or share of the multiply-accumulates.
        strides: Of the convolution, one a kernel axis.
        schemes: Which to consider.
        seed: Of the random starts of ``cp``.
        gram: See ``ConvForms``.

    Returns:
        The factors; None where no scheme saves anything within the budget.

    Raises:
        ValueError: A weight is not finite, or the budget is none.
    """
    forms = ConvForms(weight, strides, seed, gram)
    best = forms.best(budget, schemes)
    return None if best is None else forms.fitted(best)


class ConvForms:
    """The chains of a convolution, at any rank; what all ranks of a scheme share is found once.

    ``channel`` has a closed form in the metric of a Gram matrix (``decompose``). For the others
    there is none, since rows of neighbouring taps go together: they start from the form that is
    best where the input channels alone are weighted (``spatial``: with the taps of the first
    convolution), and are then fitted to the outputs (``fit_factors``).

    Args:
        weight: ``(out, in, *kernel)``, ungrouped, finite.
        strides: Of the convolution, one a kernel axis.
        seed: Of the random starts of ``cp``.
        gram: ``X^T X`` of the rows that the convolution multiplies, ``(in * prod(kernel), same)``
            in the order of the weight: as little as can be of the *output* is lost. None for as
            little as can be of the weight.
    """

    def __init__(
        self,
        weight: NDArray[Any],
        strides: Sequence[int] = (1, 1),
        seed: int = 0,
        gram: _Floats | None = None,
    ) -> None:
        self.strides, self.seed = strides, seed
        self.metric = OutputMetric(weight.astype(np.float64), gram)
        self._pairs: dict[Scheme, Decomposition] = {}

    def at(self, scheme: Scheme, budget: Budget) -> ConvFactors | None:
        """The form that the budget gives; None where none within it saves anything.

        With a Gram matrix the last convolution alone is fitted to the outputs as yet.

        Raises:
            ValueError: The weight is not finite, or the budget is none.
        """
        if scheme == "tucker":
            found = self._tucker(budget)
        elif scheme == "cp":
            found = self._cp(budget)
        else:
            return self._pair(scheme, budget)
        return found if found is None or self.metric.gram is None else self._fit(found, 0)

    def best(self, budget: Budget, schemes: Sequence[Scheme]) -> ConvFactors | None:
        """Of the forms that the budget gives the one that loses least for what it saves."""
        kernel = self.metric.weight.shape[2:]
        found = [self.at(scheme, budget) for scheme in schemes if applies(scheme, kernel)]
        return min((item for item in found if item), key=lambda item: item.price, default=None)

    def grid(self, scheme: Scheme, share: float) -> list[ConvFactors]:
        """Forms of a scheme to choose among, the cheapest first.

        Args:
            scheme: Which.
            share: Of the multiply-accumulates; there are none far below it.
        """
        shape = self.metric.weight.shape
        if not applies(scheme, shape[2:]):
            return []
        if scheme in ("tucker", "cp"):
            count = _FEW if scheme == "cp" else _SOME
            shares = np.geomspace(max(share, _LEAST_SHARE), _MOST_SHARE, count)
            budgets = [Budget("macs", float(each)) for each in shares]
        else:
            cost = conv_cost(shape, scheme, self.strides)
            width = min(unfold(self.metric.weight, scheme).shape)
            highest = min(cost.highest_rank, width)
            budgets = [Budget("rank", each) for each in ranks_between(share, cost, highest)]
        found = [self.at(scheme, budget) for budget in budgets]
        return [each for each in found if each is not None]

    def fitted(self, found: ConvFactors) -> ConvFactors:
        """The same ranks with all convolutions fitted to the outputs."""
        if self.metric.gram is None or found.scheme == "channel":
            return found
        return self._fit(found, _SWEEPS)

    def _pair(self, scheme: Scheme, budget: Budget) -> ConvFactors | None:
        weight = self.metric.weight
        found = self._pairs.get(scheme)
        if found is None:
            gram = self.metric.gram
            if gram is not None and scheme == "spatial":
                gram = self.metric.inputs(1)
            found = self._pairs[scheme] = decompose(unfold(weight, scheme), gram)
        cost = conv_cost(weight.shape, scheme, self.strides)
        rank = budget.rank(found.values, cost)
        if not rank:
            return None
        first, second = fold(*found.factors(rank), weight.shape, scheme)
        every = tuple(range(weight.ndim - 2))
        axes: tuple[tuple[int, ...], tuple[int, ...]] = (
            ((0,), (1,)) if scheme == "spatial" else (every, ())
        )
        stages = ConvStage(first, axes[0]), ConvStage(second, axes[1])
        made = ConvFactors(scheme, (rank,), stages, found.energy(rank), cost.share(rank))
        fits = scheme == "spatial" and self.metric.gram is not None
        return self._fit(made, 0) if fits else made

    @cached_property
    def _roots(self) -> tuple[_Floats, _Floats] | None:
        """Root of the Gram matrix of the input channels, and its inverse; None without one."""
        return None if self.metric.gram is None else root(self.metric.inputs(0))

    @cached_property
    def _whitened(self) -> _Floats:
        """The weight with its input channels as loud as they are in the outputs."""
        weight = self.metric.weight
        if self._roots is None:
            return weight
        return np.asarray(np.moveaxis(np.tensordot(weight, self._roots[0], (1, 0)), -1, 1))

    @cached_property
    def _spectrum(self) -> Spectrum:
        return spectrum(self._whitened)

    def _tucker(self, budget: Budget) -> ConvFactors | None:
        """1 x 1, k x k, 1 x 1; without the first or the last where its rank is all channels."""
        weight = self.metric.weight
        ranks = choose_ranks(self._spectrum, budget, weight.shape, self.strides)
        if ranks is None:
            return None
        found = tucker(self._spectrum, ranks, weight.shape[2:])
        if self._roots is not None:
            found = unwhitened(found, self._roots[1])
        inner, core, outer = found.balanced()
        stages = [ConvStage(core.astype(np.float32), tuple(range(weight.ndim - 2)))]
        if inner.shape[1] < len(inner):
            stages.insert(0, ConvStage(pointwise(inner.T, weight.ndim)))
        if outer.shape[1] < len(outer):
            stages.append(ConvStage(pointwise(outer, weight.ndim)))
        between = tuple(len(stage.weight) for stage in stages[:-1])
        share = tucker_cost(weight.shape, ranks, self.strides) / weight.size
        return ConvFactors("tucker", between, tuple(stages), found.energy, share)

    def _cp(self, budget: Budget) -> ConvFactors | None:
        """1 x 1, depthwise k x k, 1 x 1: a CP form of three modes, the kernel axes as one.

        Four modes would make two depthwise convolutions, k x 1 and 1 x k, of one. That saves
        ``kh kw - kh - kw`` of ``in + out + kh kw`` per rank, which buys less than what it loses.
        """
        weight = self.metric.weight
        out, channels, *kernel = weight.shape
        cost = cp_cost(weight.shape, self.strides)
        found = choose_cp(self._whitened.reshape(out, channels, -1), budget, cost, self.seed)
        if found is None:
            return None
        outer, inner, window = found.factors
        if self._roots is not None:
            inner = self._roots[1] @ inner
        rank = outer.shape[1]
        middle = np.ascontiguousarray(window.T.reshape(rank, 1, *kernel), dtype=np.float32)
        stages = (
            ConvStage(pointwise(inner.T, weight.ndim)),
            ConvStage(middle, tuple(range(len(kernel))), depthwise=True),
            ConvStage(pointwise(outer, weight.ndim)),
        )
        return ConvFactors("cp", (rank,), stages, found.energy, cost.share(rank))

    def _fit(self, found: ConvFactors, sweeps: int) -> ConvFactors:
        """The chain with its factors fitted to the outputs, ranges of all of them alike."""
        shape = self.metric.weight.shape
        if found.scheme != "spatial":
            shape = (*shape[:2], -1)
        metric = OutputMetric(self.metric.weight.reshape(shape), self.metric.gram)
        names, given = stage_factors(found)
        result = "oihw" if found.scheme == "spatial" else f"{names[0][0]}{names[-1][1]}k"
        factors = evened(names, fit_factors(metric, f"{','.join(names)}->{result}", given, sweeps))
        stages = tuple(
            replace(stage, weight=values.reshape(stage.weight.shape).astype(np.float32))
            for stage, values in zip(found.stages, factors[::-1], strict=True)
        )
        return replace(found, stages=stages, energy=self.metric.kept(compose(stages)))
