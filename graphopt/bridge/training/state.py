"""A training as it is stored, and taken up again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from graphopt.bridge.training import checkpoint, optimizers
from graphopt.bridge.training.average import Average
from graphopt.bridge.training.hooks import Hook
from graphopt.contract.curves import TrainingCurves
from graphopt.errors import UsageError

__all__ = ["Progressed", "Stored"]

_MISFITS = (AttributeError, IndexError, KeyError, RuntimeError, TypeError, ValueError)
"""What reading a state raises that is not of this model."""


@dataclass(frozen=True)
class Progressed:
    """How far an earlier run came, beside what its tensors say.

    Attributes:
        history: Its course; ``resumed`` is the step that it had done.
        best: The weights that did best so far; empty for none.
        so_far: What the held-out part said of them.
        sums: Sum of the losses since the last look, and their number.
    """

    history: TrainingCurves
    best: dict[str, Tensor]
    so_far: dict[str, Tensor]
    sums: tuple[float, int]


class Stored:
    """Writes and reads the state of one training; without a folder, it does nothing.

    Args:
        name: Of what trains.
        folder: Where the state is kept; None for nowhere.
        fingerprint: Identifies the run.
        module: Its weights and statistics.
        optimizer: What it remembers.
        average: The averages; None without.
        hooks: What they remember.
    """

    def __init__(
        self,
        name: str,
        folder: Path | None,
        fingerprint: str,
        module: nn.Module,
        optimizer: torch.optim.Optimizer,
        average: Average | None,
        hooks: Sequence[Hook],
    ) -> None:
        self._folder, self._fingerprint = folder, fingerprint
        self._name = f"{name}-{fingerprint[:16]}.npz"
        self._module, self._optimizer, self._average = module, optimizer, average
        self._hooks = hooks

    def prepare(self) -> None:
        """Make the folder.

        Raises:
            SystemFailure: It cannot be made or written to.
        """
        if self._folder is not None:
            checkpoint.prepare(self._folder)

    def save(
        self,
        step: int,
        history: TrainingCurves,
        best: Mapping[str, Tensor],
        so_far: Mapping[str, Tensor],
        sums: tuple[float, int],
    ) -> None:
        """Write the state after so many steps.

        Raises:
            SystemFailure: It cannot be written.
        """
        if self._folder is None:
            return
        tensors = _above("now/", self._module.state_dict())
        tensors |= _above("best/", best)
        tensors |= _above("so-far/", so_far)
        tensors |= _above("optimizer/", optimizers.state(self._optimizer))
        if self._average is not None:
            tensors |= _above("average/", self._average.state())
        for index, hook in enumerate(self._hooks):
            tensors |= _above(f"hook{index}/", hook.state())
        meta = {
            "fingerprint": self._fingerprint,
            "step": step,
            "sums": sums,
            "history": asdict(history),
        }
        checkpoint.save(self._folder / self._name, checkpoint.Checkpoint(meta, tensors))

    def load(self) -> Progressed | None:
        """Put the stored state into its places; None where there is none.

        Raises:
            UsageError: What is stored is not of this run.
        """
        if self._folder is None:
            return None
        path = self._folder / self._name
        held = checkpoint.load(path, self._fingerprint)
        if held is None:
            return None
        try:
            self._put_back(held.tensors)
            return _progressed(held)
        except _MISFITS as err:
            raise UsageError(
                f"checkpoint {path}: does not fit the model: {' '.join(str(err).split())}; "
                "delete it"
            ) from err

    def _put_back(self, tensors: Mapping[str, Tensor]) -> None:
        self._module.load_state_dict(_below(tensors, "now/"))
        optimizers.load_state(self._optimizer, _below(tensors, "optimizer/"))
        if self._average is not None:
            self._average.load(_below(tensors, "average/"))
        for index, hook in enumerate(self._hooks):
            hook.load(_below(tensors, f"hook{index}/"))


def _progressed(held: checkpoint.Checkpoint) -> Progressed:
    meta = held.meta
    past = dict(meta["history"])
    for name in ("loss", "held_out_loss", "scores"):
        past[name] = [(int(step), float(value)) for step, value in past[name]]
    past["resumed"] = int(meta["step"])
    sums = (float(meta["sums"][0]), int(meta["sums"][1]))
    best, so_far = (_below(held.tensors, prefix) for prefix in ("best/", "so-far/"))
    return Progressed(TrainingCurves(**past), best, so_far, sums)


def _above(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {prefix + name: tensor for name, tensor in tensors.items()}


def _below(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}
