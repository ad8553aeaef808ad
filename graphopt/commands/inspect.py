"""What is in a model, and what each pass could do to it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from onnx import NodeProto, TensorProto, ValueInfoProto

from graphopt import targets
from graphopt.commands.fits import target_fits
from graphopt.commands.grouping import grouping
from graphopt.commands.sources import Model, load, path_of
from graphopt.contract import registry
from graphopt.contract.preconditions import CalibrationSamples
from graphopt.contract.recipe import METADATA_KEY
from graphopt.errors import ModelError, Need, NoKernel, NotRun
from graphopt.facts import cost, shapes
from graphopt.facts.form import model_form
from graphopt.facts.inventory import inventory
from graphopt.graph import io
from graphopt.graph.graph import Graph
from graphopt.graph.node import in_default_domain
from graphopt.graph.unfold import inlined
from graphopt.progress import Progress
from graphopt.report.findings import Inspection, Outlook, Port, Quantization
from graphopt.run.drive import drive
from graphopt.run.judge import most_bytes, too_large
from graphopt.run.means import Means
from graphopt.run.quality import Caveat
from graphopt.run.sizing import sized_run
from graphopt.run.stage import Stage
from graphopt.runtime.stand_in import stand_in
from graphopt.runtime.trial import Trial
from graphopt.tasks.reading import read_tasks

__all__ = ["inspect"]

_MOST_BYTES = 1 << 30
_NEEDS_DATA = "needs calibration samples"


def inspect(
    model: Model,
    passes: bool = True,
    *,
    groups: bool = False,
    runtimes: Sequence[str] = (),
    ops_libraries: Sequence[str | Path] = (),
    trial: bool = True,
    progress: Progress | None = None,
) -> Inspection:
    """Look into a model without running it on data.

    Args:
        model: In any form that ``graphopt.optimize`` takes; not modified.
        passes: Try every pass with default options on a copy, too.
        groups: Tell which channels can be removed, and what goes with each.
        runtimes: Targets of which to tell which layers they would compute on integers.
        ops_libraries: Shared libraries with kernels of the model's own operators; their code runs.
        trial: Whether onnxruntime loads it, in a process of its own, to tell what it lacks.
        progress: Told what is going on, how far it is and how far it goes.

    Raises:
        UsageError: It is no model, or no target has such a name.
        ModelError: The model cannot be read, or is wrong in itself.
    """
    with Trial(trial) as attempt:
        graph = load(model, ops_libraries)
        found = target_fits(graph, runtimes)
        unloaded = _unloaded(graph, attempt)
    path, sizes = path_of(model), sized_run(graph)
    header = graph.header
    ops = Counter(_op_name(node) for scope in graph.scopes() for node in scope.nodes)
    form = model_form(inlined(graph))
    recipes = [entry.value for entry in header.metadata_props if entry.key == METADATA_KEY]
    return Inspection(
        path=None if path is None else str(path),
        bytes=io.size(graph) if path is None else io.file_bytes(graph, path),
        weight_bytes=graph.weight_bytes,
        ir_version=int(header.ir_version),
        producer=f"{header.producer_name} {header.producer_version}".strip(),
        opset={item.domain or "ai.onnx": int(item.version) for item in header.opset_import},
        inputs=[_port(graph, value) for value in graph.main.proto.input],
        outputs=[_port(graph, value) for value in graph.main.proto.output],
        nodes=sum(ops.values()),
        ops=dict(ops.most_common()),
        params=cost.params(graph),
        macs=sizes.macs.total,
        macs_at={name: list(shape) for name, shape in sizes.inputs.items()},
        macs_missing=sizes.macs.missing,
        quantization=Quantization(form.name, form.layers, form.integers),
        sparsity=cost.sparsity(graph),
        weights=inventory(graph),
        recipe=recipes[-1] if recipes else None,
        passes=_outlooks(graph, progress) if passes else [],
        tasks=list(read_tasks(graph, shapes.infer(graph)).values()),
        note=unloaded.note,
        needs=unloaded.needs,
        channels=grouping(graph, Means(reference=graph, target=targets.find("host")))
        if groups
        else None,
        fits=found,
    )


def _unloaded(graph: Graph, attempt: Trial) -> Caveat:
    """Why onnxruntime does not load a model that may be sound; empty where it does.

    Raises:
        ModelError: The model is wrong in itself.
    """
    if fault := too_large(graph, None):
        return Caveat(f"not loaded by onnxruntime: {fault}")
    try:
        attempt.run(graph, None, threads=1, most=most_bytes(graph, None), as_is=True)
    except ModelError as err:
        lifts = not isinstance(err, NotRun) and _loads_in_float32(graph, attempt)
        if not lifts and not isinstance(err, NoKernel | NotRun):
            raise
        helps = tuple(need for need in err.needs if need is Need.OPERATORS)
        way = "; convert-to-float32 makes one of it that computes in float32" if lifts else ""
        return Caveat(f"not loaded by onnxruntime: {err}{way}", helps)
    return Caveat()


def _loads_in_float32(graph: Graph, attempt: Trial) -> bool:
    """Whether nothing but floats of other widths keeps onnxruntime from loading a model."""
    other = stand_in(graph)
    try:
        if other is not None:
            attempt.run(other, None, threads=1, most=most_bytes(other, None))
    except ModelError:
        return False
    return other is not None


def _op_name(node: NodeProto) -> str:
    default = in_default_domain(node)
    return str(node.op_type) if default else f"{node.domain}:{node.op_type}"


def _port(graph: Graph, value: ValueInfoProto) -> Port:
    kind = value.type.WhichOneof("value") or ""
    if kind != "tensor_type":
        return Port(value.name, kind.removesuffix("_type") or "unknown", None)
    tensor = value.type.tensor_type
    shape: list[int | str | None] | None = None
    if tensor.HasField("shape"):
        shape = [
            int(dim.dim_value) if dim.HasField("dim_value") else str(dim.dim_param) or None
            for dim in tensor.shape.dim
        ]
    dtype = TensorProto.DataType.Name(tensor.elem_type).lower()
    return Port(value.name, dtype, shape, optional=graph.main.holds(value.name))


def _outlooks(graph: Graph, progress: Progress | None) -> list[Outlook]:
    """What each pass could do, in order of the names."""
    means = Means(reference=graph, target=targets.find("host"), progress=progress)
    stage, names = Stage(graph, means), registry.names()
    outlooks = []
    for index, name in enumerate(names):
        means.tell(name, index, len(names))
        outlooks.append(_outlook(stage, means, name))
    return outlooks


def _outlook(stage: Stage, means: Means, name: str) -> Outlook:
    """What a pass with default options does to the model."""
    item = registry.find(name)()
    if item.asks(CalibrationSamples):
        return Outlook(name, None, _NEEDS_DATA, {})
    if item.lossy and stage.graph.weight_bytes > _MOST_BYTES:
        return Outlook(name, None, "not tried on so large a model; run the pass itself", {})
    outcome = drive(item, stage, means, until="check")
    if outcome.status == "refused":
        return Outlook(name, 0, outcome.reason, {}, outcome.needs)
    outcome = drive(item, stage, means, until="edit")
    if Need.CALIBRATION in outcome.needs:
        return Outlook(name, None, _NEEDS_DATA, {})
    if outcome.status == "refused":
        return Outlook(name, None, outcome.reason, {}, outcome.needs)
    reasons = Counter(skip.reason for skip in outcome.changes.skips)
    note = "" if outcome.changes or reasons else outcome.changes.nothing
    return Outlook(name, len(outcome.changes.edits), note, dict(reasons.most_common()))
