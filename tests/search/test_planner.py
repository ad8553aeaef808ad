"""The planner: its words on candidates that come to nothing."""

from __future__ import annotations

import onnx
import pytest

import graphopt.passes  # noqa: F401 - fills the registry
from graphopt.search.planner import search
from graphopt.testing import staged

SMALL = """<ir_version: 8, opset_import: ["" : 17]>
g (float[N, 2] x) => (float[N, 2] y) <float[2, 2] w = {1, 2, 3, 4}> { y = MatMul(x, w) }
"""
FUNCTION = """<ir_version: 8, opset_import: ["" : 17, "my" : 1]>
g (float[N, 8] x) => (float[N, 8] y) { y = my.Twice(x) }
<domain: "my", opset_import: ["" : 17]> Twice (a) => (b) { b = Add(a, a) }
"""


@pytest.mark.parametrize(
    ("text", "verdict"),
    [
        (SMALL, "nothing to quantize: 4 elements, min_size is 1024"),
        (
            FUNCTION,
            "nothing to quantize outside the functions of the model, which stay as they are",
        ),
    ],
)
def test_a_candidate_that_changes_nothing_says_why_once(text: str, verdict: str) -> None:
    model = onnx.parser.parse_model(text)
    choice = search(*staged(model, calibrated=False, judged=False))
    assert verdict in [item.verdict for item in choice.candidates]
    assert choice.passes == []
    assert choice.messages == ["no candidate is better than the cleaned float model, which is kept"]
