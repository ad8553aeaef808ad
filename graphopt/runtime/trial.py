"""The first load and run of a foreign model, in a process that may crash in place of this one."""

from __future__ import annotations

import json
import os
import queue
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from typing import Any, NoReturn

import numpy as np
import psutil

from graphopt.errors import ModelError, Need, NotRun, SystemFailure, UsageError
from graphopt.graph.graph import Graph
from graphopt.graph.tensors import Array
from graphopt.runtime.lending import lent_weights
from graphopt.runtime.refusal import load_error, one_line
from graphopt.runtime.session import serialized
from graphopt.runtime.stand_in import stand_in

__all__ = ["TRIAL_SECONDS", "Trial"]

TRIAL_SECONDS = 40
"""Longest that loading a model and running it once may take; figures would take hours beyond."""
_LOOK_SECONDS = 0.02
_GRACE_SECONDS = 5


class Trial:
    """A process that loads and runs models before this one does; started at once.

    Its start overlaps with whatever happens until ``run``. To be used as a context manager.

    Args:
        wanted: False leaves all models to this process.

    Raises:
        SystemFailure: No process can be started.
    """

    def __init__(self, wanted: bool = True) -> None:
        self._answers: queue.SimpleQueue[dict[str, Any] | None] = queue.SimpleQueue()
        self._process = _started() if wanted else None
        if self._process is not None:
            threading.Thread(target=self._listen, args=(self._process,), daemon=True).start()

    def __enter__(self) -> Trial:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End the process; later calls of ``run`` do nothing."""
        process, self._process = self._process, None
        if process is None:
            return
        process.kill()
        process.wait()
        assert process.stdin is not None
        with suppress(BrokenPipeError):  # what it did not read any more
            process.stdin.close()

    def run(
        self,
        graph: Graph,
        feeds: Mapping[str, Array] | None,
        *,
        threads: int,
        most: int | None = None,
        lever: Need = Need.MEMORY_LIMIT,
        as_is: bool = False,
    ) -> None:
        """Load a model and run it once; what is run in its place where ``Session`` does so too.

        Args:
            graph: The model.
            feeds: One array for each required input; what is none of the inputs is left out.
                None only loads it.
            threads: Threads that work on one operator, at least 1.
            lever: What raises the bound of bytes.
            most: Bytes that this may take beside the message; None for no bound.
            as_is: Raise rather than run something in its place.

        Raises:
            ModelError: It is wrong in itself, or onnxruntime crashes on it.
            UsageError: A library of the model's operators cannot be registered.
            NoKernel: onnxruntime lacks an operator, a type or a version.
            NotRun: It loads and does not run on the feeds, or takes too long or too much.
        """
        try:
            self._run(graph, feeds, threads, most, lever)
        except NotRun:
            raise
        except ModelError as err:
            other = None if as_is or self._process is None else stand_in(graph)
            if other is None:
                raise
            try:
                self._run(other, feeds, threads, most, lever)
            except ModelError:
                raise err from None

    def _run(
        self,
        graph: Graph,
        feeds: Mapping[str, Array] | None,
        threads: int,
        most: int | None,
        lever: Need,
    ) -> None:
        process = self._process
        if process is None:
            return
        names = {value.name for value in graph.main.proto.input}
        known = {name: value for name, value in (feeds or {}).items() if name in names}
        at = "load"
        try:
            _send(process, graph, known, threads, run=feeds is not None)
            for last in self._steps(process, most, lever):
                at = "run" if last["at"] == "loaded" else at
        except (BrokenPipeError, EOFError):
            self._crashed(process, at)
        except BaseException:  # what it still does is of no use to anybody
            self.close()
            raise
        if last["at"] == "library":
            raise UsageError(last["text"])
        if last["at"] == "load":
            raise load_error(graph, last["kind"], last["text"])
        if last["at"] == "run":
            raise NotRun(f"onnxruntime cannot run the model: {one_line(last['text'])}")

    def _steps(
        self, process: subprocess.Popen[bytes], most: int | None, lever: Need
    ) -> Iterator[dict[str, Any]]:
        """What the process says, up to the step that ends the request.

        Raises:
            EOFError: The process is gone.
            NotRun: It takes too long or too much.
        """
        deadline, base = time.monotonic() + TRIAL_SECONDS, 0
        for answer in self._heard(deadline):
            if answer is None:
                if most is not None and base and _resident(process) - base > most:
                    raise NotRun(_TOO_MUCH.format(most / 1e6), lever)
                continue
            if answer["at"] == "read":
                base = _resident(process)
            yield answer
            if answer["at"] in ("library", "load", "run", "done"):
                return

    def _heard(self, deadline: float) -> Iterator[dict[str, Any] | None]:
        """Answers as they come; None where there was none for a moment.

        Raises:
            EOFError: The process is gone.
            NotRun: It takes too long.
        """
        while True:
            try:
                answer = self._answers.get(timeout=_LOOK_SECONDS)
            except queue.Empty:
                yield None
                if time.monotonic() > deadline:
                    raise NotRun(_TOO_LONG.format(TRIAL_SECONDS), Need.NO_TRIAL) from None
                continue
            if answer is None:
                raise EOFError
            yield answer

    def _listen(self, process: subprocess.Popen[bytes]) -> None:
        assert process.stdout is not None
        with process.stdout as stdout:
            for line in stdout:
                self._answers.put(json.loads(line))
        self._answers.put(None)

    def _crashed(self, process: subprocess.Popen[bytes], at: str) -> NoReturn:
        with suppress(subprocess.TimeoutExpired):
            process.wait(_GRACE_SECONDS)
        self.close()
        code = process.returncode
        doing = "loading" if at == "load" else "running"
        if code == -getattr(signal, "SIGKILL", 9) or code is None:
            raise NotRun(f"the system ended the process that was {doing} the model; {_MEMORY}")
        needs = () if code < 0 else (Need.NO_TRIAL,)  # perhaps Python, not onnxruntime, ended it
        raise ModelError(f"onnxruntime crashes while {doing} the model ({_ending(code)})", *needs)


_TOO_MUCH = "loading and running the model takes more than {:.0f} MB"
_TOO_LONG = "loading the model and running it once takes longer than {} seconds"
_MEMORY = "there may be too little memory"


def _started() -> subprocess.Popen[bytes]:
    """The process, importing."""
    places = os.pathsep.join(place for place in sys.path if place)
    try:
        return subprocess.Popen(
            [sys.executable or "python", "-P", "-m", "graphopt.runtime.trial_process"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env={**os.environ, "PYTHONPATH": places},
        )
    except (OSError, ValueError) as err:
        raise SystemFailure(
            f"no process can be started to try the model in: {err}", Need.NO_TRIAL
        ) from err


def _ending(code: int) -> str:
    try:
        return f"it ends with {signal.Signals(-code).name}"
    except ValueError:
        return f"its process ends with exit code {code}"


def _resident(process: subprocess.Popen[bytes]) -> int:
    try:
        return int(psutil.Process(process.pid).memory_info().rss)
    except psutil.Error:  # gone in between, which its end of file tells
        return 0


def _send(
    process: subprocess.Popen[bytes],
    graph: Graph,
    feeds: Mapping[str, Array],
    threads: int,
    *,
    run: bool,
) -> None:
    """The request: a line of JSON, then the model and the arrays."""
    model = graph.references()
    lent = lent_weights(graph, model)
    payload = serialized(model)
    kinds = {v.name: v.type.tensor_type.elem_type for v in graph.main.proto.input}
    arrays = [(name, np.asarray(value), kinds[name]) for name, value in feeds.items()]
    weights = [(name, *pair) for name, pair in lent.items()]
    request = {
        "seconds": TRIAL_SECONDS + _GRACE_SECONDS,
        "bytes": len(payload),
        "threads": threads,
        "folder": None if graph.folder is None else str(graph.folder.resolve()),
        "libraries": [str(path) for path in graph.libraries],
        "run": run,
        "lent": [_announced(*item) for item in weights],
        "feeds": [_announced(*item) for item in arrays],
    }
    assert process.stdin is not None
    process.stdin.write(json.dumps(request).encode() + b"\n")
    process.stdin.write(payload)
    for _, values, _ in (*weights, *arrays):
        if values.dtype.kind not in "OUST":
            process.stdin.write(np.ascontiguousarray(values).reshape(-1).view(np.uint8).data)
    process.stdin.flush()


def _announced(name: str, values: Array, kind: int) -> dict[str, Any]:
    if values.dtype.kind in "OUST":
        return {"name": name, "shape": values.shape, "strings": [str(v) for v in values.flat]}
    plain = values.dtype.kind in "biufc"
    dtype = values.dtype.str if plain else f"u{values.dtype.itemsize}"
    return {
        "name": name,
        "shape": values.shape,
        "dtype": dtype,
        "bytes": values.nbytes,
        "onnx": 0 if plain else kind,
    }
