"""The errors that a user can cause, each with the exit code of the command line.

Anything else that is raised is a bug of graphopt (exit code 1). Messages name things, never options
of the command line, which callers of the library do not have.
"""

from __future__ import annotations

from enum import StrEnum

__all__ = [
    "DataError",
    "GraphoptError",
    "LimitError",
    "ModelError",
    "Need",
    "PassError",
    "Stopped",
    "SystemFailure",
    "UsageError",
]


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
    MEMORY_LIMIT = "memory_limit"
    IMAGE_SIZE = "image_size"


class Stopped(BaseException):
    """The user's stop on its way out, removing half-written files as it passes.

    Not ``KeyboardInterrupt``: click prints a line of its own for that, and where one passes
    through ``exec`` the interpreter ends the process by SIGINT whatever exit code it was given.

    Attributes:
        code: What a shell reports for a process that the signal ended: 130, 143.
    """

    def __init__(self, signum: int) -> None:
        super().__init__(f"stopped by signal {signum}")
        self.signum = signum
        self.code = 128 + signum


class GraphoptError(Exception):
    """One clear line for the user: what is wrong, where, and what to do.

    Args:
        message: The line.
        needs: What was not given and would help.
    """

    exit_code: int = 1

    def __init__(self, message: str, *needs: Need) -> None:
        super().__init__(message)
        self.needs = needs


class UsageError(GraphoptError):
    """An unknown or contradictory option, pass or value."""

    exit_code = 2


class ModelError(GraphoptError):
    """The model file cannot be used: not ONNX, truncated, external data missing."""

    exit_code = 3


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
