"""A Conv replaced by several in a row."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from onnx import NodeProto, helper

from graphopt.graph.graph import Scope
from graphopt.graph.node import attribute, label, set_attributes
from graphopt.rewrite.values import drop_unread

__all__ = ["PLACES", "Link", "fits_kernel", "replace_conv", "strides"]

PLACES = ("first", "second", "third")
"""How the convolutions of a chain and their weights are called."""


@dataclass(frozen=True)
class Link:
    """One convolution of a chain.

    Attributes:
        weight: Name of its weight, visible where the Conv is.
        kernel: Its kernel, one size an axis.
        axes: The kernel axes along which it strides, pads and dilates for the whole chain; each
            axis belongs to one link.
        groups: 1, or all channels for a depthwise one.
    """

    weight: str
    kernel: tuple[int, ...]
    axes: tuple[int, ...]
    groups: int = 1


def strides(node: NodeProto, axes: int) -> list[int]:
    """Strides of a Conv with that many kernel axes."""
    return list(attribute(node, "strides", [])) or [1] * axes


def fits_kernel(node: NodeProto, axes: int) -> bool:
    """Whether the lists of a Conv are as long as that many kernel axes want, or absent."""
    lengths = {"kernel_shape": axes, "strides": axes, "dilations": axes, "pads": 2 * axes}
    return all(len(attribute(node, name, [])) in (0, length) for name, length in lengths.items())


def replace_conv(scope: Scope, node: NodeProto, links: Sequence[Link]) -> None:
    """Put all links but the last in front of the node, which becomes the last.

    The node keeps its name, its output and its bias. Padding inside of the chain is exact: no
    convolution before the last has a bias, so zeros stay zeros.
    """
    name, old, data = label(node), node.input[1], node.input[0]
    given = [_attributes(node, link) for link in links]
    for place, link, attributes in zip(PLACES, links[:-1], given, strict=False):
        hidden = scope.graph.unique_name(f"{node.output[0]}_rank")
        unique = scope.graph.unique_name(f"{name}_{place}")
        added = helper.make_node("Conv", [data, link.weight], [hidden], unique, **attributes)
        scope.add(added, before=node)
        data = hidden
    scope.set_input(node, 0, data)
    scope.set_input(node, 1, links[-1].weight)
    set_attributes(node, ("pads", "auto_pad"), **given[-1])
    drop_unread(scope, [old])


def _attributes(node: NodeProto, link: Link) -> dict[str, Any]:
    """Kernel, strides, pads and dilations of one link."""
    axes = len(link.kernel)
    own = [axis in link.axes for axis in range(axes)]
    dilations = list(attribute(node, "dilations", [])) or [1] * axes
    pads = list(attribute(node, "pads", [])) or [0] * (2 * axes)
    auto = attribute(node, "auto_pad", "NOTSET")
    given: dict[str, Any] = {
        "kernel_shape": list(link.kernel),
        "strides": [s if o else 1 for s, o in zip(strides(node, axes), own, strict=True)],
        "dilations": [d if o else 1 for d, o in zip(dilations, own, strict=True)],
    }
    if auto == "NOTSET":
        given["pads"] = [p if o else 0 for p, o in zip(pads, own * 2, strict=True)]
    else:
        given["auto_pad"] = auto
    if link.groups > 1:
        given["group"] = link.groups
    return given
