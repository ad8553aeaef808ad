"""``graphopt compare``: two models side by side."""

from __future__ import annotations

from typing import Any

import click

from graphopt.cli.lines import print_line
from graphopt.cli.options import (
    given_images,
    image_options,
    json_option,
    model_path,
    ops_option,
    seed_option,
    threads_option,
    trial_option,
)
from graphopt.cli.progress import progress
from graphopt.cli.streams import stdout_to_stderr


@click.command()
@model_path("a")
@model_path("b")
@click.option("--data", metavar="DATA", help="Samples to run both on; random feeds without.")
@threads_option
@ops_option
@trial_option
@seed_option("Of random feeds")
@image_options
@json_option
def compare(
    a: str,
    b: str,
    data: str | None,
    threads: int,
    ops_libraries: tuple[str, ...],
    trial: bool,
    seed: int,
    as_json: bool,
    **images: Any,
) -> None:
    """Compare size, operations, answers and latency of B with those of A."""
    from graphopt.commands.compare import compare as run
    from graphopt.report import listing
    from graphopt.report.advice import advised
    from graphopt.report.json import dump

    with stdout_to_stderr(), progress() as report:
        found = run(
            a,
            b,
            data,
            images=given_images(images),
            threads=threads,
            seed=seed,
            ops_libraries=ops_libraries,
            trial=trial,
            progress=report,
        )
    if as_json:
        click.echo(dump(found))
    else:
        listing.print_comparison(found)
    if found.quality is None:
        print_line("note", advised(found.note, found.needs))
