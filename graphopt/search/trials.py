"""One trial of ``auto``: passes run on the model, judged, and timed against the cleaned one."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

from graphopt.contract.passes import Pass
from graphopt.contract.settings import Limits
from graphopt.contract.spec import parse_passes
from graphopt.graph import io
from graphopt.run.floor import held_outputs, too_far
from graphopt.run.limits import broken_by
from graphopt.run.margins import agreement_error, drop_error, used_by
from graphopt.run.means import Means
from graphopt.run.quality import Quality
from graphopt.run.record import PassRecord
from graphopt.run.sequence import done_passes, run_passes
from graphopt.run.stage import Stage
from graphopt.run.verify import judged
from graphopt.runtime.latency import joint
from graphopt.search.called import called
from graphopt.search.candidate import Candidate
from graphopt.search.proposals import Proposal
from graphopt.search.timing import ratios

__all__ = ["NO_EVIDENCE", "attempt", "weigh", "weigh_again"]

_CLOSE = 0.2
"""Candidates so near to the best one are timed twice."""
NO_EVIDENCE = "not run, so nothing shows that it answers right"


def attempt(lifted: Candidate, means: Means, proposal: Proposal) -> Candidate:
    """Run a proposal's passes on the lifted model."""
    passes = parse_passes(proposal.spec)
    means.tell(f"try {proposal.name}", 0, 1)
    stage, records = run_passes(lifted.stage, means, passes)
    done = done_passes(passes, records)
    told = lifted.records + [r for r in records if r.status != "nothing to do"]
    kind, name = called(done, proposal.kind, proposal.name)
    size, limited = io.size(stage.graph), lifted.limited
    made = Candidate(kind, name, lifted.passes + done, stage, told, size, limited=limited)
    if not any(item.lossy for item in done):
        made.problem = _nothing(stage, passes, records)
        made.needs = tuple(dict.fromkeys(need for record in records for need in record.needs))
    elif means.judge is None:
        made.problem = NO_EVIDENCE
    else:
        made.quality = means.judge.compare(stage.answers)
        stage.rest()
    return made


def _nothing(stage: Stage, passes: Sequence[Pass], records: Sequence[PassRecord]) -> str:
    """Why none of a candidate's lossy passes changed the model."""
    lossy = [
        record
        for item, record in zip(passes, records, strict=True)
        if item.lossy and not item.joins
    ]
    failed = dict.fromkeys(r.reason for r in lossy if r.status in ("refused", "rolled back"))
    if failed:
        return "; ".join(failed)
    skipped = Counter(skip.reason for record in lossy for skip in record.skipped if skip.node)
    if skipped:
        verb = "quantize" if any(item.quantizes for item in passes) else "remove"
        return f"nothing to {verb}: {skipped.most_common(1)[0][0]}"
    if stage.graph.header.functions:
        return "nothing to quantize outside the functions of the model, which stay as they are"
    return "nothing to quantize"


def weigh(base: Candidate, tried: Sequence[Candidate], means: Means) -> None:
    """Time candidates against the cleaned model, in turns, and say which must not be chosen."""
    measured = [item for item in tried if item.quality is not None and not item.problem]
    for item, ratio in zip(measured, ratios(base, measured, means), strict=True):
        item.ratio = ratio
        item.problem = _problem(item, means)


def _problem(item: Candidate, means: Means) -> str:
    """Why a measured candidate must not be chosen; empty where it may."""
    limits, pruned = means.limits, item.kind == "pruned"
    assert item.quality is not None
    if problem := too_far(item.quality, limits.min_sqnr_db, held_outputs(item.quality, means)):
        return problem
    broken = None if pruned else broken_by(item.quality, limits)
    if broken is not None:
        return str(broken)
    if item.ratio is not None and item.ratio.slower:
        return "slower than float"
    if limits.max_drop is None and not pruned:
        return ""
    (measured,) = judged([item.stage], means)
    item.quality = replace(item.quality, metric=measured.metric)
    item.used = used_by(measured, limits) if limits.any else None
    return _fallen(measured, limits, pruned)


def _fallen(quality: Quality, limits: Limits, pruned: bool) -> str:
    """Why what all samples show is too far from the model as it came; empty where it is not.

    What was made to come as near as it can to the limits needs a standard error to spare.
    """
    error = drop_error(quality) if pruned else None
    about = "" if error is None else f" +-{error:.2g}"
    metric = quality.metric
    if limits.max_drop is not None and metric is not None and metric.fall > limits.max_drop:
        return f"{metric.worsens} by {metric.fall:.3g}{about}, at most {limits.max_drop:g} allowed"
    broken = broken_by(quality, limits)
    if broken is not None:
        return str(broken)
    if not pruned or not limits.any or used_by(quality, limits) <= 1:
        return ""
    where = f"on the {quality.samples} samples that it is chosen by: no standard error to spare"
    most = limits.max_drop
    if most is not None and metric is not None and metric.fall + (error or 0) > most:
        return f"{metric.worsens} by {metric.fall:.3g}{about} {where}"
    agreement, error = quality.least_agreement, agreement_error(quality)
    return f"{agreement:.2f} % +-{error or 0:.2g} agree {where}"


def weigh_again(base: Candidate, tried: Sequence[Candidate], means: Means) -> None:
    """Time those again that are close to the best one; both timings count."""
    allowed = [item for item in tried if not item.problem and item.ratio is not None]
    least = min((item.cost(base.bytes) for item in allowed), default=0.0)
    close = [item for item in allowed if item.cost(base.bytes) < least + _CLOSE]
    if len(close) < 2:
        return
    for item, again in zip(close, ratios(base, close, means), strict=True):
        item.ratio = again if item.ratio is None else joint(item.ratio, again)
