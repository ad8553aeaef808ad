"""``auto`` over random graphs: what is written runs, holds the floor, and is counted rightly.

    python -m tests.fuzz.auto --count 300

Graphs are those of ``tests.fuzz.graphs``, some of them in float16 or double and with free picture
sizes. Each is checked with onnx, onnxruntime and numpy alone.
"""

from __future__ import annotations

import argparse
import random
import sys
from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
from numpy.typing import NDArray
from onnx import TensorProto, numpy_helper

import graphopt
from tests.fuzz.case import dice
from tests.fuzz.graphs import counted_graph

__all__ = ["faults", "varied_graph"]

_FLOOR_DB = 12.0
_WIDTHS = {TensorProto.FLOAT16: np.float16, TensorProto.DOUBLE: np.float64}
_KEPT = ("Resize",)  # its scales are float32 whatever its input is


def varied_graph(number: int) -> tuple[onnx.ModelProto, int, tuple[int, ...]]:
    """A model, its multiply-accumulates of a run, and the shape of that run's input."""
    model, macs = counted_graph(number)
    rng = dice("auto", number)
    dims = model.graph.input[0].type.tensor_type.shape.dim
    shape = (dims[0].dim_value or 1, *(dim.dim_value for dim in dims[1:]))
    if len(shape) == 4 and rng.random() < 0.3:
        for dim, name in zip(dims[2:], ("height", "width"), strict=True):
            dim.dim_param = name
    plain = not model.functions and not any(a.g.node for n in model.graph.node for a in n.attribute)
    if plain and rng.random() < 0.25:
        _widen(model, rng)
    return model, macs * shape[0], shape


def _widen(model: onnx.ModelProto, rng: random.Random) -> None:
    """Let a model compute in another width than float32."""
    width = rng.choice(sorted(_WIDTHS))
    kept = {name for node in model.graph.node if node.op_type in _KEPT for name in node.input[1:]}
    for tensor in model.graph.initializer:
        if tensor.data_type == TensorProto.FLOAT and tensor.name not in kept:
            values = numpy_helper.to_array(tensor).astype(_WIDTHS[width])
            tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))
    for port in (*model.graph.input, *model.graph.output):
        port.type.tensor_type.elem_type = width


def faults(number: int) -> list[str]:
    """What is wrong with what ``auto`` makes of a graph; empty where all is as it must be."""
    model, macs, shape = varied_graph(number)
    dtype = _WIDTHS.get(model.graph.input[0].type.tensor_type.elem_type, np.float32)
    calibration, fresh = (
        np.random.default_rng([number, stream])
        .standard_normal((count // shape[0] * shape[0], *shape[1:]))
        .astype(dtype)
        for stream, count in ((1, 64), (2, 128))
    )
    result = graphopt.optimize(
        model, calibration={"x": calibration}, threads=1, trial=False, memory_limit=1 << 30
    )
    found = []
    if result.report.input.macs != macs:
        found.append(f"MACs {result.report.input.macs} where {macs} are")
    if result.report.input.params != (wanted := _params(model)):
        found.append(f"parameters {result.report.input.params} where {wanted} are")
    onnx.checker.check_model(result.model, full_check=True)
    twin = counted_graph(number)[0]  # onnxruntime has few kernels of other widths
    before = _answers(twin, fresh.astype(np.float32), shape[0])
    after = _answers(result.model, fresh, shape[0])
    for name, values in before.items():
        measured = _sqnr_db(values, after[name])
        if measured < _FLOOR_DB:
            found.append(f"output {name} at {measured:.1f} dB on fresh samples")
    return found


def _params(model: onnx.ModelProto) -> int:
    """Floats of the initializers."""
    floats = (TensorProto.FLOAT, *_WIDTHS)
    return sum(
        int(np.prod(tensor.dims))
        for tensor in model.graph.initializer
        if tensor.data_type in floats
    )


def _answers(
    model: onnx.ModelProto, samples: NDArray[Any], batch: int
) -> Mapping[str, NDArray[np.float64]]:
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    names = [port.name for port in model.graph.output]
    runs = [
        session.run(names, {"x": samples[first : first + batch]})
        for first in range(0, len(samples), batch)
    ]
    parts = zip(*runs, strict=True)
    return {
        name: np.concatenate([np.asarray(p, np.float64) for p in each])
        for name, each in zip(names, parts, strict=True)
    }


def _sqnr_db(expected: NDArray[np.float64], actual: NDArray[np.float64]) -> float:
    signal, noise = float((expected**2).sum()), float(((expected - actual) ** 2).sum())
    return 300.0 if noise == 0 else float(10 * np.log10(max(signal, 1e-300) / noise))


def _main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz.auto", description=__doc__)
    parser.add_argument("--count", type=int, default=300, help="how many graphs")
    parser.add_argument("--first", type=int, default=0, help="number of the first one")
    asked = parser.parse_args()
    bad = 0
    for number in range(asked.first, asked.first + asked.count):
        try:
            found = faults(number)
        except Exception as err:
            found = [f"{type(err).__name__}: {err}"]
        bad += bool(found)
        for text in found:
            sys.stdout.write(f"graph {number}: {text}\n")
            sys.stdout.flush()
    sys.stdout.write(f"{asked.count} graphs, {bad} with a fault\n")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(_main())
