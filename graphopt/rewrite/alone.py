"""One layer as a model of its own, to time it by."""

from __future__ import annotations

from onnx import NodeProto, helper

from graphopt.facts.shapes import Shapes
from graphopt.graph.graph import Graph

__all__ = ["alone"]


def alone(graph: Graph, node: NodeProto, shapes: Shapes) -> Graph | None:
    """A model of one node of the main graph and its constants, at fixed sizes.

    Args:
        graph: Left as it is.
        node: Of it, with one output.
        shapes: Of its tensors in a run.

    Returns:
        The model, which computes what the node does; None where a size is not known.
    """
    main = graph.main
    computed = [name for name in dict.fromkeys(node.input) if name and _is_fed(graph, name)]
    infos = []
    for name in computed:
        shape, info = shapes.static_shape(name), shapes.get(name)
        if shape is None or info is None or not info.data_type:
            return None
        infos.append(helper.make_tensor_value_info(name, info.data_type, shape))
    (result,) = node.output
    made = shapes.get(result)
    part = graph.part(main.ancestors([result], stop=set(computed)))
    scope = part.main
    scope.drop_inputs(scope.inputs)
    for value in infos:
        scope.add_input(value)
    del scope.proto.output[:]
    kind = 1 if made is None or not made.data_type else made.data_type
    scope.proto.output.append(helper.make_tensor_value_info(result, kind, None))
    scope.touch()
    return part


def _is_fed(graph: Graph, name: str) -> bool:
    """Whether a tensor follows from the inputs of the model rather than from constants alone."""
    main = graph.main
    if main.constant(name) is not None:
        return False
    node = main.producer(name)
    return node is None or any(_is_fed(graph, each) for each in node.input if each)
