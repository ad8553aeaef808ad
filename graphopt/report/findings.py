"""What ``inspect``, ``compare`` and ``bench`` found, as values that can be printed or dumped."""

from __future__ import annotations

from dataclasses import dataclass, field

from graphopt.errors import Need
from graphopt.facts.inventory import HeldWeights
from graphopt.run.quality import Quality
from graphopt.run.record import ModelRecord
from graphopt.runtime.latency import Clock
from graphopt.tasks.task import Task

__all__ = [
    "Benchmark",
    "Comparison",
    "FitReason",
    "FixedChannels",
    "GroupShare",
    "Grouping",
    "Inspection",
    "Outlook",
    "Port",
    "Quantization",
    "TargetFit",
    "Timing",
]


@dataclass(frozen=True)
class Port:
    """An input or output; a free axis is None, or its name where it has one.

    ``shape`` is None where the file does not say. ``optional`` inputs have an initializer.
    """

    name: str
    dtype: str
    shape: list[int | str | None] | None
    optional: bool = False


@dataclass(frozen=True)
class Quantization:
    """In which form a model computes on integers.

    ``form`` is ``float``, ``float16``, ``bfloat16`` or ``double`` by the stored weights, ``qdq``,
    ``qoperator``, ``dynamic`` or ``weight-only``; ``integer_layers`` of ``layers`` Conv, Gemm and
    MatMul have an integer weight.
    """

    form: str
    layers: int
    integer_layers: int


@dataclass(frozen=True)
class Outlook:
    """What a pass with default options would do to the model as it is.

    ``edits`` is None where that cannot be said without calibration samples; ``reasons`` counts
    what it would leave alone, by reason, most frequent first; ``needs`` is what a pass lacks that
    is refused.
    """

    name: str
    edits: int | None
    note: str
    reasons: dict[str, int]
    needs: tuple[Need, ...] = ()


@dataclass(frozen=True)
class GroupShare:
    """Channels that can go one by one, each with what must go with it.

    ``size`` is how many there are, ``heads`` whether they are attention heads; ``params`` and
    ``macs`` are what would go with all of them, ``producers`` the layers whose output channels they
    are, ``consumers`` those that sum over them.
    """

    name: str
    size: int
    heads: bool
    params: int
    macs: int | None
    producers: list[str]
    consumers: list[str]


@dataclass(frozen=True)
class FixedChannels:
    """Layers whose output channels stay for one reason; ``at`` is the first that keeps them."""

    reason: str
    at: str
    layers: list[str]


@dataclass(frozen=True)
class Grouping:
    """The coupled channels of a model behind fold-constants.

    ``params`` and ``macs`` are what would go with all channels of all groups, ``of_params`` and
    ``of_macs`` what there is; MACs are None where they are unknown. ``refused`` is why
    ``prune-channels`` takes none of them out of the model as it is, empty where it does.
    """

    groups: list[GroupShare]
    fixed: list[FixedChannels]
    params: int
    macs: int | None
    of_params: int
    of_macs: int | None
    refused: str = ""


@dataclass(frozen=True)
class FitReason:
    """Why a target would compute so many layers in floats; ``first`` is the label of one."""

    layers: int
    reason: str
    first: str


@dataclass(frozen=True)
class TargetFit:
    """How a model as it is fits a target, by its table.

    ``integer`` of ``layers`` would be computed on integers; ``quantized`` is how many
    ``quantize-static`` would put there, None where the model is quantized already. ``hurdles`` keep
    the target from taking the file, or any layer; ``reasons`` keep layers from its integers, most
    frequent first.
    """

    target: str
    description: str
    layers: int
    integer: int
    quantized: int | None
    hurdles: list[str]
    reasons: list[FitReason]


@dataclass(frozen=True)
class Inspection:
    """A model file as ``graphopt inspect`` shows it.

    ``macs`` are those of one run with inputs of the shapes ``macs_at``, or as declared where that
    is empty; where they are unknown, ``macs_missing`` says why. ``weights`` holds every
    parameter, by the operator that reads it and how it is stored. ``tasks`` is what the outputs
    mean as far as the graph tells, without a run; ``note`` says why onnxruntime does not load it,
    ``needs`` what would help, empty where it does. ``channels`` is None and ``fits`` are none
    where nobody asked.
    """

    path: str | None
    bytes: int
    weight_bytes: int
    ir_version: int
    producer: str
    opset: dict[str, int]
    inputs: list[Port]
    outputs: list[Port]
    nodes: int
    ops: dict[str, int]
    params: int
    macs: int | None
    quantization: Quantization
    sparsity: float
    weights: list[HeldWeights]
    recipe: str | None
    passes: list[Outlook]
    tasks: list[Task]
    note: str = ""
    needs: tuple[Need, ...] = ()
    macs_at: dict[str, list[int]] = field(default_factory=dict)
    macs_missing: str = ""
    channels: Grouping | None = None
    fits: list[TargetFit] = field(default_factory=list)


@dataclass(frozen=True)
class Timing:
    """Latency of one model: median of bursts with the 10th and 90th percentile, ms.

    Of several models the calmer half of the bursts counts. All but the first model's are level
    with the first one's: the median is the first model's times ``ratio``. ``clock`` says what the
    times and the ratio are of.
    """

    path: str | None
    median_ms: float
    low_ms: float
    high_ms: float
    ratio: float
    ratio_spread: float
    clock: Clock


@dataclass(frozen=True)
class Benchmark:
    """Models measured in turns on the same machine; ratios are against the first."""

    provider: str
    threads: int
    rounds: int
    feeds: str
    timings: list[Timing]


@dataclass(frozen=True)
class Comparison:
    """Two models side by side; ``quality`` is None where their outputs cannot be compared.

    ``note`` says what the reader should know of the figures, ``needs`` what would help.
    """

    a: ModelRecord
    b: ModelRecord
    quality: Quality | None
    cosine: dict[str, float | None]
    latency_ratio: float | None
    latency_spread: float | None
    latency_clock: Clock | None
    feeds: str
    note: str
    needs: tuple[Need, ...] = ()
