"""The state of a training on disk: arrays and a line of JSON, never pickle."""

from __future__ import annotations

import json
import os
import tempfile
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from graphopt.errors import SystemFailure, UsageError

__all__ = ["Checkpoint", "load", "save"]

_META = "meta"


@dataclass(frozen=True)
class Checkpoint:
    """All that a training needs to go on.

    Attributes:
        meta: Plain values: fingerprint of the run, step, best loss, curves.
        tensors: By name.
    """

    meta: dict[str, Any]
    tensors: dict[str, Tensor]


def save(path: Path, checkpoint: Checkpoint) -> None:
    """Write a checkpoint, whole or not at all, over an older one.

    Raises:
        SystemFailure: Disk full, no permission, no such folder.
    """
    arrays = {f"t/{name}": _array(tensor) for name, tensor in checkpoint.tensors.items()}
    arrays[_META] = np.frombuffer(json.dumps(checkpoint.meta).encode(), np.uint8)
    temporary = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=path.parent, suffix=".part", delete=False) as file:
            temporary = Path(file.name)
            np.savez(file, **arrays)  # type: ignore[arg-type]  # numpy types the keyword allow_pickle into **
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as err:
        if temporary is not None:
            temporary.unlink(missing_ok=True)
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
        with np.load(path, allow_pickle=False) as held:
            meta = json.loads(held[_META].tobytes())
            tensors = {
                name.removeprefix("t/"): torch.from_numpy(held[name])
                for name in held.files
                if name != _META
            }
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as err:
        raise UsageError(f"checkpoint {path}: cannot be read: {err}; delete it") from err
    if meta.get("fingerprint") != fingerprint:
        raise UsageError(f"checkpoint {path}: belongs to another run; delete it")
    return Checkpoint(meta, tensors)


def _array(tensor: Tensor) -> np.ndarray[Any, Any]:
    return np.asarray(tensor.detach().cpu().contiguous().numpy())
