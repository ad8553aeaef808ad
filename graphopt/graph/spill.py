"""A private folder for the large tensors that passes make of a very large model."""

from __future__ import annotations

import secrets
import shutil
import tempfile
import weakref
from pathlib import Path
from typing import ClassVar

import numpy as np
import onnx
from onnx import TensorProto

from graphopt.errors import SystemFailure
from graphopt.graph import tensors
from graphopt.graph.tensors import Array

__all__ = ["Spill"]


class Spill:
    """Tensors in temporary files, one each, shared among the copies of a graph.

    A spilled tensor is an external one whose location holds a secret of this run, so that no
    model file can name it. The folder goes when the last graph that uses it goes, or at exit.
    """

    BOUND_BYTES: ClassVar[int] = 256 << 20
    """Models with more weights than this spill."""
    TENSOR_BYTES: ClassVar[int] = 64 << 10
    """Smaller tensors stay in memory."""

    def __init__(self) -> None:
        self._secret = f"spilled:{secrets.token_hex(16)}:"
        self._folder: Path | None = None
        self._files: dict[str, Path] = {}

    def store(self, name: str, values: Array) -> TensorProto:
        """A tensor called ``name`` that refers to the values in a new file.

        Raises:
            SystemFailure: The temporary folder cannot be written.
        """
        tensor = TensorProto(name=name, dims=values.shape)
        tensor.data_type = onnx.helper.np_dtype_to_tensor_dtype(values.dtype)
        if tensors.element_bits(tensor.data_type) < 8:  # packed as in a file
            values = np.frombuffer(tensors.from_array(name, values).raw_data, dtype=np.uint8)
        location = f"{self._secret}{len(self._files)}"
        try:
            if self._folder is None:
                self._folder = Path(tempfile.mkdtemp(prefix="graphopt-"))
                weakref.finalize(self, shutil.rmtree, self._folder, ignore_errors=True)
            path = self._folder / str(len(self._files))
            np.ascontiguousarray(values).tofile(path)
        except OSError as err:
            raise SystemFailure(
                f"temporary files under {tempfile.gettempdir()} cannot be written: "
                f"{err.strerror or err}; free space there or set TMPDIR"
            ) from err
        self._files[location] = path
        tensors.refer(tensor, location, 0, tensors.stored_bytes(tensor))
        return tensor

    def file(self, tensor: TensorProto) -> Path | None:
        """The file that holds a spilled tensor's bytes; None for every other tensor."""
        if not tensors.is_external(tensor):
            return None
        return self._files.get(tensors.external_entries(tensor).get("location", ""))
