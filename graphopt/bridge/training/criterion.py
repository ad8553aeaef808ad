"""The loss of a task: which outputs are compared with what, and how."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

import torch
from torch import Tensor

from graphopt.bridge.training import losses
from graphopt.bridge.training.targets import Kind, block_ends, kind_of
from graphopt.contract.training import LossOptions
from graphopt.errors import DataError, ModelError, UsageError
from graphopt.graph.graph import Graph
from graphopt.graph.tensors import Array

__all__ = ["Criterion", "criterion", "measured"]

_LEAST_PROBABILITY = 1e-7
_BLOCKS = "blocks"


@dataclass(frozen=True)
class Criterion:
    """The loss L = alpha * L_hard + beta * L_soft + gamma * L_features.

    Attributes:
        options: Weights and forms.
        kinds: Of the float outputs, by name.
        judged: The output that labels speak of; None without labels.
        taps: Inner tensors that are compared.
        powers: Mean square of what the teacher answered to the first samples, by tensor.
    """

    options: LossOptions
    kinds: Mapping[str, Kind]
    judged: str | None
    taps: tuple[str, ...]
    powers: Mapping[str, float] = field(default_factory=dict)

    @property
    def asked(self) -> list[str]:
        """What the teacher must answer; nothing where it is not needed."""
        outputs = list(self.kinds) if self.options.beta else []
        return [*outputs, *self.taps]

    def loss(
        self, answers: Mapping[str, Tensor], wanted: Mapping[str, Tensor], labels: Tensor | None
    ) -> Tensor:
        """The loss of a batch.

        Args:
            answers: The student's outputs and taps.
            wanted: The teacher's, as ``asked``.
            labels: Leading axis = samples; needed where ``alpha`` is not zero.
        """
        parts: list[Tensor] = []
        if self.options.beta:
            soft = [self._soft(n, answers[n].float(), wanted[n].float()) for n in self.kinds]
            parts.append(self.options.beta * torch.stack(soft).mean())
        if self.judged is not None and labels is not None:
            parts.append(self.options.alpha * self._hard(answers[self.judged].float(), labels))
        if self.taps:
            near = [self._square(n, answers[n].float(), wanted[n].float()) for n in self.taps]
            parts.append(self.options.gamma * torch.stack(near).mean())
        return torch.stack(parts).sum()

    def verdict(
        self, answers: Mapping[str, Tensor], wanted: Mapping[str, Tensor], labels: Tensor | None
    ) -> Tensor:
        """What decides which weights are kept: the distance to the labels, else the loss.

        A model that starts as its own teacher has no soft loss, so that by the whole loss it would
        stay untrained whatever the labels say. Arguments as those of ``loss``.
        """
        if self.judged is not None and labels is not None:
            return self._hard(answers[self.judged].float(), labels)
        return self.loss(answers, wanted, labels)

    @property
    def metric(self) -> str:
        """What ``score`` measures: accuracy, agreement, cosine, or nothing."""
        if self.judged is not None:
            return "accuracy %" if self._classifies else ""
        kind = next(iter(self.kinds.values()))
        names = {"kl": "agreement %", "cosine": "cosine", "mse": ""}
        return names[self._form(kind)] if self.options.beta else ""

    def score(
        self, answers: Mapping[str, Tensor], wanted: Mapping[str, Tensor], labels: Tensor | None
    ) -> float:
        """Mean of what ``metric`` names over a batch."""
        if self.judged is not None and labels is not None:
            found = answers[self.judged].argmax(-1).reshape(-1)
            return 100 * float((found == labels.reshape(-1)).float().mean())
        name = next(iter(self.kinds))
        mine, theirs = answers[name].float(), wanted[name].float()
        if self.metric == "cosine":
            return float(1 - losses.cosine(mine, theirs))
        return 100 * float((mine.argmax(-1) == theirs.argmax(-1)).float().mean())

    @property
    def _classifies(self) -> bool:
        return self.options.hard == "cross-entropy"

    def _form(self, kind: Kind) -> Literal["kl", "cosine", "mse"]:
        if self.options.soft != "auto":
            return self.options.soft
        return {"logits": "kl", "probabilities": "kl", "embedding": "cosine", "values": "mse"}[kind]  # type: ignore[return-value]

    def _soft(self, name: str, answer: Tensor, wanted: Tensor) -> Tensor:
        form = self._form(self.kinds[name])
        if form == "kl":
            mine, theirs = self.logits(name, answer), self.logits(name, wanted)
            return losses.divergence(mine, theirs, self.options.temperature)
        if form == "cosine":
            return losses.cosine(answer, wanted)
        return self._square(name, answer, wanted)

    def _square(self, name: str, answer: Tensor, wanted: Tensor) -> Tensor:
        return losses.relative_square(answer, wanted, self.powers[name])

    def _hard(self, answer: Tensor, labels: Tensor) -> Tensor:
        assert self.judged is not None
        if self._classifies:
            logits = self.logits(self.judged, answer)
            return losses.cross_entropy(logits.reshape(-1, logits.shape[-1]), labels.reshape(-1))
        return (answer.reshape(labels.shape) - labels.float()).square().mean()

    def logits(self, name: str, values: Tensor) -> Tensor:
        """An output's values as logits, where they are probabilities."""
        if self.kinds[name] == "probabilities":
            return values.clamp_min(_LEAST_PROBABILITY).log()
        return values


