"""The planner behind the preset ``auto``: propose, measure on this machine, keep the best."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace

from graphopt.contract import presets
from graphopt.contract.passes import Pass, Skip
from graphopt.contract.settings import Limits
from graphopt.contract.spec import format_value, parse_passes
from graphopt.errors import DataError, LimitError, ModelError, Need, PassError, UsageError
from graphopt.facts.form import model_form
from graphopt.facts.select import exactly
from graphopt.families.training import torch_is_there
from graphopt.graph import io
from graphopt.graph.graph import Graph
from graphopt.run.judge import Judge
from graphopt.run.means import Means
from graphopt.run.record import PassRecord
from graphopt.run.sequence import done_passes, run_passes
from graphopt.run.stage import Stage
from graphopt.run.verify import Verified
from graphopt.search.candidate import Candidate, missing_db, row
from graphopt.search.choice import Choice
from graphopt.search.mixing import forecast_of, worth_trying
from graphopt.search.proposals import (
    AFTER,
    Proposal,
    proposals_for,
    quickly_rounded,
    static_spec,
)
from graphopt.search.proving import first_proven, told_causes
from graphopt.search.pruned import pruned_forms
from graphopt.search.spared import close_already
from graphopt.search.trained import trained_forms
from graphopt.search.trials import NO_EVIDENCE, attempt, weigh, weigh_again

__all__ = ["cleanup_passes", "intentions", "search"]

logger = logging.getLogger(__name__)

_UNRUN = (
    "nothing was run, so auto keeps what needs no proof; the preset int8-weights stores the "
    "weights in 8 bits without a run"
)

_SPARED = "not tried, since the model is large and {} close: {}"

_CONVERT, _BEHIND = "convert-to-float32", "fuse-batchnorm,fold-constants"
_LIFT = "upgrade-opset"


def cleanup_passes() -> list[Pass]:
    """The lossless passes that come first."""
    return parse_passes(presets.CLEAN)


def intentions(stage: Stage, means: Means) -> list[str]:
    """What ``search`` would try behind the clean-up, a sentence each."""
    proposals = proposals_for(stage, means)
    tries = [f"then it would try {item.name}: {item.spec}" for item in proposals]
    if means.limits.any and means.calibration is not None:
        more = ", and train what is left" if torch_is_there() else ""
        tries.append(f"then it would remove channels as far as the limits allow{more}")
    seconds = means.deadline.seconds
    bound = [] if seconds is None else [f"after {seconds:g} s it would start nothing new"]
    return tries + bound


def search(stage: Stage, means: Means) -> Choice:
    """Clean up, try what suits the model and the data, and keep the best that holds.

    Raises:
        ModelError: onnxruntime cannot run a candidate.
        DataError: The metric cannot be computed.
    """
    passes = cleanup_passes()
    cleaned, records = run_passes(stage, means, passes)
    done = done_passes(passes, records)
    name, told = _came_as(cleaned.graph)
    size, limited = io.size(cleaned.graph), means.limits.any
    base = Candidate("float", name, done, cleaned, records, size, limited=limited)
    trial = replace(means, limits=Limits())  # judged below, so that the table shows by how much
    tried = _converted(base, trial)
    if tried and tried[0].quality is not None and base.stage.session.stands_in_for:
        base = replace(tried.pop(), kind="float")  # the cleaned model itself does not run here
    lifted = _lift(tried[0] if tried else base, trial)
    late, cut, spared, close = list[str](), list[str](), list[str](), ""
    proposals = proposals_for(lifted.stage, means)
    for number, proposal in enumerate(proposals, start=1):
        if means.deadline.over:
            late.append(proposal.name)
            continue
        if close := close_already(base, lifted.stage, tried, means):
            spared.append(proposal.name)
            continue
        logger.info("form %d of %d: %s", number, len(proposals), proposal.name)
        item = attempt(lifted, trial, proposal)
        if any(Need.TIME_LIMIT in record.needs for record in item.records):
            cut.append(proposal.name)  # what its other passes made is a form all the same
        if not any(_alike(item, other) for other in tried):
            tried.append(item)  # a pass with nothing to do leaves the form of another trial
    weigh(base, [item for item in tried if item.ratio is None], means)
    tried += _rounded(base, lifted, tried, means)
    mixed, messages = _mixed(base, lifted, tried, means)
    late = [name for name in late if all(name != item.name for item in tried)]
    messages = _undone(cut, late, means) + messages
    if spared:
        messages.append(_SPARED.format(close, ", ".join(spared)))
    weigh(base, mixed, means)
    tried += mixed
    fewer, why = pruned_forms(base, lifted, tried, means)
    trained, ways = trained_forms(base, lifted, tried, fewer, means)
    tried, messages = tried + fewer + trained, messages + why + ways
    weigh_again(base, tried, means)
    chosen, verified = first_proven(base, tried, means)
    messages += told_causes(tried, means)
    if chosen is base:
        unrun = any(item.problem == NO_EVIDENCE for item in tried)
        messages.append(_UNRUN if unrun else f"no candidate is better than {told}")
    elif means.judge is not None:
        limited = any(item.used is not None for item in tried)
        messages.append(_chosen_by(len(tried) + 1, means.judge, verified, limited=limited))
    floor = means.limits.min_sqnr_db
    table = [row(item, item is chosen, base.bytes, floor) for item in (base, *tried)]
    return Choice(chosen.stage, chosen.records, chosen.passes, table, messages, verified)


def _undone(cut: Sequence[str], late: Sequence[str], means: Means) -> list[str]:
    """What the time did not suffice for, in a sentence; none where it did."""
    ends = {"given up under way": cut, "not tried": late}
    undone = [f"{how}: {', '.join(names)}" for how, names in ends.items() if names]
    return [means.deadline.told("; ".join(undone))] if undone else []


def _alike(item: Candidate, other: Candidate) -> bool:
    """Whether two trials came to one form, by the same passes or others."""
    same = (item.name, item.bytes, item.quality) == (other.name, other.bytes, other.quality)
    return bool(other.passes) and (item.passes == other.passes or same)


def _chosen_by(forms: int, judge: Judge, verified: Verified | None, *, limited: bool) -> str:
    """That the figures are of samples which also chose the form; where it is limited by all."""
    by = sum(sample.rows.real for sample in judge.samples)
    all_ = verified is None or by >= verified.quality.samples
    samples = "samples" if all_ else f"first {by} samples"
    if limited and not all_ and verified is not None:
        samples += f", and all {verified.quality.samples} by your limits,"
    return f"the same {samples} chose among {forms} forms; figures of others may be a little lower"


def _came_as(graph: Graph) -> tuple[str, str]:
    """How the cleaned model is called: in the table, and in a sentence."""
    form = model_form(graph)
    if form.quantized:
        return "quantized already", "the model as it came, which is quantized already and is kept"
    if form.name == "weight-only":
        return (
            "small weights, cleaned",
            "the cleaned model with the small weights that it came with, which is kept",
        )
    return "float, cleaned", "the cleaned float model, which is kept"


def _converted(base: Candidate, means: Means) -> list[Candidate]:
    """The cleaned model computed in float32, where it computes in floats of another width."""
    stage, records = run_passes(base.stage, means, parse_passes(_CONVERT))
    (record,) = records
    made = replace(base, kind="float32", name="float32 arithmetic")
    if record.status != "done":
        made.problem = record.reason
        if record.status == "nothing to do":
            made.problem = "; ".join(skip.reason for skip in record.skipped)
        return [made] if made.problem else []
    passes = [*base.passes, *done_passes(parse_passes(_CONVERT), records)]
    started = replace(base, passes=passes, stage=stage, records=base.records + records)
    made = attempt(started, means, Proposal(made.kind, made.name, _BEHIND))
    made.problem = NO_EVIDENCE if means.judge is None else ""
    made.quality = None if means.judge is None else means.judge.compare(made.stage.answers)
    return [made]


def _lift(base: Candidate, means: Means) -> Candidate:
    """The cleaned model at an opset that can be quantized; every trial starts here."""
    passes = parse_passes(_LIFT)
    stage, records = run_passes(base.stage, means, passes)
    told = [record for record in records if record.status != "nothing to do"]
    done = done_passes(passes, records)
    return replace(base, passes=base.passes + done, stage=stage, records=base.records + told)


def _rounded(
    base: Candidate, lifted: Candidate, tried: Sequence[Candidate], means: Means
) -> list[Candidate]:
    """Static int8 with weights rounded by data, if it is not close enough and that is quick."""
    static = _static(tried)
    if static is None or not (static.problem or static.missing_db) or means.deadline.over:
        return []
    if not quickly_rounded(lifted.stage):
        return []
    spec = static_spec(lifted.stage, means, rounded=True) + AFTER
    logger.info("one more form: %s, rounded by data", static.name)
    proposal = Proposal("static", f"{static.name}, rounded by data", spec)
    item = attempt(lifted, replace(means, limits=Limits()), proposal)
    made = [] if any(_alike(item, other) for other in tried) else [item]
    weigh(base, made, means)
    return made


def _static(tried: Sequence[Candidate]) -> Candidate | None:
    """The form of static int8 that was tried last, as far as it can be judged."""
    found = (item for item in reversed(tried) if item.kind == "static")
    static = next(found, None)
    judged = static is not None and static.quality is not None and static.quality.evidence
    return static if judged else None


def _mixed(
    base: Candidate, lifted: Candidate, tried: Sequence[Candidate], means: Means
) -> tuple[list[Candidate], list[str]]:
    """Static int8 again with the most sensitive layers float, if it is not close enough."""
    static = _static(tried)
    if static is None or static.quality is None:
        return [], []
    rounded = any(item.name == "round-weights" for item in static.passes)
    asked = means.limits.min_sqnr_db
    slower = static.ratio is not None and static.ratio.slower
    if slower or not (static.problem or static.missing_db):
        return [], []  # what is slower on integers is no faster with some layers in float
    try:
        mixtures = forecast_of(lifted.stage, means)
    except (PassError, DataError, ModelError, LimitError, UsageError) as err:
        return [], [f"no candidate with sensitive layers in float: {err}"]
    allowed = (item.cost(base.bytes) for item in (base, *tried) if not item.problem)
    needed = 0.0 if asked is None else missing_db(static.quality, asked)
    worth, why = worth_trying(mixtures, static, min(allowed), base.bytes, needed)
    trial = replace(means, limits=Limits())
    mixed, messages = list[Candidate](), [why] if why else []
    for each in worth:
        options = f"{{exclude={format_value(tuple(map(exactly, each.floats)))}}}"
        spec = static_spec(lifted.stage, means, options, rounded=rounded) + AFTER
        many = "1 layer" if len(each.floats) == 1 else f"{len(each.floats)} layers"
        logger.info("one more form: %s, %s float", static.name, many)
        try:
            means.deadline.check("before it was tried")
            item = attempt(lifted, trial, Proposal("mixed", f"{static.name}, {many} float", spec))
        except (PassError, UsageError) as err:  # no time, or names that no spec text can hold
            return mixed, [*messages, f"no candidate with {many} float: {err}"]
        item.records = [_with_reason(record, each.floats) for record in item.records]
        mixed.append(item)
    return mixed, messages


def _with_reason(record: PassRecord, layers: Sequence[str]) -> PassRecord:
    """The record with the planner's reason for the layers that it kept float."""
    reason = "kept float by choice: that costs least time for what the answers gain"
    skipped = [Skip(s.node, reason) if s.node in layers else s for s in record.skipped]
    return replace(record, skipped=skipped)
