"""Models written as text, with random weights and with everything that can be lost."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

__all__ = ["BYSTANDER", "HEAD", "dressed", "model_from_text", "random_weight"]

HEAD = '<ir_version: 8, opset_import: ["" : 13], doc_string: "tiny", producer_name: "tests">'
BYSTANDER = "aside = Sin (x)"
"""A node beside the others that no pass may touch."""


def model_from_text(
    text: str, weights: Mapping[str, NDArray[Any] | tuple[int, ...]] | None = None, seed: int = 0
) -> onnx.ModelProto:
    """A model from ONNX's text form, with initializers added.

    Args:
        text: As ``onnx.parser.parse_model`` reads it; it may read names that ``weights`` defines.
        weights: Values by name; a shape stands for seeded random float32 values whose matrix of
            outputs by inputs has singular values that fall off, as trained weights do.
        seed: Seed of the random values.
    """
    model = onnx.parser.parse_model(text)
    rng = np.random.default_rng(seed)
    for name, given in (weights or {}).items():
        values = random_weight(given, rng) if isinstance(given, tuple) else given
        model.graph.initializer.append(onnx.numpy_helper.from_array(values, name))
    return model


def random_weight(shape: tuple[int, ...], rng: np.random.Generator) -> NDArray[np.float32]:
    """Values whose matrix of outputs by inputs has singular values that fall off."""
    if len(shape) < 2:
        return rng.uniform(0.5, 1.5, shape).astype(np.float32)
    rows, columns = shape[0], int(np.prod(shape[1:]))
    left = np.linalg.qr(rng.standard_normal((rows, min(rows, columns))))[0]
    right = np.linalg.qr(rng.standard_normal((columns, min(rows, columns))))[0]
    values = (left * 0.7 ** np.arange(min(rows, columns))) @ right.T
    return np.asarray(2.0 * values, np.float32).reshape(shape)


def dressed(model: onnx.ModelProto) -> onnx.ModelProto:
    """Names, metadata and doc strings on everything that can carry them."""
    model.metadata_props.add(key="author", value="tests")
    model.graph.metadata_props.add(key="graph", value="kept")
    model.graph.doc_string = "a graph"
    for index, node in enumerate(model.graph.node):
        node.name = f"{node.op_type.lower()}_{index}"
        node.doc_string = f"about node {index}"
        node.metadata_props.add(key="namespace", value=f"layer{index}")
    for value in (*model.graph.input, *model.graph.output):
        value.doc_string = f"about {value.name}"
    return model
