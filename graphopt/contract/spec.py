"""Spec text: ``fuse-batchnorm,quantize-static{ranges=mse,exclude="*head*"}`` and back."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from graphopt.contract import registry
from graphopt.contract.passes import Pass
from graphopt.errors import UsageError, quoted
from graphopt.options import OptionField, build, near_miss, number_of, option_fields

__all__ = ["MOST_PASSES", "format_passes", "format_value", "parse_passes"]

MOST_PASSES = 1000
"""Of one run; each is a step with its own check."""
_LONGEST = 1 << 20  # characters of a spec text
_AROUND = 40  # characters of it that an error shows on either side

_NAME = re.compile(r"[A-Za-z][A-Za-z0-9-]*")
_OPTION = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_BARE = re.compile(r"[^\s,{}\[\]\"=]+")
_QUOTED = re.compile(r'"((?:[^"\\]|\\["\\])*)"')


class _Reader:
    """A cursor over spec text that reports columns, counted from 1."""

    def __init__(self, text: str) -> None:
        self.text, self.at = text, 0

    def space(self) -> None:
        while self.at < len(self.text) and self.text[self.at].isspace():
            self.at += 1

    def peek(self) -> str:
        self.space()
        return self.text[self.at : self.at + 1]

    def take(self, mark: str) -> bool:
        if self.peek() != mark:
            return False
        self.at += 1
        return True

    def match(self, pattern: re.Pattern[str], wanted: str) -> re.Match[str]:
        self.space()
        found = pattern.match(self.text, self.at)
        if found is None:
            raise self.error(f"expected {wanted}")
        self.at = found.end()
        return found

    def error(self, problem: str, at: int | None = None) -> UsageError:
        column = (self.at if at is None else at) + 1
        found = self.text[column - 1 : column] or "the end"
        near = f"; found {found!r}" if problem.startswith("expected") else ""
        start, end = max(column - 1 - _AROUND, 0), column - 1 + _AROUND
        left, right = "..." * (start > 0), "..." * (end < len(self.text))
        part = f"{left}{self.text[start:end]}{right}"
        return UsageError(f"pass spec, column {column}: {problem}{near} in {part!r}")


def parse_passes(text: str) -> list[Pass]:
    """The passes that a spec text names, in order.

    >>> [p.name for p in parse_passes("eliminate-dead, mask-weights{sparsity=0.25}")]
    ['eliminate-dead', 'mask-weights']

    Raises:
        UsageError: Syntax, an unknown pass or option, a value out of bounds, with the column; or
            a text that is longer, or names more passes, than a run can take.
    """
    if len(text) > _LONGEST:
        raise UsageError(f"pass spec: longer than {_LONGEST} characters")
    reader = _Reader(text)
    passes = [_one_pass(reader)]
    while reader.take(","):
        if len(passes) == MOST_PASSES:
            raise reader.error(f"a run has at most {MOST_PASSES} passes")
        passes.append(_one_pass(reader))
    if reader.peek():
        raise reader.error("expected ',' between passes")
    return passes


def _one_pass(reader: _Reader) -> Pass:
    found = reader.match(_NAME, "the name of a pass")
    start = found.start()
    try:
        pass_class = registry.find(found.group())
        fields = option_fields(pass_class)
        values: dict[str, Any] = {}
        if reader.take("{") and not reader.take("}"):
            _one_option(reader, pass_class.name, fields, values)
            while reader.take(","):
                _one_option(reader, pass_class.name, fields, values)
            if not reader.take("}"):
                raise reader.error("expected ',' or '}'")
        return build(pass_class, values)
    except UsageError as err:
        if str(err).startswith("pass spec"):
            raise
        raise UsageError(f"pass spec, column {start + 1}: {err}") from err


def _one_option(
    reader: _Reader, pass_name: str, fields: Mapping[str, OptionField], values: dict[str, Any]
) -> None:
    found = reader.match(_OPTION, "the name of an option")
    name = found.group()
    if name not in fields:
        problem = f"pass {pass_name!r} has no option {quoted(name)}{near_miss(name, fields)}"
        raise reader.error(problem, found.start())
    if name in values:
        raise reader.error(f"option {name!r} is given twice", found.start())
    if not reader.take("="):
        raise reader.error(f"expected '=' after {quoted(name)}")
    values[name] = _value(reader, fields[name])


def _value(reader: _Reader, item: OptionField) -> Any:
    if item.kind is tuple:
        return _texts(reader)
    start = reader.at
    in_quotes = reader.peek() == '"'
    text = _text(reader)
    if text == "none" and item.optional and not in_quotes:
        return None
    if item.kind is bool:
        if text not in ("true", "false"):
            problem = f"option {item.name!r} is true or false, not {quoted(text)}"
            raise reader.error(problem, start)
        return text == "true"
    if item.kind in (int, float):
        try:
            return number_of(text, item.kind)
        except ValueError as err:
            kind = "a whole number" if item.kind is int else "a number"
            problem = f"option {item.name!r} is {kind}, not {quoted(text)}"
            raise reader.error(problem, start) from err
    return text


def _texts(reader: _Reader) -> tuple[str, ...]:
    if not reader.take("["):
        return (_text(reader),)
    parts: list[str] = []
    if reader.take("]"):
        return ()
    parts.append(_text(reader))
    while reader.take(","):
        parts.append(_text(reader))
    if not reader.take("]"):
        raise reader.error("expected ',' or ']'")
    return tuple(parts)


def _text(reader: _Reader) -> str:
    if reader.peek() == '"':
        found = reader.match(_QUOTED, "a closing quote")
        return re.sub(r"\\(.)", r"\1", found.group(1))
    return reader.match(_BARE, "a value").group()


def format_value(value: Any) -> str:
    """One option value as spec text."""
    if value is None:
        return "none"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, tuple):
        return "[" + ",".join(_format_text(part) for part in value) + "]"
    return _format_text(value) if isinstance(value, str) else repr(value)


def _format_text(text: str) -> str:
    if _BARE.fullmatch(text) and text != "none":
        return text
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def format_passes(passes: Sequence[Pass]) -> str:
    """Spec text that ``parse_passes`` reads back to equal passes; defaults are left out."""
    parts = []
    for item in passes:
        options = ",".join(f"{k}={format_value(v)}" for k, v in item.options().items())
        parts.append(f"{item.name}{{{options}}}" if options else item.name)
    return ",".join(parts)
