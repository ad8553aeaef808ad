"""Processes that are watched: how long they take and how much memory, with their children."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import psutil

__all__ = ["Bounds", "Helper", "Lost", "watched_command"]

_ROOT = Path(__file__).parents[2]
_POLL_SECONDS = 0.05


@dataclass(frozen=True, kw_only=True)
class Bounds:
    """What a run may take.

    Attributes:
        seconds: Wall time.
        bytes: Memory above that before the run.
    """

    seconds: float
    bytes: int


class Lost(Exception):
    """A process died or was ended because it broke a bound; the text says how."""


def environment() -> dict[str, str]:
    """That of the caller, so that processes find this very graphopt and use one thread."""
    path = os.pathsep.join([str(_ROOT), os.environ.get("PYTHONPATH", "")]).strip(os.pathsep)
    return {
        **os.environ,
        "PYTHONPATH": path,
        "OMP_NUM_THREADS": "1",
        "PYTHONDONTWRITEBYTECODE": "1",
    }


class Helper:
    """A worker that is started when it is needed, and anew after it was lost."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        self._asked = 0

    def ask(self, bounds: Bounds, **request: Any) -> dict[str, Any]:
        """Have something done.

        Raises:
            Lost: The worker died of it, or broke a bound and was ended.
        """
        if self._process is None or self._asked >= 200:  # memory that is not handed back adds up
            self.end()
            self._process = subprocess.Popen(
                [sys.executable, "-m", "tests.fuzz.worker"],
                cwd=_ROOT,
                env=environment(),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                start_new_session=True,
            )
        self._asked += 1
        process = self._process
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            process.stdin.write(json.dumps(request).encode() + b"\n")
            process.stdin.flush()
            for _ in _watch(process, bounds):
                if select.select([process.stdout], [], [], _POLL_SECONDS)[0]:
                    break
            line = process.stdout.readline()
        except OSError:
            line = b""
        except Lost:
            self.end()
            raise
        if not line:
            code = process.wait()
            self.end()
            raise Lost(_death(code))
        answer: dict[str, Any] = json.loads(line)
        if "failure" in answer:
            raise RuntimeError(answer["failure"])
        return answer

    def end(self) -> None:
        """End the worker and all that it started."""
        if self._process is not None:
            _end(self._process)
        self._process, self._asked = None, 0


def watched_command(
    arguments: Sequence[str], folder: Path, bounds: Bounds, *streams: IO[bytes]
) -> tuple[int, float, int]:
    """Run graphopt as a user does: exit code, seconds, peak of bytes as far as it was seen.

    Args:
        arguments: Of graphopt.
        folder: Where it runs.
        bounds: See ``Bounds``.
        streams: Standard output and error.

    Raises:
        Lost: It died of a signal or broke a bound.
    """
    started = time.monotonic()
    process = subprocess.Popen(
        [sys.executable, "-m", "graphopt", *arguments],
        cwd=folder,
        env={**environment(), "TMPDIR": str(folder)},
        stdin=subprocess.DEVNULL,
        stdout=streams[0],
        stderr=streams[1],
        start_new_session=True,
    )
    peak = 0
    try:
        for held in _watch(process, bounds):
            peak = max(peak, held)
            try:
                process.wait(_POLL_SECONDS)
                break
            except subprocess.TimeoutExpired:
                continue
    finally:
        _end(process)
    if process.returncode < 0:
        raise Lost(_death(process.returncode))
    return process.returncode, time.monotonic() - started, peak


def _watch(process: subprocess.Popen[bytes], bounds: Bounds) -> Iterator[int]:
    """Bytes above those at the start, again and again, until a bound is broken."""
    first, started = _held(process.pid), time.monotonic()
    while True:
        held = _held(process.pid) - first
        if held > bounds.bytes:
            raise Lost("memory")
        if time.monotonic() - started > bounds.seconds:
            raise Lost("timeout")
        yield held


def _held(pid: int) -> int:
    """Bytes of memory that a process and its children hold."""
    try:
        process = psutil.Process(pid)
        return sum(one.memory_info().rss for one in [process, *process.children(recursive=True)])
    except psutil.Error:
        return 0


def _death(code: int) -> str:
    return f"signal {-code}" if code < 0 else f"exit {code} at once"


def _end(process: subprocess.Popen[bytes]) -> None:
    with _gone():
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    for stream in (process.stdin, process.stdout):
        if stream is not None:
            with _gone():
                stream.close()


@contextmanager
def _gone() -> Iterator[None]:
    """What has ended already need not be ended."""
    with suppress(ProcessLookupError, BrokenPipeError):
        yield
