"""Cut what comes behind the last layer off, so that the caller gets raw scores (graphsurgeon).

graphopt optimize model.onnx -p 'apply-function{function="docs/examples/cut_tail.py:cut_tail"}'
"""

import onnx_graphsurgeon as gs

TAIL = ("ArgMax", "Cast", "LogSoftmax", "Reshape", "Sigmoid", "Softmax", "Squeeze", "TopK")


def cut_tail(graph: gs.Graph) -> None:
    """Make each output the tensor in front of the post-processing that leads to it."""
    graph.outputs = list({id(head): head for head in map(in_front, graph.outputs)}.values())
    graph.cleanup()


def in_front(tensor: gs.Tensor) -> gs.Tensor:
    """The tensor from which a chain of operators in ``TAIL`` makes this one."""
    while tensor.inputs and tensor.inputs[0].op in TAIL:
        tensor = tensor.inputs[0].inputs[0]
    return tensor
