"""A cell of the battery: one pass on one example and one target, and what came of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from importlib.util import find_spec
from typing import Any, cast

import numpy as np
import onnx

from graphopt.contract.examples import Example
from graphopt.contract.passes import Changes, Context, Pass
from graphopt.contract.preconditions import CalibrationSamples, TimingSamples, TrainingSamples
from graphopt.contract.spec import format_passes, parse_passes
from graphopt.data import SyntheticSamples
from graphopt.errors import UsageError
from graphopt.graph import io
from graphopt.graph.graph import Graph
from graphopt.graph.tensors import Array
from graphopt.options import build, near_miss, option_fields
from graphopt.run.judge import Judge
from graphopt.run.record import PassRecord
from graphopt.runtime.session import Session
from graphopt.targets import Target
from graphopt.testing.apply import apply_passes, run_model
from graphopt.testing.forms import FORMS
from graphopt.testing.models import MODELS

__all__ = ["Application", "Cell", "same"]

_TARGET = "generic"


def same(first: onnx.ModelProto, second: onnx.ModelProto) -> bool:
    """Whether two messages are the same byte for byte."""
    a, b = (model.SerializeToString(deterministic=True) for model in (first, second))
    return bool(a == b)


@dataclass(frozen=True)
class Application:
    """What came of applying a pass once.

    Attributes:
        before: The model that the pass found.
        after: The model afterwards.
        record: What the run says.
        lies: What the pass did otherwise than it says, or requires.
        reads_target: Whether it looked at the target.
        kept_reference: Whether ``context.reference`` is what it was.
    """

    before: onnx.ModelProto
    after: onnx.ModelProto
    record: PassRecord
    lies: Sequence[str]
    reads_target: bool
    kept_reference: bool

    @property
    def edited(self) -> bool:
        """Whether something was done and kept."""
        return self.record.status == "done"


@dataclass(eq=False)
class Cell:
    """One pass on one example and one target.

    ``first`` is one application for all checks that only look at it.

    Attributes:
        pass_class: The pass.
        example: Model and options.
        target: Name of the target.
        form: Key of ``FORMS`` in which the model is written; empty for as it is.
    """

    pass_class: type[Pass]
    example: Example
    target: str = _TARGET
    form: str = ""

    def __str__(self) -> str:
        model = self.example.model
        called = model if isinstance(model, str) else getattr(model, "__name__", "a model")
        spec = format_passes([self.item])
        before = f"{self.example.before}," if self.example.before else ""
        form = f", {self.form}" if self.form else ""
        target = "" if self.target == _TARGET else f", target {self.target}"
        return f"{before}{spec} on {called}{form}{target}"

    @property
    def runnable(self) -> bool:
        """Whether all that the pass needs is installed."""
        return not self.item.asks(TrainingSamples) or find_spec("torch") is not None

    @cached_property
    def item(self) -> Pass:
        """The pass with the example's options."""
        return build(self.pass_class, self.example.options)

    @cached_property
    def model(self) -> onnx.ModelProto:
        """The message that is handed in."""
        return self._made()

    def _made(self) -> onnx.ModelProto:
        make = self.example.model
        if isinstance(make, str):
            if make not in MODELS:
                raise UsageError(f"unknown tiny model {make!r}{near_miss(make, MODELS)}")
            make = MODELS[make]
        model = make()
        if self.form:
            FORMS[self.form](model)
        return model

    @cached_property
    def graph(self) -> Graph:
        """The model as the run gets it: the reference and the teacher."""
        return io.load(self.model)

    @cached_property
    def first(self) -> Application:
        """The pass applied once."""
        return self.apply()

    @cached_property
    def answers(self) -> dict[str, Array]:
        """Those of the model that the pass found, to one random feed."""
        return run_model(self.first.before)

    def untouched(self) -> bool:
        """Whether the message handed in, and the reference of the run, are what they were."""
        fresh = self._made()
        return same(self.model, fresh) and same(self.graph.to_model(), io.load(fresh).to_model())

    def apply(self, times: int = 1) -> Application:
        """The pass applied so many times in one run; the last of them."""
        notes = _Notes()
        passes = parse_passes(self.example.before) if self.example.before else []
        prepared = len(passes)
        passes += [self.item] * (times - 1) + [_watched(self.item, notes)]
        after, records = apply_passes(
            passes,
            self.graph,
            target=self.target,
            samples=self.example.samples,
            train=self._labelled,
            judge=self._judge,
        )
        for record in [] if self.form else records[:prepared]:
            assert record.status == "done", f"{record.name} before it: {record.reason}"
        message = after.to_model()
        return Application(
            message if notes.before is None else notes.before,
            message,
            records[-1],
            notes.lies,
            notes.reads_target,
            notes.kept_reference,
        )

    @cached_property
    def _judge(self) -> Judge:
        samples = SyntheticSamples(self.graph, count=min(4, self.example.samples))
        return Judge(self.graph, samples, "random", threads=1)

    @cached_property
    def _labelled(self) -> dict[str, Any] | None:
        """Samples with labels, where the example asks for them."""
        if not self.example.labels:
            return None
        session = Session(self.graph, threads=1)
        feeds = [each for each, _ in SyntheticSamples(self.graph, self.example.samples).feeds()]
        answers = [session.run(each)[self.graph.main.outputs[0]] for each in feeds]
        labels = np.concatenate(answers)
        if self.example.labels == "classes":
            labels = labels.argmax(-1)
        if self.example.labels == "tags":
            labels = (labels > 0).astype(np.int64)
        arrays = {name: np.concatenate([each[name] for each in feeds]) for name in feeds[0]}
        return {**arrays, "labels": labels}

    def on(self, target: str) -> Cell:
        """The same on another target."""
        return replace(self, target=target)

    def formed(self, form: str) -> Cell:
        """The same with the model written otherwise."""
        return replace(self, form=form)


