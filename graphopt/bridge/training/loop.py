"""The training loop."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from graphopt.bridge.module import GraphModule
from graphopt.bridge.training import checkpoint, optimizers
from graphopt.bridge.training.augment import Augment
from graphopt.bridge.training.average import Average
from graphopt.bridge.training.batches import Batch, Batches
from graphopt.bridge.training.criterion import Criterion
from graphopt.bridge.training.history import History
from graphopt.bridge.training.hooks import Hook
from graphopt.bridge.training.options import TrainOptions
from graphopt.bridge.training.processes import Processes
from graphopt.bridge.training.schedule import rate
from graphopt.bridge.training.teacher import Teacher
from graphopt.graph.tensors import Array
from graphopt.progress import Progress

__all__ = ["Loop", "Setting"]

logger = logging.getLogger(__name__)

_SAVE_SECONDS = 60.0
_PICTURE_RANK = 4


@dataclass(frozen=True)
class Setting:
    """What surrounds a training.

    Attributes:
        name: What it is called in messages.
        seed: Of all random numbers.
        threads: Threads of torch and onnxruntime; 0 for all cores.
        device: ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.
        checkpoints: Folder that the state is kept in, to be taken up later; None for nowhere.
        progress: Told what is going on, how far it is and how far it goes.
    """

    name: str
    seed: int = 0
    threads: int = 0
    device: str = "auto"
    checkpoints: Path | None = None
    progress: Progress | None = None


@dataclass(frozen=True)
class Task:
    """What is trained, on what, by what loss.

    Attributes:
        module: Trained in place.
        batches: The samples.
        criterion: The loss.
        teacher: Answers what the criterion asks; None where it asks nothing.
        augment: Changes the pictures that are trained on.
        hooks: Act on the weights beside the optimizer.
    """

    module: GraphModule
    batches: Batches
    criterion: Criterion
    teacher: Teacher | None
    augment: Augment
    hooks: Sequence[Hook]


class Loop:
    """Trains a module and leaves it with the weights that did best on the held-out part.

    All random choices follow from the seed and the number of the step, so that a run that goes on
    from a checkpoint takes the very steps that it would have taken.

    Args:
        task: What is trained.
        options: How.
        setting: Where.
        team: This process among those that train together.
        fingerprint: Identifies the run, so that it takes up its own checkpoint and no other.
    """

    def __init__(
        self,
        task: Task,
        options: TrainOptions,
        setting: Setting,
        team: Processes,
        fingerprint: str,
    ) -> None:
        self.task, self.options, self.setting, self.team = task, options, setting, team
        self._fingerprint = fingerprint
        self._path: Path | None = None
        if setting.checkpoints is not None:
            self._path = setting.checkpoints / f"{setting.name}-{fingerprint[:16]}.npz"
        self._total = options.total(task.batches.per_epoch)
        marks = {
            round(self._total * (n + 1) / options.evaluations) for n in range(options.evaluations)
        }
        self._marks = frozenset(mark for mark in marks if mark)
        module = task.module.to(team.device)
        if any(weight.dim() == _PICTURE_RANK for weight in module.parameters()):
            module.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self._optimizer = optimizers.make(
            options.optimizer, module.parameters(), options.lr, options.weight_decay
        )
        self._average = Average(module, options.ema) if options.ema else None
        self._best: dict[str, Tensor] = {}
        self._best_loss = math.inf
        self._sum, self._summed = 0.0, 0
        self._called: nn.Module = module
        if team.world > 1:
            self._called = DistributedDataParallel(module, find_unused_parameters=True)
        self.history = History(
            self._total, task.batches.count, task.batches.held_out_count, task.criterion.metric
        )

    def run(self) -> History:
        """Train.

        Raises:
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
            if self.setting.progress is not None:
                self.setting.progress(self.setting.name, step, self._total, self._detail())
            if step in self._marks:
                self._evaluate(step)
            if step in self._marks or time.monotonic() - saved > _SAVE_SECONDS:
                self.history.seconds = before + time.monotonic() - started
                self._save(step)
                saved = time.monotonic()
        self._finish()
        self.history.seconds = before + time.monotonic() - started
        return self.history

    # one step

    def _step(self, step: int) -> bool:
        """Gradients over all pieces of the step's batch, then one update; False if it diverged."""
        module, options = self.task.module, self.options
        module.train()
        torch.manual_seed(self.setting.seed + step * self.team.world + self.team.rank)
        for group in self._optimizer.param_groups:
            group["lr"] = options.lr * rate(step, self._total, options.warmup)
        self._optimizer.zero_grad()
        pieces = self.task.batches.at(step)
        size = sum(len(piece.numbers) for piece in pieces)
        total = 0.0
        for index, piece in enumerate(pieces):
            share = len(piece.numbers) / size
            last = index == len(pieces) - 1
            with nullcontext() if last else self._unsynced():
                loss = self._loss(self._augmented(piece, step, index)) * share
                loss.backward()  # type: ignore[no-untyped-call]
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
        if self._average is not None:
            self._average.update(step)
        self._sum, self._summed = self._sum + total, self._summed + 1
        return True

    def _unsynced(self) -> Any:
        if isinstance(self._called, DistributedDataParallel):
            return self._called.no_sync()
        return nullcontext()

    def _augmented(self, piece: Batch, step: int, index: int) -> Batch:
        rng = np.random.default_rng([self.setting.seed, 2, step, index, self.team.rank])
        return replace(piece, feeds=self.task.augment(piece.feeds, rng))

    def _loss(self, batch: Batch) -> Tensor:
        wanted = self._wanted(batch, changed=bool(self.task.augment))
        answers = self._answers(batch)
        return self.task.criterion.loss(answers, wanted, self._labels(batch))

    def _answers(self, batch: Batch) -> dict[str, Tensor]:
        feeds = {name: self._tensor(array) for name, array in batch.feeds.items()}
        device = self.team.device.type
        half = self.options.precision == "bfloat16" or (
            self.options.precision == "auto" and device == "cuda"
        )
        with torch.autocast(device, torch.bfloat16, enabled=half):
            answers: dict[str, Tensor] = self._called(feeds, taps=self.task.criterion.taps)
        return answers

    def _wanted(self, batch: Batch, *, changed: bool) -> dict[str, Tensor]:
        if self.task.teacher is None:
            return {}
        found = self.task.teacher(batch, changed=changed)
        return {name: self._tensor(np.asarray(array)) for name, array in found.items()}

    def _labels(self, batch: Batch) -> Tensor | None:
        return None if batch.labels is None else self._tensor(batch.labels)

    def _tensor(self, array: Array) -> Tensor:
        tensor = torch.from_numpy(np.ascontiguousarray(array)).to(self.team.device)
        if tensor.dim() == _PICTURE_RANK and tensor.is_floating_point():
            return tensor.to(memory_format=torch.channels_last)
        return tensor

    def _diverged(self, step: int) -> None:
        self.history.diverged = True
        self.history.stopped = (
            f"the loss is not finite at step {step + 1} of {self._total}; give a lower lr than "
            f"{self.options.lr:g}, or clip_norm=1"
        )

    # the held-out part

    def _evaluate(self, step: int) -> None:
        """Loss and score of the held-out part; keeps the weights if they are the best so far."""
        history = self.history
        if step:
            history.loss.append((step, self._sum / max(1, self._summed)))
            self._sum, self._summed = 0.0, 0
        complete = all(hook.complete(step) for hook in self.task.hooks)
        with nullcontext() if self._average is None else self._average.in_place():
            loss, score = self._held_out()
            if not math.isfinite(loss):
                loss = math.inf
            if self.task.batches.held_out_count:
                history.held_out_loss.append((step, loss))
                if history.metric:
                    history.scores.append((step, score))
            elif step:
                loss = -step  # without a held-out part the last weights count
            if complete and (loss < self._best_loss or not self._best):
                self._best_loss, history.best_step = loss, step
                self._best = {
                    k: v.detach().clone() for k, v in self.task.module.state_dict().items()
                }
        logger.info(
            "%s: step %d of %d: held-out loss %.4g, %s %.4g",
            *(self.setting.name, step, self._total, loss, history.metric or "no metric", score),
        )
        self._lose_patience(step)

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

    def _lose_patience(self, step: int) -> None:
        patience = self.options.patience
        if patience is None or not self._best or step == self._total:
            return
        waited = sum(mark > self.history.best_step for mark, _ in self.history.held_out_loss)
        if waited >= patience:
            self.history.stopped = f"no gain on the held-out part in {waited} evaluations"

    def _held_out(self) -> tuple[float, float]:
        """Mean loss and score; the leading process's, as all must decide alike."""
        self.task.module.eval()
        loss = score = 0.0
        criterion, count = self.task.criterion, 0
        with torch.no_grad():
            for batch in self.task.batches.held_out():
                wanted, labels = self._wanted(batch, changed=False), self._labels(batch)
                answers = self.task.module(
                    {n: self._tensor(a) for n, a in batch.feeds.items()}, taps=criterion.taps
                )
                weight = len(batch.numbers)
                loss += weight * float(criterion.loss(answers, wanted, labels))
                score += weight * (
                    criterion.score(answers, wanted, labels) if criterion.metric else 0
                )
                count += weight
        count = max(1, count)
        return self.team.agree(loss / count), self.team.agree(score / count)

    def _finish(self) -> None:
        """Leave the module with the best weights, in evaluation mode."""
        if self._best:
            self.task.module.load_state_dict(self._best)
        self.task.module.eval()

    # the state on disk

    def _save(self, step: int) -> None:
        if self._path is None or not self.team.leads:
            return
        tensors = {f"now/{k}": v for k, v in self.task.module.state_dict().items()}
        tensors |= {f"best/{k}": v for k, v in self._best.items()}
        tensors |= {f"optimizer/{k}": v for k, v in optimizers.state(self._optimizer).items()}
        if self._average is not None:
            tensors |= {f"average/{k}": v for k, v in self._average.state().items()}
        for index, hook in enumerate(self.task.hooks):
            tensors |= {f"hook{index}/{k}": v for k, v in hook.state().items()}
        meta = {
            "fingerprint": self._fingerprint,
            "step": step,
            "best_loss": self._best_loss if self._best else None,
            "sums": [self._sum, self._summed],
            "history": asdict(self.history),
        }
        checkpoint.save(self._path, checkpoint.Checkpoint(meta, tensors))

    def _resume(self) -> int:
        """Take up an earlier run; gives the steps that it had done."""
        held = None if self._path is None else checkpoint.load(self._path, self._fingerprint)
        if held is None:
            return 0
        self.task.module.load_state_dict(_below(held.tensors, "now/"))
        self._best = _below(held.tensors, "best/")
        optimizers.load_state(self._optimizer, _below(held.tensors, "optimizer/"))
        if self._average is not None:
            self._average.load(_below(held.tensors, "average/"))
        for index, hook in enumerate(self.task.hooks):
            hook.load(_below(held.tensors, f"hook{index}/"))
        meta = held.meta
        self._best_loss = math.inf if meta["best_loss"] is None else meta["best_loss"]
        self._sum, self._summed = meta["sums"]
        past = meta["history"]
        for name in ("loss", "held_out_loss", "scores"):
            past[name] = [(int(step), value) for step, value in past[name]]
        self.history = History(**past)
        self.history.resumed = int(meta["step"])
        logger.info("%s: goes on from step %d", self.setting.name, self.history.resumed)
        return self.history.resumed


def _below(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}


@contextmanager
def quiet_torch(threads: int) -> Iterator[None]:
    """Torch with so many threads and repeatable kernels; its global state comes back after."""
    before, exact = torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()
    if threads:
        torch.set_num_threads(threads)
    torch.use_deterministic_algorithms(not torch.cuda.is_available())
    try:
        with torch.random.fork_rng():
            yield
    finally:
        torch.use_deterministic_algorithms(exact)
        torch.set_num_threads(before)
