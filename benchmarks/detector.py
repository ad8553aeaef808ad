"""A detector exported by torch, with its NonMaxSuppression inside, and pictures for it.

    python benchmarks/detector.py FOLDER [--samples 48] [--seed 0]

writes ``model.onnx``, ``calib.npz`` and ``eval.npz``. Nothing is trained: the backbone has random
weights, and the scores are shifted so that a few in a hundred cells are above the threshold, as
many of them close to it as anywhere. Outputs are ``boxes``, ``scores`` and ``labels`` of as many
rows as a picture has.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from onnx import helper, numpy_helper

__all__ = ["THRESHOLD", "detector", "scenes"]

THRESHOLD = 0.5
_SIDE = 64
_STRIDE = 4
_CLASSES = 3
_SHARE = 0.04
"""Cells and classes above the threshold, on the pictures that the scores are shifted by."""


class _Net(torch.nn.Module):
    """Boxes ``(1, cells, 4)`` in pixels and scores ``(1, classes, cells)``."""

    grid: torch.Tensor

    def __init__(self) -> None:
        super().__init__()

        def block(before: int, after: int, stride: int) -> torch.nn.Module:
            conv = torch.nn.Conv2d(before, after, 3, stride, 1, bias=False)
            return torch.nn.Sequential(conv, torch.nn.BatchNorm2d(after), torch.nn.ReLU())

        self.body = torch.nn.Sequential(block(3, 16, 2), block(16, 48, 2), block(48, 48, 1))
        self.classes = torch.nn.Conv2d(48, _CLASSES, 1)
        self.boxes = torch.nn.Conv2d(48, 4, 1)
        cells = torch.arange(_SIDE // _STRIDE).float()
        rows, columns = torch.meshgrid(cells, cells, indexing="ij")
        centres = (torch.stack([columns, rows], -1).reshape(1, -1, 2) + 0.5) * _STRIDE
        self.register_buffer("grid", centres)

    def forward(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        features = self.body(images)
        offsets = self.boxes(features).flatten(2).transpose(1, 2)
        centre = self.grid + offsets[..., :2].tanh() * _STRIDE
        size = offsets[..., 2:].tanh().exp() * 2 * _STRIDE
        boxes = torch.cat([centre - size / 2, centre + size / 2], -1)
        return boxes, self.classes(features).flatten(2).sigmoid()


def scenes(count: int, seed: int) -> NDArray[np.float32]:
    """Noise with some bright rectangles ``(count, 3, 64, 64)``; every eighth picture is black."""
    rng = np.random.default_rng(seed)
    made = (0.2 * rng.random((count, 3, _SIDE, _SIDE))).astype(np.float32)
    for picture in made:
        for _ in range(int(rng.integers(1, 5))):
            top, left = rng.integers(0, _SIDE - 12, 2)
            height, width = rng.integers(8, 24, 2)
            picture[rng.integers(0, 3), top : top + height, left : left + width] = 0.9
    made[::8] = 0
    return made


def detector(seed: int = 0) -> onnx.ModelProto:
    """The model, as torch exports it, with the selection of boxes behind."""
    torch.manual_seed(seed)
    net = _Net()
    pictures = torch.from_numpy(scenes(32, seed + 100))
    with torch.no_grad():
        for _ in range(20):
            net(pictures)  # BatchNorm takes its moments from them
        net.eval()
        net.classes.weight.mul_(4)
        logits = torch.logit(net(pictures)[1])
        assert net.classes.bias is not None
        net.classes.bias.sub_(torch.quantile(logits.permute(1, 0, 2).flatten(1), 1 - _SHARE, 1))
    program = torch.onnx.export(
        net,
        (torch.zeros(1, 3, _SIDE, _SIDE),),
        input_names=["images"],
        output_names=["all_boxes", "all_scores"],
        opset_version=18,
        dynamo=True,
        verbose=False,
    )
    assert program is not None
    model = onnx.load_from_string(program.model_proto.SerializeToString())
    _select(model.graph)
    onnx.checker.check_model(model, full_check=True)
    return model


def _select(graph: onnx.GraphProto) -> None:
    """Put NonMaxSuppression and what it selects behind the heads."""
    values: dict[str, Any] = {
        "most": np.array([30]),
        "overlap": np.array([0.5], np.float32),
        "threshold": np.array([THRESHOLD], np.float32),
        "third": np.array(2),
        "second": np.array(1),
        "both": np.array([1, 2]),
        "first": np.array([0]),
    }
    graph.initializer.extend(numpy_helper.from_array(v, k) for k, v in values.items())
    node = helper.make_node
    limits = ["most", "overlap", "threshold"]
    graph.node.extend(
        [
            node("NonMaxSuppression", ["all_boxes", "all_scores", *limits], ["selected"]),
            node("Gather", ["selected", "third"], ["cell"], axis=1),
            node("Gather", ["selected", "second"], ["labels"], axis=1),
            node("Gather", ["selected", "both"], ["places"], axis=1),
            node("Gather", ["all_boxes", "cell"], ["some_boxes"], axis=1),
            node("Squeeze", ["some_boxes", "first"], ["boxes"]),
            node("Squeeze", ["all_scores", "first"], ["flat_scores"]),
            node("GatherND", ["flat_scores", "places"], ["scores"]),
        ]
    )
    del graph.output[:]
    info = helper.make_tensor_value_info
    graph.output.extend(
        [info("boxes", 1, ["rows", 4]), info("scores", 1, ["rows"]), info("labels", 7, ["rows"])]
    )


def main() -> None:
    """Write the model and its pictures into a folder."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("folder", type=Path)
    parser.add_argument("--samples", type=int, default=48, help="pictures in each of the two files")
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    asked.folder.mkdir(parents=True, exist_ok=True)
    onnx.save(detector(asked.seed), asked.folder / "model.onnx")
    for number, name in enumerate(("calib", "eval"), start=asked.seed):
        np.savez(asked.folder / f"{name}.npz", images=scenes(asked.samples, number))


if __name__ == "__main__":
    main()
