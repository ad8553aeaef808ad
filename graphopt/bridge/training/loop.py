"""The training loop."""

from __future__ import annotations

import logging
import math
import time
import warnings
from contextlib import nullcontext
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from graphopt.bridge.training import optimizers
from graphopt.bridge.training.average import Average
from graphopt.bridge.training.batches import Batch
from graphopt.bridge.training.best import BestSoFar, Look
from graphopt.bridge.training.objective import Objective, channels_last, on_device
from graphopt.bridge.training.processes import Processes
from graphopt.bridge.training.schedule import rate
from graphopt.bridge.training.state import Stored
from graphopt.bridge.training.task import TrainingTask, held_out_look
from graphopt.contract.curves import TrainingCurves
from graphopt.contract.training import Training, TrainOptions

__all__ = ["Loop"]

logger = logging.getLogger(__name__)

_SAVE_SECONDS = 60.0
_PICTURE_RANK = 4


class Loop:
    """Trains a module and leaves it with the weights that did best on the held-out part.

    All random choices follow from the seed and the number of the step, so that a run that goes on
    from a checkpoint takes the very steps that it would have taken.

    Args:
        task: What is trained.
        options: How.
        training: Where.
        team: This process among those that train together.
        fingerprint: Identifies the run, so that it takes up its own checkpoint and no other.
    """

    def __init__(
        self,
        task: TrainingTask,
        options: TrainOptions,
        training: Training,
        team: Processes,
        fingerprint: str,
    ) -> None:
        self.task, self.options, self.training, self.team = task, options, training, team
        self._total = options.total(task.batches.per_epoch)
        self._scoring = task.criterion.scoring
        self._metric_name = "" if self._scoring is None else self._scoring.figure.name
        marks = {
            round(self._total * (n + 1) / options.evaluations) for n in range(options.evaluations)
        }
        self._marks = frozenset(mark for mark in marks if mark)
        module = task.module.to(team.device)
        if any(weight.dim() == _PICTURE_RANK for weight in module.parameters()):
            channels_last(module)
        self._optimizer = optimizers.make(
            options.optimizer, module.parameters(), options.lr, options.weight_decay
        )
        self._average = Average(module, options.ema) if options.ema else None
        self._best: dict[str, Tensor] = {}
        held_out = task.batches.held_out_count > 0
        decides = held_out and self._scoring is not None and self._scoring.decides
        self._so_far = BestSoFar(self._scoring.figure if self._scoring and decides else None)
        self._sum, self._summed = 0.0, 0
        self._began = time.perf_counter()
        half = options.precision == "bfloat16" or (
            options.precision == "auto" and team.device.type == "cuda"
        )
        self._objective: nn.Module = Objective(module, task.criterion, half=half)
        if team.world > 1:
            self._objective = _distributed(self._objective, partial=task.partial)
        self.history = TrainingCurves(
            self._total, task.batches.count, task.batches.held_out_count, self._metric_name
        )
        if task.batches.held_out_count:
            self.history.kept_by = self._metric_name if decides else "loss"
        self._stored = Stored(
            options.name,
            training.checkpoints,
            fingerprint,
            module,
            self._optimizer,
            self._average,
            task.hooks,
        )

    def run(self) -> TrainingCurves:
        """Train; where a deadline comes before the last step, the rate has fallen by then.

        Raises:
            PassError: The loss does not depend on any weight.
            SystemFailure: A checkpoint cannot be written.
            UsageError: There is a checkpoint, of another run.
        """
        started = time.monotonic()
        step = self._resume()
        before = self.history.seconds
        for hook in self.task.hooks:
            hook.began(step, self._total)
        saved = time.monotonic()
        if step == 0:
            self._evaluate(0)
        while step < self._total and not self.history.stopped and self._step(step):
            step += 1
            if self.training.progress is not None:
                self.training.progress(self.options.name, step, self._total, self._detail())
            if step in self._marks:
                self._evaluate(step)
            self._ask_the_clock(step)
            if step in self._marks or time.monotonic() - saved > _SAVE_SECONDS:
                self.history.seconds = before + time.monotonic() - started
                self._save(step)
                saved = time.monotonic()
        if self._best:
            self.task.module.load_state_dict(self._best)
        self.task.module.eval()
        self.history.seconds = before + time.monotonic() - started
        return self.history

    def _ask_the_clock(self, step: int) -> None:
        """End where the time is over, with a last look at the held-out part; all processes do."""
        deadline = self.training.deadline
        if deadline.seconds is None or not any(self.team.total(float(deadline.over))):
            return
        if step < self._total:
            self.history.stopped = deadline.told(f"step {step} of {self._total} was the last")
            if step not in self._marks:
                self._evaluate(step)

    def _reached(self, step: int) -> float:
        """The step by which the rate goes: a later one where the time ends before the steps do."""
        deadline = self.training.deadline
        if deadline.seconds is None:
            return step
        return max(step, self.team.mean(deadline.passed(self._began)) * self._total)

    # one step

    def _step(self, step: int) -> bool:
        """Gradients over all pieces of the step's batch, then one update; False if it diverged."""
        module, options = self.task.module, self.options
        module.train()
        self._seed(step)
        for group in self._optimizer.param_groups:
            group["lr"] = options.lr * rate(self._reached(step), self._total, options.warmup)
        self._optimizer.zero_grad()
        pieces = self.task.batches.at(step)
        total = 0.0
        for index, piece in enumerate(pieces):
            with nullcontext() if index == len(pieces) - 1 else self._unsynced():
                loss = self._loss(self._augmented(piece, step, index)) * piece.weight
                torch.autograd.backward(loss)
            total += float(loss.detach())
        total = self.team.mean(total)
        if not math.isfinite(total):
            self._diverged(step)
            return False
        for hook in self.task.hooks:
            hook.before_update(step)
        if options.clip_norm is not None:
            nn.utils.clip_grad_norm_(module.parameters(), options.clip_norm)
        self._optimizer.step()
        for hook in self.task.hooks:
            hook.after_update(step)
        self.team.spread(_moved_aside(module))
        if self._average is not None:
            self._average.update(step)
        self._sum, self._summed = self._sum + total, self._summed + 1
        return True

    def _seed(self, step: int) -> None:
        """Dropout draws the same at the same step, and other numbers in each process."""
        mixed = np.random.SeedSequence([self.training.seed, 3, step, self.team.rank])
        torch.manual_seed(int(mixed.generate_state(1)[0]))

    def _unsynced(self) -> Any:
        if isinstance(self._objective, DistributedDataParallel):
            return self._objective.no_sync()
        return nullcontext()

    def _augmented(self, piece: Batch, step: int, index: int) -> Batch:
        rng = np.random.default_rng([self.training.seed, 2, step, index, self.team.rank])
        return replace(piece, feeds=self.task.augment(piece.feeds, rng))

    def _loss(self, batch: Batch) -> Tensor:
        device = self.team.device
        wanted = self.task.wanted(batch, device, changed=bool(self.task.augment))
        feeds = on_device(batch.feeds, device)
        loss: Tensor = self._objective(feeds, wanted, self.task.labels(batch, device))
        return loss

    def _diverged(self, step: int) -> None:
        self.history.diverged = True
        self.history.stopped = (
            f"the loss is not finite at step {step + 1} of {self._total}; give a lower lr than "
            f"{self.options.lr:g}, or clip_norm=1"
        )

    def _detail(self) -> str:
        """How the training goes, in words: loss since the last look, and what that look found."""
        history = self.history
        recent = self._sum / self._summed if self._summed else history.loss[-1][1]
        parts = [f"loss {recent:.4g}"]
        if history.held_out_loss:
            parts.append(f"held-out {history.held_out_loss[-1][1]:.4g}")
        if history.scores:
            parts.append(f"{history.metric} {history.scores[-1][1]:.4g}")
        return ", ".join(parts)

    # the held-out part

    def _evaluate(self, step: int) -> None:
        """Loss and score of the held-out part; keeps the weights if they are the best so far."""
        history, module = self.history, self.task.module
        if step:
            history.loss.append((step, self._sum / max(1, self._summed)))
            self._sum, self._summed = 0.0, 0
        complete = all(hook.complete(step) for hook in self.task.hooks)
        with nullcontext() if self._average is None else self._average.in_place():
            for hook in self.task.hooks:
                hook.judged()
            # without a held-out part the last weights count
            last = Look(-float(step), np.zeros((0, 0)))
            look = self._judged(step) if self.task.batches.held_out_count else last
            if not all(bool(weight.isfinite().all()) for weight in module.parameters()):
                look = replace(look, distance=math.inf)
            if complete and self._so_far.takes(look, first=step == 0):
                history.best_step = step
                self._best = {k: v.detach().clone() for k, v in module.state_dict().items()}
        self._lose_patience(step)

    def _judged(self, step: int) -> Look:
        """What the held-out part says, by an infinite distance if by no number; it is noted."""
        history = self.history
        look, loss = held_out_look(self.task, self.team)
        loss = loss if math.isfinite(loss) else math.inf
        history.held_out_loss.append((step, loss))
        scoring = self._scoring
        score = 0.0 if scoring is None else scoring.figure.value(look.counts.sum(0).tolist())
        if history.metric:
            history.scores.append((step, score))
        for hook in self.task.hooks:
            hook.scored(step, score if history.metric else None)
        logger.info(
            "%s: step %d of %d: held-out loss %.4g, %s %.4g",
            *(self.options.name, step, self._total, loss, history.metric or "no metric", score),
        )
        return look if math.isfinite(look.distance) else replace(look, distance=math.inf)

    def _lose_patience(self, step: int) -> None:
        patience = self.options.patience
        if patience is None or not self._best or step == self._total:
            return
        waited = sum(mark > self.history.best_step for mark, _ in self.history.held_out_loss)
        if waited >= patience:
            self.history.stopped = f"no gain on the held-out part in {waited} evaluations"

    # the state on disk

    def _save(self, step: int) -> None:
        if self.team.leads:
            sums = (self._sum, self._summed)
            self._stored.save(step, self.history, self._best, self._so_far.state(), sums)

    def _resume(self) -> int:
        """Take up an earlier run; gives the steps that it had done."""
        if self.team.leads:
            self._stored.prepare()
        found = self._stored.load()
        step = 0 if found is None else found.history.resumed
        self.team.require_same(step)
        if found is None:
            return 0
        self.history, self._best = found.history, found.best
        self._so_far.load(found.so_far)
        self._sum, self._summed = found.sums
        logger.info("%s: goes on from step %d", self.options.name, step)
        return step


def _distributed(objective: nn.Module, *, partial: bool) -> nn.Module:
    """The objective, averaging its gradients over all processes.

    Running statistics are left to the loop: it spreads them before an average takes them in.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # torch 2.13 has another name for the option
        return DistributedDataParallel(
            objective, broadcast_buffers=False, find_unused_parameters=partial
        )


def _moved_aside(module: nn.Module) -> list[Tensor]:
    """What a step moves without a gradient: running statistics."""
    weights = {name for name, _ in module.named_parameters()}
    return [t for name, t in module.state_dict().items() if name not in weights]
