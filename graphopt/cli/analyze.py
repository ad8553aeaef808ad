"""``graphopt analyze``: what each layer does to the answers in each form it could take."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from graphopt.cli.options import (
    AMOUNT,
    eval_option,
    given_images,
    image_options,
    json_option,
    memory_option,
    model_path,
    ops_option,
    seed_option,
    threads_option,
    trial_option,
)
from graphopt.cli.progress import progress, speak
from graphopt.cli.streams import stdout_to_stderr
from graphopt.errors import UsageError


@click.command()
@model_path("model")
@click.option("--data", metavar="DATA", help="Samples to measure on; a part of them judges.")
@eval_option
@click.option(
    "--forms", metavar="NAME,...", help="Forms to compare [default: all that suit the model]."
)
@click.option("--resume", metavar="FILE", help="Keep what was measured; go on from it.")
@click.option("--plot", metavar="FILE", help="Draw it, as .svg.")
@click.option("--target", metavar="NAME", help="Machine to run on [default: host].")
@click.option(
    "--time-limit", type=AMOUNT, metavar="SECONDS", help="Most time; what is known is told."
)
@memory_option
@threads_option
@ops_option
@trial_option
@seed_option("Of the samples that judge")
@image_options
@json_option
def analyze(model: str, data: str | None, forms: str | None, as_json: bool, **given: Any) -> None:
    """Measure what each layer of MODEL does to its answers in each form it could take.

    Each layer alone takes each form; the error at the outputs, the bytes and the time on this
    machine are measured. DATA as for optimize.
    """
    from graphopt.commands.analyze import analyze as run
    from graphopt.report.files import check_place
    from graphopt.report.forms_plot import write_picture
    from graphopt.report.json import dump
    from graphopt.report.layer_forms import analysis_document, print_analysis

    images = given_images(given)
    left = {name: value for name, value in given.items() if not name.startswith("image_")}
    picture = None if (plot := left.pop("plot")) is None else Path(plot)
    if picture is not None:
        if picture.suffix.lower() != ".svg":
            raise UsageError(f"plot {picture}: name it .svg")
        check_place(picture)
    names = [] if forms is None else [name.strip() for name in forms.split(",")]
    speak(but=["run.drive", "observe"])
    with stdout_to_stderr(), progress(verbose=True) as report:
        found = run(model, data, forms=names, images=images, progress=report, **left)
    if picture is not None:
        write_picture(found, picture)
    if as_json:
        click.echo(dump(analysis_document(found)))
    else:
        print_analysis(found)
