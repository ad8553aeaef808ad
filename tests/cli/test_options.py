"""Values on the command line: bounded, finite, in ASCII; what is wrong is shown short."""

from __future__ import annotations

import click
import pytest
from click.testing import CliRunner

from graphopt.cli.app import app
from graphopt.cli.options import SIZE
from graphopt.errors import quoted

LONG = "9" * 5000
ARABIC, SQUARE = "\u0663", "\u00b2"

OPTIMIZE = {
    "--memory-limit": (
        LONG,
        "9" * 400,
        f"{ARABIC}GB",
        SQUARE,
        "0",
        "-1",
        "1e3",
        "nan",
        "",
        "x" * 10**6,
    ),
    "--image-size": (
        LONG,
        f"{LONG}x{LONG}",
        ARABIC,
        SQUARE,
        "0",
        "-1",
        "1x2x3",
        "\u0661x2",
        "1e2",
        "",
    ),
    "--image-crop": (SQUARE, "224x", "x"),
    "--image-scale": (LONG, "1e400", "inf", "nan", ARABIC, "", "1" + "0" * 400),
    "--image-mean": (LONG, "1,,2", f"1,{ARABIC},3", "x" * 10**6, ""),
    "--image-std": ("1,x,3",),
    "--max-drop": (LONG, "1e400", "-1", "nan", ARABIC),
    "--min-agreement": ("101", "-1", "nan", ARABIC),
    "--min-sqnr": (LONG, "-1e400", "nan", SQUARE),
    "--threads": (LONG, "9" * 400, "-1", "1.5", ARABIC, SQUARE, "1025"),
    "--seed": (LONG, "-1", "1.5", ARABIC, "x" * 10**6),
}
OTHERS = {
    "bench --rounds": (LONG, "9" * 99, "2", "100001", ARABIC),
    "distill --steps": (LONG, "1.5", ARABIC, SQUARE),
    "distill --lr": (LONG, ARABIC, "x" * 10**6),
}
CASES = [
    *((f"optimize {name}", value) for name, values in OPTIMIZE.items() for value in values),
    *((name, value) for name, values in OTHERS.items() for value in values),
]


@pytest.mark.parametrize(("option", "value"), CASES, ids=quoted)
def test_a_value_out_of_bounds_is_a_short_usage_error(option: str, value: str) -> None:
    command, name = option.split()
    needed = ["--teacher", "t", "--data", "d"] if command == "distill" else []
    result = CliRunner().invoke(app, [command, "none.onnx", *needed, name, value])
    assert result.exit_code == 2, result.output
    assert f"Invalid value for '{name}'" in result.output
    assert len(result.output) < 800


@pytest.mark.parametrize(
    ("text", "size"),
    [("800MB", 800_000_000), ("1.5GiB", 3 << 29), ("2g", 2_000_000_000), (" 12 ", 12)],
)
def test_sizes(text: str, size: int) -> None:
    assert SIZE.convert(text, None, None) == size
    assert SIZE.convert(size, None, None) == size
    with pytest.raises(click.BadParameter, match="larger than zero"):
        SIZE.convert("0.4", None, None)
