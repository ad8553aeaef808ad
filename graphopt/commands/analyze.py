"""What each layer does to the answers in each form that it could take, with bytes and time."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from graphopt.commands.measured import fingerprint, keeper, read_measured
from graphopt.commands.measuring import means_of, with_judge
from graphopt.commands.sources import Data, Model, load, path_of
from graphopt.contract import presets
from graphopt.contract.forms import FLOAT, FORMS, LayerForm, ModelFigures, form_named
from graphopt.contract.recipe import Recipe
from graphopt.contract.settings import Limits, Machine
from graphopt.contract.spec import parse_passes
from graphopt.data.source import Source
from graphopt.deadline import Deadline
from graphopt.errors import ModelError, Need, PassError, UsageError
from graphopt.graph.graph import Graph
from graphopt.progress import Progress
from graphopt.report.layer_forms import Analysis
from graphopt.run.drive import form_maker
from graphopt.run.files import FileRead, Written, refuse_overlaps
from graphopt.run.form_twins import Made
from graphopt.run.layer_forms import measure_forms, with_times
from graphopt.run.means import Means
from graphopt.run.sequence import run_passes
from graphopt.run.stage import Stage
from graphopt.runtime.trial import Trial

__all__ = ["analyze"]

logger = logging.getLogger(__name__)


def analyze(
    model: Model,
    data: Source | None,
    *,
    evaluation: Source | None = None,
    forms: Sequence[str] = (),
    resume: str | Path | None = None,
    images: Mapping[str, Any] | None = None,
    target: str | None = None,
    threads: int = 0,
    seed: int = 0,
    memory_limit: int | None = None,
    time_limit: float | None = None,
    ops_libraries: Sequence[str | Path] = (),
    trial: bool = True,
    progress: Progress | None = None,
) -> Analysis:
    """Measure each layer of a model in each form, alone: error at the outputs, bytes and time.

    Args:
        model: In floats, in any form that ``graphopt.optimize`` takes; never modified.
        data: Samples without labels; a part of them judges where ``evaluation`` is not given.
        evaluation: Samples that judge.
        forms: Names of forms to compare; all that suit the model without.
        resume: File that keeps what was measured; the same call goes on from it.
        images: Preprocessing of a folder of images.
        target: Whose placement and types count; this machine's without.
        threads: Threads of onnxruntime; 0 for all cores.
        seed: Seed of the draw of samples that judge.
        memory_limit: Bytes that the measurement may hold.
        time_limit: Seconds after which nothing more is measured.
        ops_libraries: Shared libraries with kernels of the model's own operators; their code runs.
        trial: Whether the model is first loaded and run in a process of its own.
        progress: Told what is going on, how far it is and how far it goes.

    Raises:
        UsageError: No samples, or a form that does not exist.
        ModelError: The model cannot be loaded or run, or has no layers in floats.
        DataError: The samples do not fit, or ``resume`` holds something else.
    """
    started = time.perf_counter()
    chosen = [form_named(name) for name in forms] or list(FORMS)
    if data is None:
        raise UsageError("there are no samples to measure errors on", Need.DATA)
    plan = Recipe(passes=(), target=target or "host", seed=seed, images=dict(images or {}))
    machine = Machine(
        threads=threads,
        seed=seed,
        memory_limit=memory_limit,
        ops_libraries=tuple(ops_libraries),
        trial=trial,
    )
    with Trial(trial) as attempt:
        graph = load(model, ops_libraries)
        if resume is not None and path_of(model) is not None:
            read = FileRead("the model", Path(str(model)))
            refuse_overlaps([read], [Written("what was measured", Path(resume))])
        means = means_of(
            plan,
            Data(calibration=data, evaluation=evaluation),
            Limits(),
            machine,
            reference=graph,
            teacher=graph,
            student=graph,
            deadline=Deadline(time_limit, started),
            progress=progress,
        )
        means, caveat = with_judge(means, None, attempt)
    if means.judge is None:
        raise ModelError(caveat.note)
    stage, _ = run_passes(Stage(graph, means), means, parse_passes(presets.LIFTED))
    figures, source = _measured(stage, means, chosen, resume, graph), means.judge.source
    name = path_of(model)
    return Analysis(
        None if name is None else str(name),
        means.target.name,
        threads,
        figures,
        source,
        time.perf_counter() - started,
    )


def _measured(
    stage: Stage,
    means: Means,
    chosen: Sequence[LayerForm],
    resume: str | Path | None,
    graph: Graph,
) -> ModelFigures:
    """The figures, with times where onnxruntime runs every form."""
    known, keep = None, None
    if resume is not None:
        print_of = fingerprint(graph, means)
        known, keep = read_measured(Path(resume), print_of), keeper(Path(resume), print_of)
    maker, made = form_maker(stage, means), dict[str, Made]()

    def make(spec: str) -> Made:
        if spec not in made:
            made[spec] = maker(spec)
        return made[spec]

    try:
        figures = measure_forms(stage, means, chosen, make, known=known, keep=keep, partly=True)
    except PassError as err:
        raise ModelError(str(err), *err.needs) from err
    if means.deadline.over:
        return figures
    twins = {form.name: make(form.spec) for form in chosen if form is not FLOAT}
    try:
        return with_times(figures, stage, means, twins)
    except ModelError as err:
        logger.info("no times of the layers: %s", err)
        return figures
