"""Which outputs are a state that an input takes at the next step."""

from __future__ import annotations

import re

from onnx import ValueInfoProto

from graphopt.facts.operators import is_kind
from graphopt.graph.graph import Graph
from graphopt.graph.ports import compatible

__all__ = ["fed_back"]

_SIDES = re.compile(
    r"past|present|prev(ious)?|next|new|old|cur(rent)?|initial|init|final|last|updated?|in|out|"
    r"input|output|start|end"
)
_OFTEN_STATES = re.compile(
    r"state|hidden|cell|cache|memory|past|present|recurrent|rnn|lstm|gru|h|c"
)


def fed_back(graph: Graph) -> dict[str, str]:
    """Each output that an input takes at the next step, with that input.

    Type and shape must be the same, but for sizes that are open, and the role as well: a recurrent
    layer starts from the input and ends with the output, or their names differ in nothing but
    which side they are (``past.0.key`` and ``present.0.key``, ``h`` and ``h_out``). A model that
    has no other input than these is no recurrent one.
    """
    inputs = {value.name: value for value in graph.required_inputs}
    outputs = {value.name: value for value in graph.main.proto.output}
    found = _by_layers(graph, inputs, outputs)
    roots = dict[str, list[str]]()
    for name in inputs:
        roots.setdefault(_root(name), []).append(name)
    for name, value in outputs.items():
        fitting = [n for n in roots.get(_root(name), []) if compatible(value, inputs[n])]
        if name not in found and len(fitting) == 1 and _is_state(name, fitting[0]):
            found[name] = fitting[0]
    return found if set(found.values()) < set(inputs) else {}


def _by_layers(
    graph: Graph, inputs: dict[str, ValueInfoProto], outputs: dict[str, ValueInfoProto]
) -> dict[str, str]:
    """States of recurrent layers that start from an input and whose last one is an output."""
    found = dict[str, str]()
    for node in graph.main.nodes:
        if not is_kind(node, "recurrent"):
            continue
        pairs = zip(node.input[5:7], node.output[1:3], strict=False)
        for before, after in pairs:
            if before in inputs and after in outputs and compatible(inputs[before], outputs[after]):
                found[after] = before
    return found


def _parts(name: str) -> list[str]:
    spaced = re.sub(r"([a-z])([A-Z0-9])", r"\1_\2", name).lower()
    spaced = re.sub(r"key_?values?", "", spaced)
    return [part for part in re.split(r"[^a-z0-9]+", spaced) if part]


def _root(name: str) -> str:
    """A name without the words that say which side it is."""
    parts = _parts(name)
    kept = [part for part in parts if not _SIDES.fullmatch(part) or part.isdigit()]
    return ".".join(kept or parts)


def _is_state(output: str, taken_by: str) -> bool:
    """Whether the names speak of a state, or of two sides of one thing."""
    words = {*_parts(output), *_parts(taken_by)}
    return output != taken_by and any(_OFTEN_STATES.fullmatch(word) for word in words)
