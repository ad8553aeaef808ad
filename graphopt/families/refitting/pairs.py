"""Two convolutions with a Relu or Clip between them, solved for together."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeGuard

import numpy as np
from numpy.typing import NDArray

from graphopt.analysis.downstream import downstream
from graphopt.contract.passes import Values, Walk
from graphopt.errors import DataError, LimitError, PassError
from graphopt.facts.layers import Refusal
from graphopt.facts.operators import find
from graphopt.families.refitting.solvable import Solvable, SolvableLayer
from graphopt.families.refitting.walks import Refit
from graphopt.graph.graph import Scope
from graphopt.graph.node import is_op
from graphopt.numerics.conv_pairs import ConvPair, solve_pair
from graphopt.numerics.im2col import Window
from graphopt.numerics.least_squares import Behind
from graphopt.numerics.patches import Patches
from graphopt.rewrite.edit import only_reader

__all__ = ["consecutive", "solve_with"]

Singles = NDArray[np.float32]

_MOST_BYTES = 1 << 28
"""What the maps of one tensor may take; where they take more, layers are solved one by one."""
_MOST_MACS = 1e11
"""What the moments of both may multiply: some two seconds of one core."""


def consecutive(
    scope: Scope, one: Solvable, listed: Sequence[Solvable]
) -> tuple[SolvableLayer, SolvableLayer] | None:
    """Two convolutions of which the second alone reads the first, behind a Relu or Clip.

    Args:
        scope: The main graph.
        one: The first.
        listed: What can be solved for.
    """
    if not _plain(one):
        return None
    between = only_reader(scope, one.result)
    row = None if between is None else find(between.node)
    if between is None or row is None or row.flat is None or not row.exact:
        return None
    use = only_reader(scope, between.node.output[0])
    found = [each for each in listed if use is not None and each.node is use.node]
    two = found[0] if found else None
    return (one, two) if two is not None and _plain(one) and _plain(two) else None


def _plain(one: Solvable) -> TypeGuard[SolvableLayer]:
    """Whether it is a convolution of one group over height and width, with a bias to solve for."""
    if not isinstance(one, SolvableLayer) or not is_op(one.node, "Conv") or one.groups > 1:
        return False
    return one.takes_bias and len(one.layer.weight.shape or ()) == 4


def _windows(one: SolvableLayer, two: SolvableLayer) -> tuple[Window, Window] | None:
    """How both move."""
    first, second = one.request().window, two.request().window
    if isinstance(first, Window) and isinstance(second, Window):
        return first, second
    return None


def solve_with(refit: Refit, one: SolvableLayer, two: SolvableLayer, most: int) -> str | None:
    """Solve for two convolutions together and store both; what came of it, None without success.

    Args:
        refit: Its walks have come to the first.
        one: The first, solved for by itself.
        two: The second, which ``consecutive`` found.
        most: Rows of the second to take.
    """
    front, back = one.values(), two.values()
    windows = _windows(one, two)
    if isinstance(front, Refusal) or isinstance(back, Refusal) or windows is None:
        return None
    look = downstream(one.scope, two.result, refit.shapes)
    if look.norm is not None or not all(refit.settled(name) for name in look.beside):
        return None
    (first, shift), (second, last) = front, back
    if 2 * most * (first.shape[1] ** 2 + second.shape[1] ** 2) > _MOST_MACS:
        return None
    try:
        present, original = refit.walks_at(one)
        images = _maps(present, one.request().tensor)
        added = [_maps(present, name) for name in look.beside]
        wanted = _maps(original, look.total)
    except (DataError, LimitError, PassError):  # layers one by one need less
        return None
    if wanted.ndim != 4 or len(wanted) != len(images):
        return None
    part = Patches(*windows, images.shape[2:], len(images), most)
    beside = sum((part.given(each) for each in added[1:]), part.given(added[0])) if added else None
    between = downstream(one.scope, one.result, refit.shapes)
    pair = ConvPair(*windows, between.low, between.high, (first[0], second[0]), (shift[0], last[0]))
    behind = Behind(beside, look.low, look.high)
    results = refit.left(part.given(wanted)[:, None], look.total, 1)[:, 0]
    if results.shape[1] != two.channels:
        return None
    given = part.read(images), part.inside, results, behind
    solved, before, after = solve_pair(pair, *given)
    if after >= before:
        return None
    weights, biases = ([each[None] for each in both] for both in (solved.weights, solved.biases))
    if two.store(weights[1], biases[1]) is not None:
        return None
    if one.store(weights[0], biases[0]) is not None:
        two.store(second, last)
        return None
    refit.begin(two, weights[1])
    name = two.node.name or two.result
    return f"together with {name}: error of its result {before:.2%}, now {after:.2%}"


def _maps(walk: Walk, name: str) -> Singles:
    """All values of a tensor: ``(samples, channels, height, width)``."""
    return np.concatenate(walk.ask(Values(name, most_bytes=_MOST_BYTES)))
