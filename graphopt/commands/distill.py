"""``graphopt distill``: a student trained towards its teacher, and measured against it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from graphopt.commands.optimize import Result, optimize
from graphopt.commands.sources import Data, Model
from graphopt.errors import UsageError
from graphopt.options import build
from graphopt.passes.train.distill import Distill
from graphopt.progress import Progress
from graphopt.run.metrics import MetricFunction

__all__ = ["distill"]


def distill(
    student: Model,
    teacher: Model,
    data: Data,
    *,
    labels: bool = False,
    evaluation: Data | None = None,
    metric: str | MetricFunction | None = None,
    images: Mapping[str, Any] | None = None,
    memory_limit: int | None = None,
    threads: int = 0,
    seed: int = 0,
    device: str = "auto",
    checkpoints: str | Path | None = None,
    progress: Progress | None = None,
    **options: Any,
) -> Result:
    """Train a student until it answers like its teacher; ``optimize`` with that one pass.

    The student may be the teacher after compression, or another model with inputs and outputs
    that fit: those of the same name belong together, the others in their order. Every figure of
    the report is against the teacher; ``report.start`` holds those of the untrained student.

    Args:
        student: In any form that ``graphopt.optimize`` takes; never modified.
        teacher: The same, of the model to learn from.
        data: Samples to train on, in any form that ``graphopt.optimize`` takes.
        labels: Learn from the labels of ``data`` as well, with the weight ``alpha``, 1 unless
            given.
        evaluation: Samples that judge the result; labels under the key ``labels``.
        metric: ``top1``, ``spearman``, ``module:function`` or a function of outputs and labels.
        images: Preprocessing of a folder of images.
        memory_limit: Bytes that the proof may take.
        threads: Threads of torch and onnxruntime; 0 for all cores.
        seed: Seed of all random numbers.
        device: What to compute on: ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.
        checkpoints: Folder in which the state of the training is kept; the same run goes on from
            it.
        progress: Told what is going on, how far it is and how far it goes, and a detail in words.
        options: Those of the pass ``distill``, such as ``epochs``, ``lr`` or ``temperature``.

    Returns:
        The student as it was where no step of the training made it better; the report says so.

    Raises:
        GraphoptError: Bad input, or a loss that diverged before anything was gained.
    """
    if labels:
        options = {"alpha": 1.0, **options}
    item = build(Distill, options)
    if labels and not options["alpha"]:
        raise UsageError("labels are asked for and alpha=0 gives them no weight; drop one of them")
    return optimize(
        student,
        item,
        training=data,
        teacher=teacher,
        evaluation=evaluation,
        metric=metric,
        images=images,
        memory_limit=memory_limit,
        threads=threads,
        seed=seed,
        device=device,
        checkpoints=checkpoints,
        against_teacher=True,
        strict=True,
        progress=progress,
    )
