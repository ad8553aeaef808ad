"""Weights that become zero in the course of a training, more and more of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor, nn

from graphopt.bridge.module import GraphModule
from graphopt.bridge.training.hooks import Hook
from graphopt.bridge.training.schedule import sparsity
from graphopt.contract.training import PruningOptions
from graphopt.errors import PassError
from graphopt.graph.tensors import Array
from graphopt.numerics import scores
from graphopt.numerics.scores import PATTERNS

__all__ = ["GradualPruning"]


class GradualPruning(Hook):
    """Removes weights round by round; what was removed is zero whenever the module computes.

    Args:
        module: Holds the weights that the plan names.
        options: How much goes and when.
        pools: Names of the weights, grouped by those that compete with each other.
        axes: Axis of the neighbours of a pattern, by name; needed with one.
        given: Scores by weight name that hold from the start, in place of the criterion.
        hold_zeros: Weights that are zero before stay so.
    """

    def __init__(
        self,
        module: GraphModule,
        options: PruningOptions,
        pools: Sequence[Sequence[str]],
        *,
        axes: Mapping[str, int] | None = None,
        given: Mapping[str, Array] | None = None,
        hold_zeros: bool = True,
    ) -> None:
        held = dict(module.weights())
        self._options, self._pools, self._axes = options, pools, axes or {}
        self._criterion = "given" if given else options.criterion
        self._regrow = options.regrow and options.schedule != "once"
        self._weights: dict[str, nn.Parameter] = {n: held[n] for pool in pools for n in pool}
        self._given = dict(given or {})
        self._zeros = {
            name: (weight == 0).numpy() if hold_zeros else np.zeros(weight.shape, bool)
            for name, weight in self._weights.items()
        }
        self._gone = {name: torch.from_numpy(zero) for name, zero in self._zeros.items()}
        self._dense: dict[str, Tensor] = {}
        self._sums: dict[str, Tensor] = {}
        self._last = 1
        self._moments: dict[int, float] = {}
        self._drawn = 0.0
        self._stopped: int | None = None

    @property
    def identity(self) -> str:
        """What goes and when."""
        return repr((self._options, self._pools))

    @property
    def stopped(self) -> int | None:
        """The step at which the limit was met before all had gone; None where it was not."""
        return self._stopped

    @property
    def masks(self) -> dict[str, Tensor]:
        """Where weights stay, by name."""
        return {name: ~gone for name, gone in self._gone.items()}

    def began(self, step: int, total: int) -> None:
        """Settle at which steps something goes, and go ahead where that is before the first."""
        options = self._options
        self._gone = {n: gone.to(self._weights[n].device) for n, gone in self._gone.items()}
        if self._criterion in ("movement", "taylor") and not self._sums:
            self._sums = {n: torch.zeros_like(weight) for n, weight in self._weights.items()}
        if options.schedule == "once":
            self._last = 1
            self._moments = {0: 1.0}
        else:
            self._last = max(1, round(options.until * total))
            rounds = min(options.rounds, self._last)
            gap = self._last / rounds
            count = int(total / gap) if self._regrow else rounds
            self._moments = {round(gap * n): min(1.0, n / rounds) for n in range(1, count + 1)}
        if self._regrow and not self._dense:
            self._dense = {n: weight.detach().clone() for n, weight in self._weights.items()}
        if step == 0 and 0 in self._moments:
            self._draw(self._moments[0])
        self._mask()

    def before_update(self, step: int) -> None:  # noqa: ARG002 - the same at each
        """Let the optimizer move the unmasked weights, and add up what the gradients say."""
        with torch.no_grad():
            for name, dense in self._dense.items():
                self._weights[name].copy_(dense)
            for name, held in self._sums.items():
                weight = self._weights[name]
                if weight.grad is not None:
                    product = weight * weight.grad
                    held.add_(product.square() if self._criterion == "taylor" else -product)

    def after_update(self, step: int) -> None:
        """Draw new masks where it is time, and apply them."""
        with torch.no_grad():
            for name, dense in self._dense.items():
                dense.copy_(self._weights[name])
        if step + 1 in self._moments:
            self._draw(self._moments[step + 1])
        self._mask()

    def scored(self, step: int, score: float | None) -> None:
        """Take no more where the score is below the limit; what is left of the steps repairs.

        Raises:
            PassError: There is a limit and no score.
        """
        limit = self._options.min_score
        if limit is None or self._stopped is not None or self._drawn == 1:
            return
        if score is None:
            raise PassError("min_score: outputs that are compared by mse have no score")
        if score < limit:
            self._stopped = step

    def judged(self) -> None:
        """An average of weights has no zeros where masks have changed; these do."""
        self._mask()

    def complete(self, step: int) -> bool:
        """Whether all that has to go is gone, and something was trained since."""
        return step >= self._last or (self._stopped is not None and step > self._stopped)

    def state(self) -> dict[str, Tensor]:
        """How far it is, masks, sums of gradients, and the weights behind the masks."""
        stopped = -1 if self._stopped is None else self._stopped
        found = {"far/": torch.tensor([self._drawn, stopped], dtype=torch.float64)}
        found |= {f"gone/{name}": gone for name, gone in self._gone.items()}
        found |= {f"sum/{name}": total for name, total in self._sums.items()}
        return found | {f"dense/{name}": dense for name, dense in self._dense.items()}

    def load(self, state: Mapping[str, Tensor]) -> None:
        """Take back what ``state`` gave."""
        drawn, stopped = state["far/"].tolist()
        self._drawn, self._stopped = drawn, None if stopped < 0 else int(stopped)
        held: dict[str, dict[str, Tensor]] = {"gone": {}, "sum": {}, "dense": {}}
        for key, tensor in state.items():
            kind, name = key.split("/", 1)
            if name:
                held[kind][name] = tensor.to(self._weights[name].device)
        self._gone, self._sums, self._dense = held["gone"], held["sum"], held["dense"]

    def _mask(self) -> None:
        with torch.no_grad():
            for name, gone in self._gone.items():
                self._weights[name].masked_fill_(gone, 0)

    def _draw(self, progress: float) -> None:
        """New masks for every pool; without further zeros where the limit was met."""
        if self._stopped is None:
            self._drawn = progress
        for pool in self._pools:
            ranks = [self._scores(name) for name in pool]
            for name, keep in zip(pool, self._masks(pool, ranks), strict=True):
                self._gone[name] = torch.from_numpy(~keep).to(self._weights[name].device)
        if self._criterion == "taylor":
            for total in self._sums.values():
                total.zero_()

    def _masks(self, pool: Sequence[str], ranks: list[Array]) -> list[Array]:
        options, pattern = self._options, PATTERNS[self._options.pattern]
        zeros = sum(int(self._zeros[name].sum()) for name in pool)
        size = sum(rank.size for rank in ranks)
        last = scores.zero_count(size, options.sparsity)
        if pattern is not None:
            last = 0
            for index, name in enumerate(pool):
                may_go = ~scores.pattern_mask(ranks[index], pattern, self._axes[name])
                may_go |= self._zeros[name]
                last += int(may_go.sum())
                ranks[index] = np.where(may_go, ranks[index], np.inf)
        share = sparsity(options.schedule, self._drawn, zeros / size, last / size)
        return [*scores.lowest_masks(ranks, max(zeros, round(share * size)))]

    def _scores(self, name: str) -> Array:
        """How much a weight's elements matter; what must be zero, or stays so, matters least."""
        if self._criterion == "magnitude":
            held = self._dense.get(name, self._weights[name])
            found = held.detach().abs().float().cpu().numpy()
        elif self._criterion == "given":
            found = self._given[name]
        else:
            found = self._sums[name].float().cpu().numpy()
        gone = self._zeros[name]
        if not self._regrow:
            gone = gone | self._gone[name].cpu().numpy()
        return np.where(gone, -np.inf, found)