def criterion(
    options: LossOptions,
    student: Graph,
    teacher: Graph,
    answers: Mapping[str, Array],
    labels: Array | None,
) -> Criterion:
    """The loss for a student, from what it answers to a first batch.

    Args:
        options: Weights and forms; ``hard=auto`` is settled here.
        student: The model to train.
        teacher: The model to learn from.
        answers: The student's outputs for some batch.
        labels: All labels; None without.

    Raises:
        DataError: Labels are asked for and there are none, or they fit no output.
        ModelError: No output is of floats.
        UsageError: A feature is missing in one of the models.
    """
    kinds: dict[str, Kind] = {
        name: kind_of(student, name, value.ndim, value.shape[-1] if value.ndim else 1)
        for name, value in answers.items()
        if value.dtype.kind == "f"
    }
    if not kinds:
        raise ModelError("the model has no output of floats; there is nothing to train it by")
    judged = None
    if options.alpha:
        judged, hard = _judged(options, answers, kinds, labels)
        options = replace(options, hard=hard)
    return Criterion(options, kinds, judged, _taps(options, student, teacher))


def measured(
    goal: Criterion, answers: Mapping[str, Tensor], wanted: Mapping[str, Tensor]
) -> Criterion:
    """The criterion with the teacher's powers, after a look whether both models answer alike.

    Args:
        goal: Without powers.
        answers: The student's outputs and taps for some samples.
        wanted: The teacher's, as ``goal.asked``, for the same.

    Raises:
        ModelError: A tensor of the teacher has another shape than the student's.
    """
    for name, values in wanted.items():
        mine, theirs = list(answers[name].shape), list(values.shape)
        if mine != theirs:
            raise ModelError(
                f"tensor {name!r} has shape {theirs} in the teacher and {mine} in the student; "
                "they can only be compared where the shapes agree"
            )
    powers = {name: float(values.double().square().mean()) for name, values in wanted.items()}
    return replace(goal, powers=powers)


def _taps(options: LossOptions, student: Graph, teacher: Graph) -> tuple[str, ...]:
    if not options.gamma or not options.features:
        return ()
    found: Sequence[str] = options.features
    if _BLOCKS in found:
        found = block_ends(student, teacher)
        if not found:
            raise UsageError("features=blocks: the models share no residual sum; name tensors")
    for name in found:
        for graph, role in ((student, "student"), (teacher, "teacher")):
            if graph.main.producer(name) is None:
                raise UsageError(f"features: the {role} computes no tensor {name!r}")
    return tuple(found)


def _judged(
    options: LossOptions,
    answers: Mapping[str, Array],
    kinds: Mapping[str, Kind],
    labels: Array | None,
) -> tuple[str, Literal["cross-entropy", "mse"]]:
    """The output that the labels speak of, and how they are compared."""
    if labels is None:
        raise DataError(
            "the training data has no labels; add an array 'labels' (labels.npy in a folder)"
        )
    hard = options.hard
    if hard == "auto":
        hard = "cross-entropy" if labels.dtype.kind in "iu" else "mse"
    elif hard == "cross-entropy" and labels.dtype.kind not in "iu":
        raise DataError(f"labels of type {labels.dtype} are no class numbers")
    per_sample = labels.size // len(labels)
    fitting = [
        name
        for name, answer in answers.items()
        if name in kinds
        and answer.ndim
        and answer.size // len(answer) == per_sample * _width(answer, hard)
    ]
    classes = [name for name in fitting if kinds[name] in ("logits", "probabilities")]
    if hard == "mse" and fitting:
        return fitting[0], hard
    if hard == "cross-entropy" and (classes or (fitting and options.hard == hard)):
        name = (classes or fitting)[0]
        width = answers[name].shape[-1]
        if labels.min() < 0 or labels.max() >= width:
            raise DataError(
                f"labels from {labels.min()} to {labels.max()} where output {name!r} has "
                f"{width} classes"
            )
        return name, hard
    hint = f"; output {fitting[0]!r} could hold classes: say hard=cross-entropy" if fitting else ""
    raise DataError(f"labels of shape {list(labels.shape)} fit no output for hard={hard}{hint}")


def _width(answer: Array, hard: Literal["cross-entropy", "mse"]) -> int:
    """Values of an output that one label speaks of."""
    return int(answer.shape[-1]) if hard == "cross-entropy" else 1
