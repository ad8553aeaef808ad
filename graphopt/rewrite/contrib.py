"""What nodes of onnxruntime's own operators need around them."""

from __future__ import annotations

import onnx

from graphopt.facts.operator import CONTRIB
from graphopt.facts.shapes import Shapes
from graphopt.graph.graph import Graph, Scope

__all__ = ["declare_type", "import_contrib"]


def declare_type(scope: Scope, name: str, shapes: Shapes) -> None:
    """Declare the type of a tensor, where it is known and not declared yet.

    No shape inference knows the operators of onnxruntime.
    """
    info = shapes.get(name)
    if info is None or info.shape is None or name in scope.value_infos or scope.is_output(name):
        return
    value = onnx.helper.make_tensor_value_info(name, info.data_type, info.shape)
    scope.value_infos.extend([value])


def import_contrib(graph: Graph) -> None:
    """List onnxruntime's own operators among those that the model needs."""
    imports = graph.header.opset_import
    if all(item.domain != CONTRIB for item in imports):
        imports.add(domain=CONTRIB, version=1)
