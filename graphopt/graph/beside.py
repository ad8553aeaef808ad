"""Files beside a model that its external data names: whether they may be read."""

from __future__ import annotations

from pathlib import Path

from graphopt import outside
from graphopt.errors import ModelError, quoted

__all__ = ["byte_count", "file_beside"]

_MOST_DIGITS = 19  # those of 2^63 - 1, the largest place in a file
_ADDRESS_MARK = "_ORT_MEM_ADDR_"
"""In a location, onnxruntime takes the offset for an address in memory."""


def byte_count(text: str, what: str) -> int:
    """A number of bytes, as decimal digits.

    Raises:
        ModelError: The text is anything else; ``what`` begins the message.
    """
    if not (text.isascii() and text.isdigit() and len(text) <= _MOST_DIGITS):
        raise ModelError(f"{what} is not a number of bytes: {quoted(text)}")
    return int(text)


def file_beside(location: str, folder: Path, where: str) -> Path:
    """The file at ``location`` in ``folder``.

    Raises:
        ModelError: It is not there, lies elsewhere or is no regular file; ``where`` begins the
            message.
    """
    relative, shown = Path(location), quoted(location)
    if not location or relative.is_absolute() or ".." in relative.parts or "\\" in location:
        raise ModelError(f"{where}: location {shown} leaves the model's folder; refused")
    if _ADDRESS_MARK in location:
        raise ModelError(f"{where}: location {shown} stands for an address in memory; refused")
    path = folder / relative
    try:
        if not path.resolve().is_relative_to(folder.resolve()):
            raise ModelError(
                f"{where}: {shown} is a link that leaves the model's folder; refused, "
                "put the file itself there"
            )
        outside.regular(path)
    except FileNotFoundError as err:
        raise ModelError(f"{where}: file {shown} is missing beside the model") from err
    except outside.IrregularFile as err:
        raise ModelError(f"{where}: {shown} cannot be read: {err.strerror}") from err
    except (OSError, RuntimeError, ValueError) as err:  # too long, links in a circle, a NUL
        reason = getattr(err, "strerror", None) or err
        raise ModelError(f"{where}: location {shown} cannot be used: {reason}") from err
    return path
