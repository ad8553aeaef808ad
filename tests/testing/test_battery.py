"""``check_pass`` against passes that lie: each is caught by the check that is meant for it."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Annotated, ClassVar

import numpy as np
import pytest

from graphopt.contract import registry
from graphopt.errors import UsageError
from graphopt.extend import Changes, Context, Example, Graph, MinMax, Option, Pass
from graphopt.testing import check_pass

Edit = Callable[[Graph, Context], None]
_MODELS = ("mlp", "no-layers")


@dataclass(frozen=True, kw_only=True)
class Round(Pass):
    """Round the values of large weights to halves.

    W      becomes      round(2 W) / 2
    """

    name = "truncate-weights"
    min_size: Annotated[int, Option("leave smaller weights alone", low=0)] = 256
    lossy: ClassVar[bool] = True

    def run(self, graph: Graph, context: Context) -> Changes:
        changes = Changes()
        for name in list(graph.main.initializers):
            constant = graph.main.constant(name)
            assert constant is not None
            rounded = np.round(2 * constant.values) / 2
            if constant.values.size < self.min_size or constant.values.dtype != np.float32:
                changes.skip(name, "too small, or no floats")
            elif (rounded == constant.values).all():
                changes.skip(name, "rounded already")
            else:
                constant.set(rounded)
                changes.edit(name, "rounded")
                self.lie(graph, context)
        return changes

    def lie(self, graph: Graph, context: Context) -> None:
        """What else it does to a model that it edits."""

    @classmethod
    def examples(cls) -> Sequence[Example]:
        return [Example("mlp"), Example("cnn", {"min_size": 1000})]


def test_an_honest_pass_passes() -> None:
    known = registry.names()
    check_pass(Round, models=_MODELS)
    assert registry.names() == known
    with pytest.raises(UsageError):
        registry.find("truncate-weights")


class WrongWhileLossless(Round):
    """Says that it changes no answer: the run finds out."""

    lossy = False


class AlmostRight(Round):
    """Changes answers by less than the run lets through."""

    lossy = False

    def run(self, graph: Graph, context: Context) -> Changes:
        changes = Changes()
        constant = graph.main.constant("B4") or graph.main.constant("B2")
        if constant is not None:
            constant.set(constant.values * np.float32(1 + 2.2e-5))
            changes.edit(constant.name, "made better")
        return changes


class EditsTheCallersModel(Round):
    """Writes into a tensor message that the caller's model shares."""

    def lie(self, graph: Graph, context: Context) -> None:
        for name, tensor in graph.main.initializers.items():
            if name in ("B2", "B4"):
                tensor.raw_data = bytes(len(tensor.raw_data))


class EditsTheReference(Round):
    """Makes the model that is right by definition agree with it."""

    def lie(self, graph: Graph, context: Context) -> None:
        context.reference.main.nodes[0].doc_string = "mine"

    @classmethod
    def examples(cls) -> Sequence[Example]:
        return [Example("mlp", {"min_size": 100}, before="fuse-batchnorm")]


class ClaimsTooMuch(Round):
    """Tells of an edit that it did not make."""

    def run(self, graph: Graph, context: Context) -> Changes:
        changes = Changes()
        changes.edit("W1", "rounded")
        return changes


class EditsUnsaid(Round):
    """Edits, and says that there was nothing to do."""

    def run(self, graph: Graph, context: Context) -> Changes:
        super().run(graph, context)
        return Changes()


class Random(Round):
    """Takes numbers that no seed repeats."""

    def lie(self, graph: Graph, context: Context) -> None:
        graph.main.nodes[0].name = f"node_{np.random.default_rng().integers(2**60)}"


class NeverDone(Round):
    """Finds something to do again and again."""

    def run(self, graph: Graph, context: Context) -> Changes:
        changes = Changes()
        for name in ("W1", "W2"):
            constant = graph.main.constant(name)
            if constant is not None:
                constant.set(constant.values * np.float32(0.5))
                changes.edit(name, "halved")
        return changes


class DropsMetadata(Round):
    """Forgets what the author wrote about the model."""

    def lie(self, graph: Graph, context: Context) -> None:
        del graph.header.metadata_props[:]


class ForgetsDocStrings(Round):
    """Forgets what is said about a node."""

    def lie(self, graph: Graph, context: Context) -> None:
        graph.main.nodes[0].doc_string = ""


class ChangesTheInterface(Round):
    """Has another output than before."""

    def lie(self, graph: Graph, context: Context) -> None:
        graph.main.proto.output[0].doc_string = "another"


