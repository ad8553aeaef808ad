"""The errors that a user can cause, each with the exit code of the command line.

Anything else that is raised is a bug of graphopt (exit code 1). Messages name things, never options
of the command line, which callers of the library do not have.
"""

from __future__ import annotations

import math
import reprlib
from enum import StrEnum

__all__ = [
    "DataError",
    "GraphoptError",
    "LimitError",
    "ModelError",
    "Need",
    "NoKernel",
    "NotRun",
    "PassError",
    "Stopped",
    "SystemFailure",
    "UsageError",
    "quoted",
    "shortened",
]

_LONGEST_LINE = 2000  # characters; more than a screen is no line
_LONGEST_VALUE = 120
_SHOWN_BITS = 128  # of whole numbers; Python refuses to print those of thousands of digits


class Need(StrEnum):
    """Something that was not given and would help."""

    CALIBRATION = "calibration"
    TRAINING = "training"
    EVALUATION = "evaluation"
    SAMPLES = "samples"
    """Those of calibration or of evaluation."""
    DATA = "data"
    """Samples on which to compare two models."""
    TEACHER = "teacher"
    METRIC = "metric"
    """A function that judges by the labels."""
    TASK = "task"
    """What an output means."""
    LIMIT = "limit"
    """What may be lost."""
    MEMORY_LIMIT = "memory_limit"
    TIME_LIMIT = "time_limit"
    IMAGE_SIZE = "image_size"
    OPERATORS = "operators"
    """A library with the kernels of operators that onnxruntime does not know."""
    NO_TRIAL = "no_trial"
    """Leave to load and run the model without bounds, in the process itself."""


class Stopped(BaseException):
    """The user's stop on its way out, removing half-written files as it passes.

    Not ``KeyboardInterrupt``: click prints a line of its own for that, and where one passes
    through ``exec`` the interpreter ends the process by SIGINT whatever exit code it was given.

    Attributes:
        code: What a shell reports for a process that the signal ended: 129, 130, 143.
    """

    def __init__(self, signum: int) -> None:
        super().__init__(f"stopped by signal {signum}")
        self.signum = signum
        self.code = 128 + signum


class GraphoptError(Exception):
    """One clear line for the user: what is wrong, where, and what to do.

    Args:
        message: The line; the middle of one that fills a screen is left out.
        needs: What was not given and would help.
    """

    exit_code: int = 1

    def __init__(self, message: str, *needs: Need) -> None:
        super().__init__(shortened(message, _LONGEST_LINE))
        self.needs = needs


class UsageError(GraphoptError):
    """An unknown or contradictory option, pass or value."""

    exit_code = 2


class ModelError(GraphoptError):
    """The model file cannot be used: not ONNX, truncated, external data missing."""

    exit_code = 3


class NoKernel(ModelError):  # noqa: N818 - caught as the ModelError that it is
    """onnxruntime lacks an operator, a type or a version that the model needs; it may be sound."""


class NotRun(ModelError):  # noqa: N818 - caught as the ModelError that it is
    """onnxruntime loads the model and does not run it: on these feeds, in the time, in the room."""


class DataError(GraphoptError):
    """The samples cannot be used: they do not fit the inputs, are empty, hold NaN."""

    exit_code = 3


class LimitError(GraphoptError):
    """A limit that the user gave is not met by any model that could be written."""

    exit_code = 4


class PassError(GraphoptError):
    """A precondition of a pass does not hold; the graph was not touched.

    The run records it and goes on; under ``--strict`` it ends the run.
    """

    exit_code = 4


class SystemFailure(GraphoptError):  # noqa: N818 - an Error suffix would read like a user's mistake
    """The machine refuses: disk full, no permission, a missing extra."""

    exit_code = 5


def shortened(text: str, most: int = _LONGEST_LINE) -> str:
    """The text, or its two ends where it has more than ``most`` characters.

    >>> shortened("abcdefghijklmnop", 11)
    'abc ... nop'
    """
    if len(text) <= most:
        return text
    kept = (most - 5) // 2
    return f"{text[:kept]} ... {text[-kept:]}"


def quoted(value: object) -> str:
    """A value of the user's in a message: as Python writes it, and short whatever it is.

    >>> quoted("a"), quoted(10**400), quoted([1.5, None])
    ("'a'", '<a whole number of about 401 digits>', '[1.5, None]')
    """
    return _WRITER.repr(value)


class _Writer(reprlib.Repr):
    """Bounded in length and depth, for numbers and text of any size."""

    def __init__(self) -> None:
        super().__init__()
        self.maxlevel = 3
        self.maxlist = self.maxtuple = self.maxdict = self.maxset = 8
        self.maxother = _LONGEST_VALUE

    def repr_str(self, value: str, _level: int) -> str:
        return repr(shortened(value, _LONGEST_VALUE))

    def repr_int(self, value: int, _level: int) -> str:
        bits = value.bit_length()
        if bits <= _SHOWN_BITS:
            return repr(value)
        return f"<a whole number of about {int(bits * math.log10(2)) + 1} digits>"


_WRITER = _Writer()
