"""Models in onnxruntime's mobile format (``.ort``), which its builds for phones can read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from graphopt.errors import ModelError
from graphopt.graph import io
from graphopt.graph.graph import Graph
from graphopt.graph.tensors import Array
from graphopt.numerics.sqnr import sqnr_db
from graphopt.runtime.library import onnxruntime
from graphopt.runtime.options import PROVIDER, session_options
from graphopt.runtime.refusal import one_line
from graphopt.runtime.scratch import scratch_folder
from graphopt.runtime.session import Session

__all__ = ["MobileFile", "mobile_file"]

_LAYOUTS = "NchwcTransformer"
"""Puts float Convs into a layout of this CPU's; onnxruntime's own converter leaves it out too."""
_FOLDING = "ConstantFolding"
_GROWN = 1.2
"""A file by that much larger than the ONNX holds weights that were expanded to floats."""
_ALIKE_DB = 60.0
"""The same kernels on the same values: rounding in another order at most."""


@dataclass(frozen=True)
class MobileFile:
    """A model in the mobile format.

    Attributes:
        data: The file.
        expands: Whether small weights are expanded at every run, since the file would hold them as
            floats otherwise.
        version: Of the onnxruntime that made it; the same and newer ones read it.
    """

    data: bytes
    expands: bool
    version: str


def mobile_file(graph: Graph, feeds: Mapping[str, Array] | None = None) -> MobileFile:
    """A model as onnxruntime optimizes and saves it, loaded again and run beside the original.

    That is the converter's style ``Fixed``: all optimizations but layouts of this CPU. Where they
    expand weights that are stored small, constants are not folded.

    Args:
        graph: The model; left as it is.
        feeds: One feed that it runs on; without, the file is only loaded.

    Raises:
        ModelError: onnxruntime cannot load or save it, or answers otherwise from the file.
    """
    data, expands = _saved(graph, _LAYOUTS), False
    if len(data) > _GROWN * io.size(graph):
        small = _saved(graph, f"{_LAYOUTS};{_FOLDING}")
        if len(small) * _GROWN < len(data):
            data, expands = small, True
    _check(graph, data, feeds)
    return MobileFile(data, expands, onnxruntime.__version__)


def _saved(graph: Graph, left_out: str) -> bytes:
    config = {
        "session.save_model_format": "ORT",
        "optimization.disable_specified_optimizers": left_out,
    }
    with scratch_folder() as folder:
        path = folder / "model.ort"
        session = Session(graph, threads=1, optimized=path, config=config, as_is=True)
        if session.widened:
            raise ModelError("an output is of a type that cannot be read back from onnxruntime")
        try:
            return path.read_bytes()
        except OSError as err:
            raise ModelError("onnxruntime saved nothing in its mobile format") from err


def _check(graph: Graph, data: bytes, feeds: Mapping[str, Array] | None) -> None:
    """Hold the answers of a file against those of the graph.

    Raises:
        ModelError: It cannot be loaded or run, or they differ.
    """
    options = session_options(1, folder=graph.folder, libraries=graph.libraries)
    outputs = graph.main.outputs
    try:
        session = onnxruntime.InferenceSession(data, options, providers=[PROVIDER])
        answers = None if feeds is None else session.run(outputs, feeds)
    except Exception as err:  # onnxruntime's errors share no base class below Exception
        raise ModelError(f"its own mobile format cannot be read: {one_line(str(err))}") from err
    if feeds is None or answers is None:
        return
    config = {"optimization.disable_specified_optimizers": _LAYOUTS}
    expected = Session(graph, threads=1, config=config).run(feeds)
    for name, told in zip(outputs, answers, strict=True):
        right = expected[name]
        if not isinstance(right, np.ndarray) or right.dtype.kind not in "fiub":
            continue
        close = sqnr_db(np.asarray(right, np.float64), np.asarray(told, np.float64))
        if close is not None and close < _ALIKE_DB:
            raise ModelError(f"the mobile format gives another {name!r} than the model")
