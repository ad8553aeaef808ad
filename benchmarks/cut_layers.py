"""Cut layers out of an encoder, so that distillation starts from a good student.

    python benchmarks/cut_layers.py MODEL --keep N --calib DATA -o OUT

Finds the repeated layers along the residual stream and tries which N of them to keep: what matters
is the mean cosine between the outputs of the cut and of the whole model on DATA; no labels are
needed. All choices are tried where there are at most ``--most`` of them (default 100), else layers
go one after another, each time the one that is missed least.
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Callable, Iterator, Sequence
from itertools import combinations, pairwise
from pathlib import Path

import numpy as np
from onnx import NodeProto

from graphopt.data import Samples, open_data
from graphopt.errors import GraphoptError, ModelError
from graphopt.facts.cost import params
from graphopt.graph import io
from graphopt.graph.graph import Graph, Scope
from graphopt.graph.order import sorted_nodes
from graphopt.graph.tensors import Array
from graphopt.rewrite import edit
from graphopt.runtime.session import Session

BATCH = 32
TINY = 1e-12

Kept = tuple[int, ...]
"""Numbers of the layers that stay, in order."""


class Ancestry:
    """Which nodes of a scope each tensor depends on."""

    def __init__(self, scope: Scope) -> None:
        self.nodes = sorted_nodes(scope)
        self._above: dict[str, int] = {}  # bit i: node i of ``nodes``
        for index, node in enumerate(self.nodes):
            above = 1 << index
            for name in node.input:
                above |= self._above.get(name, 0)
            self._above.update((name, above) for name in node.output)

    def depends(self, name: str, other: str) -> bool:
        """Whether ``other`` is computed and ``name`` depends on it, or is it."""
        below, above = self._above.get(name, 0), self._above.get(other, 0)
        return bool(above) and below & above == above

    def depth(self, name: str) -> int:
        """How many nodes a tensor depends on."""
        return self._above[name].bit_count()

    def between(self, start: str, end: str) -> tuple[str, ...]:
        """Types of the nodes that lead from ``start`` to ``end``, in order."""
        inside = self._above[end] & ~self._above[start]
        found: list[str] = []
        for index, node in enumerate(self.nodes):
            if inside >> index & 1 and any(self.depends(out, start) for out in node.output):
                found.append(node.op_type)
        return tuple(found)


def stream(scope: Scope) -> list[str]:
    """The tensors of the residual stream: what each sum adds to, and at last what comes out.

    A residual sum is an Add of which one operand depends on the other. A tensor to which something
    else is added too, as an attention mask is in the first layer, is not of the stream.
    """
    ancestry = Ancestry(scope)
    sums: dict[str, NodeProto] = {}
    others: set[str] = set()
    for node in ancestry.nodes:
        if node.op_type == "Add" and node.input[0] != node.input[1]:
            for kept, branch in (node.input, reversed(node.input)):
                if ancestry.depends(branch, kept):
                    sums[kept] = node
                elif not ancestry.depends(kept, branch):
                    others.add(kept)
    sums = {kept: node for kept, node in sums.items() if kept not in others}
    if not sums:
        return []
    points = sorted(sums, key=ancestry.depth)
    return [*points, _end(scope, points[-1], sums[points[-1]])]


def _end(scope: Scope, before: str, last: NodeProto) -> str:
    """Where the stream goes on after the last sum: behind a normalization, if it did before."""
    kind, use = scope.producer(before), edit.only_reader(scope, last.output[0])
    if kind is not None and use is not None and use.node.op_type == kind.op_type != "Add":
        return str(use.node.output[0])
    return str(last.output[0])


def layers(graph: Graph) -> list[tuple[str, str]]:
    """Start and end of each repeated layer, in order: the longest run of like stretches.

    Raises:
        ModelError: Nothing is repeated along a residual stream.
    """
    points = stream(graph.main)
    ancestry = Ancestry(graph.main)
    best: list[tuple[str, str]] = []
    for period in range(1, len(points) // 2 + 1):
        for first in range(period):
            stretches = list(_stretches(points[first::period], ancestry))
            for run in _runs(stretches):
                if len(run) > len(best):
                    best = run
    if len(best) < 2:
        raise ModelError("no layers are repeated along a residual stream; nothing can be cut")
    return best


Stretch = tuple[tuple[str, str], tuple[str, ...]]


def _stretches(points: Sequence[str], ancestry: Ancestry) -> Iterator[Stretch]:
    for start, end in pairwise(points):
        linked = ancestry.depends(end, start)
        yield (start, end), ancestry.between(start, end) if linked else ()


def _runs(stretches: Sequence[Stretch]) -> Iterator[list[tuple[str, str]]]:
    run: list[tuple[str, str]] = []
    kind: tuple[str, ...] = ()
    for pair, types in stretches:
        if types != kind:
            yield run
            run, kind = [], types
        if types:
            run.append(pair)
    yield run


def cut(graph: Graph, found: Sequence[tuple[str, str]], kept: Sequence[int]) -> Graph:
    """A copy without the layers that are not ``kept``; what read their end reads their start."""
    student = graph.copy()
    scope = student.main
    now = found[0][0]
    for index, (_, end) in enumerate(found):
        if index in kept:
            now = end
        else:
            edit.redirect(scope.uses(end), now)
    edit.remove_dead(student)
    return student


class Judge:
    """Says how like the whole model a cut one answers.

    Args:
        graph: The whole model.
        found: Its layers.
        samples: What both answer.
        threads: Threads of onnxruntime; 0 for all cores.
    """

    def __init__(
        self, graph: Graph, found: Sequence[tuple[str, str]], samples: Samples, threads: int
    ) -> None:
        self.graph, self.found, self.samples, self.threads = graph, found, samples, threads
        self._wanted = self._answers(graph)
        self._scores: dict[Kept, float] = {}

    def __call__(self, kept: Kept) -> float:
        """Mean cosine of the outputs, over all samples, with these layers kept.

        Raises:
            ModelError: The cut model does not run, or has outputs of other shapes.
        """
        if kept not in self._scores:
            found = self._answers(cut(self.graph, self.found, kept))
            self._scores[kept] = likeness(self._wanted, found)
            print(f"keeping {_named(kept)}: cosine {self._scores[kept]:.4f}", flush=True)
        return self._scores[kept]

    def _answers(self, graph: Graph) -> list[dict[str, Array]]:
        session = Session(graph, threads=self.threads)
        batches = self.samples.feeds(BATCH)
        return [{n: a[:real] for n, a in session.run(feeds).items()} for feeds, real in batches]


def likeness(wanted: Sequence[dict[str, Array]], found: Sequence[dict[str, Array]]) -> float:
    """Mean cosine along the last axis of all outputs of floats.

    Raises:
        ModelError: Shapes differ, or no output has vectors of floats.
    """
    cosines: list[Array] = []
    for expected, actual in zip(wanted, found, strict=True):
        for name, f in expected.items():
            if f.dtype.kind == "f" and f.ndim:
                g = actual[name].astype(np.float64)
                if f.shape != g.shape:
                    raise ModelError(f"output {name!r} has shape {list(g.shape)} after the cut")
                sizes = np.linalg.norm(f.astype(np.float64), axis=-1) * np.linalg.norm(g, axis=-1)
                cosines.append(((f * g).sum(axis=-1) / np.maximum(sizes, TINY)).ravel())
    if not cosines:
        raise ModelError("the model has no output of float vectors to compare")
    return float(np.concatenate(cosines).mean())


def choose(count: int, keep: int, most: int, score: Callable[[Kept], float]) -> Kept:
    """Which ``keep`` of ``count`` layers score best.

    Args:
        count: Layers there are.
        keep: Layers to keep.
        most: Choices up to which all are tried.
        score: Higher is better.
    """
    if math.comb(count, keep) <= most:
        return max(combinations(range(count), keep), key=score)
    kept = tuple(range(count))
    while len(kept) > keep:
        kept = max(combinations(kept, len(kept) - 1), key=score)
    return kept


def _named(layers_: Sequence[int]) -> str:
    return ", ".join(map(str, layers_))


def main(arguments: list[str] | None = None) -> int:
    """Choose, write, and say so."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("model", type=Path, metavar="MODEL")
    parser.add_argument("--keep", type=int, required=True, metavar="N", help="layers to keep")
    parser.add_argument("--calib", required=True, metavar="DATA", help="samples to compare on")
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="OUT")
    parser.add_argument("--most", type=int, default=100, help="choices tried at most (default 100)")
    parser.add_argument("--threads", type=int, default=0, help="of onnxruntime (default all cores)")
    options = parser.parse_args(arguments)
    try:
        graph = io.load(options.model)
        found = layers(graph)
        if not 0 < options.keep < len(found):
            parser.error(f"--keep {options.keep}: the model has {len(found)} repeated layers")
        print(f"{len(found)} layers, from {found[0][0]!r} to {found[-1][1]!r}")
        judge = Judge(graph, found, open_data(options.calib, graph), options.threads)
        kept = choose(len(found), options.keep, options.most, judge)
        student = cut(graph, found, kept)
        io.save(student, options.output)
    except GraphoptError as err:
        print(f"error: {err}", file=sys.stderr)
        return err.exit_code
    left_out = [index for index in range(len(found)) if index not in kept]
    print(
        f"{options.output}: keeps layers {_named(kept)}, leaves out {_named(left_out)}; cosine "
        f"{judge(kept):.4f}, {params(graph):,} -> {params(student):,} parameters"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
