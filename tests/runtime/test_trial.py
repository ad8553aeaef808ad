from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import numpy as np
import onnx
import psutil
import pytest
from onnx import TensorProto, helper

from graphopt.errors import ModelError, Need, NoKernel, NotRun
from graphopt.graph import io
from graphopt.graph.graph import Graph
from graphopt.runtime import trial as module
from graphopt.runtime.trial import Trial
from graphopt.testing import model_from_text

T = TypeVar("T")

HEAD = '<ir_version: 8, opset_import: ["" : 17, "own" : 1]>'
WRONG = """g (float[1,2] x) => (float[1,3] y) {
    w = Constant <value = float[3,1] {1, 2, 3}> ()
    y = MatMul (x, w)
}"""
SOUND = "g (float[N,2] x) => (float[N,2] y) { y = Relu (x) }"
X = {"x": np.ones((1, 2), np.float32)}
ENDLESS = """g (float[2] x) => (float[2] y) {
    trips = Constant <value = int64 {9000000000000000000}> ()
    go = Constant <value = bool {1}> ()
    y = Loop (trips, go, x) <body = b (int64 i, bool c, float[2] v) => (bool d, float[2] w) {
        d = Identity (c)
        w = Sin (v)
    }>
}"""
GREEDY = """g (int64[1] x) => (float y) {
    made = ConstantOfShape (x)
    cast = Cos (made)
    y = ReduceSum <keepdims = 0> (cast)
}"""


def _graph(text: str) -> Graph:
    return io.load(model_from_text(f"{HEAD}\n{text}"))


def test_a_sound_model_passes_and_the_process_serves_the_next_one() -> None:
    with Trial() as trial:
        trial.run(_graph(SOUND), {**X, "labels": np.zeros(1)}, threads=1)
        trial.run(_graph(SOUND.replace("Relu", "Sin")), X, threads=1)


def test_without_a_process_nothing_is_tried() -> None:
    with Trial(wanted=False) as trial:
        trial.run(_graph(WRONG), X, threads=1)


@pytest.mark.parametrize(
    ("text", "error", "needs", "words"),
    [
        (WRONG, ModelError, (), "cannot load the model: .*MatMul"),
        (SOUND.replace("Relu", "own.Relu"), NoKernel, (Need.OPERATORS,), "operator own:Relu"),
        (SOUND.replace("Relu", "Det"), NotRun, (), "cannot run the model: "),
    ],
)
def test_what_onnxruntime_refuses_is_told_apart(
    text: str, error: type[ModelError], needs: tuple[Need, ...], words: str
) -> None:
    with Trial() as trial, pytest.raises(ModelError, match=words) as caught:
        trial.run(_graph(text), X, threads=1)
    assert type(caught.value) is error
    assert caught.value.needs == needs
    assert "\n" not in str(caught.value)


def test_a_type_without_a_kernel_is_no_fault_of_the_model_and_an_unknown_version_is() -> None:
    text = SOUND.replace("float", "bfloat16").replace("Relu", "Sin")
    message = model_from_text(f'<ir_version: 10, opset_import: ["" : 22]>\n{text}')
    with Trial() as trial:
        with pytest.raises(NoKernel, match="Sin"):
            trial.run(io.load(message), X, threads=1, as_is=True)
        graph = _graph(SOUND)
        graph.header.ir_version = 99
        with pytest.raises(ModelError, match=r"neither onnx .* know this version .*IR 99"):
            trial.run(graph, X, threads=1)


@pytest.mark.skipif(os.name != "posix", reason="signals")
@pytest.mark.parametrize(
    ("number", "error", "words"),
    [
        (signal.SIGSEGV, ModelError, r"crashes while loading the model \(it ends with SIGSEGV\)"),
        (signal.SIGABRT, ModelError, "SIGABRT"),
        (signal.SIGKILL, NotRun, "too little memory"),
    ],
)
def test_a_crash_becomes_a_line(number: int, error: type[ModelError], words: str) -> None:
    with Trial() as trial:
        assert trial._process is not None
        os.kill(trial._process.pid, number)
        with pytest.raises(ModelError, match=words) as caught:
            trial.run(_graph(SOUND), X, threads=1)
        assert type(caught.value) is error


def test_a_loop_without_end_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "TRIAL_SECONDS", 2)
    with Trial() as trial:
        process = trial._process
        assert process is not None
        with pytest.raises(NotRun, match="longer than 2 seconds") as caught:
            trial.run(_graph(ENDLESS), {"x": np.ones(2, np.float32)}, threads=1)
        assert caught.value.needs == (Need.NO_TRIAL,)
        assert process.returncode is not None


def test_the_process_may_wait_longer_than_a_run_may_take(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "TRIAL_SECONDS", 1)
    monkeypatch.setattr(module, "_GRACE_SECONDS", 0)
    with Trial() as trial:
        trial.run(_graph(SOUND), X, threads=1)
        time.sleep(1.2)
        trial.run(_graph(SOUND), X, threads=1)


@pytest.mark.skipif(os.name != "posix", reason="process groups")
def test_the_process_ends_with_the_one_that_started_it(tmp_path: Path) -> None:
    (tmp_path / "model.onnx").write_bytes(model_from_text(f"{HEAD}\n{ENDLESS}").SerializeToString())
    command = [sys.executable, "-m", "graphopt", "bench", "model.onnx"]
    with subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.DEVNULL) as process:
        (child,) = _until(psutil.Process(process.pid).children)
        _until(lambda: child.cpu_times().user > 1)  # in the loop
        process.kill()
    _until(lambda: not child.is_running() or child.status() == psutil.STATUS_ZOMBIE)


def _until(condition: Callable[[], T]) -> T:
    for _ in range(600):
        if found := condition():
            return found
        time.sleep(0.05)
    raise AssertionError("it did not happen within 30 seconds")


def test_the_bound_of_memory_holds() -> None:
    with Trial() as trial, pytest.raises(NotRun, match="more than 300 MB") as caught:
        feeds = {"x": np.array([1 << 29])}
        trial.run(_graph(GREEDY), feeds, threads=1, most=300_000_000)
    assert caught.value.needs == (Need.MEMORY_LIMIT,)


def test_text_and_types_that_numpy_lacks_go_through() -> None:
    ports = [
        helper.make_tensor_value_info("s", TensorProto.STRING, [2]),
        helper.make_tensor_value_info("b", TensorProto.BFLOAT16, [2]),
    ]
    nodes = [
        helper.make_node("Identity", ["s"], ["t"]),
        helper.make_node("Cast", ["b"], ["f"], to=TensorProto.FLOAT),
        helper.make_node("Identity", ["b"], ["c"]),
    ]
    outputs = [
        helper.make_tensor_value_info("t", TensorProto.STRING, [2]),
        helper.make_tensor_value_info("f", TensorProto.FLOAT, [2]),
        helper.make_tensor_value_info("c", TensorProto.BFLOAT16, [2]),
    ]
    graph = helper.make_graph(nodes, "g", ports, outputs)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    halves = np.zeros(2, onnx.helper.tensor_dtype_to_np_dtype(TensorProto.BFLOAT16))
    with Trial() as trial:
        feeds = {"s": np.array(["a", "b"], dtype=object), "b": halves}
        trial.run(io.load(model), feeds, threads=1)
