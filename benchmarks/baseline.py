"""Models as onnxruntime's own quantizer makes them, to compare with."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

import onnxruntime
from onnxruntime.quantization import (
    CalibrationDataReader,
    QuantType,
    quantize_dynamic,
    quantize_static,
)
from onnxruntime.quantization.shape_inference import quant_pre_process

onnxruntime.set_default_logger_severity(3)

SETTINGS = {
    "onnxruntime": "static, its defaults, on the file as it is",
    "onnxruntime-tuned": "static, pre-processed, uint8 activations, int8 weights per channel",
    "onnxruntime-dynamic": "dynamic, pre-processed, int8 weights per channel",
}


class _Reader(CalibrationDataReader):  # type: ignore[misc]  # onnxruntime is untyped
    """The samples of an ``.npz`` one at a time."""

    def __init__(self, path: Path) -> None:
        with np.load(path, allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in archive.files}
        self.left: Iterator[dict[str, Any]] = (
            {name: array[i : i + 1] for name, array in arrays.items()}
            for i in range(len(next(iter(arrays.values()))))
        )

    def get_next(self) -> dict[str, Any] | None:
        """The next sample; None at the end."""
        return next(self.left, None)


def quantize(model: Path, calib: Path, out: Path, setting: str) -> None:
    """Write what onnxruntime makes of ``model`` in one of the ``SETTINGS``."""
    if setting == "onnxruntime":
        quantize_static(str(model), str(out), _Reader(calib))
        return
    with tempfile.TemporaryDirectory() as folder:
        prepared = str(Path(folder, "prepared.onnx"))
        quant_pre_process(str(model), prepared, skip_symbolic_shape=True)
        if setting == "onnxruntime-dynamic":
            quantize_dynamic(prepared, str(out), per_channel=True)
        else:
            quantize_static(
                prepared,
                str(out),
                _Reader(calib),
                activation_type=QuantType.QUInt8,
                weight_type=QuantType.QInt8,
                per_channel=True,
            )
