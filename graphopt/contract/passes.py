"""What a pass is: its options, what it may ask for, and what it hands back."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, TypeVar

import numpy as np

from graphopt.contract.budgets import Missed, missed_budget
from graphopt.contract.curves import TrainingCurves
from graphopt.contract.findings import Findings
from graphopt.contract.forms import FormTrials
from graphopt.contract.kept import Kept
from graphopt.contract.preconditions import Precondition
from graphopt.contract.taken import Taken
from graphopt.facts.layers import Refusal
from graphopt.graph.graph import Graph, Scope
from graphopt.graph.node import label
from graphopt.observe.extremes import ChannelAbsMax, ChannelMin, HistogramOf, MinMax, RowWidths
from graphopt.observe.gram import Gram
from graphopt.observe.means import ChannelMean, MeanOutput, MeanSquare
from graphopt.observe.request import Answers, Request
from graphopt.observe.rows import RowMoments, SampledRows
from graphopt.observe.values import Values
from graphopt.options import Option, Options

if TYPE_CHECKING:
    from onnx import NodeProto

    from graphopt.contract.examples import Example
    from graphopt.contract.training import Training
    from graphopt.facts.shapes import Shapes
    from graphopt.targets import Target

__all__ = [
    "Answers",
    "Changes",
    "ChannelAbsMax",
    "ChannelMean",
    "ChannelMin",
    "Context",
    "Edit",
    "Gram",
    "HistogramOf",
    "MeanOutput",
    "MeanSquare",
    "MinMax",
    "Missed",
    "Observe",
    "Option",
    "Pass",
    "Request",
    "RowMoments",
    "RowWidths",
    "SampledRows",
    "Skip",
    "Values",
    "Walk",
    "body_reason",
    "missed_budget",
]


A = TypeVar("A")


@dataclass(frozen=True)
class Edit:
    """Something that a pass changed."""

    node: str
    what: str


@dataclass(frozen=True)
class Skip:
    """Something that a pass left alone, and why: a sentence that the user can act on."""

    node: str
    reason: str


@dataclass
class Changes:
    """What a pass did and what it left alone. Empty edits mean an untouched graph.

    ``curves`` is the course of a training, where the pass trained; ``nothing`` says why there are
    no edits, for a pass that knows better than that there was nothing to do; ``kept`` says which
    positions of the graph handed over are left, from a pass that removes channels; ``missed`` is
    the budget of a pass that could not keep to it; ``taken`` is what was taken from where, for the
    report.
    """

    edits: list[Edit] = field(default_factory=list)
    skips: list[Skip] = field(default_factory=list)
    curves: TrainingCurves | None = None
    nothing: str = "found nothing in this model that it changes"
    kept: Kept = field(default_factory=dict)
    missed: Missed | None = None
    taken: Taken = field(default_factory=Taken)

    def edit(self, node: NodeProto | str, what: str) -> None:
        """Note a change."""
        self.edits.append(Edit(node if isinstance(node, str) else label(node), what))

    def skip(self, node: NodeProto | Refusal | str, reason: str = "") -> None:
        """Note what was left alone; a Refusal has its reason with it."""
        if isinstance(node, Refusal):
            node, reason = node.node, node.reason
        self.skips.append(Skip(node if isinstance(node, str) else label(node), reason))

    def __bool__(self) -> bool:
        return bool(self.edits)


class Observe(Protocol):
    """The door to statistics of the tensors of a main graph, on the run's calibration samples."""

    def __call__(
        self,
        requests: Iterable[Request[Any]],
        graph: Graph | None = None,
        limit: int | None = None,
    ) -> Answers:
        """Answers by request.

        Args:
            requests: What to find out; what was asked of the same state before costs nothing.
            graph: ``reference``, or any graph that takes the samples, as it is now; None for the
                graph that was handed to the pass, as it was then.
            limit: Only the first so many samples count; None for all.

        Raises:
            PassError: There are no samples.
            DataError: A tensor holds no numbers. Of one that holds NaN or infinite values it is
                raised when its answer is read.
        """


class Walk(Protocol):
    """Asks one layer after another while the pass edits the graph, front to back."""

    @property
    def count(self) -> int:
        """Samples that it runs on: fewer than were asked for where memory is short."""

    def ask(self, request: Request[A]) -> A:
        """The answer of the graph as it is now.

        Tensors are asked for in the order in which they are computed.

        Raises:
            DataError: The tensor holds NaN or infinite values.
        """

    def advance(self, node: NodeProto) -> None:
        """Run on to a node of the graph, so that it and all behind it can be run from there."""

    def fork(self, graph: Graph) -> Walk:
        """A walk along another graph from where this one has come to.

        Args:
            graph: One that computes the same in front of the last node advanced to.
        """


