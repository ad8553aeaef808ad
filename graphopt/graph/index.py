"""Who makes and who reads each tensor of a scope: an index that every edit keeps up to date."""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from onnx import NodeProto

if TYPE_CHECKING:
    from graphopt.graph.scope import Scope

__all__ = ["Index", "Use"]

_GAP = 1 << 60  # between the ranks of neighbours: room for 60 insertions at one place


@dataclass(frozen=True)
class Use:
    """One place where a tensor is read: input ``index`` of ``node`` in ``scope``."""

    scope: Scope
    node: NodeProto
    index: int


class _Read(NamedTuple):
    """A use, and the scope where the look-up of the name starts: a body that hands it out."""

    use: Use
    start: Scope


_Key = tuple[int, int]  # identity of a node and input, or of a body and (below zero) output


class _Entry(NamedTuple):
    """What was noted of a node, which may have been edited in place since."""

    inputs: list[str]
    outputs: list[str]
    given_out: list[tuple[str, _Key]]  # by its bodies


class Index:
    """Producers and uses of the tensors of one scope, and the order of its nodes.

    Reads in bodies are noted here as well, under the name that stands there; whether that name
    means a tensor of this scope is decided when it is asked for, as an edit may change it.

    Args:
        scope: All its nodes are noted; bodies get an index of their own first.
    """

    def __init__(self, scope: Scope) -> None:
        self._scope = scope
        self._makers: dict[str, list[NodeProto]] = {}
        self._reads: dict[str, dict[_Key, _Read]] = {}
        self._entries: dict[int, _Entry] = {}
        self._ranks: dict[int, int] = {}
        self._renumber()
        for node in scope.nodes:
            self._enter(node, [self])

    # questions

    def __contains__(self, node: NodeProto) -> bool:
        return id(node) in self._ranks

    def producer(self, name: str) -> NodeProto | None:
        """The node that computes ``name``; the last one while an edit has two of them."""
        makers = self._makers.get(name)
        return None if makers is None else max(makers, key=self.rank)

    def position(self, node: NodeProto) -> int:
        """Where the node stands among the nodes of the scope."""
        return bisect_left(self._scope.nodes, self.rank(node), key=self.rank)

    def rank(self, node: NodeProto) -> int:
        """A number that grows along the nodes; an insertion may change those of all nodes."""
        return self._ranks[id(node)]

    def uses(self, name: str) -> Iterator[Use]:
        """Every place that reads the tensor, in no order."""
        return (read.use for read in self._visible(name))

    def sorted_uses(self, name: str) -> list[Use]:
        """Every place that reads the tensor, in order of the nodes."""
        reads = list(self._visible(name))
        if len(reads) > 1:
            reads.sort(key=self._place)
        return [read.use for read in reads]

    def first_reader(self, name: str) -> NodeProto | None:
        """The first node of the scope that reads the tensor, itself or in a body."""
        first = min(self._visible(name), key=self._place, default=None)
        if first is None:
            return None
        scope, node = first.use.scope, first.use.node
        while scope is not self._scope:
            outer, owner = scope.parent, scope.owner
            assert outer is not None and owner is not None
            scope, node = outer, owner
        return node

    def captured(self) -> dict[str, list[Use]]:
        """Uses of the names that the scope does not define, in order of the first use."""
        firsts = []
        for name in self._reads:
            if not self._scope.defines(name):
                places = [self._place(read) for read in self._visible(name)]
                if places:
                    firsts.append((min(places), name))
        return {name: self.sorted_uses(name) for _, name in sorted(firsts)}

    def _visible(self, name: str) -> Iterator[_Read]:
        """The reads of the name that mean the tensor seen from this scope."""
        for read in self._reads.get(name, {}).values():
            scope = read.start
            while scope is not self._scope and not scope.defines(name):
                assert scope.parent is not None
                scope = scope.parent
            if scope is self._scope:
                yield read

    def _place(self, read: _Read) -> tuple[float, ...]:
        """A key by which reads sort: own inputs of a node, then its bodies one after another."""
        use, scope = read.use, read.start
        if use.index < 0:
            place: tuple[float, ...] = (math.inf, -use.index)
        else:
            place = (scope.index.rank(use.node), 0, use.index)
        while scope is not self._scope:
            assert scope.parent is not None and scope.owner is not None
            outer, owner = scope.parent, scope.owner
            bodies = [id(body) for body in outer.children(owner).values()]
            place = (outer.index.rank(owner), 1 + bodies.index(id(scope)), *place)
            scope = outer
        return place

    # edits

    def insert(self, nodes: Iterable[NodeProto], at: int) -> None:
        """Put nodes, with their bodies, at a position of the scope."""
        listed, added = self._scope.nodes, list(nodes)
        low = self.rank(listed[at - 1]) if at else -_GAP
        high = self.rank(listed[at]) if at < len(listed) else low + (len(added) + 1) * _GAP
        listed[at:at] = added
        step = (high - low) // (len(added) + 1)
        for place, node in enumerate(added, start=1):
            self._ranks[id(node)] = low + place * step
        if step < 1:
            self._renumber()
        for node in added:
            self._enter(node, self._around())

    def remove(self, nodes: Iterable[NodeProto]) -> None:
        """Take nodes of the scope out; their bodies are still its children meanwhile."""
        listed, gone = self._scope.nodes, [node for node in nodes if node in self]
        if len(gone) * 8 > len(listed):
            known = {id(node) for node in gone}
            listed[:] = [node for node in listed if id(node) not in known]
        else:
            for node in gone:
                del listed[self.position(node)]
        for node in gone:
            self._leave(node, self._around())
            del self._ranks[id(node)]

    def enter_again(self, node: NodeProto) -> None:
        """Note a node anew that was edited in place."""
        self._leave(node, self._around())
        self._enter(node, self._around())

    def set_input(self, node: NodeProto, index: int) -> None:
        """Note what input ``index`` of a node reads now."""
        inputs, around = self._entries[id(node)].inputs, self._around()
        inputs.extend([""] * (index + 1 - len(inputs)))
        self._drop_read(inputs[index], (id(node), index), around)
        inputs[index] = node.input[index]
        self._add_read(inputs[index], (id(node), index), self._read(node, index), around)

    def set_output(self, node: NodeProto, index: int) -> None:
        """Note what output ``index`` of a node is called now."""
        outputs = self._entries[id(node)].outputs
        self._drop_maker(outputs[index], node)
        outputs[index] = node.output[index]
        self._add_maker(outputs[index], node)

    def _renumber(self) -> None:
        self._ranks = {id(node): at * _GAP for at, node in enumerate(self._scope.nodes)}

    def _around(self) -> list[Index]:
        """This index and those of the scopes around it that exist."""
        found, scope = [self], self._scope.parent
        while scope is not None and scope.indexed:
            found.append(scope.index)
            scope = scope.parent
        return found

    def _enter(self, node: NodeProto, around: list[Index]) -> None:
        entry = _Entry(list(node.input), list(node.output), [])
        self._entries[id(node)] = entry
        for name in entry.outputs:
            self._add_maker(name, node)
        for index, name in enumerate(entry.inputs):
            if name:
                self._add_read(name, (id(node), index), self._read(node, index), around)
        for body in self._scope.children(node).values():
            for name, reads in body.index._reads.items():
                for key, read in reads.items():
                    self._add_read(name, key, read, around)
            for at, name in enumerate(body.outputs, start=1):
                entry.given_out.append((name, (id(body), -at)))
                self._add_read(
                    name, (id(body), -at), _Read(Use(self._scope, node, -1), body), around
                )

    def _leave(self, node: NodeProto, around: list[Index]) -> None:
        entry = self._entries.pop(id(node))
        for name in entry.outputs:
            self._drop_maker(name, node)
        for index, name in enumerate(entry.inputs):
            self._drop_read(name, (id(node), index), around)
        for name, key in entry.given_out:
            self._drop_read(name, key, around)
        for body in self._scope.children(node).values():
            for name, reads in body.index._reads.items():
                for key in reads:
                    self._drop_read(name, key, around)

    def _read(self, node: NodeProto, index: int) -> _Read:
        return _Read(Use(self._scope, node, index), self._scope)

    def _add_maker(self, name: str, node: NodeProto) -> None:
        if name:
            self._makers.setdefault(name, []).append(node)

    def _drop_maker(self, name: str, node: NodeProto) -> None:
        if name:
            makers = self._makers[name]
            del makers[next(at for at, other in enumerate(makers) if other is node)]
            if not makers:
                del self._makers[name]

    def _add_read(self, name: str, key: _Key, read: _Read, around: list[Index]) -> None:
        if name:
            for index in around:
                index._reads.setdefault(name, {})[key] = read

    def _drop_read(self, name: str, key: _Key, around: list[Index]) -> None:
        if name:
            for index in around:
                reads = index._reads[name]
                del reads[key]
                if not reads:
                    del index._reads[name]
