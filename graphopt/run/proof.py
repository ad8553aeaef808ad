"""The end of a run: the proof against the reference, audit, layers, the recipe in the file."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from graphopt.analysis.audit import Audit, audit, expected
from graphopt.contract import registry
from graphopt.contract.recipe import METADATA_KEY
from graphopt.errors import ModelError
from graphopt.facts import cost
from graphopt.facts.quantized import has_fixed_ranges
from graphopt.facts.sized import Sized
from graphopt.graph import io
from graphopt.graph.deflate import deflated_bytes
from graphopt.graph.graph import Graph
from graphopt.graph.unfold import inlined
from graphopt.run import layer_figures
from graphopt.run.causes import calibration_faults, likely_causes
from graphopt.run.floor import held_outputs, too_far
from graphopt.run.limits import limit_records
from graphopt.run.means import Means
from graphopt.run.quality import Caveat, Quality
from graphopt.run.record import LayerRecord, LimitRecord, ModelRecord, PassRecord
from graphopt.run.sizing import sized_run
from graphopt.run.stage import Stage
from graphopt.run.verify import Verified, verify
from graphopt.runtime.latency import Ratio
from graphopt.targets import Target, find, same_kernels

__all__ = ["Proof", "describe", "prove", "with_recipe"]

_FEW_FOR_RANGES = 64
"""Of 391 outputs of random graphs, static int8 from 16 samples was more than 3 dB worse on fresh
ones than measured in 25 % of the cases, from 64 in 11 %; of 193 from 128 in 7 %."""
_FAR = 0.05
"""Share of the metric; what a trained model loses more of is told."""
_LAYER_SAMPLES = 4
"""Samples for the SQNR of single layers; each layer's result has many elements."""


@dataclass(frozen=True)
class Proof:
    """What a result was measured to be.

    Attributes:
        quality: Closeness to the reference; None where this process does not measure.
        start: Closeness of the model as it came, where that is not the reference; else None.
        limits: What was asked, beside what was found.
        before_ms: Latency of the reference, by the clock of ``ratio``; None where nothing was run.
        after_ms: Latency of the result, which is the former times the ratio.
        ratio: The second over the first, with its spread.
        audit: Which layers run on integers; None where that cannot be told.
        layers: Where bytes, time and noise are.
        messages: What the user should know besides.
    """

    quality: Quality | None = None
    start: Quality | None = None
    limits: list[LimitRecord] = field(default_factory=list)
    before_ms: float | None = None
    after_ms: float | None = None
    ratio: Ratio | None = None
    audit: Audit | None = None
    layers: list[LayerRecord] = field(default_factory=list)
    messages: list[str] = field(default_factory=list)


def describe(
    graph: Graph,
    path: Path | None = None,
    *,
    sizes: Sized | None = None,
    latency_ms: float | None = None,
) -> ModelRecord:
    """A model in figures; those of its file where ``path`` is one that exists.

    Without ``sizes`` of a run its MACs are those of the sizes that it declares.
    """
    sizes = sizes or sized_run(graph)
    on_disk = path is not None and path.is_file()
    return ModelRecord(
        path=None if path is None else str(path),
        sha256=io.sha256(path) if path is not None and on_disk else "",
        bytes=io.file_bytes(graph, path) if path is not None and on_disk else io.size(graph),
        compressed_bytes=deflated_bytes(graph),
        params=cost.params(graph),
        macs=sizes.macs.total,
        nodes=sum(len(scope.nodes) for scope in graph.scopes()),
        latency_ms=latency_ms,
        macs_at={name: list(shape) for name, shape in sizes.inputs.items()},
        macs_missing=sizes.macs.missing,
    )


def prove(
    stage: Stage,
    means: Means,
    start: Stage | None,
    passes: Sequence[PassRecord],
    caveat: Caveat,
    verified: Verified | None = None,
) -> Proof:
    """Measure a result against the reference.

    Args:
        stage: The result.
        means: What to measure with.
        start: The model as it came, where that is not the reference.
        passes: Records of the passes that made it; their reasons explain the audit.
        caveat: What the reader should know of the samples.
        verified: What the result was measured to be, where it was measured already.

    Raises:
        ModelError: onnxruntime cannot run the result.
        DataError: The metric cannot be computed.
    """
    if means.judge is None:
        nothing = Quality(sqnr_db={}, note=caveat.note, needs=caveat.needs)
        return Proof(nothing, limits=limit_records(means, nothing, passes))
    verified = verified or verify(stage, means, start)
    quality, before = (
        None if q is None else replace(q, note=caveat.note, needs=caveat.needs)
        for q in (verified.quality, verified.start)
    )
    assert quality is not None
    first, second = verified.before, verified.after
    feeds = [sample.feeds for sample in means.judge.samples[:_LAYER_SAMPLES]]
    before_graph, after_graph = inlined(means.reference), inlined(stage.graph)
    layers, notes = layer_figures.describe(
        before_graph,
        after_graph,
        feeds,
        threads=means.threads,
        memory=means.memory(8),
        kept=stage.kept,
    )
    kernels, missing = _audited(after_graph, passes, means.target)
    return Proof(
        quality,
        before,
        limit_records(means, quality, passes),
        first.times.median_ms,
        second.times.median_ms,
        second.ratio,
        kernels,
        layers,
        [
            *missing,
            *notes,
            *_clock(second.ratio),
            *_ports(means.reference, stage.graph),
            *_ranges(stage, means),
            *calibration_faults(means),
            *([] if _taught(start, passes, quality) else _badness(quality, stage, means)),
        ],
    )


