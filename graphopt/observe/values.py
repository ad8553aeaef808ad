"""The raw values of small tensors."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from graphopt.errors import LimitError
from graphopt.graph.tensors import Array
from graphopt.observe.request import Folder, Request, Rows, not_finite
from graphopt.observe.taps import Tap, Whole

__all__ = ["Values"]


@dataclass(frozen=True)
class Values(Request[list[NDArray[np.float32]]]):
    """All values, an array for each feed in order, without rows that only fill up the batch.

    Attributes:
        most_bytes: Most that they may take over all samples; a larger tensor is refused.
    """

    most_bytes: int = 1 << 22

    def folder(self, shape: tuple[int, ...], per_run: int) -> Folder[list[NDArray[np.float32]]]:
        return _Values(self)

    def bytes(self, shape: tuple[int, ...]) -> int:
        return self.most_bytes


class _Values(Folder[list[NDArray[np.float32]]]):
    def __init__(self, request: Values) -> None:
        self.request = request
        self.whole = Whole(request.tensor)
        self.taps = (self.whole,)
        self.arrays: list[NDArray[np.float32]] = []
        self.bytes = 0

    def take(self, arrays: Mapping[Tap, Array], rows: Rows) -> None:
        values = np.array(rows.keep(arrays[self.whole]), dtype=np.float32)
        if not np.isfinite(values).all():
            raise not_finite(self.request.tensor, "NaN or infinite values")
        self.bytes += values.nbytes
        if self.bytes > self.request.most_bytes:
            raise LimitError(
                f"the values of tensor {self.request.tensor!r} take more than "
                f"{self.request.most_bytes / 1e6:.3g} MB over the samples; observe fewer samples, "
                "or a smaller tensor"
            )
        self.arrays.append(values)

    def result(self) -> list[NDArray[np.float32]]:
        return self.arrays
