"""``graphopt bench``: latency of models, measured in turns."""

from __future__ import annotations

import click

from graphopt.cli.options import (
    Count,
    json_option,
    model_path,
    ops_option,
    seed_option,
    threads_option,
    trial_option,
)
from graphopt.cli.progress import progress
from graphopt.cli.streams import stdout_to_stderr
from graphopt.contract.settings import MOST_ROUNDS


@click.command()
@model_path("models", several=True)
@threads_option
@ops_option
@trial_option
@click.option("--rounds", type=Count(min=3, max=MOST_ROUNDS), default=30, show_default=True)
@seed_option("Of random feeds")
@json_option
def bench(
    models: tuple[str, ...],
    threads: int,
    ops_libraries: tuple[str, ...],
    trial: bool,
    rounds: int,
    seed: int,
    as_json: bool,
) -> None:
    """Measure the latency of each MODEL under onnxruntime, in turns, on one sample."""
    from graphopt.commands.bench import bench as run
    from graphopt.report import listing
    from graphopt.report.json import dump

    with stdout_to_stderr(), progress() as report:
        found = run(
            *models,
            threads=threads,
            rounds=rounds,
            seed=seed,
            ops_libraries=ops_libraries,
            trial=trial,
            progress=report,
        )
    if as_json:
        click.echo(dump(found))
    else:
        listing.print_benchmark(found)
