"""What must hold of model and data before a pass edits anything: checked and worded here."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from graphopt.errors import DataError, GraphoptError, Need, PassError
from graphopt.facts.quantized import integer_nodes, quantized_activations
from graphopt.graph.graph import Graph, Scope
from graphopt.graph.lossless import same_model
from graphopt.graph.node import label

if TYPE_CHECKING:
    from onnx import NodeProto

    from graphopt.contract.passes import Context, Pass
    from graphopt.targets import Target

__all__ = [
    "CalibrationSamples",
    "FloatActivations",
    "Labels",
    "MinOpset",
    "OtherTeacher",
    "Precondition",
    "TargetTakes",
    "TimingSamples",
    "TrainingSamples",
    "Unquantized",
    "When",
    "check_preconditions",
]


@dataclass(frozen=True)
class When:
    """An option with the value, or with any but the value, for which a precondition is asked.

    Of several values, in a tuple, it is any of them.
    """

    option: str
    value: Any
    equal: bool = True

    def holds(self, item: Pass) -> bool:
        """Whether the pass has the option set so."""
        return (getattr(item, self.option) in self.values) is self.equal

    @property
    def values(self) -> tuple[Any, ...]:
        """The value or values."""
        return self.value if isinstance(self.value, tuple) else (self.value,)

    def __str__(self) -> str:
        if self.value is None and not self.equal:
            return f"{self.option} given"
        values = " or ".join(map(str, self.values))
        return f"{self.option}{'=' if self.equal else ' other than '}{values}"


@dataclass(frozen=True, kw_only=True)
class Precondition(ABC):
    """Something that a pass asks of model or data; a pass names its own in ``requires``.

    Attributes:
        when: Option values with which it is asked; None for always.
    """

    when: When | None = None
    of_model: ClassVar[bool] = True
    """Whether it depends on the graph as the passes before leave it, and not on the data alone."""
    words: ClassVar[str]
    """What must hold, as a phrase with fields in braces."""
    error: ClassVar[type[GraphoptError]] = PassError
    """What is raised where it does not hold."""
    needs: ClassVar[tuple[Need, ...]] = ()
    """What could have been given for it to hold, besides another model."""

    @abstractmethod
    def problem(self, item: Pass, graph: Graph, context: Context) -> str:
        """Why it does not hold, and what to do; empty where it does."""

    def asked(self, item: Pass) -> bool:
        """Whether a pass with these options asks it."""
        return self.when is None or self.when.holds(item)

    def asker(self, item: Pass) -> str:
        """The pass, with the option for which it asks, as it is set."""
        if self.when is None:
            return item.name
        return f"{item.name} with {self.when.option}={getattr(item, self.when.option)}"

    def __str__(self) -> str:
        words = self.words.format_map(vars(self))
        return words if self.when is None else f"{words} (with {self.when})"


@dataclass(frozen=True, kw_only=True)
class Unquantized(Precondition):
    """No weight is stored as integers."""

    words = "weights that no pass before has quantized"

    def problem(self, item: Pass, graph: Graph, context: Context) -> str:
        fault = self.fault(graph)
        if not fault:
            return ""
        if any(self._nodes(scope) for scope in context.reference.scopes()):
            return fault  # it came so
        return f"{fault}; put {item.name} before the pass that quantizes"

    def fault(self, graph: Graph) -> str:
        """What is quantized, in words; empty where nothing is."""
        nodes = [node for scope in graph.scopes() for node in self._nodes(scope)]
        others = f" and {len(nodes) - 1} more" if len(nodes) > 1 else ""
        return f"the model is quantized already ({label(nodes[0])}{others})" if nodes else ""

    def _nodes(self, scope: Scope) -> list[NodeProto]:
        """What makes the model a quantized one."""
        return integer_nodes(scope)


@dataclass(frozen=True, kw_only=True)
class FloatActivations(Unquantized):
    """No activation is stored as integers; weights may be."""

    words = "activations that no pass before has quantized"

    def _nodes(self, scope: Scope) -> list[NodeProto]:
        return quantized_activations(scope)


@dataclass(frozen=True)
class MinOpset(Precondition):
    """The model's opset has what the pass writes.

    Attributes:
        feature: What older opsets lack.
        opset: The first one that has it; by default the least that the target asks for.
    """

    feature: str
    opset: int | Literal["of the target"] = "of the target"
    words = "opset {opset} or later: {feature}"

    def problem(self, item: Pass, graph: Graph, context: Context) -> str:
        default = context.target.min_opset
        needed = self.opset if isinstance(self.opset, int) else default
        if graph.opset >= needed:
            return ""
        options = "" if needed <= default else f"{{opset={needed}}}"
        return (
            f"opset {graph.opset} has no {self.feature}; put upgrade-opset{options} before "
            f"{item.name} (it needs {needed})"
        )


@dataclass(frozen=True)
class TargetTakes(Precondition):
    """The target runs layers of the codes and scales that the options ask for.

    Attributes:
        weights: Name of the option with the codes of weights.
        activations: Name of the option with the codes of activations; empty where there is none.
        calls: Activations take their range from each call.
    """

    weights: str
    activations: str = ""
    calls: bool = False
    of_model = False
    words = "a target that takes such codes and scales"

    def problem(self, item: Pass, graph: Graph, context: Context) -> str:
        return self.lacks(item, context.target)

    def lacks(self, item: Pass, target: Target) -> str:
        """What the target lacks for the options of a pass, and what to do; empty where nothing."""
        if not target.weight_types:
            return f"target {target.name} takes no quantized layers; use quantize-weights instead"
        if self.calls and not target.calls:
            return (
                f"target {target.name} computes layers that take their ranges from each call in "
                "floats; use quantize-static or quantize-weights instead"
            )
        for option, codes in (
            (self.weights, target.weight_types),
            (self.activations, target.activation_types),
        ):
            if option and getattr(item, option) not in ("auto", *codes):
                return (
                    f"target {target.name} has no kernels for {option}={getattr(item, option)}; "
                    f"it takes {' or '.join(codes)}"
                )
        if getattr(item, "per_channel", False) and not target.per_channel:
            return f"target {target.name} takes one scale a weight; set per_channel=false"
        return ""


@dataclass(frozen=True, kw_only=True)
class CalibrationSamples(Precondition):
    """There are samples on which activations can be observed."""

    of_model = False
    needs = (Need.CALIBRATION,)
    words = "calibration samples"

    def problem(self, item: Pass, graph: Graph, context: Context) -> str:
        return "" if context.calibrated else f"{item.name} needs calibration samples"


@dataclass(frozen=True)
class TrainingSamples(Precondition):
    """There are samples on which gradients can be taken; that happens in torch.

    Attributes:
        purpose: What the samples are for, as a phrase.
    """

    purpose: str = "to train on"
    of_model = False
    needs = (Need.TRAINING,)
    words = "samples {purpose}, and PyTorch"

    def problem(self, item: Pass, graph: Graph, context: Context) -> str:
        if context.training is not None:
            return ""
        return f"{self.asker(item)} needs samples {self.purpose}"


@dataclass(frozen=True, kw_only=True)
class TimingSamples(Precondition):
    """There is a sample to time the model with; nothing is trained, and torch is not needed."""

    of_model = False
    needs = (Need.CALIBRATION,)
    words = "samples to time it with"

    def problem(self, item: Pass, graph: Graph, context: Context) -> str:
        if context.training is not None:
            return ""
        return f"{self.asker(item)} needs samples to time it with"


@dataclass(frozen=True, kw_only=True)
class Labels(Precondition):
    """The samples to train on have labels."""

    of_model = False
    error = DataError
    words = "labels in the samples to train on"

    def problem(self, item: Pass, graph: Graph, context: Context) -> str:
        if context.training is None or context.training.samples.labels is not None:
            return ""
        return (
            f"{self.asker(item)} needs labels and the training data has none; "
            "add an array 'labels' (labels.npy in a folder)"
        )


@dataclass(frozen=True, kw_only=True)
class OtherTeacher(Precondition):
    """The model is not its own teacher, whose answers it would have already."""

    needs = (Need.TEACHER,)
    words = "a teacher other than the model as it stands"

    def problem(self, item: Pass, graph: Graph, context: Context) -> str:
        if context.training is None or not same_model(graph, context.training.teacher):
            return ""
        return (
            f"{item.name}: the model is its own teacher; give the model as it was, put {item.name} "
            "behind the pass that changes it, or name another one"
        )


def check_preconditions(
    item: Pass, graph: Graph, context: Context, *, of_model: bool = True
) -> None:
    """Refuse to run a pass where something does not hold that it requires.

    Args:
        item: The pass; what it checks itself comes last.
        graph: The model that it would edit.
        context: What it would be given.
        of_model: Look at the model too; else at the data alone.

    Raises:
        DataError: The samples lack something.
        PassError: A precondition does not hold; the message says what to do.
    """
    for required in item.requires:
        if required.asked(item) and (of_model or not required.of_model):
            problem = required.problem(item, graph, context)
            if problem:
                raise required.error(problem, *required.needs)
    if of_model:
        item.check(graph, context)
