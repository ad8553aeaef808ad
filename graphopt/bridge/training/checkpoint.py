"""The state of a training on disk: arrays and a line of JSON, never pickle."""

from __future__ import annotations

import json
import os
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from graphopt import outside
from graphopt.atomic import whole
from graphopt.errors import SystemFailure, UsageError
from graphopt.graph.tensors import Array

__all__ = ["Checkpoint", "load", "prepare", "save"]

_META = "meta"
_TYPES = "types"
_BFLOAT16 = "bfloat16"
"""Goes to disk as 16-bit integers: numpy has no name for it."""


@dataclass(frozen=True)
class Checkpoint:
    """All that a training needs to go on.

    Attributes:
        meta: Plain values: fingerprint of the run, step, best loss, curves.
        tensors: By name.
    """

    meta: dict[str, Any]
    tensors: dict[str, Tensor]


def prepare(folder: Path) -> None:
    """Make the folder, so that a training that cannot be stored ends before it began.

    Raises:
        SystemFailure: It cannot be made or written to.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if not os.access(folder, os.W_OK):
            raise PermissionError(0, "no permission to write")
    except OSError as err:
        raise SystemFailure(f"checkpoints {folder}: {err.strerror or err}") from err


def save(path: Path, checkpoint: Checkpoint) -> None:
    """Write a checkpoint, whole or not at all, over an older one.

    Raises:
        SystemFailure: Disk full, no permission, no such folder.
    """
    types = {n: str(t.dtype).removeprefix("torch.") for n, t in checkpoint.tensors.items()}
    arrays = {f"t/{name}": _array(tensor) for name, tensor in checkpoint.tensors.items()}
    for name, values in ((_META, checkpoint.meta), (_TYPES, types)):
        arrays[name] = np.frombuffer(json.dumps(values).encode(), np.uint8)
    try:
        with whole(path, path.with_suffix(".part")) as file:
            np.savez(file, **arrays)  # type: ignore[arg-type]  # numpy types the keyword allow_pickle into **
    except OSError as err:
        raise SystemFailure(
            f"checkpoint {path}: cannot be written: {err.strerror or err}; the last is kept"
        ) from err


def load(path: Path, fingerprint: str) -> Checkpoint | None:
    """The checkpoint of the same run; None where there is none.

    Raises:
        UsageError: It belongs to another run, or is no checkpoint.
    """
    if not path.exists():
        return None
    try:
        with outside.opened(path) as file, np.load(file, allow_pickle=False) as held:
            meta, types = (json.loads(held[name].tobytes()) for name in (_META, _TYPES))
            tensors = {name: _tensor(held[f"t/{name}"], kind) for name, kind in types.items()}
        own = meta["fingerprint"] == fingerprint
    except _UNREADABLE as err:
        raise UsageError(
            f"checkpoint {path}: cannot be read: {' '.join(str(err).split())}; delete it"
        ) from err
    if not own:
        raise UsageError(f"checkpoint {path}: belongs to another run; delete it")
    return Checkpoint(meta, tensors)


_UNREADABLE = (
    *(OSError, ValueError, KeyError, TypeError, AttributeError, EOFError, MemoryError),
    *(NotImplementedError, zipfile.BadZipFile),
)
"""What numpy and zipfile raise over a file that is no archive of arrays."""


def _array(tensor: Tensor) -> Array:
    held = tensor.detach().cpu().contiguous()
    return np.asarray((held.view(torch.int16) if held.dtype == torch.bfloat16 else held).numpy())


def _tensor(array: Array, kind: str) -> Tensor:
    tensor = torch.from_numpy(array)
    return tensor.view(torch.bfloat16) if kind == _BFLOAT16 else tensor
