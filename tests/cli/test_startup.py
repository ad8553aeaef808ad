"""``graphopt --help`` is quick: it loads nothing that computes."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import graphopt

HEAVY = ("onnxruntime", "scipy", "onnx", "numpy", "onnx_graphsurgeon", "torch", "rich", "PIL")


@pytest.mark.parametrize("arguments", [["--help"], ["optimize", "--help"], ["--version"], []])
def test_help_imports_nothing_heavy(arguments: list[str]) -> None:
    script = f"""
import sys
from graphopt.cli import main
code = main({arguments!r})
loaded = {{name.partition(".")[0] for name in sys.modules}}
print("heavy:", sorted(loaded.intersection({HEAVY!r})), code)
"""
    root = Path(graphopt.__file__).parents[1]
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=root, capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines()[-1] == "heavy: [] 0"
    assert done.stderr == ""
