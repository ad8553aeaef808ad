"""Which option of the command line gives what is missing: the library itself names only things."""

from __future__ import annotations

from collections.abc import Sequence

from graphopt.errors import Need

__all__ = ["CALIBRATION_OPTION", "advised"]

CALIBRATION_OPTION = "--calib"
_ADVICE = {
    Need.CALIBRATION: f"give them with {CALIBRATION_OPTION} DATA",
    Need.TRAINING: "give them with --train DATA",
    Need.EVALUATION: "give them with --eval DATA",
    Need.SAMPLES: f"give them with {CALIBRATION_OPTION} or --eval DATA",
    Need.DATA: "give them with --data DATA",
    Need.TEACHER: "give it with --teacher MODEL",
    Need.TASK: "the option is --task OUTPUT=KIND",
    Need.METRIC: "say what an output is with --task OUTPUT=KIND, or give --metric module:function",
    Need.LIMIT: "give --max-drop, --min-agreement or --min-sqnr",
    Need.MEMORY_LIMIT: "give a larger --memory-limit",
    Need.TIME_LIMIT: "give a longer --time-limit",
    Need.IMAGE_SIZE: "the options are --image-size and --image-crop",
    Need.OPERATORS: "give the library of its operators with --ops-library FILE",
    Need.NO_TRIAL: "--no-trial runs it all the same",
}


def advised(text: str, needs: Sequence[Need]) -> str:
    """A message with the options that give what it lacks.

    >>> advised("it needs samples to train on", [Need.TRAINING])
    'it needs samples to train on; give them with --train DATA'
    """
    return "; ".join([text, *(_ADVICE[need] for need in needs)])
