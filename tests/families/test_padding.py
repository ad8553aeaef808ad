"""Tokens that only fill up a batch have no say in what passes take."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from graphopt.contract.passes import Pass
from graphopt.passes.factorize import FactorizeMatmul
from graphopt.passes.prune import MaskWeights
from graphopt.testing import apply_pass, model_from_text

_MODEL = """<ir_version: 8, opset_import: ["" : 17]>
g (float[N, 6, 16] x, int64[N, 6] {mask}) => (float[N, 6, 16] y) {{
  p = MatMul (x, W) k = Cast <to = 1> ({mask}) u = Unsqueeze (k, A) y = Mul (p, u)
}}"""


def _samples(mask_name: str) -> dict[str, Any]:
    """Real tokens lie in the first four channels, those of padding, larger, in the others."""
    rng = np.random.default_rng(0)
    rows = np.zeros((24, 6, 16), np.float32)
    rows[:, :4, :4] = rng.normal(size=(24, 4, 4))
    rows[:, 4:, 4:] = 9 * rng.normal(size=(24, 2, 12))
    mask = np.ones((24, 6), np.int64)
    mask[:, 4:] = 0
    return {"x": rows, mask_name: mask}


@pytest.mark.parametrize(
    "item",
    [
        MaskWeights(min_size=0, criterion="wanda"),
        MaskWeights(min_size=0, criterion="second-order"),
        FactorizeMatmul(min_size=0, rank=4, allow_slower=True),
    ],
    ids=["wanda", "second-order", "low rank"],
)
@pytest.mark.parametrize(("mask", "heard"), [("attention_mask", False), ("other", True)])
def test_what_only_padding_reads_goes(item: Pass, mask: str, heard: bool) -> None:
    weight = np.random.default_rng(1).normal(size=(16, 16)).astype(np.float32)
    model = model_from_text(_MODEL.format(mask=mask), {"W": weight, "A": np.array([2])})
    samples = _samples(mask)
    graph, record = apply_pass(item, model, samples=samples)
    assert record.status == "done"
    x = samples["x"][:, :4].reshape(-1, 16)
    if isinstance(item, FactorizeMatmul):
        first, second = (
            constant.values
            for node in graph.main.nodes
            if node.op_type == "MatMul" and (constant := graph.main.constant(node.input[1]))
        )
        left = first @ second
    else:
        constant = graph.main.constant("W")
        assert constant is not None
        left = constant.values
    lost = np.square(x @ left - x @ weight).mean() / np.square(x @ weight).mean()
    assert bool(lost > 0.01) is heard
