"""onnxruntime as graphopt loads it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import graphopt


def test_telemetry_is_off_unless_asked_for(tmp_path: Path) -> None:
    """onnxruntime's telemetry keeps its session in the folder for temporary files."""
    kept = {name: value for name, value in os.environ.items() if name != "ORT_DISABLE_TELEMETRY"}
    env = {**kept, "TMPDIR": str(tmp_path)}
    script = "import os, graphopt.runtime.session; print(os.environ['ORT_DISABLE_TELEMETRY'])"
    for given, seen in ({}, "1"), ({"ORT_DISABLE_TELEMETRY": "0"}, "0"):
        done = subprocess.run(
            [sys.executable, "-c", script],
            cwd=Path(graphopt.__file__).parents[1],
            env={**env, **given},
            capture_output=True,
            text=True,
            check=True,
        )
        assert done.stdout.strip() == seen
        if seen == "1":
            assert list(tmp_path.iterdir()) == []
