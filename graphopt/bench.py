"""Latency of models under onnxruntime, measured in turns so that the machine's moods cancel."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import onnx

from graphopt.data.synthetic import SyntheticSamples
from graphopt.errors import UsageError
from graphopt.graph import io
from graphopt.report.findings import Benchmark, Timing
from graphopt.runtime import latency
from graphopt.runtime.session import Session

__all__ = ["bench"]
