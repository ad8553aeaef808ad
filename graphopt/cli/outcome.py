"""The end of a command that makes a model: files, what is printed, what the exit code is."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from graphopt.cli.lines import print_line
from graphopt.errors import LimitError, PassError, UsageError
from graphopt.runtime import launch

if TYPE_CHECKING:
    from graphopt.commands.result import Result

__all__ = ["beside", "conclude", "write"]


def beside(model: str, suffix: str) -> Path:
    """Where the output goes that nobody named: ``MODEL.suffix.onnx`` beside the model.

    Raises:
        UsageError: The model has no name.
    """
    path = Path(model)
    if not path.name:
        raise UsageError(f"{model!r} is no name of a file")
    return path.with_name(f"{path.stem}.{suffix}.onnx")


def write(result: Result, out: Path, reports: Sequence[str]) -> Result:
    """Write the model and the reports; of several processes only the leading one does.

    Returns:
        The result with a report that tells of the file.

    Raises:
        SystemFailure: Disk full or no permission.
    """
    from graphopt.report import files

    result = result.save(out)
    for path in reports if launch.leads() else ():
        files.write(result.report, Path(path))
    return result


def conclude(result: Result, *, as_json: bool, verbose: bool, keep_going: bool = False) -> None:
    """Print the report and say what was not reached, if this is the leading process.

    Args:
        result: Written already.
        as_json: Print the report as JSON.
        verbose: Print every change and every skipped node.
        keep_going: A pass that the user named and that was refused is no failure.

    Raises:
        LimitError: A limit is not met, or a training diverged.
        PassError: A pass that the user named was refused or taken back.
    """
    from graphopt.report import json, terminal
    from graphopt.report.advice import advised
    from graphopt.report.words import phrases, rolled_back

    if not launch.leads():  # its end with an error would have the launcher stop the leading one
        return
    if as_json:
        click.echo(json.dump(json.document(result.report)))
    else:
        terminal.print_run(result.report, verbose=verbose)
    quality = result.report.quality
    if quality is not None and not quality.samples:
        print_line("note", advised(quality.note, quality.needs))
    missed = [
        phrases(limit.name, rolled_back(limit)) for limit in result.report.limits if not limit.met
    ]
    if missed:
        raise LimitError(f"not met: {', '.join(missed)}")
    for item in result.report.passes:
        if item.status == "done" and item.curves is not None and item.curves.diverged:
            raise LimitError(
                f"{item.name}: {item.curves.stopped}; the output has the weights of step "
                f"{item.curves.best_step}"
            )
    if result.refused and not keep_going:
        first, *others = result.refused
        more = f" (and {len(others)} more)" if others else ""
        outcome = advised(f"{first.status}: {first.reason}", first.needs)
        made = any(item.status == "done" for item in result.report.passes)
        written = "what the other passes made was written" if made else "the model is as it was"
        raise PassError(
            f"{first.name} {outcome}{more}; {written}; --keep-going makes that no failure"
        )
