"""BatchNormalization for the time of a training, where an exporter folded it away.

After heavy pruning a network learns again only if its activations are normalized anew, and a file
whose normalizations are folded into its convolutions has no statistics that could move. So each
such Conv gets one that changes nothing at first, and takes it up again after the training.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from onnx import NodeProto, helper

from graphopt.facts.layers import Refusal, float_layers
from graphopt.graph.graph import Graph, Scope
from graphopt.graph.node import is_op, label
from graphopt.graph.tensors import Array
from graphopt.numerics.batchnorm import scale_channels, scale_shift
from graphopt.rewrite.absorb import absorber

__all__ = ["InsertedNorm", "fold_norms", "insert_norms", "set_moments"]

_EPSILON = 1e-5
_ROLES = ("gamma", "beta", "mean", "variance")


@dataclass(frozen=True)
class InsertedNorm:
    """A normalization that is only there while training.

    Attributes:
        output: What it computes; before, the convolution did.
        data: What the convolution computes now.
        constants: Names of gamma, beta, mean and variance, each ``(channels,)``.
    """

    output: str
    data: str
    constants: tuple[str, ...]


def insert_norms(graph: Graph) -> list[InsertedNorm]:
    """Put a BatchNormalization behind each Conv of the main graph that has a bias and none yet.

    A Conv without a bias is left alone, as it would need one to take the normalization up again;
    so is one whose weight others read too.

    Args:
        graph: Edited in place: a copy for the training.
    """
    scope, found = graph.main, list[InsertedNorm]()
    for layer in list(float_layers(scope)):
        node = layer.node
        if not is_op(node, "Conv") or layer.bias is None or _normalized(scope, node):
            continue
        if not (layer.weight.alone and layer.bias.alone):
            continue
        if isinstance(absorber(scope, node), Refusal):
            continue
        output, one = node.output[0], np.ones(layer.channels, layer.weight.dtype)
        values = dict(zip(_ROLES, (one, 0 * one, 0 * one, one), strict=True))
        names = [scope.add_constant(f"{output}_{role}", value) for role, value in values.items()]
        data = graph.unique_name(f"{output}_raw")
        scope.set_output(node, 0, data)
        scope.add(
            helper.make_node(
                "BatchNormalization",
                [data, *names],
                [output],
                graph.unique_name(f"{label(node)}_norm"),
                epsilon=_EPSILON,
            )
        )
        found.append(InsertedNorm(output, data, tuple(names)))
    return found


def _normalized(scope: Scope, node: NodeProto) -> bool:
    return any(is_op(use.node, "BatchNormalization") for use in scope.uses(node.output[0]))


def set_moments(
    graph: Graph, norms: Sequence[InsertedNorm], moments: Mapping[str, tuple[Array, Array]]
) -> None:
    """Give the normalizations the moments of their data, so that they change nothing.

    Args:
        graph: Where they were inserted.
        norms: The normalizations.
        moments: Mean and variance of each convolution's output, each ``(channels,)``.
    """
    for norm in norms:
        mean, variance = moments[norm.data]
        values = (np.sqrt(variance.astype(np.float64) + _EPSILON), mean, mean, variance)
        for name, value in zip(norm.constants, values, strict=True):
            constant = graph.main.constant(name)
            assert constant is not None
            constant.set(value.astype(constant.values.dtype))


def fold_norms(trained: Graph, norms: Sequence[InsertedNorm], graph: Graph) -> list[str]:
    """Take the normalizations up into weights and biases, and hand all constants back.

    Args:
        trained: The copy with the normalizations, after the training.
        norms: The normalizations in it.
        graph: The graph that was copied; takes every constant whose values differ.

    Returns:
        Names of the constants that changed.
    """
    folded: dict[str, NDArray[np.generic]] = {}
    for norm in norms:
        scope = trained.main
        node = scope.producer(norm.data)
        assert node is not None
        absorbing = absorber(scope, node)
        assert not isinstance(absorbing, Refusal)
        layer, values, bias = absorbing
        assert layer.bias is not None
        gamma, beta, mean, variance = (_values(scope, name) for name in norm.constants)
        k, s = scale_shift(gamma, beta, mean, variance, _EPSILON)
        scaled = scale_channels(values, layer.read_axes[0], k)
        folded[layer.weight.constant.origin] = layer.weight.stored(scaled)
        folded[layer.bias.constant.origin] = k * bias + s
    changed = []
    for name in dict.fromkeys([*folded, *graph.main.initializers]):
        constant, other = graph.main.constant(name), trained.main.constant(name)
        if constant is None or other is None:
            continue
        before = constant.values
        after = np.asarray(folded.get(name, other.values)).astype(before.dtype)
        if before.tobytes() != after.reshape(before.shape).tobytes():
            constant.set(after.reshape(before.shape))
            changed.append(constant.origin)
    return changed


def _values(scope: Scope, name: str) -> Array:
    constant = scope.constant(name)
    assert constant is not None
    return constant.values
