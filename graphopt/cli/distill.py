"""``graphopt distill``: a student trained towards its teacher."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from graphopt.cli import outcome
from graphopt.cli.options import (
    checkpoints_option,
    device_option,
    eval_option,
    given_images,
    image_options,
    json_option,
    memory_option,
    metric_option,
    model_path,
    ops_option,
    report_option,
    seed_option,
    task_option,
    threads_option,
    time_option,
    trial_option,
    verbose_option,
)
from graphopt.cli.pass_options import PassCommand, given
from graphopt.cli.progress import progress, speak
from graphopt.cli.streams import stdout_to_stderr


@click.command(cls=PassCommand)
@model_path("student")
@click.option("--teacher", metavar="MODEL", required=True, help="The model to learn from.")
@click.option("--data", metavar="DATA", required=True, help="Samples to train on.")
@click.option("--labels", is_flag=True, help="Learn from the labels in DATA as well.")
@click.option("-o", "--output", metavar="OUT", help="Where to [default: STUDENT.distilled.onnx].")
@eval_option
@metric_option
@task_option
@report_option
@device_option
@checkpoints_option
@memory_option
@time_option
@threads_option
@ops_option
@trial_option
@seed_option("Of all random numbers")
@json_option
@verbose_option
@image_options
def distill(
    student: str,
    teacher: str,
    data: str,
    output: str | None,
    reports: tuple[str, ...],
    as_json: bool,
    verbose: bool,
    **values: Any,
) -> None:
    """Train STUDENT until it answers like its teacher, from the two files and samples alone.

    The student is the teacher after compression, or any other model with inputs and outputs that
    fit. DATA is an .npz, a folder of .npy or .npz files, a folder of images, file.py:function or
    module:function.
    """
    from graphopt.commands.distill import distill as run
    from graphopt.report import files

    out = outcome.beside(student, "distilled") if output is None else Path(output)
    if Path(student).exists():  # the loader says best what is wrong with a missing model
        files.check_targets(out, reports)
    places = files.places(out, reports)
    images = given_images(values) or None
    options = {name: value for name, value in values.items() if not name.startswith("image_")}
    if verbose:
        speak()
    with stdout_to_stderr(), progress(verbose=verbose) as report:
        options = given(options)
        result = run(
            student, teacher, data, images=images, writes=places, progress=report, **options
        )
        result = outcome.write(result, out, reports)
    outcome.conclude(result, as_json=as_json, verbose=verbose)
