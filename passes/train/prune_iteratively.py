"""Pass ``prune-iteratively``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Annotated, Literal

from graphopt.contract.examples import Example
from graphopt.contract.passes import Changes, Context, Option, missed_budget
from graphopt.contract.preconditions import Unquantized
from graphopt.contract.registry import register
from graphopt.contract.training import PruningOptions
from graphopt.errors import PassError, UsageError
from graphopt.facts.select import select
from graphopt.facts.weights import WeightGroup
from graphopt.families.chosen import MinSize
from graphopt.families.masking import (
    gradient_scores,
    held_values,
    input_axis,
    note_zeros,
    prunable,
    reached,
    zero_share,
    zeros_in,
    zeros_of,
)
from graphopt.families.training import DistillingPass, distilling_examples, told
from graphopt.graph.graph import Graph
from graphopt.graph.tensors import Array
from graphopt.numerics.scores import PATTERNS, AskedZeros

if TYPE_CHECKING:
    from graphopt.bridge.module import GraphModule
    from graphopt.bridge.training.pruning import GradualPruning

__all__ = ["PruneIteratively"]


@register("prune-iteratively")
@dataclass(frozen=True, kw_only=True)
class PruneIteratively(PruningOptions, DistillingPass):
    """Set more and more weights to zero while the others are trained to make up for them.

        W      becomes      W' * mask, with S(x; W' * mask) close to T(x)

    Every few steps a share of the weights that matter least goes: ``cubic`` takes much at first and
    little at the end, ``even`` the same each time, ``once`` all before the first step. From
    ``until`` on no more go and the rest of the steps repairs. Exactly the asked share is zero at
    the end. With ``regrow`` a weight that went is trained on behind its mask, by the gradient that
    it would feel at zero, and comes back in a later round if it has grown above others;
    at high rates masks may flutter.

    The loss is that of distill: towards the model as it came in, or ``--teacher``, and labels with
    ``alpha``. What matters is told by the weight itself (``magnitude``), by where training moves it
    (``movement``), by its effect on the loss to first order (``taylor``), or by that effect before
    training (``snip``). ``prune`` and ``keep`` choose the layers that lose weights, ``nodes`` and
    ``exclude`` what is trained. With ``min_score`` it ends at fewer zeros once the held-out score
    (agreement with the teacher, accuracy or cosine) was below. A file that has the zeros already
    stays as it is.

    Source: Zhu and Gupta, To prune, or not to prune (2017), equation 1; Lin et al., Dynamic Model
    Pruning with Feedback (2020); Sanh, Wolf and Rush, Movement Pruning (2020); Molchanov et al.,
    Importance Estimation for Neural Network Pruning (2019); Lee, Ajanthan and Torr, SNIP (2019).
    """

    min_size: MinSize = 256
    prune: Annotated[
        tuple[str, ...],
        Option("take weights of nodes of these names, types or kinds only", patterns=True),
    ] = ()
    keep: Annotated[
        tuple[str, ...], Option("take none of these names, types or kinds", patterns=True)
    ] = ()
    lr: Annotated[float, Option("highest learning rate", low=0, low_open=True)] = 2e-3
    requires = (*DistillingPass.requires, Unquantized())

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.criterion == "movement" and self.schedule == "once":
            raise UsageError(
                f"{self.name}: criterion=movement watches the training before it takes weights; "
                "use schedule=cubic or even"
            )
        if self.min_score is not None and not self.held_out:
            raise UsageError(f"{self.name}: min_score needs a held-out part; give held_out")

    def run(self, graph: Graph, context: Context) -> Changes:
        changes = Changes()
        pattern = PATTERNS[self.pattern]
        chosen = select(graph, self.prune, self.keep)
        layers = prunable(graph, chosen, self.min_size, AskedZeros(self.sparsity, pattern), changes)
        if all(reached(pool, self.sparsity, pattern) for pool in self._pools(layers)):
            for layer in layers:
                changes.skip(layer.name, "it has the zeros that are asked for already")
            return changes
        before = [zeros_in(layer.constant.values) for layer in layers]
        trainee = self.trainee(graph, context)
        hook = self._hook(graph, context, trainee.module, layers)
        curves = self.train(trainee, context, self, [hook])
        if curves.stopped and not curves.best_step and not hook.complete(0):
            raise PassError(f"{self.name}: {curves.stopped}, before all that should go was gone")
        told(curves, changes, trainee.write_back(graph) if curves.best_step else [])
        if hook.stopped is not None:
            asked = self.sparsity if pattern is None else pattern.sparsity
            reason = (
                f"the held-out score fell below {self.min_score:g} at step {hook.stopped} of "
                f"{curves.steps}"
            )
            left = zero_share(layers)
            changes.missed = missed_budget("sparsity", asked, left, reason, least=True)
        for layer, zeros in zip(layers, before, strict=True) if curves.best_step else []:
            changes.edit(layer.name, zeros_of(held_values(layer)))
            note_zeros(changes, layer, zeros, held_values(layer))
        return changes

    def _pools(self, layers: Sequence[WeightGroup]) -> list[list[WeightGroup]]:
        """The weights, grouped by those that compete with each other."""
        return [list(layers)] if self.scope == "global" else [[layer] for layer in layers]

    def _hook(
        self, graph: Graph, context: Context, module: GraphModule, layers: Sequence[WeightGroup]
    ) -> GradualPruning:
        from graphopt.bridge.names import names_of  # noqa: PLC0415 - torch is heavy
        from graphopt.bridge.training.pruning import GradualPruning  # noqa: PLC0415

        trained = {name for name, _ in module.weights()}
        names = names_of(graph, [layer.constant for layer in layers])
        for layer, name in zip(layers, names, strict=True):
            if name not in trained:
                raise PassError(
                    f"{self.name}: {layer.name} is to lose weights and is not trained; put it into "
                    "keep, or let nodes and exclude have it trained"
                )
        held = [name for name in names if name is not None]
        called = {id(layer): name for layer, name in zip(layers, held, strict=True)}
        given: dict[str, Array] = {}
        first = self._scores_first
        if first is not None:
            ranks = gradient_scores(graph, context, layers, first, self.name)
            given = dict(zip(held, ranks, strict=True))
        return GradualPruning(
            module,
            self,
            tuple(tuple(called[id(x)] for x in pool) for pool in self._pools(layers)),
            axes={name: input_axis(layer) for name, layer in zip(held, layers, strict=True)},
            given=given,
            hold_zeros=self.keep_zeros,
        )

    @property
    def _scores_first(self) -> Literal["taylor", "snip"] | None:
        """The criterion, where it speaks before the first step and holds from then on."""
        if self.criterion == "snip" or (self.criterion == "taylor" and self.schedule == "once"):
            return self.criterion
        return None

    @classmethod
    def examples(cls) -> Sequence[Example]:
        first, *others = distilling_examples(
            Example("cnn", {"rounds": 3, "lr": 1e-3}, "", 24, "classes")
        )
        return [
            first,
            *(each.but(keep=("conv_0",)) for each in others),
            first.but(sparsity=0.7, scope="local", criterion="movement", schedule="even"),
            first.but(criterion="taylor", regrow=True, until=0.5, min_score=1.0, min_size=0),
            first.but(criterion="snip", schedule="once", prune=("Conv",), keep=("conv_0",)),
            *(first.but(pattern=each) for each in ("2:4", "1:4", "4:8")),
            replace(first.but(batch_norm="insert"), before="fuse-batchnorm"),
        ]
