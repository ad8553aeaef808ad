"""The networks of this folder as torch writes them to ONNX."""

from __future__ import annotations

import logging
import tempfile
import warnings
from pathlib import Path
from typing import Literal

import onnx
import torch

from tests.networks.sequences import SEQUENCES
from tests.networks.vision import VISION

__all__ = ["NETWORKS", "Exporter", "exported"]

Exporter = Literal["torchscript", "dynamo"]
NETWORKS = {**VISION, **SEQUENCES}


def exported(name: str, exporter: Exporter, *, free_batch: bool = True) -> onnx.ModelProto:
    """A network with random weights, batch free where the network has one.

    Args:
        name: One of ``NETWORKS``.
        exporter: Which of torch's two.
        free_batch: Whether the first axis of the inputs has no size.
    """
    torch.manual_seed(0)
    module, feeds = NETWORKS[name]()
    module.eval()
    with torch.no_grad():
        for weight in module.parameters():  # layers that were copied are not to be one layer
            weight.add_(0.05 * torch.randn(weight.shape))
    names = [f"x{at}" for at in range(len(feeds))]
    free = {name: {0: "batch"} for name in names} if free_batch else None
    with warnings.catch_warnings(), tempfile.TemporaryDirectory() as folder:
        warnings.simplefilter("ignore")
        logging.disable(logging.WARNING)
        try:
            if exporter == "dynamo":
                shapes = tuple({0: torch.export.Dim("batch")} for _ in feeds)
                program = torch.onnx.export(
                    module,
                    feeds,
                    input_names=names,
                    dynamic_shapes=shapes if free_batch else None,
                    dynamo=True,
                    verbose=False,
                )
                assert program is not None
                return program.model_proto
            file = Path(folder) / "network.onnx"
            torch.onnx.export(
                module,
                feeds,
                file,
                input_names=names,
                dynamic_axes=free,
                dynamo=False,
                opset_version=17,
            )
            return onnx.load(file)
        finally:
            logging.disable(logging.NOTSET)