@dataclass
class _Notes:
    before: onnx.ModelProto | None = None
    lies: list[str] = field(default_factory=list)
    reads_target: bool = False
    kept_reference: bool = True


@dataclass
class _Looked:
    """A target that notes whether anything of it is looked at."""

    target: Target
    notes: _Notes

    def __getattr__(self, name: str) -> Any:
        self.notes.reads_target = True
        return getattr(self.target, name)


def _noting(item: Pass, context: Context, notes: _Notes) -> Context:
    """The context, with notes taken of what is asked of it beyond the preconditions."""

    def unasked(door: Callable[..., Any]) -> Any:
        def ask(*args: Any, **options: Any) -> Any:
            notes.lies.append("it asks for statistics and does not require CalibrationSamples()")
            return door(*args, **options)

        return ask

    target = cast(Target, _Looked(context.target, notes))
    noting = replace(context, target=target)
    if not any(item.asks(kind) for kind in (TrainingSamples, TimingSamples, CalibrationSamples)):
        noting = replace(noting, training=None)
    if not item.asks(CalibrationSamples) and not (item.uses_samples and context.calibrated):
        observe, walk = unasked(context.observe), unasked(context.walk)
        noting = replace(noting, observe=observe, walk=walk)
    return noting


def _watched(item: Pass, notes: _Notes) -> Pass:
    """The pass, with notes taken of what its ``run`` really does."""

    def run(self: Pass, graph: Graph, context: Context) -> Changes:
        notes.before = graph.to_model()
        reference = context.reference
        apart = None if reference is graph else reference.to_model()
        changes = type(item).run(self, graph, _noting(item, context, notes))
        assert isinstance(changes, Changes), f"run returned {changes!r}, where Changes must be"
        edited = not same(graph.to_model(), notes.before)
        if edited and not changes:
            notes.lies.append("it edited the graph and says nothing of it")
        if changes and not edited:
            notes.lies.append(f"it claims an edit that it did not make: {changes.edits[0]}")
        notes.kept_reference = apart is None or same(reference.to_model(), apart)
        return changes

    kind = type(f"Watched{type(item).__name__}", (type(item),), {"run": run})
    values = {name: getattr(item, name) for name in option_fields(type(item))}
    watched: Pass = kind(**values)
    return watched
