"""How much a loss would feel the loss of each weight, from gradients on samples."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Literal

import torch
from torch import Tensor

from graphopt.bridge.module import GraphModule
from graphopt.bridge.to_torch import to_torch
from graphopt.bridge.training.batches import Batch, Batches
from graphopt.bridge.training.criterion import Criterion
from graphopt.bridge.training.goal import goal_of
from graphopt.bridge.training.joining import joinable
from graphopt.bridge.training.logits import as_logits
from graphopt.bridge.training.objective import on_device
from graphopt.bridge.training.setting import quiet_torch
from graphopt.contract.training import LossOptions
from graphopt.data.samples import Samples
from graphopt.data.staged import staged
from graphopt.graph.graph import Graph
from graphopt.graph.tensors import Array
from graphopt.runtime.scratch import scratch_folder
from graphopt.tasks.task import Task

__all__ = ["Loss", "OwnAnswers", "importance", "importance_of"]

_CPU = torch.device("cpu")
_BATCH = 16
_BATCHES = 128
"""More samples than these change ranks little."""


Loss = Callable[[Mapping[str, Tensor], Tensor | None], Tensor]
"""The mean loss over a batch, of a module's answers and the labels."""


class OwnAnswers:
    """The loss against answers that the model itself might have given, for samples without labels.

    Against its own outputs a model has no gradient: they are already what is asked for. So the
    outputs are taken as a distribution, logits z of classes as probabilities p = softmax(z), those
    of yes or no as p = sigmoid(z), numbers as the middle of unit normal errors, and random slopes e
    of the log-likelihood are drawn with the mean and the covariance that drawn answers give: 0, and
    diag(p) - p p^T, p (1 - p) or 1. The loss is the mean
    of e . z. Squares of its gradients estimate the diagonal of the true Fisher information, which
    is how the loss bends; a batch of n gives 1 / n of what single samples give, for all weights
    alike. Normal slopes vary less than those of drawn classes, of which the rare ones count most.

    Args:
        goal: Knows the outputs and what they are.
        seed: Of the draws.

    Source: Theis et al., Faster gaze prediction with dense networks and Fisher pruning (2018),
    section 2.1; Kunstner, Hennig and Balles, Limitations of the Empirical Fisher Approximation
    (2019), section 2, for the true in place of the empirical one.
    """

    def __init__(self, goal: Criterion, seed: int) -> None:
        self._goal = goal
        self._random = torch.Generator().manual_seed(seed)

    def __call__(self, answers: Mapping[str, Tensor], labels: Tensor | None) -> Tensor:  # noqa: ARG002 - there are none
        """The mean loss over the samples of a batch."""
        return torch.stack([self._part(n, answers[n].float()) for n in self._goal.tasks]).sum()

    def _part(self, name: str, answer: Tensor) -> Tensor:
        task = self._goal.tasks[name]
        answer = as_logits(answer, task)
        slopes = torch.randn(answer.shape, generator=self._random)
        if task.kind == "classes":
            chances = answer.detach().softmax(-1)
            slopes = slopes * chances.sqrt()
            slopes = slopes - chances * slopes.sum(-1, keepdim=True)
        elif task.scores:
            chances = answer.detach().sigmoid()
            slopes = slopes * (chances * (1 - chances)).sqrt()
        return (answer * slopes).sum() / max(1, len(answer) if answer.dim() else 1)


def importance(
    module: GraphModule,
    batches: Iterable[Batch],
    loss: Loss,
    kind: Literal["taylor", "snip"],
    names: Collection[str],
    taps: Sequence[str] = (),
) -> dict[str, Array]:
    """Scores of weights: the higher, the more the loss depends on them.

    With the gradient g of the mean loss over a batch, ``taylor`` is the mean over the batches of
    (g * w)^2, ``snip`` that of |g * w|: to first order the change of the loss, squared or not, if
    w were zero. BatchNormalization uses its stored statistics.

    Args:
        module: Left in evaluation mode, without gradients; its weights stay.
        batches: Feeds, and labels where the loss asks for them.
        loss: Of the answers.
        kind: How effects are added up.
        names: The weights to score.
        taps: Inner tensors that the loss asks for beside the outputs.

    Returns:
        By name, of the shape of the weight; those that no gradient reaches are left out.

    Source: Molchanov et al., Importance Estimation for Neural Network Pruning (2019), equation 8;
    Lee, Ajanthan and Torr, SNIP (2019), section 4.1, without the common factor.
    """
    module.eval()
    weights = {name: weight for name, weight in module.weights() if name in names}
    sums: dict[str, Tensor] = {}
    count = 0
    for batch in batches:
        labels = None if batch.labels is None else torch.from_numpy(batch.labels)
        total = loss(module(on_device(batch.feeds, _CPU), taps=taps), labels)
        slopes = torch.autograd.grad(total, list(weights.values()), allow_unused=True)
        count += 1
        for (name, weight), slope in zip(weights.items(), slopes, strict=True):
            if slope is not None:
                effect = (slope * weight).detach().double()
                effect = effect.square() if kind == "taylor" else effect.abs()
                sums[name] = sums[name] + effect if name in sums else effect
    return {name: (total / count).numpy() for name, total in sums.items()}


def importance_of(
    graph: Graph,
    samples: Samples,
    kind: Literal["taylor", "snip"],
    names: Collection[str],
    *,
    seed: int = 0,
    threads: int = 0,
    words: Mapping[str, Task] | None = None,
) -> dict[str, Array]:
    """Scores of a graph's weights; see ``importance``.

    The loss is that against the labels, where there is one for each sample, else that against
    answers drawn from the model itself (``OwnAnswers``). At most 2,048 samples are looked at,
    chosen by the seed.

    Args:
        graph: The model.
        samples: What it is fed.
        kind: How effects are added up.
        names: Weights by the names of ``bridge.names.constants``.
        seed: Of the choice of samples and of drawn answers.
        threads: Threads of torch; 0 for all cores.
        words: What the user says of outputs.

    Raises:
        DataError: The labels fit no output.
        ModelError: A node cannot be computed in torch, or nothing that the model gives is of
            floats, or the largest of such.
        SystemFailure: Disk full.
    """
    module = to_torch(graph, trainable=names)
    with (
        scratch_folder() as folder,
        staged(samples, folder) as found,
        quiet_torch(threads, _CPU),
    ):
        labelled = found.labels is not None and len(found.labels) == samples.count
        losses = LossOptions(alpha=1.0, beta=0.0) if labelled else LossOptions()
        goal, data = goal_of(module, (graph, graph), found, losses, words or {}, samples.count)
        joined = joinable(module, graph, data)
        batches = Batches(data, size=_BATCH, held_out=0, seed=seed, joined=joined)
        loss = _loss(goal, seed)
        steps = range(min(_BATCHES, batches.per_epoch))
        pieces = (piece for step in steps for piece in batches.at(step))
        return importance(module, pieces, loss, kind, names, goal.taps)


def _loss(goal: Criterion, seed: int) -> Loss:
    if goal.judged is None:
        return OwnAnswers(goal, seed)
    return lambda answers, labels: goal.loss(answers, {}, labels)
