"""``graphopt optimize``: the main job."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from graphopt.cli import outcome
from graphopt.cli.options import (
    AMOUNT,
    FINITE,
    PERCENT,
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
from graphopt.cli.progress import progress, speak
from graphopt.cli.streams import stdout_to_stderr


@click.command()
@model_path("model")
@click.option(
    "-o", "--output", metavar="OUT", help="Where to, .onnx or .ort [default: MODEL.opt.onnx]."
)
@click.option("-p", "--passes", metavar="SPEC", help="Passes, such as 'fuse-batchnorm,...'.")
@click.option("--preset", metavar="NAME", help="A named list of passes [default: auto].")
@click.option("--recipe", "recipe_file", metavar="FILE", help="A TOML recipe.")
@click.option("--calib", "calibration", metavar="DATA", help="Samples to calibrate on.")
@click.option("--train", "training", metavar="DATA", help="Samples (and labels) to train on.")
@click.option("--teacher", metavar="MODEL", help="Whom to train towards [default: MODEL itself].")
@device_option
@checkpoints_option
@eval_option
@metric_option
@task_option
@click.option("--max-drop", type=AMOUNT, help="Most that the metric may get worse.")
@click.option("--min-agreement", type=PERCENT, metavar="PERCENT", help="Least same decisions.")
@click.option("--min-sqnr", "min_sqnr_db", type=FINITE, metavar="DB", help="Least SQNR an output.")
@click.option("--target", metavar="NAME", help="Machine to run on [default: host].")
@report_option
@memory_option
@time_option
@threads_option
@ops_option
@trial_option
@seed_option("Of all random numbers", default=None)
@click.option(
    "--strict", is_flag=True, help="Stop at the first refused pass, broken limit or missed budget."
)
@click.option("--keep-going", is_flag=True, help="A refused pass is no failure: exit code 0.")
@click.option("--dry-run", is_flag=True, help="Say what would run; write nothing.")
@json_option
@verbose_option
@image_options
def optimize(model: str, output: str | None, reports: tuple[str, ...], **given: Any) -> None:
    """Make MODEL smaller and faster, and prove that it still answers right.

    DATA is an .npz, a folder of .npy or .npz files, a folder of images, file.py:function or
    module:function.
    """
    from graphopt.commands.optimize import optimize as run
    from graphopt.report import files

    show = {name: given.pop(name) for name in ("as_json", "verbose", "keep_going")}
    out = Path(output) if output else outcome.beside(model, "opt")
    writes = not given["dry_run"]
    places = files.places(out, reports) if writes else ()
    if writes and Path(model).exists():  # the loader says best what is wrong with a missing model
        files.check_targets(out, reports)
    options = {name: value for name, value in given.items() if not name.startswith("image_")}
    if show["verbose"]:
        speak()
    with stdout_to_stderr(), progress(verbose=show["verbose"]) as report:
        images = given_images(given) or None
        result = run(model, images=images, progress=report, writes=places, **options)
        if writes:
            result = outcome.write(result, out, reports)
    outcome.conclude(result, **show)
