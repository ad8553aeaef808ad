"""onnxruntime, imported so that it keeps to itself.

From 1.29 on the official Linux wheels send the names and hashes of models to their maker unless
``ORT_DISABLE_TELEMETRY`` is set before they are loaded. Models are their owners' business; who
wants to send sets the variable to 0.
"""

from __future__ import annotations

import os

os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

import onnxruntime  # only here: the variable counts at the time of this import

__all__ = ["onnxruntime"]
