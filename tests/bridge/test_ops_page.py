"""The page of operators is current, and no version that a model can mean is forgotten."""

from __future__ import annotations

from pathlib import Path

import pytest

from graphopt.bridge import ops_page
from graphopt.bridge.ops.left_out import LEFT_OUT
from graphopt.bridge.ops.table import op, operators

PAGE = Path(__file__).parents[2] / "docs" / "bridge-ops.md"


def test_page_is_current(request: pytest.FixtureRequest) -> None:
    if request.config.getoption("--update-golden"):
        PAGE.parent.mkdir(exist_ok=True)
        PAGE.write_text(ops_page.page(), encoding="utf-8")
    assert PAGE.read_text(encoding="utf-8") == ops_page.page()


@pytest.mark.parametrize(("name", "versions"), [*ops_page.versions_in_onnx()])
def test_every_version_of_onnx_is_covered_or_left_out_for_a_reason(
    name: str, versions: list[int]
) -> None:
    covered = {version for domain, each, version in operators() if each == name and not domain} - (
        {1} if name == "LayerNormalization" else set()
    )  # onnxruntime's, below opset 17
    if name in LEFT_OUT:
        assert not covered
    elif name != "Constant":
        assert covered == set(versions)


def test_a_version_is_entered_once() -> None:
    with pytest.raises(ValueError, match="Relu version 14 is in the table twice"):
        op("Relu", 14)(lambda x: x)
