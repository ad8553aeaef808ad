"""The command group and the one place where an error becomes a line and an exit code."""

from __future__ import annotations

import errno
import gc
import os
import sys
import warnings
from collections.abc import Sequence

import click

from graphopt import __version__
from graphopt.cli.analyze import analyze
from graphopt.cli.bench import bench
from graphopt.cli.compare import compare
from graphopt.cli.distill import distill
from graphopt.cli.inspect import inspect
from graphopt.cli.lines import print_line
from graphopt.cli.optimize import optimize
from graphopt.cli.passes import passes
from graphopt.cli.stop import Stopped, listen, stop_behind
from graphopt.errors import GraphoptError, SystemFailure
from graphopt.report.advice import advised

__all__ = ["app", "main"]

READER_GONE = 141  # what a shell reports for SIGPIPE
_INTERRUPTED = "interrupted; nothing half-written is left"
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


@click.group(
    context_settings={"help_option_names": ["-h", "--help"]},
    invoke_without_command=True,
)
@click.version_option(__version__, "-V", "--version", message="graphopt %(version)s")
@click.pass_context
def app(ctx: click.Context) -> None:
    """Make an ONNX model smaller and faster, and prove that it still answers right."""
    if ctx.invoked_subcommand is None:
        click.echo(ctx.get_help())


for command in (optimize, distill, inspect, analyze, compare, bench, passes):
    app.add_command(command)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code; never raises for an error of the user."""
    listen()
    # A graph is many small objects that live to the end: the collector need not walk them so often.
    gc.set_threshold(10_000, *gc.get_threshold()[1:])
    if not sys.warnoptions:  # what a library warns a developer of is not for the user to act on
        warnings.simplefilter("ignore")
    code = _run(arguments)
    try:
        if sys.stdout is not None:
            sys.stdout.flush()
    except OSError:
        # What was printed cannot be delivered, and the interpreter would try again at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return code


def _run(arguments: Sequence[str] | None) -> int:
    try:
        code = app.main(arguments, prog_name="graphopt", standalone_mode=False)
        if sys.stdout is not None:
            sys.stdout.flush()
        return code if isinstance(code, int) else 0
    except click.ClickException as err:
        return _say(err.format_message(), err.exit_code)
    except GraphoptError as err:
        return _say(advised(str(err), err.needs), err.exit_code)
    except Stopped as stop:
        return _say(_INTERRUPTED, stop.code)
    except BrokenPipeError:
        return READER_GONE
    except MemoryError:
        return _say("not enough memory; try --memory-limit", SystemFailure.exit_code)
    except OSError as err:
        if err.errno in _NO_ROOM:
            return _say(f"no room left on the disk: {err}", SystemFailure.exit_code)
        if err.filename is not None:
            return _say(f"{err.filename}: {err.strerror}", SystemFailure.exit_code)
        return _bug(err)
    except Exception as err:
        return _bug(err)


def _say(message: str, code: int) -> int:
    print_line("error", message)
    return code


def _bug(err: Exception) -> int:
    if stop := stop_behind(err):
        return _say(_INTERRUPTED, stop.code)
    import tempfile
    import traceback

    what = f"internal error ({type(err).__name__}: {err})"
    try:
        with tempfile.NamedTemporaryFile(
            "w", prefix="graphopt-", suffix=".log", delete=False, encoding="utf-8"
        ) as file:
            traceback.print_exception(err, file=file)
    except OSError as failure:
        return _say(f"{what}; its traceback could not be kept: {failure}", 1)
    return _say(f"{what}; the traceback is in {file.name}", 1)
