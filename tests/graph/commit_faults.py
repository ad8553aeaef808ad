"""A process that saves a model again and again, each time with a fault at the next call.

    python commit_faults.py MODEL FOLDER OUT kill|ERRNO

Whatever reaches the disk during a save goes through ``os``: those calls are counted, with the
writes of bytes; the N-th one ends a forked process (half of the bytes of a write have gone out
then) or raises. FOLDER is copied for each N. A line of JSON each: exit code and the copy.
"""

from __future__ import annotations

import io as streams
import json
import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

from graphopt.errors import GraphoptError
from graphopt.graph import io

CALLS = (
    "open",
    "close",
    "fsync",
    "replace",
    "rename",
    "unlink",
    "link",
    "scandir",
    "stat",
    "lstat",
)
DONE, REFUSED, KILLED, PAST = 0, 5, 9, 99


class Fault:
    """Ends the process or raises at one call out of many."""

    def __init__(self, number: int, error: int | None) -> None:
        self.left, self.error = number, error

    def due(self) -> bool:
        self.left -= 1
        return self.left == 0

    def strike(self) -> NoReturn:
        if self.error is None:
            os._exit(KILLED)
        raise OSError(self.error, os.strerror(self.error))

    def wrapped(self, call: Callable[..., Any]) -> Callable[..., Any]:
        def counted(*args: Any, **kwargs: Any) -> Any:
            if self.due():
                self.strike()
            return call(*args, **kwargs)

        return counted

    def opened(self, descriptor: int) -> streams.BufferedWriter:
        fault = self

        class Raw(streams.FileIO):
            def write(self, data: Any) -> int:
                if fault.due():
                    super().write(memoryview(data)[: len(data) // 2])
                    fault.strike()
                return super().write(data)

        return streams.BufferedWriter(Raw(descriptor, "wb"))

    def install(self) -> None:
        given = os.fdopen

        def fdopen(descriptor: int, mode: str = "r", *args: Any, **kwargs: Any) -> Any:
            writes = mode == "wb"
            return self.opened(descriptor) if writes else given(descriptor, mode, *args, **kwargs)

        for name in CALLS:
            setattr(os, name, self.wrapped(getattr(os, name)))
        setattr(os, "fdopen", fdopen)  # noqa: B010 - its type is overloaded


def save(model: Path, out: Path, fault: Fault) -> int:
    graph = io.load(model)
    fault.install()
    try:
        io.save(graph, out)
    except GraphoptError:  # one of the disk, or of the data that is read
        return REFUSED
    return PAST if fault.left > 0 else DONE


def main() -> None:
    model, folder, out, kind = sys.argv[1:]
    number = 0
    while True:
        number += 1
        copy = Path(f"{folder}-{kind}-{number}")
        shutil.copytree(folder, copy)
        child = os.fork()
        if child == 0:
            code = 1
            try:
                error = None if kind == "kill" else int(kind)
                code = save(Path(model), copy / out, Fault(number, error))
            finally:
                os._exit(code)
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        sys.stdout.write(json.dumps([code, str(copy)]) + "\n")
        sys.stdout.flush()  # a fork would write it again
        if code == PAST or number > 200:
            return


if __name__ == "__main__":
    main()
