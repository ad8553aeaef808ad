"""``graphopt optimize``: the main job."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from graphopt.cli.options import (
    AMOUNT,
    FINITE,
    SIZE,
    given_images,
    image_options,
    json_option,
    model_path,
    seed_option,
    threads_option,
)
from graphopt.cli.progress import progress, speak
from graphopt.errors import LimitError, UsageError

if TYPE_CHECKING:
    from graphopt.optimize import Result


@click.command()
@model_path("model")
@click.option("-o", "--output", metavar="OUT", help="Where to [default: MODEL.opt.onnx].")
@click.option("-p", "--passes", metavar="SPEC", help="Passes, such as 'fuse-batchnorm,...'.")
@click.option("--preset", metavar="NAME", help="A named list of passes [default: auto].")
@click.option("--recipe", "recipe_file", metavar="FILE", help="A TOML recipe.")
@click.option("--calib", "calibration", metavar="DATA", help="Samples to calibrate on.")
@click.option("--train", "training", metavar="DATA", help="Samples (and labels) to train on.")
@click.option("--teacher", metavar="MODEL", help="Whom to train towards [default: MODEL itself].")
@click.option("--device", default="auto", metavar="NAME", help="Where to train: cpu, cuda, cuda:1.")
@click.option("--checkpoints", metavar="DIR", help="Keep the state of a training; go on from it.")
@click.option("--eval", "evaluation", metavar="DATA", help="Samples (and labels) to judge on.")
@click.option("--metric", metavar="NAME", help="What to judge by: a name, or module:function.")
@click.option("--max-drop", type=AMOUNT, help="Most that the metric may fall.")
@click.option("--min-sqnr", "min_sqnr_db", type=FINITE, metavar="DB", help="Least SQNR an output.")
@click.option("--target", metavar="NAME", help="Machine to run on [default: host].")
@click.option("--report", "reports", metavar="FILE", multiple=True, help="As .json or .html.")
@click.option("--memory-limit", type=SIZE, help="Most memory to observe with, such as 2GB.")
@threads_option
@seed_option("Of all random numbers", default=None)
@click.option("--strict", is_flag=True, help="Stop at the first refused pass or broken limit.")
@click.option("--dry-run", is_flag=True, help="Say what would run; write nothing.")
@json_option
@click.option("-v", "--verbose", is_flag=True, help="Show every change and every skipped node.")
@image_options
def optimize(model: str, output: str | None, reports: tuple[str, ...], **given: Any) -> None:
    """Make MODEL smaller and faster, and prove that it still answers right.

    DATA is an .npz, a folder of .npy or .npz files, a folder of images, file.py:function or
    module:function.
    """
    from graphopt.optimize import optimize as run
    from graphopt.report import files

    show = {name: given.pop(name) for name in ("as_json", "verbose")}
    out = Path(output) if output else _beside(model)
    writes = not given["dry_run"]
    if writes and Path(model).exists():  # the loader says best what is wrong with a missing model
        data = (given[name] for name in ("calibration", "evaluation", "recipe_file"))
        sources = [model, *(name for name in data if name is not None)]
        files.check_targets(sources, out, reports)
    options = {name: value for name, value in given.items() if not name.startswith("image_")}
    if show["verbose"]:
        speak()
    with progress() as report:
        result = run(model, images=given_images(given) or None, progress=report, **options)
        if writes:
            result.save(out)
            for path in reports:
                files.write(result.report, Path(path))
    _show(result, **show)
    missed = [limit for limit in result.report.limits if not limit.met]
    if missed:
        raise LimitError(f"not met: {', '.join(limit.name for limit in missed)}")


def _beside(model: str) -> Path:
    path = Path(model)
    if not path.name:
        raise UsageError(f"{model!r} is no name of a file")
    return path.with_name(f"{path.stem}.opt.onnx")


def _show(result: Result, *, as_json: bool, verbose: bool) -> None:
    from graphopt.report import json, terminal

    if as_json:
        click.echo(json.dump(json.document(result.report)))
    else:
        terminal.print_run(result.report, verbose=verbose)
