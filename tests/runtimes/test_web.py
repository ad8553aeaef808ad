"""Files for onnxruntime-web, run there under Node: WebAssembly gives the bits of the desktop.

The package is looked for where the environment variable ``ONNXRUNTIME_WEB`` says.
"""

from __future__ import annotations

import base64
import json
import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from graphopt.analysis.audit import expected
from graphopt.targets import find
from tests.runtimes.conftest import Made, sqnr_db

_MODULE = Path(os.environ.get("ONNXRUNTIME_WEB", "missing")) / "dist" / "ort.node.min.mjs"
_NODE = shutil.which("node")
pytestmark = pytest.mark.skipif(
    _NODE is None or not _MODULE.exists(), reason="ONNXRUNTIME_WEB names no package, or no Node"
)


def _spelled(values: Any) -> dict[str, Any]:
    data = base64.b64encode(np.ascontiguousarray(values).tobytes()).decode()
    return {"type": str(values.dtype), "dims": list(values.shape), "data": data}


def _read(spelled: dict[str, Any]) -> Any:
    data = base64.b64decode(spelled["data"])
    return np.frombuffer(data, np.dtype(spelled["type"])).reshape(spelled["dims"])


def _run(made: Made, folder: Path) -> list[dict[str, Any]]:
    (folder / "model.onnx").write_bytes(made.data)
    feeds = [{name: _spelled(value) for name, value in feed.items()} for feed in made.feeds]
    (folder / "given.json").write_text(json.dumps(feeds))
    files = [str(folder / name) for name in ("model.onnx", "given.json", "made.json")]
    script = str(Path(__file__).with_name("web.mjs"))
    subprocess.run([_NODE or "", script, str(_MODULE), *files], check=True, timeout=120)
    found = json.loads((folder / "made.json").read_text())
    return [{name: _read(value) for name, value in each.items()} for each in found]


def test_wide_layers_run_on_integers_and_depthwise_ones_in_floats(
    made_for: Callable[..., Made], tmp_path: Path
) -> None:
    made = made_for("network", "web", "quantize-static")
    audit = expected(made.graph, target=find("web"))
    assert "Conv(a)" in [entry.node for entry in audit.integer]
    assert "Conv(c)" in [entry.node for entry in audit.float_]
    assert sqnr_db(made.answers, _run(made, tmp_path), "y") >= 35


def test_all_integer_layers_give_the_bits_of_the_desktop(
    made_for: Callable[..., Made], tmp_path: Path
) -> None:
    made = made_for("network", "arm", "quantize-static")
    for told, right in zip(_run(made, tmp_path), made.answers, strict=True):
        np.testing.assert_array_equal(told["y"], right["y"])


@pytest.mark.parametrize("spec", ["quantize-weights{min_size=1}", "quantize-dynamic{min_size=1}"])
@pytest.mark.parametrize("name", ["mlp", "embedding"])
def test_other_forms_are_read(
    name: str, spec: str, made_for: Callable[..., Made], tmp_path: Path
) -> None:
    made = made_for(name, "web", spec)
    answers = _run(made, tmp_path)
    for output in made.graph.main.outputs:
        assert sqnr_db(made.answers, answers, output) >= 60
