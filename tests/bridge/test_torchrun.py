"""Two processes under torchrun against one: the same steps, one output."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

import graphopt
from graphopt.testing import model_from_text

Run = Callable[..., subprocess.CompletedProcess[str]]
Launch = Callable[..., Any]
ROOT = Path(graphopt.__file__).parents[1]

NORMED = """<ir_version: 8, opset_import: ["" : 17]>
net (float[N,3,8,8] image) => (float[N,10] logits, float[N,2] aside_logits) {
  c = Conv <pads = [1,1,1,1]> (image, W)
  n = BatchNormalization (c, scale, shift, mean, variance)
  r = Relu (n)
  p = GlobalAveragePool (r)
  f = Flatten (p)
  logits = Gemm (f, V)
  aside_logits = Gemm (f, A)
}"""
SHAPES = {
    "W": (16, 3, 3, 3),
    **dict.fromkeys(("scale", "shift", "mean", "variance"), (16,)),
    "V": (16, 10),
    "A": (16, 2),
}
TRAINED = "evaluations=6,batch=8,held_out=0.2,lr=0.01,optimizer=sgd"
LABELS = "finetune{steps=6,batch_norm=frozen,hard=cross-entropy," + TRAINED + "}"


@pytest.fixture
def launch(folder: Path, run: Run) -> Launch:
    """Runs graphopt in so many processes; gives the report."""
    onnx.save(model_from_text(NORMED, SHAPES), folder / "model.onnx")
    pictures = np.random.default_rng(0).standard_normal((51, 3, 8, 8)).astype(np.float32)
    np.savez(folder / "train.npz", image=pictures, labels=np.arange(51) % 10)

    def launched(count: int, plan: str, *more: str) -> Any:
        arguments = ["optimize", "model.onnx", "-p", f"mask-weights{{min_size=1}},{plan}", *more]
        arguments += ["--train", "train.npz", "-o", f"by-{count}.onnx", "--json"]
        if count == 1:
            result = run(*arguments, "--threads", "1")
        else:
            result = under_torchrun(folder, count, ["-m", "graphopt", *arguments])
        assert result.returncode == 0, result.stderr
        return json.loads(result.stdout)

    return launched


def under_torchrun(
    folder: Path, count: int, arguments: list[str]
) -> subprocess.CompletedProcess[str]:
    torchrun = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={count}"]
    return subprocess.run(
        [sys.executable, *torchrun, *arguments],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


def losses(report: Any, number: int = 1) -> list[float]:
    curves = report["passes"][number]["curves"]
    return [loss for _, loss in [*curves["loss"], *curves["held_out_loss"]]]


@pytest.mark.slow
def test_two_processes_take_the_same_steps_as_one(launch: Launch, folder: Path) -> None:
    """Twice in one run, the first time with an output that the loss does not look at."""
    plan = f"{LABELS},distill{{steps=6,batch_norm=frozen,accumulate=2,{TRAINED}}}"
    before = set(folder.iterdir())
    one, two = launch(1, plan), launch(2, plan, "--checkpoints", "kept")
    for number in (1, 2):
        assert losses(two, number) == pytest.approx(losses(one, number), rel=1e-4, abs=1e-6)
        assert len(losses(two, number)) == 13
    assert {path.name for path in set(folder.iterdir()) - before} == {
        *("by-1.onnx", "by-2.onnx", "kept")
    }
    assert len(list((folder / "kept").iterdir())) == 2
    weights = [
        {item.name: onnx.numpy_helper.to_array(item) for item in model.graph.initializer}
        for model in (onnx.load(folder / f"by-{count}.onnx") for count in (1, 2))
    ]
    for name, values in weights[0].items():
        assert weights[1][name] == pytest.approx(values, rel=1e-3, abs=1e-5)


SCRIPT = """
import hashlib, json, os, pathlib
import graphopt

found = graphopt.optimize("model.onnx", PLAN, training="train.npz")
digest = hashlib.sha256(found.model.SerializeToString()).hexdigest()
curves = vars(found.report.passes[1].curves)
name = f"found-{os.environ.get('RANK', 'alone')}.json"
pathlib.Path(name).write_text(json.dumps([digest, curves["loss"], curves["held_out_loss"]]))
"""


@pytest.mark.slow
def test_all_processes_hold_the_same_model(launch: Launch, folder: Path) -> None:
    """Statistics of a batch and moved pictures differ between them, and one has fewer samples."""
    plan = f"mask-weights{{min_size=1}},distill{{steps=6,ema=0.5,shift=1,{TRAINED}}}"
    (folder / "script.py").write_text(SCRIPT.replace("PLAN", repr(plan)), encoding="utf-8")
    alone = losses(launch(1, plan.split(",", 1)[1]))
    result = under_torchrun(folder, 3, ["script.py"])
    assert (result.returncode, result.stderr) == (0, "")
    found = [json.loads((folder / f"found-{rank}.json").read_text("utf-8")) for rank in range(3)]
    assert found[0] == found[1] == found[2]
    assert [loss for part in found[0][1:] for _, loss in part] == pytest.approx(alone, rel=0.25)
