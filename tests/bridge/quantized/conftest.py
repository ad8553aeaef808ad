"""A small net in QDQ form, made by the quantize passes themselves."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

import graphopt.passes  # noqa: F401 - fills the registry
from graphopt.contract.spec import parse_passes
from graphopt.data import open_data
from graphopt.data.samples import Samples
from graphopt.graph import io
from graphopt.graph.graph import Graph
from graphopt.run.record import PassRecord
from graphopt.testing import apply_passes, model_from_text

Make = Callable[..., "Quantized"]


@dataclass
class Quantized:
    """A model before and after some passes, its samples, and what the passes say."""

    reference: Graph
    graph: Graph
    samples: Samples
    records: list[PassRecord]


@pytest.fixture
def quantized() -> Make:
    """``quantized(spec, target=..., body=..., graph=..., teacher=..., labels=..., **weights)``."""

    def make(spec: str = "quantize-static", target: str = "x86-vnni", **changed: Any) -> Quantized:
        body, labels = changed.pop("body", _BODY), changed.pop("labels", None)
        given, teacher = changed.pop("graph", None), changed.pop("teacher", None)
        weights = {**_WEIGHTS, **changed}
        named = {name: weights[name] for name in weights if re.search(rf"\b{name}\b", body)}
        text = f'<ir_version: 10, opset_import: ["" : 21]> net {_PORTS} {{ {body} }}'
        graph = io.load(model_from_text(text, named)) if given is None else given
        values = np.random.default_rng(3).normal(size=(48, 3, 8, 8)).astype(np.float32)
        data = {"x": values}
        after, records = apply_passes(
            parse_passes(spec),
            graph,
            target=target,
            samples=data,
            judge=False,
            strict=True,
            train=None if labels is None else {**data, "labels": labels},
            teacher=teacher,
        )
        return Quantized(graph, after, open_data(data, graph), records)

    return make


_PORTS = "(float[N,3,8,8] x) => (float[N,5] y)"
_BODY = """
    c = Conv <pads = [1,1,1,1]> (x, W1, B1)
    r = Relu (c)
    d = Conv <pads = [1,1,1,1]> (r, W2, B2)
    s = Add (d, r)
    q = Relu (s)
    m = MaxPool <kernel_shape = [2,2], strides = [2,2]> (q)
    e = Conv (m, W3, B3)
    k = Clip (e, low, high)
    g = GlobalAveragePool (k)
    f = Flatten (g)
    y = Gemm (f, V, b)
"""
_WEIGHTS: dict[str, Any] = {
    "W1": (8, 3, 3, 3),
    "B1": (8,),
    "W2": (8, 8, 3, 3),
    "B2": (8,),
    "W3": (8, 8, 1, 1),
    "B3": (8,),
    "V": (8, 5),
    "b": (5,),
    "low": np.array(0, np.float32),
    "high": np.array(2, np.float32),
}
