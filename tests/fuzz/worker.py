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
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from tests.fuzz import truth

__all__ = ["ERRORS", "KINDS", "PRINTED"]

KINDS = ("models", "samples", "texts", "graphs")
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
    from graphopt.runtime import bursts  # noqa: PLC0415 - the same

    bursts._BURST_SECONDS = 0.001  # latencies are not on trial, and they are what takes time
    os.chdir(folder)
    tempfile.tempdir = folder  # tracebacks go there
    before = _memory("VmRSS")
    if _PEAK.exists():
        _PEAK.write_text("5")
    started = time.perf_counter()
    code: int | None = None
    with _printing_to(PRINTED, ERRORS), np.errstate():
        try:
            code = main(arguments)
        except BaseException:
            traceback.print_exc()
    seconds = time.perf_counter() - started
    return {"code": code, "seconds": seconds, "bytes": _memory("VmHWM") - before}


@contextmanager
def _printing_to(*names: str) -> Iterator[None]:
    """Standard output and error to files, from C++ as well, whatever a case does to them."""
    keep, streams = (os.dup(1), os.dup(2)), (sys.stdout, sys.stderr)
    for descriptor, name in zip((1, 2), names, strict=True):
        file = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(file, descriptor)
        os.close(file)
    sys.stdout, sys.stderr = new = tuple(
        open(descriptor, "w", encoding="utf-8", errors="backslashreplace", closefd=False)  # noqa: SIM115
        for descriptor in (1, 2)
    )
    try:
        yield
    finally:
        for stream in new:
            if not stream.closed:
                stream.flush()
        sys.stdout, sys.stderr = streams
        for descriptor, old in zip((1, 2), keep, strict=True):
            os.dup2(old, descriptor)
            os.close(old)


def _memory(key: str) -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(f"{key}:"):
            return int(line.split()[1]) * 1024
    return 0


_WORK: dict[str, Callable[..., dict[str, Any]]] = {
    "make": _make,
    "run": _run,
    "try": truth.tried,
    "measure": truth.measured,
}

if __name__ == "__main__":
    _serve()
