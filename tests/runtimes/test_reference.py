"""Files computed by ONNX's own reference implementation: they mean what onnxruntime makes of them.

It computes QuantizeLinear and DequantizeLinear as the standard words them, one by one.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest
from onnx.reference import ReferenceEvaluator

from tests.runtimes.conftest import Made, sqnr_db

LIFT = "upgrade-opset{opset=21},"
FORMS = [
    ("network", "generic", "quantize-static"),
    ("network", "generic", "quantize-static{activation_type=int8}"),
    ("network", "tensorrt", "quantize-static"),
    ("network", "generic", "quantize-weights{min_size=1}"),
    ("network", "generic", "fix-shapes{batch=1}"),
    ("mlp", "generic", "quantize-dynamic{min_size=1}"),
    ("mlp", "generic", "mask-weights{sparsity=0.9,storage=sparse},densify"),
    ("embedding", "generic", "quantize-weights{min_size=1}"),
]


@pytest.mark.parametrize(("name", "target", "spec"), FORMS)
def test_the_standard_gives_the_same(
    name: str, target: str, spec: str, made_for: Callable[..., Made]
) -> None:
    made = made_for(name, target, LIFT + spec)
    evaluator = ReferenceEvaluator(made.graph.to_model())
    answers = [
        dict(zip(made.graph.main.outputs, evaluator.run(None, feed), strict=True))
        for feed in made.feeds
    ]
    for output in made.graph.main.outputs:
        assert sqnr_db(made.answers, answers, output) >= 35, output
