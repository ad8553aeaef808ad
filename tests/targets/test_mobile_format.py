"""onnxruntime's own converter to its mobile format takes what is written for Arm."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import onnxruntime as ort

from graphopt.graph import io
from graphopt.graph.graph import Graph
from graphopt.passes.quantize import QuantizeStatic
from graphopt.testing import apply_pass, model_from_text

TEXT = """<ir_version: 8, opset_import: ["" : 13]>
    g (float[N, 3, 8, 8] x) => (float[N, 5] y) {
        a = Conv<kernel_shape = [3, 3], pads = [1, 1, 1, 1]>(x, w, b)  r = Relu(a)
        c = Conv(r, v, d)  s = Add(c, r)  p = GlobalAveragePool(s)  f = Flatten(p)
        y = Gemm(f, u, e)
    }"""
WEIGHTS = {"w": (16, 3, 3, 3), "b": (16,), "v": (16, 16, 1, 1), "d": (16,), "u": (16, 5), "e": (5,)}


def _quantized() -> Graph:
    samples = {"x": np.random.default_rng(3).normal(size=(8, 3, 8, 8)).astype(np.float32)}
    text = model_from_text(TEXT, WEIGHTS)
    return apply_pass(QuantizeStatic(), text, target="arm", samples=samples)[0]


def _answer(path: Path) -> object:
    options = ort.SessionOptions()
    options.add_session_config_entry("session.enable_saved_runtime_optimizations", "1")
    session = ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    feeds = {"x": np.random.default_rng(4).normal(size=(2, 3, 8, 8)).astype(np.float32)}
    return session.run(None, feeds)[0]


def test_both_styles_of_the_converter_give_the_same_bits(tmp_path: Path) -> None:
    path = tmp_path / "net.onnx"
    io.save(_quantized(), path)
    command = [sys.executable, "-m", "onnxruntime.tools.convert_onnx_models_to_ort", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    for made in ("net.ort", "net.with_runtime_opt.ort"):
        np.testing.assert_array_equal(_answer(tmp_path / made), _answer(path), made)
