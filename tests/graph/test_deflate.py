"""Bytes after deflate: those of the file, exactly or nearly, whatever the model is stored in."""

from __future__ import annotations

import zlib
from pathlib import Path

import numpy as np
import pytest
from onnx import ModelProto

from graphopt.graph import io
from graphopt.graph.deflate import deflated_bytes
from graphopt.graph.graph import Graph
from graphopt.graph.tensors import from_array
from graphopt.testing import MODELS, model_from_text


def _product(share: float, size: int = 256) -> ModelProto:
    """A MatMul whose weight is zero but for a share."""
    text = f"""<ir_version: 8, opset_import: ["" : 13]>
    g (float[N,{size}] x) => (float[N,{size}] y) {{ y = MatMul (x, W) }}"""
    model = model_from_text(text, {"W": (size, size)})
    rng = np.random.default_rng(0)
    values = rng.normal(size=(size, size)).astype(np.float32)
    values *= rng.random(values.shape) < share
    model.graph.initializer[0].CopyFrom(from_array("W", values))
    return model


@pytest.mark.parametrize("name", sorted(MODELS))
def test_nearly_the_bytes_of_the_compressed_file(name: str) -> None:
    model = MODELS[name]()
    exact = len(zlib.compress(model.SerializeToString(), 6))
    assert deflated_bytes(io.load(model)) == pytest.approx(exact, rel=0.1, abs=64)


def test_zeros_are_worth_something() -> None:
    dense, half = (deflated_bytes(io.load(_product(share))) for share in (1.0, 0.5))
    assert half < 0.7 * dense


def test_large_files_are_estimated_from_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    graph = io.load(_product(0.5))
    exact = deflated_bytes(graph)
    monkeypatch.setattr("graphopt.graph.deflate._MOST_BYTES", 1 << 16)
    monkeypatch.setattr("graphopt.graph.deflate._PIECE_BYTES", 1 << 12)
    read = []
    real = zlib.compressobj

    class Counting:
        def __init__(self, level: int) -> None:
            self.packer = real(level)

        def compress(self, piece: bytes) -> bytes:
            read.append(len(piece))
            return self.packer.compress(piece)

        def flush(self) -> bytes:
            return self.packer.flush()

    monkeypatch.setattr("graphopt.graph.deflate.zlib.compressobj", Counting)
    assert deflated_bytes(graph) == pytest.approx(exact, rel=0.05)
    assert sum(read) < 1 << 17


def test_external_data_counts(tmp_path: Path) -> None:
    graph = io.load(_product(0.5))
    inside = deflated_bytes(graph)
    graph.came_external = True
    io.save(graph, tmp_path / "m.onnx")
    outside: Graph = io.load(tmp_path / "m.onnx")
    assert (tmp_path / "m.onnx.data").stat().st_size == 256 * 256 * 4
    assert deflated_bytes(outside) == pytest.approx(inside, rel=0.01)
