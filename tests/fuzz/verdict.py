"""What came of a case, and whether that is how a run may end."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from tests.fuzz.case import Case
from tests.fuzz.truth import MIN_SQNR_DB

__all__ = ["Ending", "findings"]

_CODES = (0, 2, 3, 4, 5)
_NO_UTF8 = "not UTF-8 text"  # no library of protobuf reads these, though onnxruntime does
_NO_KERNEL = "onnxruntime has no kernel here: "
_ERROR = re.compile(r"^graphopt(?: \(process \d+\))?: error: ", re.M)


@dataclass(frozen=True, kw_only=True)
class Ending:
    """How a run of graphopt ended.

    Attributes:
        code: Exit code; None where the process did not come to it.
        death: How else it ended: ``signal 11``, ``timeout``, ``memory``, ``exit 7``.
        seconds: How long it took.
        bytes: Peak of memory above that before the run.
        errors: What it printed on standard error.
        printed: What it printed on standard output.
        truth: What onnxruntime says of the model, as ``truth.tried`` has it.
        written: OUT is there.
        touched: Files that were there before and have changed, or that nobody asked for.
    """

    code: int | None
    death: str | None
    seconds: float
    bytes: int
    errors: str
    truth: dict[str, Any]
    written: bool
    touched: tuple[str, ...] = ()
    printed: str = ""


def findings(case: Case, end: Ending) -> list[str]:
    """What is wrong with an ending, worst first; empty where all is well."""
    if end.death is not None:
        return [end.death]
    if end.code is None or end.code == 1 or "Traceback (most recent" in end.errors:
        return ["internal"]
    wrong = [f"touched {name}" for name in end.touched]
    if end.code not in _CODES:
        wrong.append(f"exit {end.code}")
    if (count := len(_ERROR.findall(end.errors))) != (end.code != 0) and end.code != 4:
        wrong.append(f"{count} error lines")
    if case.sound and end.code not in {0, 4}:
        wrong.append("a sound case refused")
    if case.model is not None:
        wrong += _against_truth(case, end)
    return wrong


def _against_truth(case: Case, end: Ending) -> list[str]:
    truth, wrong = end.truth, []
    alone = "compare" not in case.arguments  # two models may not fit each other
    if end.code == 3 and truth.get("valid") and alone and _NO_UTF8 not in end.errors:
        wrong.append("refused though it is valid and runs")
    if end.code == 0:
        if not truth.get("loads") and not end.errors.strip():
            done = "inspected" if case.out is None else "written"
            wrong.append(f"{done} in silence though nothing loads it")
        if case.out is not None and not end.written:
            wrong.append("nothing written")
        told = _NO_KERNEL in end.printed  # a form for another runtime, and the user knows
        if truth.get("loads") and not truth.get("out_loads", True) and not told:
            wrong.append("OUT does not load")
        if truth.get("runs") and not truth.get("out_runs", True) and not told:
            wrong.append("OUT does not run")
        if case.lossless and truth.get("sqnr_db", MIN_SQNR_DB) < MIN_SQNR_DB:
            wrong.append("answers differ")
    return wrong
