"""One tool quantizes one model, with its own defaults; run by ``peers.py`` in the tool's venv.

    python peer_tools.py TOOL model.onnx calib.npz out.onnx

Needs nothing but the tool, onnx and numpy. What a tool lacks, such as a clean-up before it
quantizes, is what its documentation recommends.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

import numpy as np
import onnx

Feeds = dict[str, Any]


def feeds_of(calib: str) -> list[Feeds]:
    """The samples of an ``.npz`` one at a time."""
    with np.load(calib, allow_pickle=False) as archive:
        arrays = {name: archive[name] for name in archive.files if name != "labels"}
    count = len(next(iter(arrays.values())))
    return [{name: array[i : i + 1] for name, array in arrays.items()} for i in range(count)]


class Reader:
    """The samples as onnxruntime's quantizer and those made after it want them."""

    def __init__(self, calib: str) -> None:
        self._feeds = feeds_of(calib)
        self._left: Iterator[Feeds] = iter(self._feeds)

    def get_next(self) -> Feeds | None:
        """The next sample; None at the end."""
        return next(self._left, None)

    def rewind(self) -> None:
        """Start from the first."""
        self._left = iter(self._feeds)


def onnxruntime_default(model: str, calib: str, out: str) -> None:
    """``quantize_static`` on the file as it is."""
    from onnxruntime.quantization import quantize_static

    quantize_static(model, out, _reader(calib))


def onnxruntime_tuned(model: str, calib: str, out: str) -> None:
    """Pre-processed as its log recommends; uint8 activations, int8 weights, a scale a channel."""
    from onnxruntime.quantization import QuantType, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    prepared = f"{out}.prepared.onnx"
    quant_pre_process(model, prepared, skip_symbolic_shape=True)
    types = {"activation_type": QuantType.QUInt8, "weight_type": QuantType.QInt8}
    quantize_static(prepared, out, _reader(calib), per_channel=True, **types)
    Path(prepared).unlink()


def _reader(calib: str) -> Any:
    from onnxruntime.quantization import CalibrationDataReader

    class Registered(Reader, CalibrationDataReader):  # type: ignore[misc]  # untyped
        """Of the class that it asks for."""

    return Registered(calib)


def nncf(model: str, calib: str, out: str) -> None:
    """``nncf.quantize`` on the file as it is."""
    import nncf as tool

    feeds = feeds_of(calib)
    subset = min(len(feeds), 300)
    onnx.save(tool.quantize(onnx.load(model), tool.Dataset(feeds), subset_size=subset), out)


def onnxsim(model: str, calib: str, out: str) -> None:
    """``onnxsim.simplify`` and then its own ``quantize_static``."""
    import onnxsim as tool

    simplified, _ = tool.simplify(onnx.load(model))
    onnx.save(tool.quantize_static(simplified, feeds_of(calib)), out)


def neural_compressor(model: str, calib: str, out: str) -> None:
    """``quantize`` with a ``StaticQuantConfig`` of defaults."""
    from onnx_neural_compressor.data_reader import CalibrationDataReader
    from onnx_neural_compressor.quantization import quantize
    from onnx_neural_compressor.quantization.config import StaticQuantConfig

    class Registered(Reader, CalibrationDataReader):  # type: ignore[misc]  # untyped
        """Of the class that it asks for."""

    quantize(model, out, StaticQuantConfig(calibration_data_reader=Registered(calib)))


TOOLS: dict[str, tuple[tuple[str, ...], Callable[[str, str, str], None]]] = {
    "onnxruntime": (("onnx", "onnxruntime"), onnxruntime_default),
    "onnxruntime, tuned": (("onnx", "onnxruntime", "sympy"), onnxruntime_tuned),
    "NNCF": (("nncf", "onnx", "onnxruntime"), nncf),
    "onnxsim": (("onnxsim", "onnx", "onnxruntime"), onnxsim),
    "onnx-neural-compressor": (
        ("onnx-neural-compressor", "prettytable", "scipy", "onnx", "onnxruntime"),
        neural_compressor,
    ),
}
"""By name: what is installed for it, and what quantizes."""


if __name__ == "__main__":
    TOOLS[sys.argv[1]][1](*sys.argv[2:5])
