"""Options that several commands share, and the types of their values."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from typing import Any, TypeVar

import click

from graphopt.contract.settings import MOST_THREADS
from graphopt.errors import quoted
from graphopt.options import number_of

__all__ = [
    "AMOUNT",
    "FINITE",
    "PERCENT",
    "Count",
    "checkpoints_option",
    "device_option",
    "eval_option",
    "given_images",
    "image_options",
    "json_option",
    "memory_option",
    "metric_option",
    "model_path",
    "ops_option",
    "report_option",
    "seed_option",
    "task_option",
    "threads_option",
    "time_option",
    "trial_option",
    "verbose_option",
]

_Function = TypeVar("_Function", bound=Callable[..., Any])
_SIZE = re.compile(r"([0-9]+(?:\.[0-9]+)?)\s*([kmgt]?)(i?)b?", re.IGNORECASE | re.ASCII)
_PIXELS = re.compile(r"0*([1-9][0-9]{0,8})(?:x0*([1-9][0-9]{0,8}))?", re.IGNORECASE | re.ASCII)
_POWERS = {"": 0, "k": 1, "m": 2, "g": 3, "t": 4}


class _Size(click.ParamType):  # type: ignore[type-arg]  # generic from click 8.4 on
    """Bytes as people write them: ``800MB``, ``1.5GiB``, ``2g``."""

    name = "size"

    def convert(self, value: Any, param: Any, ctx: Any) -> int:
        if isinstance(value, int):
            return value
        found = _SIZE.fullmatch(str(value).strip())
        try:
            number = number_of(found[1] if found else "", float)
        except ValueError:
            self.fail(f"{quoted(value)} is not a size; write 800MB or 1.5GiB", param, ctx)
        assert found is not None
        base = 1024 if found[3] else 1000
        size = int(number * base ** _POWERS[found[2].lower()])
        if size <= 0:
            self.fail("a size is larger than zero", param, ctx)
        return size


class _Numbers(click.ParamType):  # type: ignore[type-arg]  # generic from click 8.4 on
    """One number, or one for each channel: ``0.485,0.456,0.406``."""

    name = "numbers"

    def convert(self, value: Any, param: Any, ctx: Any) -> float | list[float]:
        if not isinstance(value, str):
            return value  # type: ignore[no-any-return]  # a default, converted before
        try:
            numbers: list[float] = [number_of(part, float) for part in value.split(",")]
        except ValueError:
            self.fail(f"{quoted(value)} is not a number or a comma-separated list", param, ctx)
        return numbers if len(numbers) > 1 else numbers[0]


class _Extent(click.ParamType):  # type: ignore[type-arg]  # generic from click 8.4 on
    """Pixels: ``224`` or ``224x320`` (height x width)."""

    name = "pixels"

    def convert(self, value: Any, param: Any, ctx: Any) -> int | list[int]:
        if not isinstance(value, str):
            return value  # type: ignore[no-any-return]  # a default, converted before
        found = _PIXELS.fullmatch(value)
        if found is None:
            self.fail(f"{quoted(value)} is not a size in pixels; write 224 or 224x320", param, ctx)
        return int(found[1]) if found[2] is None else [int(found[1]), int(found[2])]


class _Amount(click.ParamType):  # type: ignore[type-arg]  # generic from click 8.4 on
    """A finite number within bounds; NaN and infinity would meet or break every limit."""

    name = "number"

    def __init__(self, least: float = -math.inf, most: float = math.inf) -> None:
        self.least, self.most = least, most

    def convert(self, value: Any, param: Any, ctx: Any) -> float:
        try:
            number: float = number_of(str(value), float)
        except ValueError:
            self.fail(f"{quoted(value)} is not a number", param, ctx)
        if not math.isfinite(number) or not self.least <= number <= self.most:
            bound = "" if self.least == -math.inf else f" of at least {self.least:g}"
            bound += "" if self.most == math.inf else f" and at most {self.most:g}"
            self.fail(f"{quoted(value)} is not a finite number{bound}", param, ctx)
        return number


class Count(click.IntRange):
    """A whole number within bounds, of bounded length."""

    def convert(self, value: Any, param: Any, ctx: Any) -> int:
        """The number that the text stands for."""
        try:
            whole = int(number_of(str(value), int))
        except ValueError:
            self.fail(f"{quoted(value)} is not a whole number", param, ctx)
        return int(super().convert(whole, param, ctx))


AMOUNT = _Amount(0)
FINITE = _Amount()
PERCENT = _Amount(0, 100)
SIZE = _Size()
_IMAGES = (
    ("size", _Extent(), "resize the shorter side (224), or to HEIGHTxWIDTH"),
    ("crop", _Extent(), "then cut this much out of the middle"),
    ("scale", FINITE, "multiply pixels by this, before mean and std"),
    ("mean", _Numbers(), "subtract this, one value or one a channel"),
    ("std", _Numbers(), "divide by this, one value or one a channel"),
    ("layout", click.Choice(["NCHW", "NHWC"]), "order of the axes"),
    ("color", click.Choice(["RGB", "BGR", "L"]), "order of the colours, or gray"),
)


def image_options(function: _Function) -> _Function:
    """Add ``--image-size`` and the rest; the command gets them as ``image_size`` and so on."""
    for name, kind, phrase in reversed(_IMAGES):
        option = click.option(f"--image-{name}", type=kind, help=f"Folder of images: {phrase}.")
        function = option(function)
    return function


def given_images(values: dict[str, Any]) -> dict[str, Any]:
    """The image options that the user gave, under the names that recipes use."""
    return {
        name: values[f"image_{name}"]
        for name, _, _ in _IMAGES
        if values.get(f"image_{name}") is not None
    }


def model_path(name: str, *, several: bool = False) -> Callable[[_Function], _Function]:
    """A model file as an argument; whether it can be read is for the loader to say."""
    count = -1 if several else 1
    return click.argument(name, type=click.Path(), nargs=count, required=True)


json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON and nothing else.")


def seed_option(phrase: str, default: int | None = 0) -> Callable[[_Function], _Function]:
    """``--seed``; a default of None leaves it to a recipe, whose own default is 0."""
    return click.option(
        "--seed",
        type=Count(min=0),
        default=default,
        help=f"{phrase} [default: 0].",
    )


eval_option = click.option(
    "--eval", "evaluation", metavar="DATA", help="Samples (and labels) to judge on."
)
metric_option = click.option(
    "--metric", metavar="NAME", help="What to judge by: a name, or module:function."
)
report_option = click.option(
    "--report", "reports", metavar="FILE", multiple=True, help="As .json or .html."
)
device_option = click.option(
    "--device",
    default="auto",
    show_default=True,
    metavar="NAME",
    help="Where to train: cpu, cuda, cuda:1.",
)
checkpoints_option = click.option(
    "--checkpoints", metavar="DIR", help="Keep the state of a training; go on from it."
)
memory_option = click.option(
    "--memory-limit", type=SIZE, help="Most memory to observe and judge with, such as 2GB."
)
time_option = click.option(
    "--time-limit",
    type=AMOUNT,
    metavar="SECONDS",
    help="When auto (default: 600, to train 1800) and training end.",
)
ops_option = click.option(
    "--ops-library",
    "ops_libraries",
    metavar="FILE",
    multiple=True,
    help="Library with kernels of the model's own operators.",
)
task_option = click.option(
    "--task",
    "tasks",
    metavar="OUTPUT=KIND,...",
    help="What outputs mean [default: read from model and data].",
)
trial_option = click.option(
    "--no-trial",
    "trial",
    flag_value=False,
    default=True,
    help="Run models here at once, not first in a process of their own.",
)
verbose_option = click.option(
    "-v", "--verbose", is_flag=True, help="Show every change and every skipped node."
)
threads_option = click.option(
    "--threads",
    type=Count(min=0, max=MOST_THREADS),
    default=0,
    show_default="all cores",
    help="Threads inside an operator.",
)
