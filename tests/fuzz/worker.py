"""A process that makes and runs cases, one after the other, at its parent's word.

It is told and answers in lines of JSON on the streams that it was started with. What graphopt
prints goes to files in the folder of the case.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.fuzz import truth

__all__ = ["ERRORS", "KINDS", "PRINTED"]

KINDS = ("models",)
PRINTED, ERRORS = "stdout.txt", "stderr.txt"
_PEAK = Path("/proc/self/clear_refs")


def _serve() -> None:
    requests = os.fdopen(os.dup(0), encoding="utf-8")
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.dup2(2, 1)
    home = Path.cwd()
    for line in requests:
        request = json.loads(line)
        try:
            answer = _WORK[request.pop("do")](**request)
        except Exception:  # of the fuzzer itself
            answer = {"failure": traceback.format_exc()}
        os.chdir(home)
        answers.write(json.dumps(answer) + "\n")
        answers.flush()


def _make(kind: str, number: int, folder: str) -> dict[str, Any]:
    maker = importlib.import_module(f"tests.fuzz.{kind}").make
    maker(number, Path(folder)).note(Path(folder))
    return {}


def _run(folder: str, arguments: list[str]) -> dict[str, Any]:
    """Exit code, seconds, and bytes above those before."""
    from graphopt.cli import main  # noqa: PLC0415 - a worker for the truth does without

    os.chdir(folder)
    tempfile.tempdir = folder  # tracebacks go there
    before = _memory("VmRSS")
    if _PEAK.exists():
        _PEAK.write_text("5")
    keep = os.dup(1), os.dup(2)
    for descriptor, name in ((1, PRINTED), (2, ERRORS)):
        file = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(file, descriptor)
        os.close(file)
    started = time.perf_counter()
    code: int | None = None
    try:
        code = main(arguments)
    except BaseException:
        traceback.print_exc()
    seconds = time.perf_counter() - started
    sys.stdout.flush()
    sys.stderr.flush()
    for descriptor, old in zip((1, 2), keep, strict=True):
        os.dup2(old, descriptor)
        os.close(old)
    return {"code": code, "seconds": seconds, "bytes": _memory("VmHWM") - before}


def _memory(key: str) -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(f"{key}:"):
            return int(line.split()[1]) * 1024
    return 0


_WORK: dict[str, Callable[..., dict[str, Any]]] = {"make": _make, "run": _run, "try": truth.tried}

if __name__ == "__main__":
    _serve()
