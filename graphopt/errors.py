"""The errors that a user can cause, each with the exit code of the command line.

Anything else that is raised is a bug of graphopt (exit code 1).
"""

__all__ = [
    "DataError",
    "GraphoptError",
    "LimitError",
    "MissingSamplesError",
    "ModelError",
    "PassError",
    "SystemFailure",
    "UsageError",
]


class GraphoptError(Exception):
    """One clear line for the user: what is wrong, where, and what to do."""

    exit_code: int = 1


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


class MissingSamplesError(PassError):
    """A pass asks what the tensors of the model hold, and the run has no calibration samples."""


class SystemFailure(GraphoptError):  # noqa: N818 - an Error suffix would read like a user's mistake
    """The machine refuses: disk full, no permission, a missing extra."""

    exit_code = 5
