"""Outputs that give only what is decided, by the largest score or by even odds: the scores."""

from __future__ import annotations

from onnx import NodeProto

from graphopt.facts.shapes import Shapes
from graphopt.graph.graph import Graph
from graphopt.graph.node import attribute, is_op
from graphopt.tasks.ends import End, end_of
from graphopt.tasks.task import Task

__all__ = ["decided_scores"]

_PER_AXIS_OPSET = 13  # before, Softmax normalizes all axes from `axis` on


def decided_scores(graph: Graph, shapes: Shapes) -> dict[str, Task]:
    """Tensors of the main graph by which outputs are decided, by the output.

        scores -> ArgMax, or the places of TopK -> whatever only moves or casts -> output
        scores -> Greater than 0 -> the same

    A Softmax, LogSoftmax or Sigmoid in front changes no order and is passed: what comes before it
    are logits; one half is 0 in front of a Sigmoid. Outputs whose scores are an output as well come
    too.

    Args:
        graph: The model.
        shapes: Of its tensors.

    Returns:
        Of each such output the tensor as a task: classes or labels along an axis of it, or yes or
        no, as logits.
    """
    found = dict[str, Task]()
    for name in graph.main.outputs:
        end = end_of(graph.main, name, shapes)
        if end.node is not None and is_op(end.node, "Greater", "GreaterOrEqual"):
            odds = _odds(graph, end.node)
            if odds:
                found[name] = _yes_or_no(shapes, odds, name)
            continue
        node = _decision(end)
        if node is None:
            continue
        scores = node.input[0]
        rank = _rank(shapes, scores)
        axis = int(attribute(node, "axis", 0 if is_op(node, "ArgMax") else -1))
        if rank is None or graph.main.constant(scores) is not None:
            continue
        axis %= rank
        scores = _before_shares(graph, scores, axis, rank)
        why = f"output {name!r} gives the largest of its entries"
        found[name] = Task(scores, "classes", axis, "logits", why=why)
    return found


def _decision(end: End) -> NodeProto | None:
    """The node that tells which entries are the largest; None where none does."""
    node = end.node
    if node is None or not is_op(node, "ArgMax", "TopK"):
        return None
    places = is_op(node, "ArgMax") or (
        end.made == node.output[-1] != node.output[0] and bool(attribute(node, "largest", 1))
    )
    return node if places else None


def _odds(graph: Graph, node: NodeProto) -> str:
    """The logits that are compared with even odds; empty where that is not what is done."""
    scores, bound = node.input[:2]
    constant, before = graph.main.constant(bound), graph.main.producer(scores)
    if constant is None or before is None or not constant.values.size:
        return ""
    shares = is_op(before, "Sigmoid")
    even = bool((constant.values == (0.5 if shares else 0.0)).all())
    return (before.input[0] if shares else scores) if even else ""


def _yes_or_no(shapes: Shapes, scores: str, output: str) -> Task:
    """Logits of yes or no: of several labels, where each sample has a row of them."""
    info = shapes.get(scores)
    shape = None if info is None else info.shape
    why = f"output {output!r} tells which of its entries are above even odds"
    if shape is not None and len(shape) == 2 and shape[1] != 1:
        return Task(scores, "multi-label", 1, "logits", why=why)
    return Task(scores, "binary", None, "logits", why=why)


def _before_shares(graph: Graph, name: str, axis: int, rank: int) -> str:
    """The tensor that shares or probabilities are made of; the name itself where it is none."""
    old = graph.opset < _PER_AXIS_OPSET
    while (node := graph.main.producer(name)) is not None:
        if is_op(node, "Softmax", "LogSoftmax"):
            own = int(attribute(node, "axis", 1 if old else -1)) % rank
            if own != axis or (old and own != rank - 1):
                break
        elif not is_op(node, "Sigmoid", "Identity"):
            break
        name = node.input[0]
    return name


def _rank(shapes: Shapes, name: str) -> int | None:
    info = shapes.get(name)
    return None if info is None or info.shape is None else len(info.shape) or None
