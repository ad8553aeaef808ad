"""The planner behind the preset ``auto``: propose, measure on this machine, keep the best."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

from graphopt.contract import presets
from graphopt.contract.passes import Pass, Skip
from graphopt.contract.spec import format_value, parse_passes
from graphopt.errors import DataError, LimitError, ModelError, PassError
from graphopt.facts import cost, ops
from graphopt.graph import io
from graphopt.graph.node import is_op
from graphopt.run.drive import run_passes
from graphopt.run.job import Job
from graphopt.run.record import CandidateRecord, PassRecord
from graphopt.runtime import latency
from graphopt.runtime.session import Session
from graphopt.search.candidate import FLOOR_DB, GOAL_DB, Candidate, choose, row
from graphopt.search.sensitivity import sensitive_layers

__all__ = ["cleanup_passes", "intentions", "run"]

_CLOSE = 0.2
"""Candidates so near to the best one are timed twice."""
_FLOAT_SHARES = (0.04, 0.1, 0.2)
"""Shares of the layers, the most sensitive ones first, that mixed candidates keep float."""
_LATENCY_SECONDS = 4.0
_MATMUL_SHARE = 0.5

_PLAIN_STATIC = "int8 static"
_LIFT = "upgrade-opset"
_STATIC = "quantize-static{options},correct-bias,quantize-weights{options}"
_DYNAMIC = "quantize-dynamic,quantize-weights"
_SMOOTH = "smooth-activations"
_WEIGHTS = "quantize-weights"
_AFTER = ",eliminate-dead"


def cleanup_passes() -> list[Pass]:
    """The lossless passes that come first."""
    return parse_passes(presets.CLEAN)


def intentions(job: Job) -> list[str]:
    """What ``run`` would try behind the clean-up, a sentence each."""
    return [f"then it would try {name}: {spec}" for name, spec in _proposals(job)]


def run(
    job: Job, messages: list[str]
) -> tuple[list[PassRecord], list[CandidateRecord], list[Pass]]:
    """Clean up, try what suits the model and the data, and leave the best in ``job.graph``.

    Args:
        job: Its graph becomes the chosen one.
        messages: Gets what the user should know about the choice.

    Returns:
        Records of the passes that made the chosen graph, the table of candidates, and the passes
        that reproduce the graph.
    """
    passes = cleanup_passes()
    records = run_passes(job, passes)
    base = Candidate("float, cleaned", _done(passes, records), job, records, io.size(job.graph))
    lifted = _lift(base)
    tried: list[Candidate] = []
    for name, spec in _proposals(job):
        item = _try(lifted, base, name, spec)
        if item.passes not in [other.passes for other in tried if other.passes]:
            tried.append(item)  # a pass with nothing to do leaves the form of another trial
    tried += _mixed(lifted, base, tried, messages)
    _measure_again(job, base, tried)
    chosen = choose(base, tried)
    if chosen is base:
        messages.append("no candidate is better than the cleaned float model, which is kept")
    else:
        job.graph, job.float_graph = chosen.job.graph, chosen.job.float_graph
        job.answers = chosen.job.answers
        job.forget()
    table = [row(item, item is chosen, base.bytes) for item in (base, *tried)]
    return chosen.records, table, chosen.passes


def _done(passes: Sequence[Pass], records: Sequence[PassRecord]) -> list[Pass]:
    """The passes that changed the graph."""
    return [p for p, record in zip(passes, records, strict=True) if record.status == "done"]


def _lift(base: Candidate) -> Candidate:
    """The cleaned model at an opset that can be quantized; every trial starts here."""
    fork = base.job.fork()
    passes = parse_passes(_LIFT)
    records = [r for r in run_passes(fork, passes) if r.status != "nothing to do"]
    fork.as_handed_over()  # all trials ask the same observer
    passes = [] if not records or records[0].status != "done" else passes
    return Candidate("", base.passes + passes, fork, base.records + records, base.bytes)


def _proposals(job: Job) -> list[tuple[str, str]]:
    """Names and spec texts of what could suit this model and the data at hand."""
    conv, linear = _macs(job)
    proposals = []
    if linear and linear >= _MATMUL_SHARE * (conv + linear):
        if job.samples is not None:
            proposals.append(("int8 dynamic, smoothed", f"{_SMOOTH},{_DYNAMIC}"))
        proposals.append(("int8 dynamic", _DYNAMIC))
        if job.samples is not None:
            proposals.append(("int8 static, smoothed", f"{_SMOOTH},{_STATIC.format(options='')}"))
    elif conv and job.samples is not None:
        proposals.append((_PLAIN_STATIC, _STATIC.format(options="")))
    proposals.append(("int8 weights only", _WEIGHTS))
    return [(name, spec + _AFTER) for name, spec in proposals]


def _macs(job: Job) -> tuple[int, int]:
    """MACs of the layers with a constant weight: convolutions, and matrix products."""
    conv = linear = 0
    for node, _ in ops.weighted_nodes(job.graph.main):
        macs = cost.node_macs(job.graph.main, node, job.shapes()) or 1
        if is_op(node, "Conv", "ConvTranspose"):
            conv += macs
        else:
            linear += macs
    return conv, linear


def _try(lifted: Candidate, base: Candidate, name: str, spec: str) -> Candidate:
    """Run a candidate's passes on a fork of the job and measure what comes out."""
    job, passes = lifted.job, parse_passes(spec)
    fork = job.fork()
    fork.strict = False
    fork.min_sqnr_db = fork.max_drop = None  # judged below, so that the table shows by how much
    if job.progress is not None:
        job.progress(f"try {name}", 0, 1)
    tried = run_passes(fork, passes)
    done = _done(passes, tried)
    records = lifted.records + [r for r in tried if r.status != "nothing to do"]
    found = Candidate(name, lifted.passes + done, fork, records, io.size(fork.graph))
    if not any(item.lossy for item in done):
        found.problem = _nothing(fork, passes, tried)
    elif job.probe is not None:
        found.quality = job.probe.compare(job.probe.run(fork.graph))
        found.ratio = _time(job, base, found)
        found.problem = _problem(job, found)
    return found