class Grows(Round):
    """Leaves weights behind that nobody reads."""

    def lie(self, graph: Graph, context: Context) -> None:
        graph.main.add_constant("left", np.zeros(10_000, np.float32))


class Crashes(Round):
    """Falls over what it did not expect."""

    def run(self, graph: Graph, context: Context) -> Changes:
        raise KeyError("W1")


class ForgetsToReturn(Round):
    """Edits, and hands nothing back."""

    def run(self, graph: Graph, context: Context) -> Changes:
        super().run(graph, context)
        return None  # type: ignore[return-value]


class Leaves(Round):
    """Ends the whole process."""

    def lie(self, graph: Graph, context: Context) -> None:
        sys.exit(0)


class AsksWithoutSaying(Round):
    """Needs calibration samples, and does not require them."""

    def lie(self, graph: Graph, context: Context) -> None:
        name = graph.main.inputs[0]
        context.observe([MinMax(name)])


class TellsNothing(Round):
    """Notes edits without words."""

    def run(self, graph: Graph, context: Context) -> Changes:
        changes = super().run(graph, context)
        return replace(changes, edits=[replace(each, what="") for each in changes.edits])


class EditsLater(Round):
    """Keeps the graph and edits it once it is somebody else's."""

    held: ClassVar[list[Graph]] = []

    def run(self, graph: Graph, context: Context) -> Changes:
        for other in self.held:
            other.main.nodes[0].doc_string = "edited later"
        self.held.append(graph)
        return super().run(graph, context)


class IdleOnItsExample(Round):
    """Has an example on which it does nothing."""

    @classmethod
    def examples(cls) -> Sequence[Example]:
        return [Example("mlp", {"min_size": 100}), Example("no-layers")]


class ForgetsAnOption(Round):
    """Has an option that no example reaches."""

    @classmethod
    def examples(cls) -> Sequence[Example]:
        return [Example("mlp")]


@pytest.mark.parametrize(
    ("liar", "check", "words"),
    [
        (WrongWhileLossless, "ends_well: truncate-weights on mlp", "lossless"),
        (AlmostRight, "lossless_is_exact", "Not equal to tolerance"),
        (EditsTheCallersModel, "leaves_the_callers_model", "is another one afterwards"),
        (EditsTheReference, "leaves_the_callers_model", "reference that it was given"),
        (ClaimsTooMuch, "says_what_it_did", "claims an edit that it did not make"),
        (EditsUnsaid, "says_what_it_did", "says nothing of it"),
        (Random, "is_deterministic", "another run gave another model"),
        (NeverDone, "is_idempotent", "a second time it edits"),
        (DropsMetadata, "bystanders_are_kept", "metadata of the model"),
        (ForgetsDocStrings, "bystanders_are_kept", "doc string of"),
        (ChangesTheInterface, "interface_is_kept", "outputs changed"),
        (Grows, "never_grows_unsaid", "weights grew by"),
        (Crashes, "ends_well: truncate-weights on mlp", "KeyError: 'W1'"),
        (ForgetsToReturn, "ends_well: truncate-weights on mlp", "run returned None"),
        (Leaves, "edits_its_example: truncate-weights on mlp", "tried to end the process (exit 0)"),
        (AsksWithoutSaying, "says_what_it_did", "does not require CalibrationSamples()"),
        (TellsNothing, "ends_well", "an edit without words"),
        (EditsLater, "is_idempotent", "edits the model of the first"),
        (IdleOnItsExample, "edits_its_example", "no-layers: nothing to do"),
        (ForgetsAnOption, "no example reaches", "min_size other than 256"),
    ],
)
def test_a_lie_is_caught(liar: type[Pass], check: str, words: str) -> None:
    known = registry.names()
    with pytest.raises(AssertionError) as caught:
        check_pass(liar, models=())
    assert check in str(caught.value)
    assert words in str(caught.value)
    assert registry.names() == known


def test_examples_may_be_given_and_passes_named() -> None:
    check_pass("eliminate-identity", [Example("bodies")], models=("function",))
    with pytest.raises(AssertionError, match="edits_its_example: eliminate-identity on no-layers"):
        check_pass("eliminate-identity", [Example("no-layers")], models=())
    with pytest.raises(AssertionError, match="unknown tiny model 'mpl'; did you mean 'mlp'"):
        check_pass("eliminate-identity", [Example("mpl")], models=())


def test_a_pass_has_a_name() -> None:
    class Nameless(Pass):
        def run(self, graph: Graph, context: Context) -> Changes:
            return Changes()

    with pytest.raises(AssertionError, match="Nameless: register it, or give it a name"):
        check_pass(Nameless)
