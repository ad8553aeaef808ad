"""A text detector of free picture size, with seeded random weights, and pictures for it.

    python benchmarks/text_detector.py FOLDER [--side 480] [--samples 24]

writes ``model.onnx``, ``calib.npz`` and ``eval.npz``. The shape of the network is that of small
OCR detectors as they are exported: a MobileNetV3 with squeeze-and-excitation, hard swish written
out as Add, Clip, Mul and Div, a feature pyramid whose Resize takes its size from a Shape, and a
head of two ConvTranspose that ends in a map of probabilities as large as the picture.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

__all__ = ["BLOCKS", "pictures", "text_detector"]

BLOCKS = (
    (3, 16, 16, False, False, 1),
    (3, 64, 24, False, False, 2),
    (3, 72, 24, False, False, 1),
    (5, 72, 40, True, False, 2),
    (5, 120, 40, True, False, 1),
    (5, 120, 40, True, False, 1),
    (3, 240, 80, False, True, 2),
    (3, 200, 80, False, True, 1),
    (3, 184, 80, False, True, 1),
    (3, 184, 80, False, True, 1),
    (3, 480, 112, True, True, 1),
    (3, 672, 112, True, True, 1),
    (5, 672, 160, True, True, 2),
    (5, 960, 160, True, True, 1),
    (5, 960, 160, True, True, 1),
)
"""Kernel, width inside, channels, squeeze-and-excitation, hard swish, stride (Howard et al. 2019,
Searching for MobileNetV3, table 1)."""


class _Net:
    """Nodes and weights in the making; ``add`` gives the name of the new node's output."""

    def __init__(self, seed: int) -> None:
        self.rng = np.random.default_rng(seed)
        self.nodes: list[onnx.NodeProto] = []
        self.weights: list[onnx.TensorProto] = []
        for name, value in (("zero", 0.0), ("three", 3.0), ("six", 6.0), ("one", 1.0)):
            self.constant(name, np.float32(value))
        self.constant("sixth", np.float32(1 / 6))
        self.constant("half", np.float32(0.5))

    def constant(self, name: str, values: NDArray[Any] | np.generic) -> str:
        self.weights.append(numpy_helper.from_array(np.asarray(values), name))
        return name

    def normal(self, name: str, shape: Sequence[int], deviation: float) -> str:
        values = self.rng.standard_normal(shape, dtype=np.float32) * np.float32(deviation)
        return self.constant(name, values)

    def add(self, operator: str, inputs: Sequence[str], **attributes: Any) -> str:
        name = f"{operator.lower()}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(operator, inputs, [name], name, **attributes))
        return name

    def norm(self, x: str, channels: int) -> str:
        name = f"norm_{len(self.nodes)}"
        scale = self.constant(f"{name}_s", self.rng.uniform(0.8, 1.2, channels).astype(np.float32))
        shift = self.normal(f"{name}_b", (channels,), 0.1)
        mean = self.normal(f"{name}_m", (channels,), 0.1)
        spread = self.constant(f"{name}_v", self.rng.uniform(0.8, 1.2, channels).astype(np.float32))
        return self.add("BatchNormalization", [x, scale, shift, mean, spread])

    def conv(
        self,
        x: str,
        channels: int,
        out: int,
        kernel: int = 1,
        stride: int = 1,
        group: int = 1,
        gain: float = 1.0,
    ) -> str:
        """Conv with its BatchNormalization."""
        fan_in = channels // group * kernel**2
        weight = self.normal(
            f"w_{len(self.nodes)}",
            (out, channels // group, kernel, kernel),
            (2.0 / fan_in) ** 0.5 * gain,
        )
        x = self.add(
            "Conv",
            [x, weight],
            kernel_shape=[kernel] * 2,
            strides=[stride] * 2,
            pads=[kernel // 2] * 4,
            group=group,
        )
        return self.norm(x, out)

    def hard_swish(self, x: str) -> str:
        gate = self.add("Clip", [self.add("Add", [x, "three"]), "zero", "six"])
        return self.add("Div", [self.add("Mul", [x, gate]), "six"])

    def squeeze(self, x: str, channels: int) -> str:
        """Squeeze-and-excitation with a hard sigmoid that is written out."""
        few = max(8, channels // 4)
        y = self.add("GlobalAveragePool", [x])
        for out, come in ((few, channels), (channels, few)):
            weight = self.normal(f"w_{len(self.nodes)}", (out, come, 1, 1), (1.0 / come) ** 0.5)
            bias = self.normal(f"b_{len(self.nodes)}", (out,), 0.1)
            y = self.add("Conv", [y, weight, bias], kernel_shape=[1, 1])
            y = self.add("Relu", [y]) if out == few else y
        y = self.add("Add", [self.add("Mul", [y, "sixth"]), "half"])
        return self.add("Mul", [x, self.add("Clip", [y, "zero", "one"])])

    def block(self, x: str, come: int, shape: tuple[int, int, int, bool, bool, int]) -> str:
        """An inverted residual block of ``BLOCKS``."""
        kernel, width, out, squeezed, swish, stride = shape
        act = self.hard_swish if swish else lambda y: self.add("Relu", [y])
        y = act(self.conv(x, come, width))
        y = act(self.conv(y, width, width, kernel, stride, group=width))
        y = self.squeeze(y, width) if squeezed else y
        y = self.conv(y, width, out, gain=0.5)
        return self.add("Add", [y, x]) if stride == 1 and come == out else y

    def enlarged(self, x: str, like: str) -> str:
        """``x`` at the height and width of ``like``, as exporters write it for free sizes."""
        number = len(self.nodes)
        start, end, end_of_all = (
            self.constant(f"{name}_{number}", np.array([value], np.int64))
            for name, value in (("start", 0), ("two", 2), ("four", 4))
        )
        head = self.add("Slice", [self.add("Shape", [x]), start, end])
        tail = self.add("Slice", [self.add("Shape", [like]), end, end_of_all])
        return self.add(
            "Resize",
            [x, "", "", self.add("Concat", [head, tail], axis=0)],
            mode="nearest",
            coordinate_transformation_mode="asymmetric",
            nearest_mode="floor",
        )


def text_detector(
    *,
    blocks: Sequence[tuple[int, int, int, bool, bool, int]] = BLOCKS,
    repeats: int = 3,
    width: int = 96,
    seed: int = 0,
) -> onnx.ModelProto:
    """The network; takes ``x (n, 3, h, w)`` and gives ``map (n, 1, h, w)``, all sizes free.

    Args:
        blocks: Shapes of the blocks.
        repeats: How often a block stands there that keeps size and channels.
        width: Channels of the pyramid.
        seed: Of the weights.
    """
    net = _Net(seed)
    x = net.hard_swish(net.conv("x", 3, 16, 3, 2))
    come, levels = 16, list[tuple[str, int]]()
    for number, shape in enumerate(blocks):
        kept = shape[5] == 1 and come == shape[2]
        for _ in range(repeats if kept else 1):
            x = net.block(x, come, shape)
            come = shape[2]
        if number + 1 == len(blocks) or (number > 1 and blocks[number + 1][5] == 2):
            levels.append((x, come))
    above = ""
    parts: list[str] = []
    for level, channels in reversed(levels):
        y = net.squeeze(net.conv(level, channels, width), width)
        above = net.add("Add", [y, net.enlarged(above, y)]) if above else y
        part = net.squeeze(net.conv(above, width, width // 4, 3), width // 4)
        parts.append(part)
    parts = [net.enlarged(part, parts[-1]) for part in parts[:-1]] + parts[-1:]
    y = net.add("Concat", parts, axis=1)
    y = net.add("Relu", [net.conv(y, width // 4 * len(parts), width // 4, 3)])
    for come, out, gain in ((width // 4, width // 4, 1.0), (width // 4, 1, 0.5)):
        weight = net.normal(f"w_{len(net.nodes)}", (come, out, 2, 2), (2.0 / come) ** 0.5 * gain)
        bias = net.normal(f"b_{len(net.nodes)}", (out,), 0.1)
        y = net.add("ConvTranspose", [y, weight, bias], kernel_shape=[2, 2], strides=[2, 2])
        y = net.add("Relu", [net.norm(y, out)]) if out > 1 else y
    net.nodes.append(helper.make_node("Sigmoid", [y], ["map"], "map"))
    graph = helper.make_graph(
        net.nodes,
        "text_detector",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 3, "h", "w"])],
        [helper.make_tensor_value_info("map", TensorProto.FLOAT, ["n", 1, "H", "W"])],
        net.weights,
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)


def pictures(count: int, side: int, *, seed: int = 0) -> NDArray[np.float32]:
    """Pages with dark strokes on uneven ground, ``(count, 3, side, side)``, about -2 to 2."""
    rng = np.random.default_rng(seed)
    made = np.empty((count, 3, side, side), np.float32)
    for page in made:
        coarse = rng.uniform(0.5, 1.0, (3, side // 32 + 1, side // 32 + 1))
        page[:] = np.repeat(np.repeat(coarse, 32, 1), 32, 2)[:, :side, :side]
        for _ in range(int(rng.integers(4, 12))):
            top, left = rng.integers(0, side - 24, 2)
            height, length = int(rng.integers(8, 24)), int(rng.integers(side // 8, side // 2))
            strokes = rng.random(length // 2 + 1) < 0.5
            row = np.repeat(strokes, 2)[: min(length, side - left)]
            page[:, top : top + height, left : left + len(row)][:, :, row] *= rng.uniform(0.1, 0.4)
        page[:] += rng.normal(0, 0.02, page.shape)
    return (made - 0.5) / 0.25


def main() -> None:
    """Write the model and its pictures into a folder."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("folder", type=Path)
    parser.add_argument("--side", type=int, default=480, help="height and width of the pictures")
    parser.add_argument("--samples", type=int, default=24, help="pictures in each of the two files")
    asked = parser.parse_args()
    asked.folder.mkdir(parents=True, exist_ok=True)
    onnx.save(text_detector(), asked.folder / "model.onnx")
    for number, name in enumerate(("calib", "eval")):
        np.savez(asked.folder / f"{name}.npz", x=pictures(asked.samples, asked.side, seed=number))


if __name__ == "__main__":
    main()