def _nothing(job: Job, passes: Sequence[Pass], records: Sequence[PassRecord]) -> str:
    """Why none of a candidate's lossy passes changed the model."""
    pairs = zip(passes, records, strict=True)
    lossy = [record for item, record in pairs if item.lossy and not item.joins]
    failed = dict.fromkeys(r.reason for r in lossy if r.status in ("refused", "rolled back"))
    if failed:
        return "; ".join(failed)
    skipped = Counter(skip.reason for record in lossy for skip in record.skipped if skip.node)
    if skipped:
        return f"nothing to quantize: {skipped.most_common(1)[0][0]}"
    if job.graph.header.functions:
        return "nothing to quantize outside the functions of the model, which stay as they are"
    return "nothing to quantize"


def _time(job: Job, base: Candidate, found: Candidate) -> latency.Ratio:
    """Latency against the cleaned model, in turns, on one sample."""
    assert job.probe is not None
    feeds = job.probe.samples[0].feeds
    sessions = [Session(item.job.graph, threads=job.threads) for item in (base, found)]
    times = latency.measure(sessions, [feeds, feeds], seconds=_LATENCY_SECONDS)
    return latency.ratio(times[1], times[0])


def _problem(job: Job, found: Candidate) -> str:
    """Why a measured candidate must not be chosen; empty where it may."""
    worst = None if found.quality is None else found.quality.worst_db
    floor = FLOOR_DB if job.min_sqnr_db is None else job.min_sqnr_db
    if worst is not None and worst < floor:
        return f"{worst:.1f} dB, at least {floor:g} dB asked"
    if found.ratio is not None and found.ratio.median > 1 + found.ratio.spread:
        return "slower than float"
    if job.drop is not None and job.max_drop is not None:
        drop = job.drop(found.job.graph)
        if drop > job.max_drop:
            return f"the metric falls by {drop:.3g}, at most {job.max_drop:g} allowed"
    return ""


def _mixed(
    lifted: Candidate, base: Candidate, tried: Sequence[Candidate], messages: list[str]
) -> list[Candidate]:
    """Static int8 again with the most sensitive layers float, if it is not close enough."""
    job = lifted.job
    static = next((item for item in tried if item.name == _PLAIN_STATIC), None)
    if static is None or static.quality is None or static.quality.worst_db is None:
        return []
    if static.quality.worst_db >= max(GOAL_DB, job.min_sqnr_db or GOAL_DB) and not static.problem:
        return []
    try:
        layers = sensitive_layers(job)
    except (PassError, DataError, ModelError, LimitError) as err:
        messages.append(f"no candidate with sensitive layers in float: {err}")
        return []
    counts = sorted({max(1, round(share * len(layers))) for share in _FLOAT_SHARES})
    found = []
    for count in counts:
        if count >= len(layers):
            break
        spec = _STATIC.format(options=f"{{exclude={format_value(tuple(layers[:count]))}}}") + _AFTER
        many = "1 layer" if count == 1 else f"{count} layers"
        item = _try(lifted, base, f"{_PLAIN_STATIC}, {many} float", spec)
        item.records = [_with_reason(record, layers[:count]) for record in item.records]
        found.append(item)
    return found


def _with_reason(record: PassRecord, layers: Sequence[str]) -> PassRecord:
    """The record with the planner's reason for the layers that it kept float."""
    reason = f"kept float by choice: on integers it is among the {len(layers)} that cost most SQNR"
    skipped = [Skip(s.node, reason) if s.node in layers else s for s in record.skipped]
    return replace(record, skipped=skipped)


def _measure_again(job: Job, base: Candidate, tried: Sequence[Candidate]) -> None:
    """Time those again that are close to the best one; the steadier figure counts."""
    allowed = [item for item in tried if not item.problem and item.ratio is not None]
    least = min((item.cost(base.bytes) for item in allowed), default=0.0)
    close = [item for item in allowed if item.cost(base.bytes) < least + _CLOSE]
    for item in close if len(close) > 1 else []:
        again = _time(job, base, item)
        if item.ratio is None or again.spread < item.ratio.spread:
            item.ratio = again
