"""What of ``graphopt distill`` needs no torch: its options, and the line that asks for torch."""

from __future__ import annotations

import subprocess
import sys

import click
import pytest

from graphopt.cli.app import app
from graphopt.cli.distill import distill
from graphopt.options import option_fields
from graphopt.passes.train.distill import Distill

CONTEXT = click.Context(distill, info_name="distill", **app.context_settings)
"""With the settings of the group: a command keeps the help option that it made first."""

WITHOUT_TORCH = """
import sys
sys.modules["torch"] = None
from graphopt.cli import main
sys.exit(main(sys.argv[1:]))
"""


def test_every_option_of_the_pass_is_one_of_the_command() -> None:
    parameters = {each.name: each for each in distill.get_params(CONTEXT)}
    for name, field in option_fields(Distill).items():
        option = parameters[name]
        assert isinstance(option, click.Option)
        assert option.help is not None
        assert option.help.lower().startswith(field.option.help.lower())


def test_help_shows_bounds_free_defaults_of_the_pass() -> None:
    text = CONTEXT.get_help()
    assert "[default: 0.001]" in text
    assert "--keep-zeros / --no-keep-zeros" in text
    assert "[auto|kl|cosine|mse]" in text


@pytest.mark.parametrize(
    "arguments",
    [
        ["distill", "no.onnx", "--teacher", "no.onnx", "--data", "no.npz"],
        ["optimize", "no.onnx", "-p", "fuse-batchnorm,finetune", "--train", "no.npz"],
        ["optimize", "no.onnx", "--max-drop", "1", "--train", "no.npz"],
    ],
)
def test_without_torch_one_line_says_what_to_install(arguments: list[str]) -> None:
    """Before anything is loaded: none of the files exists."""
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_TORCH, *arguments],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout) == (5, "")
    assert done.stderr.count("\n") == 1
    assert "needs PyTorch; install it with: pip install 'graphopt[train]'" in done.stderr
