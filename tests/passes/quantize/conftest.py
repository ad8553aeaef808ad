"""Applies one pass to a small model, as the passes of this family are tested."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import onnx
import pytest

from graphopt.contract.passes import Pass
from graphopt.graph import check
from graphopt.testing import Applied, apply_pass

ApplyPass = Callable[..., Applied]


@pytest.fixture(name="apply_pass")
def apply_strictly() -> ApplyPass:
    """``apply_pass(model, item, target=..., calibration=...)``: the edited graph and the record.

    The model is text or a message. A refused pass raises; the result is checked to be valid.
    """

    def apply(
        model: str | onnx.ModelProto,
        item: Pass,
        *,
        target: str = "x86-vnni",
        calibration: Mapping[str, Any] | None = None,
    ) -> Applied:
        graph, record = apply_pass(item, model, target=target, samples=calibration, strict=True)
        assert check.problems(graph) == []
        return graph, record

    return apply
