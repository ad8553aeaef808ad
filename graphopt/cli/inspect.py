"""``graphopt inspect``: what is in a model, and what each pass could do to it."""

from __future__ import annotations

import click

from graphopt.cli.lines import print_line
from graphopt.cli.options import json_option, model_path, ops_option, trial_option
from graphopt.cli.progress import progress
from graphopt.cli.streams import stdout_to_stderr


@click.command()
@model_path("model")
@click.option("--no-passes", is_flag=True, help="Leave out what each pass could do (faster).")
@click.option("--groups", is_flag=True, help="Show which channels can go, and what with them.")
@click.option("--for", "runtimes", metavar="TARGETS", help="Layers each would take, as web,qnn.")
@ops_option
@trial_option
@json_option
def inspect(
    model: str,
    no_passes: bool,
    groups: bool,
    runtimes: str | None,
    ops_libraries: tuple[str, ...],
    trial: bool,
    as_json: bool,
) -> None:
    """Show inputs, outputs, operators, size, quantization, and what each pass could do."""
    from graphopt.commands.inspect import inspect as run
    from graphopt.report import listing
    from graphopt.report.advice import advised
    from graphopt.report.json import dump

    with stdout_to_stderr(), progress() as report:
        found = run(
            model,
            passes=not no_passes,
            groups=groups,
            runtimes=[] if runtimes is None else [name.strip() for name in runtimes.split(",")],
            ops_libraries=ops_libraries,
            trial=trial,
            progress=report,
        )
    if as_json:
        click.echo(dump(found))
    else:
        listing.print_inspection(found)
    if found.note:
        print_line("note", advised(found.note, found.needs))
