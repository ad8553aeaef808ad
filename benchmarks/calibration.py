"""What calibration costs: time against plain inference, memory against the number of samples.

Builds the shape of ResNet-50 with seeded random weights (BatchNormalization folded, 224 x 224,
batch 1) and asks for what static quantization asks for: the range of every tensor that will be
quantized. Everything is measured in the same run, interleaved, sessions included on both sides;
onnxruntime's own calibrators beside it. Times are ratios to plain inference of the same samples.

    python benchmarks/calibration.py [--quick] [--threads N]
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper
from onnxruntime.quantization import CalibrationDataReader, calibrate
from rich.console import Console
from rich.table import Table

from graphopt.data.samples import Feeds
from graphopt.graph.graph import Graph
from graphopt.graph.io import load
from graphopt.graph.tensors import Array
from graphopt.observe.extremes import HistogramOf, MinMax
from graphopt.observe.run import observe
from graphopt.runtime.session import Session

STAGES = ((3, 64), (4, 128), (6, 256), (3, 512))
QUANTIZED = ("Conv", "Relu", "Add", "GlobalAveragePool", "Gemm")
POOL = 8  # different pictures; more samples repeat them, so that making them costs nothing


def resnet50(size: int, seed: int = 0) -> onnx.ModelProto:
    """The layers of ResNet-50 (He et al. 2015) with random weights."""
    layers = Layers(np.random.default_rng(seed))
    x = layers.conv("image", 3, 64, 7, 2, "stem")
    x = layers.add("MaxPool", [x], "pool", kernel_shape=[3, 3], strides=[2, 2], pads=[1] * 4)
    channels = 64
    for stage, (blocks, width) in enumerate(STAGES):
        for block in range(blocks):
            stride = 2 if stage and not block else 1
            x = layers.block(x, channels, width, stride, f"stage{stage}_{block}")
            channels = 4 * width
    x = layers.add("GlobalAveragePool", [x], "mean")
    x = layers.add("Flatten", [x], "features")
    layers.weight("fc", (1000, channels), channels)
    layers.add("Gemm", [x, "fc_w", "fc_b"], "logits", transB=1)
    shape = [1, 3, size, size]
    graph = helper.make_graph(
        layers.nodes,
        "resnet50",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, [1, 1000])],
        layers.weights,
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


class Layers:
    """Nodes and weights of a network as they are added; each method gives its output's name."""

    def __init__(self, rng: np.random.Generator) -> None:
        self.rng = rng
        self.nodes: list[onnx.NodeProto] = []
        self.weights: list[onnx.TensorProto] = []

    def block(self, x: str, channels: int, width: int, stride: int, name: str) -> str:
        """A bottleneck block with its residual."""
        y = self.conv(x, channels, width, 1, 1, f"{name}_a")
        y = self.conv(y, width, width, 3, stride, f"{name}_b")
        y = self.conv(y, width, 4 * width, 1, 1, f"{name}_c", relu=False)
        if channels != 4 * width:
            x = self.conv(x, channels, 4 * width, 1, stride, f"{name}_d", relu=False)
        return self.add("Relu", [self.add("Add", [y, x], f"{name}_sum")], f"{name}_out")

    def conv(
        self,
        x: str,
        channels: int,
        out: int,
        kernel: int,
        stride: int,
        name: str,
        relu: bool = True,
    ) -> str:
        """A convolution with bias and, mostly, Relu."""
        self.weight(name, (out, channels, kernel, kernel), channels * kernel**2)
        inputs, pads = [x, f"{name}_w", f"{name}_b"], [kernel // 2] * 4
        y = self.add("Conv", inputs, name, strides=[stride, stride], pads=pads)
        return self.add("Relu", [y], f"{name}_relu") if relu else y

    def weight(self, name: str, shape: tuple[int, ...], fan_in: int) -> None:
        """A weight that keeps the scale of activations, and a bias."""
        weight = self.rng.standard_normal(shape, dtype=np.float32) * np.float32(fan_in**-0.5)
        bias = self.rng.standard_normal(shape[0], dtype=np.float32) * np.float32(0.1)
        self.weights += [
            numpy_helper.from_array(weight, f"{name}_w"),
            numpy_helper.from_array(bias, f"{name}_b"),
        ]

    def add(self, operator: str, inputs: list[str], name: str, **attributes: Any) -> str:
        """Any node."""
        self.nodes.append(helper.make_node(operator, inputs, [name], name, **attributes))
        return name


@dataclass
class Pictures:
    """Seeded random pictures, a few of them over and over."""

    count: int
    size: int
    labels: Array | None = None

    def feeds(self, batch: int = 1, limit: int | None = None) -> Iterator[tuple[Feeds, int]]:  # noqa: ARG002 - the model fixes it
        """One picture a feed."""
        rng = np.random.default_rng(0)
        shape = (1, 3, self.size, self.size)
        pool = [rng.standard_normal(shape, dtype=np.float32) for _ in range(POOL)]
        for index in range(min(self.count, limit or self.count)):
            yield {"image": pool[index % POOL]}, 1


def requests(graph: Graph, kind: str) -> list[MinMax | HistogramOf]:
    """What static quantization asks: the input, and each tensor behind Conv, Relu, pool and Gemm.

    A Conv or Add whose only reader is a Relu is fused with it and is not asked for.
    """
    scope = graph.main
    relued = {node.input[0] for node in scope.nodes if node.op_type == "Relu"}
    asked = [node.output[0] for node in scope.nodes if node.op_type in QUANTIZED]
    make = MinMax if kind == "min-max" else HistogramOf
    return [make(tensor) for tensor in (*scope.inputs, *asked) if tensor not in relued]


def plain(graph: Graph, pictures: Pictures, threads: int) -> None:
    """Inference of all samples."""
    session = Session(graph, threads=threads)
    for feeds, _ in pictures.feeds():
        session.run(feeds)


def ours(graph: Graph, kind: str, pictures: Pictures, threads: int) -> None:
    """Observation of all samples."""
    observe(graph, requests(graph, kind), pictures, threads=threads)


def theirs(path: Path, kind: str, pictures: Pictures, threads: int) -> None:
    """One of onnxruntime's calibrators, over the operators that it quantizes by default."""

    class Reader(CalibrationDataReader):  # type: ignore[misc]  # onnxruntime is untyped
        def __init__(self) -> None:
            self.left = pictures.feeds()

        def get_next(self) -> Feeds | None:
            return next(self.left, (None, 0))[0]

    methods = {
        "min-max": calibrate.CalibrationMethod.MinMax,
        "entropy": calibrate.CalibrationMethod.Entropy,
        "percentile": calibrate.CalibrationMethod.Percentile,
    }
    with tempfile.TemporaryDirectory() as folder:
        calibrator = calibrate.create_calibrator(
            path,
            op_types_to_calibrate=["Conv", "Add", "Relu", "MaxPool", "GlobalAveragePool", "Gemm"],
            augmented_model_path=str(Path(folder) / "augmented.onnx"),
            calibrate_method=methods[kind],
        )
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        calibrator.infer_session = onnxruntime.InferenceSession(
            calibrator.augmented_model_path, options, providers=["CPUExecutionProvider"]
        )
        calibrator.collect_data(Reader())
        calibrator.compute_data()


@dataclass(frozen=True)
class Cost:
    """Seconds of one task in one round: by the clock, and of all cores together."""

    wall: float
    cpu: float


def measure(tasks: dict[str, Callable[[], None]], rounds: int) -> dict[str, list[Cost]]:
    """What each task takes in each round, the tasks taking turns."""
    costs: dict[str, list[Cost]] = {name: [] for name in tasks}
    for number in range(rounds):
        for name, task in tasks.items():
            wall, cpu = time.perf_counter(), time.process_time()
            with contextlib.redirect_stdout(io.StringIO()):  # onnxruntime's calibrators print
                task()
            costs[name].append(Cost(time.perf_counter() - wall, time.process_time() - cpu))
            took = costs[name][-1].wall
            print(f"round {number + 1} of {rounds}: {name} {took:.1f} s", file=sys.stderr)
    return costs


def peak_mb(path: Path, kind: str, samples: int, size: int, threads: int) -> float:
    """Peak memory of a fresh process that observes so many samples."""
    command = [sys.executable, __file__, "--threads", str(threads), "--peak", str(path), kind]
    done = subprocess.run(
        [*command, str(samples), str(size)], check=True, capture_output=True, text=True
    )
    return float(json.loads(done.stdout)["peak_mb"])


def print_peak(path: Path, kind: str, samples: int, size: int, threads: int) -> None:
    """Observe, then print the most memory that this process ever held (Linux)."""
    graph, pictures = load(path), Pictures(samples, size)
    if kind == "plain":
        plain(graph, pictures, threads)
    else:
        ours(graph, kind, pictures, threads)
    status = Path("/proc/self/status").read_text(encoding="ascii")
    peak = next(line.split()[1] for line in status.splitlines() if line.startswith("VmHWM"))
    print(json.dumps({"peak_mb": int(peak) / 1024}))


def main() -> None:
    """Parse the command line and measure."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="small pictures, few samples")
    parser.add_argument("--threads", type=int, default=0, help="threads; 0 for all cores")
    parser.add_argument("--peak", nargs=4, help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.peak:
        path, kind, samples, size = chosen.peak
        print_peak(Path(path), kind, int(samples), int(size), chosen.threads)
        return
    size, count, rounds = (64, 8, 2) if chosen.quick else (224, 32, 5)
    memory = (8, 32) if chosen.quick else (32, 256)
    with tempfile.TemporaryDirectory() as folder:
        run(Path(folder) / "resnet50.onnx", size, count, rounds, memory, chosen.threads)


def run(
    path: Path, size: int, count: int, rounds: int, memory: tuple[int, int], threads: int
) -> None:
    """Measure all and print one table."""
    warnings.simplefilter("ignore")
    onnx.save(resnet50(size), path)
    graph, pictures = load(path), Pictures(count, size)
    costs = measure(
        {
            "plain inference": lambda: plain(graph, pictures, threads),
            "min-max": lambda: ours(graph, "min-max", pictures, threads),
            "histogram": lambda: ours(graph, "histogram", pictures, threads),
            "onnxruntime min-max": lambda: theirs(path, "min-max", pictures, threads),
            "onnxruntime entropy": lambda: theirs(path, "entropy", pictures, threads),
            "onnxruntime percentile": lambda: theirs(path, "percentile", pictures, threads),
        },
        rounds,
    )
    table = Table(title=f"Calibration, ResNet-50 shape, {size} x {size}, {count} samples")
    few, many = memory
    table.add_column("")
    for column in ("time", "spread", "CPU", f"MB, {few}", f"MB, {many}", "ratio"):
        table.add_column(column, justify="right")
    base = costs["plain inference"]
    for name, taken in costs.items():
        wall = [cost.wall / plain.wall for cost, plain in zip(taken, base, strict=True)]
        cpu = [cost.cpu / plain.cpu for cost, plain in zip(taken, base, strict=True)]
        cells = [f"{statistics.median(wall):.2f}", f"{min(wall):.2f}-{max(wall):.2f}"]
        cells.append(f"{statistics.median(cpu):.2f}")
        if not name.startswith("onnxruntime"):
            kind = name.removesuffix(" inference")
            peaks = [peak_mb(path, kind, samples, size, threads) for samples in memory]
            cells += [f"{peaks[0]:.0f}", f"{peaks[1]:.0f}", f"{peaks[1] / peaks[0]:.3f}"]
        table.add_row(name, *cells)
    console = Console()
    console.print(table)


if __name__ == "__main__":
    main()
