"""A training that is killed goes on from its checkpoint and ends with the very same file."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

STEPS = 200
PLAN = (
    f"optimize model.onnx -p mask-weights{{sparsity=0.6,min_size=1}},distill{{steps={STEPS},"
    f"evaluations={STEPS},batch=6,accumulate=2,lr=0.01,ema=0.9,held_out=0.25,flip=true,shift=1}} "
    "--train calib.npz --threads 1"
)
"""Stores its state after every step, so that the kill falls into the writing now and then."""


@pytest.mark.slow
def test_after_kill_9(
    folder: Path,
    run: Callable[..., subprocess.CompletedProcess[str]],
    start: Callable[..., subprocess.Popen[str]],
) -> None:
    assert run(*PLAN.split(), "-o", "whole.onnx").returncode == 0
    plan = [*PLAN.split(), "--checkpoints", "kept", "-o", "killed.onnx"]
    process: subprocess.Popen[Any] = start(*plan)
    while not any((folder / "kept").glob("*.npz")):
        assert process.poll() is None
        time.sleep(0.01)
    process.kill()
    assert process.wait() == -9
    assert not (folder / "killed.onnx").exists()
    result = run(*plan, "--json")
    assert (result.returncode, result.stderr) == (0, "")
    curves = json.loads(result.stdout)["passes"][1]["curves"]
    assert 0 < curves["resumed"] < STEPS
    assert len(curves["held_out_loss"]) == STEPS + 1
    assert (folder / "killed.onnx").read_bytes() == (folder / "whole.onnx").read_bytes()
    assert [path.suffix for path in (folder / "kept").iterdir()] == [".npz"]
