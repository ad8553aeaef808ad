"""A detector with its selection inside the graph: trained in a minute, exported by torch.

    python -m tests.bridge.nms_detector FOLDER

writes ``model.onnx``, ``calib.npz`` and ``eval.npz``. Bright rectangles on noise are found on a
grid of cells; ``NonMaxSuppression`` is put behind the exported network, as exporters of detectors
do, so that the number of rows of ``boxes`` and ``scores`` depends on the picture.
"""

from __future__ import annotations

import sys
import warnings
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor, nn
from torch.nn import functional

__all__ = ["detector", "pictures"]

_SIDE, _CELLS, _STRIDE = 64, 8, 8
_STEPS, _BATCH = 250, 32
_MOST_ROWS, _OVERLAP, _LEAST_SCORE = 20, 0.5, 0.3

Array = NDArray[np.float32]


def pictures(count: int, seed: int) -> tuple[Array, list[Array]]:
    """Pictures ``(count, 1, 64, 64)`` and the corners of one to three rectangles on each."""
    draw = np.random.default_rng(seed)
    found = draw.normal(0, 0.1, (count, 1, _SIDE, _SIDE)).astype(np.float32)
    corners = []
    for picture in found:
        boxes = []
        for _ in range(int(draw.integers(1, 4))):
            height, width = draw.integers(10, 28, 2)
            top, left = (int(draw.integers(0, _SIDE - size)) for size in (height, width))
            picture[0, top : top + height, left : left + width] += draw.uniform(0.6, 1.0)
            boxes.append((left, top, left + width, top + height))
        corners.append(np.array(boxes, np.float32))
    return found, corners


class _Network(nn.Module):
    """Corners ``(n, cells, 4)`` in pixels and scores ``(n, 1, cells)`` of each cell."""

    def __init__(self) -> None:
        super().__init__()
        widths = (1, 16, 32, 48)
        blocks = [
            nn.Sequential(
                nn.Conv2d(before, after, 3, 2, 1, bias=False), nn.BatchNorm2d(after), nn.ReLU()
            )
            for before, after in pairwise(widths)
        ]
        self.body = nn.Sequential(
            *blocks, nn.Conv2d(48, 48, 3, 1, 1, bias=False), nn.BatchNorm2d(48), nn.ReLU()
        )
        self.head = nn.Conv2d(48, 5, 1)
        grid = torch.arange(_CELLS, dtype=torch.float32) * _STRIDE + _STRIDE / 2
        rows, columns = torch.meshgrid(grid, grid, indexing="ij")
        self.centres = nn.Buffer(torch.stack([columns, rows], -1).reshape(1, -1, 2))

    def forward(self, picture: Tensor) -> tuple[Tensor, Tensor]:
        cells = self.head(self.body(picture)).flatten(2).transpose(1, 2)
        reach = functional.softplus(cells[..., :4]) * _STRIDE
        corners = torch.cat([self.centres - reach[..., :2], self.centres + reach[..., 2:]], -1)
        return corners, torch.sigmoid(cells[..., 4:]).transpose(1, 2)


def _wanted(corners: list[Array]) -> tuple[Tensor, Tensor]:
    """The box of each cell's centre and whether there is one: ``(n, cells, 4)``, ``(n, cells)``."""
    grid = np.arange(_CELLS) * _STRIDE + _STRIDE / 2
    ys, xs = (axis.reshape(-1) for axis in np.meshgrid(grid, grid, indexing="ij"))
    boxes = np.zeros((len(corners), len(xs), 4), np.float32)
    there = np.zeros((len(corners), len(xs)), np.float32)
    for index, each in enumerate(corners):
        for left, top, right, bottom in each:
            inside = (xs >= left) & (xs < right) & (ys >= top) & (ys < bottom)
            boxes[index, inside] = (left, top, right, bottom)
            there[index, inside] = 1
    return torch.from_numpy(boxes), torch.from_numpy(there)


def _trained() -> _Network:
    torch.manual_seed(0)
    network = _Network()
    optimizer = torch.optim.Adam(network.parameters(), 3e-3)
    for step in range(_STEPS):
        data, corners = pictures(_BATCH, 1000 + step)
        boxes, there = _wanted(corners)
        found, scores = network(torch.from_numpy(data))
        near = (found - boxes).abs().mean(-1) * there
        loss = functional.binary_cross_entropy(scores[:, 0], there)
        loss = loss + 0.05 * near.sum() / there.sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return network.eval()


@cache
def detector() -> onnx.ModelProto:
    """The trained network of one picture with NonMaxSuppression behind it."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of torch's own use of itself
        program = torch.onnx.export(
            _trained(),
            (torch.zeros(1, 1, _SIDE, _SIDE),),
            input_names=["picture"],
            output_names=["all_boxes", "all_scores"],
            dynamo=True,
            verbose=False,
        )
    assert program is not None
    model = program.model_proto
    graph = model.graph
    constants: dict[str, NDArray[Any]] = {
        "most_rows": np.array([_MOST_ROWS], np.int64),
        "overlap": np.array([_OVERLAP], np.float32),
        "least_score": np.array([_LEAST_SCORE], np.float32),
        "third": np.array(2, np.int64),
        "flat": np.array([-1], np.int64),
    }
    graph.initializer.extend(numpy_helper.from_array(v, name) for name, v in constants.items())
    selection = ["all_boxes", "all_scores", "most_rows", "overlap", "least_score"]
    graph.node.extend(
        [
            helper.make_node("NonMaxSuppression", selection, ["selected"], "nms"),
            helper.make_node("Gather", ["selected", "third"], ["cells"], "cells", axis=1),
            helper.make_node("Squeeze", ["all_boxes"], ["box_rows"], "box_rows"),
            helper.make_node("Reshape", ["all_scores", "flat"], ["score_rows"], "score_rows"),
            helper.make_node("Gather", ["box_rows", "cells"], ["boxes"], "boxes", axis=0),
            helper.make_node("Gather", ["score_rows", "cells"], ["scores"], "scores", axis=0),
        ]
    )
    del graph.output[:]
    graph.output.extend(
        [
            helper.make_tensor_value_info("boxes", TensorProto.FLOAT, ["rows", 4]),
            helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["rows"]),
        ]
    )
    onnx.checker.check_model(model)
    return model


def _main() -> None:
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    onnx.save(detector(), folder / "model.onnx")
    for name, count, seed in (("calib", 64, 1), ("eval", 100, 2)):
        np.savez(folder / f"{name}.npz", picture=pictures(count, seed)[0])


if __name__ == "__main__":
    _main()
