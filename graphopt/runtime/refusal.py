"""Why onnxruntime does not take a model: wrong in itself, or sound and without a kernel here."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache

import onnx
from onnx import ModelProto, NodeProto, TensorProto

from graphopt.errors import ModelError, Need, NoKernel
from graphopt.graph.calls import nested
from graphopt.graph.graph import Graph
from graphopt.graph.node import in_default_domain
from graphopt.runtime.library import onnxruntime
from graphopt.runtime.options import PROVIDER

__all__ = ["load_error", "one_line"]

_NO_IMPLEMENTATION = "NotImplemented"
_FAIL = "Fail"
_LONGEST = 400  # characters of onnxruntime's own words in a message


def load_error(graph: Graph, kind: str, text: str) -> ModelError:
    """The error for a model that onnxruntime does not load.

    Args:
        graph: The model.
        kind: Name of the class of onnxruntime's error.
        text: What it says.

    Returns:
        ``NoKernel`` where the model may be sound: an operator that onnxruntime does not know, a
        known one without an implementation for its types, a version that only ``onnx`` knows.
    """
    if kind == _NO_IMPLEMENTATION:
        return NoKernel(f"onnxruntime has no kernel here: {one_line(text)}")
    if kind == _FAIL:
        for node, local in _nodes(graph):
            if not local and not _registered(node):
                name = f"{node.domain or 'ai.onnx'}:{node.op_type}"
                where = f" (node {node.name!r})" if node.name else ""
                return NoKernel(
                    f"onnxruntime has no kernel here: it does not know the operator {name}{where}",
                    Need.OPERATORS,
                )
        if not _reads_header(graph.header):
            imports = ", ".join(
                f"{item.domain or 'ai.onnx'} {item.version}" for item in graph.header.opset_import
            )
            reader = f"onnxruntime {onnxruntime.__version__}"
            versions = f"IR {graph.header.ir_version}, opsets {imports}"
            if _beyond_onnx(graph.header):
                reader = f"neither onnx {onnx.__version__} nor {reader} know"
                return ModelError(f"{reader} this version of ONNX: {versions}")
            return NoKernel(f"{reader} does not read this version of ONNX: {versions}")
    return ModelError(f"onnxruntime cannot load the model: {one_line(text)}")


def one_line(text: str) -> str:
    """What onnxruntime says, without error codes, source places and line breaks."""
    text = " ".join(text.split())
    text = re.sub(r"^.*\[ONNXRuntimeError\] : \d+ : [A-Z_]+ : ", "", text)
    text = re.sub(r"\S*onnxruntime_src\S* |\S+\.(?:cc|h):\d+ ", "", text)
    text = "".join(mark for mark in text if mark.isprintable())
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}..."


def _nodes(graph: Graph) -> Iterator[tuple[NodeProto, bool]]:
    """Every node with whether a function of the model defines its operator."""
    functions = graph.header.functions
    local = {(item.domain, item.name) for item in functions}
    for scope in graph.scopes():
        for node in scope.nodes:
            yield node, (node.domain, node.op_type) in local
    for function in functions:
        for node in nested(function.node):
            yield node, (node.domain, node.op_type) in local


@cache
def _known() -> frozenset[tuple[str, str]]:
    """Domain and name of every operator that this onnxruntime has a schema of."""
    state = onnxruntime.capi.onnxruntime_pybind11_state
    return frozenset((s.domain, s.name) for s in state.get_all_operator_schema())


def _registered(node: NodeProto) -> bool:
    return ("" if in_default_domain(node) else node.domain, node.op_type) in _known()


def _beyond_onnx(header: ModelProto) -> bool:
    """Whether the versions are newer than all that the installed ``onnx`` describes."""
    newest = dict[str, int]()
    for schema in onnx.defs.get_all_schemas():
        newest[schema.domain] = max(newest.get(schema.domain, 0), schema.since_version)
    newest[""] = onnx.defs.onnx_opset_version()
    later = (item.version > newest.get(item.domain, item.version) for item in header.opset_import)
    return header.ir_version > onnx.IR_VERSION or any(later)


def _reads_header(header: ModelProto) -> bool:
    """Whether onnxruntime reads a model of one Identity with the versions of this header."""
    tiny = ModelProto(ir_version=header.ir_version)
    known = {domain for domain, _ in _known()}
    tiny.opset_import.extend(o for o in header.opset_import if o.domain in known)
    tiny.graph.name = "versions"
    for name, ports in (("x", tiny.graph.input), ("y", tiny.graph.output)):
        ports.append(onnx.helper.make_tensor_value_info(name, TensorProto.FLOAT, [1]))
    tiny.graph.node.append(onnx.helper.make_node("Identity", ["x"], ["y"]))
    try:
        onnxruntime.InferenceSession(tiny.SerializeToString(), providers=[PROVIDER])
    except Exception:  # onnxruntime's errors share no base class below Exception
        return False
    return True