@dataclass(frozen=True)
class Context:
    """What the run offers to a pass.

    Attributes:
        target: What the runtime fuses and how it computes.
        shapes: Shape and element type of every tensor of the graph handed over.
        observe: Answers requests about tensors of the graph handed over, or of another.
        walk: Follows the graph given over the first so many calibration samples.
        rng: Random numbers that repeat with the run's seed.
        reference: The graph as it was before the first lossy pass; passes that keep tensor names
            find their float counterparts there. Never to be edited.
        unrounded: The graph as it was before the first pass that quantizes, with what earlier
            passes removed and repaired; never to be edited either.
        calibrated: Whether there are calibration samples, which ``observe`` and ``walk`` take.
        time_ratio: Time of one run of the second of two models over that of the first, on this
            machine and with the run's threads. They take the same feeds, of fixed sizes; what is
            alike but for names and values is timed once. Where a pass is only tried, as `inspect`
            does, nothing is timed and the answer is 0.
        training: What passes that train work with; None without samples.
        kept: Which positions of the tensors of ``reference`` those of the graph handed over hold,
            where passes have removed channels; what is not listed is whole.
        findings: What passes found out about the graph handed over: the same pass with other
            options does not measure again.
        trials: What forms of the layers do to the answers; None where the model was not run.
    """

    target: Target
    shapes: Shapes
    observe: Observe
    walk: Callable[[Graph, int], Walk]
    time_ratio: Callable[[Graph, Graph], float]
    rng: np.random.Generator
    reference: Graph
    unrounded: Graph
    calibrated: bool
    training: Training | None = None
    kept: Kept = field(default_factory=dict)
    findings: Findings = field(default_factory=Findings)
    trials: FormTrials | None = None


class Pass(Options, ABC):
    """One transformation of the graph; subclasses are frozen dataclasses of their options.

    The class docstring is the pass's page in the docs: what it does, a small picture, the source.
    """

    name: ClassVar[str]
    """Verb-object, set by ``register``."""
    lossy: ClassVar[bool] = False
    """Lossless passes must keep 90 dB; lossy ones the limits that the user gave."""
    joins: ClassVar[bool] = False
    """Counts with the pass before it: only together do they have to keep the limits."""
    must_help: ClassVar[bool] = False
    """Kept only if it brings the outputs closer than they were."""
    as_stored: ClassVar[bool] = False
    """Gets the graph as it is; other lossy passes get half floats behind a Cast as float32 weights,
    which are stored as half floats again where the pass leaves values that these hold."""
    widens_halves: ClassVar[bool] = False
    """Gets half floats behind a Cast as float32 weights though it is lossless."""
    rounds_halves: ClassVar[bool] = False
    """Weights that were half floats behind a Cast are so again after it, rounded where need be."""
    requires: ClassVar[tuple[Precondition, ...]] = ()
    """What must hold before the first edit."""
    uses_samples: ClassVar[bool] = False
    """Does better with calibration samples, and something without: it looks at
    ``context.calibrated`` before it asks."""
    quantizes: ClassVar[bool] = False
    """Its reasons for leaving a layer alone say why that layer stays float."""
    strips: ClassVar[bool] = False
    """Takes out metadata and doc strings, which other passes leave as they are."""
    may_grow: ClassVar[str] = ""
    """Why the weights may be larger afterwards; empty where that would be a fault."""

    def asks(self, kind: type[Precondition]) -> bool:
        """Whether the pass, with the options that it has, requires such a thing."""
        return any(isinstance(each, kind) and each.asked(self) for each in self.requires)

    def keeps_ports(self) -> bool:
        """Whether inputs and outputs of the model keep their types, as all passes but few do."""
        return True

    def check(self, graph: Graph, context: Context) -> None:
        """What must hold before the first edit besides ``requires``.

        Raises:
            PassError: One does not hold; the message says what to do.
        """

    def fed(self, graph: Graph) -> Graph:
        """A graph whose inputs say what samples the model takes behind the pass.

        That is the one given, unless the pass fixes sizes: then a copy, for which samples are read.

        Raises:
            UsageError: The options do not fit these inputs.
        """
        return graph

    @abstractmethod
    def run(self, graph: Graph, context: Context) -> Changes:
        """Edit ``graph`` in place and say what was done.

        Finds nothing to do: changes nothing and says so in ``skips``.
        """

    @classmethod
    def examples(cls) -> Sequence[Example]:
        """Models and options with which it has something to do, for ``testing.check_pass``."""
        return ()


def body_reason(scope: Scope) -> str:
    """Why a pass leaves a body alone that calibration cannot observe."""
    return f"inside the body of {scope.path.rstrip('/')}; its tensors cannot be calibrated"
