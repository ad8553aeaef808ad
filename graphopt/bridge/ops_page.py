"""The page of the documentation that lists the operators of the bridge."""

from __future__ import annotations

from collections.abc import Iterator

import onnx

import graphopt.bridge.ops  # noqa: F401 - fills the table
from graphopt.bridge.ops.left_out import LEFT_OUT
from graphopt.bridge.ops.table import RUNTIME_DOMAIN, operators

__all__ = ["OLDEST_OPSET", "page", "versions_in_onnx"]

OLDEST_OPSET = 7

_HEAD = """# Operators of the retraining bridge

Generated from the table in `graphopt/bridge/ops/`; `pytest tests/bridge --update-golden` writes it
anew. Versions are those at which ONNX defines the operator, as a model of opset {oldest} to
{newest} can mean them. `Constant` is part of the plan, not of the table.

| operator | versions |
|---|---|
"""
_OWN = """
Of onnxruntime's own operators (domain `com.microsoft`), which its optimizer writes: {names}; and
`LayerNormalization` and `SimplifiedLayerNormalization` in models of any opset.
"""
_LEFT_OUT_HEAD = """
Not in the bridge; the part of a model up to such an operator can be frozen
(`to_torch(frozen=...)`), then onnxruntime computes it:

| operator | reason |
|---|---|
"""
_TYPES = """
Limits: torch has next to no arithmetic on uint16, uint32 and uint64; integers below eight bits are
held in eight; 4-bit floats are refused. Random operators draw from torch's generator.
"""


def versions_in_onnx() -> Iterator[tuple[str, list[int]]]:
    """Operators of the default domain and the versions that opset 7 to the newest can mean."""
    found: dict[str, list[int]] = {}
    for schema in onnx.defs.get_all_schemas_with_history():
        if schema.domain == "":
            found.setdefault(schema.name, []).append(schema.since_version)
    for name in sorted(found):
        versions = sorted(found[name])
        before = [version for version in versions if version <= OLDEST_OPSET]
        yield name, before[-1:] + versions[len(before) :]


def page() -> str:
    """The page as Markdown."""
    known = dict(versions_in_onnx())
    held: dict[str, list[int]] = {"Constant": known["Constant"]}
    for domain, name, version in operators():
        if not domain and name in known:
            held.setdefault(name, []).append(version)
    rows = [f"| {name} | {', '.join(map(str, sorted(held[name])))} |\n" for name in sorted(held)]
    reasons = [f"| {name} | {reason} |\n" for name, reason in sorted(LEFT_OUT.items())]
    head = _HEAD.format(oldest=OLDEST_OPSET, newest=onnx.defs.onnx_opset_version())
    own = sorted({name for domain, name, _ in operators() if domain == RUNTIME_DOMAIN})
    own_names = _OWN.format(names=", ".join(f"`{name}`" for name in own))
    return "".join([head, *rows, own_names, _LEFT_OUT_HEAD, *reasons, _TYPES])
