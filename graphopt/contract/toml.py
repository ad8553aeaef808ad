"""TOML from outside, with bounds on what reading it may take."""

from __future__ import annotations

import re
import tomllib
from typing import Any

from graphopt.errors import UsageError

__all__ = ["MOST_BYTES", "parse_toml"]

MOST_BYTES = 1 << 20
"""Of a text; a recipe that names every node of a large model stays below."""
_DEEPEST = 16  # brackets in brackets, and names in a dotted key; ours need three
_TOKEN = re.compile(
    r'''
    """(?:[^\\]|\\(?:.|\Z))*?(?:"""|\Z)
    | \'\'\'.*?(?:\'\'\'|\Z)
    | "(?:[^"\\\n]|\\.)*"?
    | '[^'\n]*'?
    | \#[^\n]*
    | [\[\]{}.,=\n]
    ''',
    re.VERBOSE | re.DOTALL,
)
"""Strings and comments as a whole, closed or not, then the marks that nest and part."""


def parse_toml(text: str) -> dict[str, Any]:
    """The table that a text describes.

    Raises:
        UsageError: It is no TOML, too long, or nested deeper than anybody writes: tomllib takes
            the square of the names in a key, and one call of its own for each bracket.
    """
    if len(text) > MOST_BYTES:
        raise UsageError(f"larger than {MOST_BYTES} bytes")
    _refuse_depth(text)
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as err:
        raise UsageError(f"not TOML: {err}") from err
    except ValueError as err:  # Python reads whole numbers of up to 4,300 digits
        raise UsageError("a number in it has too many digits") from err


def _refuse_depth(text: str) -> None:
    depth = names = 0
    for found in _TOKEN.finditer(text):
        mark = found.group()
        if mark == ".":
            names += 1
        elif mark in "[]{},=\n":
            names = 0
            depth = max(depth + (mark in "[{") - (mark in "]}"), 0)
        if max(depth, names) > _DEEPEST:
            line = text.count("\n", 0, found.start()) + 1
            raise UsageError(f"line {line}: nested deeper than {_DEEPEST}")