def _clock(ratio: Ratio) -> list[str]:
    """That the times are not those of the wall, where they are not."""
    if ratio.clock != "processor":
        return []
    return [
        "times are processor time of one thread: wall time scattered or did not agree, as it does "
        "where other programs run beside"
    ]


def _ranges(stage: Stage, means: Means) -> list[str]:
    """Whether ranges were fixed by so few samples that fresh ones will lie beyond them."""
    count = 0 if means.calibration is None else means.calibration.count
    if not 0 < count < _FEW_FOR_RANGES or has_fixed_ranges(means.reference):
        return []
    if not has_fixed_ranges(stage.graph):
        return []
    return [
        f"{count} samples are few for static ranges: fresh ones that lie beyond are clipped and "
        f"can be far worse than those measured; calibrate on {2 * _FEW_FOR_RANGES} or more"
    ]


def _taught(start: Stage | None, passes: Sequence[PassRecord], quality: Quality) -> bool:
    """Whether the result was trained, and so is meant to answer otherwise.

    What falls far by the labels is no better for that.
    """
    metric = quality.metric
    far = metric is not None and metric.fall > _FAR * abs(metric.before)
    return start is not None or (not far and any(item.curves is not None for item in passes))


def _badness(quality: Quality, stage: Stage, means: Means) -> list[str]:
    """That the result answers badly, as plain as that it is larger or slower, and the cause."""
    fault = too_far(quality, None, held_outputs(quality, means))
    if not fault or (quality.metric is not None and quality.metric.fall <= 0):
        return []  # by the labels it is no worse
    told = quality.evidence and has_fixed_ranges(stage.graph)
    causes = likely_causes(stage, means) if told else []
    cause = f"; the likely cause: {causes[0]}" if causes else ""
    return [f"the result answers badly: {fault}{cause}"]


def _ports(before: Graph, after: Graph) -> list[str]:
    """Which outputs a step of the user's took away or added: nobody compared them."""
    ours, theirs = before.main.outputs, after.main.outputs
    gone, new = ([n for n in a if n not in b] for a, b in ((ours, theirs), (theirs, ours)))
    return [
        f"{words}, so not compared: {', '.join(map(repr, names))}"
        for words, names in (("outputs no longer there", gone), ("new outputs", new))
        if names
    ]


def _audited(
    graph: Graph, passes: Sequence[PassRecord], target: Target
) -> tuple[Audit | None, list[str]]:
    """The audit, with the reasons that quantizing passes gave for what they left alone.

    Where the target is another kind of machine or runtime than this one, its table speaks.
    """
    known = registry.names()
    quantizing = [
        item for item in passes if item.name in known and registry.find(item.name).quantizes
    ]
    reasons = {skip.node: skip.reason for item in quantizing for skip in item.skipped}
    if not same_kernels(target, find("host")):
        told = expected(graph, reasons, target=target)
        return told, _emulated(graph, told)
    try:
        return audit(graph, reasons), []
    except ModelError as err:
        return None, [f"no audit: {err}"]


def _emulated(graph: Graph, told: Audit) -> list[str]:
    """That answers were measured in floats where the target has integers; empty where not."""
    try:
        here = {entry.node for entry in audit(graph).float_}
    except ModelError:
        return []
    count = sum(entry.node in here for entry in told.integer)
    if not count:
        return []
    layers = "1 layer" if count == 1 else f"{count} layers"
    return [
        f"{layers} that {told.table} computes on integers ran here in floats, from the rounded "
        "values: answers there may differ by the rounding of their sums"
    ]


def with_recipe(graph: Graph, text: str) -> Graph:
    """The graph with the recipe that reproduces the run in its metadata, over an older one."""
    marked = graph.copy()
    for entry in marked.header.metadata_props:
        if entry.key == METADATA_KEY:
            entry.value = text
            return marked
    marked.header.metadata_props.add(key=METADATA_KEY, value=text)
    return marked
