"""What runs in the process that tries a model: ``python -m graphopt.runtime.trial_process``.

Requests come on standard input: a line of JSON, then the bytes that it announces. Answers are
lines of JSON. A crash of onnxruntime ends this process and no other.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from graphopt.errors import UsageError
from graphopt.runtime.library import onnxruntime
from graphopt.runtime.options import PROVIDER, session_options

_NO_NUMPY = ("bfloat16", "float8", "float4")
_ALARM = "alarm"
_LOOK_SECONDS = 0.5


def _answer(source: BinaryIO, sink: BinaryIO) -> None:
    """Answer requests until the other side closes."""

    def say(**answer: Any) -> None:
        sink.write(json.dumps(answer).encode() + b"\n")
        sink.flush()

    while line := source.readline():
        request = json.loads(line)
        if hasattr(signal, _ALARM):  # should onnxruntime keep the thread below from looking
            signal.alarm(request["seconds"])
        model = source.read(request["bytes"])
        lent = dict(_values(source, request["lent"]))
        feeds = dict(_values(source, request["feeds"]))
        say(at="read")
        for step in _steps(request, model, lent, feeds):
            say(**step)
        if hasattr(signal, _ALARM):
            signal.alarm(0)


def _steps(
    request: dict[str, Any], model: bytes, lent: dict[str, Any], feeds: dict[str, Any]
) -> Iterator[dict[str, Any]]:
    """Load the model, then run it; the last answer has the error or says that it is done."""
    at = "load"
    try:
        folder = None if request["folder"] is None else Path(request["folder"])
        libraries = [Path(name) for name in request["libraries"]]
        options = session_options(request["threads"], folder=folder, libraries=libraries)
        if lent:
            options.add_external_initializers(list(lent), list(lent.values()))
        session = onnxruntime.InferenceSession(model, options, providers=[PROVIDER])
        session.disable_fallback()
        yield {"at": "loaded"}
        at = "run"
        if request["run"]:
            _run(session, feeds)
    except UsageError as err:
        yield {"at": "library", "text": str(err)}
    except Exception as err:  # onnxruntime's errors share no base class below Exception
        yield {"at": at, "kind": type(err).__name__, "text": str(err)}
    else:
        yield {"at": "done"}


def _run(session: Any, feeds: dict[str, Any]) -> None:
    """One run; outputs stay onnxruntime's where they can, since numpy lacks some types."""
    outputs = session.get_outputs()
    if any(isinstance(value, np.ndarray) for value in feeds.values()):  # text: no value of its own
        names = [o.name for o in outputs if not any(kind in o.type for kind in _NO_NUMPY)]
        session.run(names, feeds)
    else:
        session.run_with_ort_values([each.name for each in outputs], feeds)


def _values(source: BinaryIO, announced: list[dict[str, Any]]) -> Iterator[tuple[str, Any]]:
    """Arrays as onnxruntime takes them."""
    make = onnxruntime.OrtValue
    for item in announced:
        if "strings" in item:
            text = np.array(item["strings"], dtype=object).reshape(item["shape"])
            yield item["name"], text
            continue
        values = np.frombuffer(source.read(item["bytes"]), dtype=item["dtype"])
        values = values.reshape(item["shape"])
        if item["onnx"]:
            yield item["name"], make.ortvalue_from_numpy_with_onnx_type(values, item["onnx"])
        else:
            yield item["name"], make.ortvalue_from_numpy(values)


def _end_with(parent: int) -> None:
    """End this process when the one that started it is gone: nobody watches it any more."""
    while os.getppid() == parent:
        time.sleep(_LOOK_SECONDS)
    os._exit(1)


def serve() -> None:
    """Serve; what a library prints on the way goes nowhere."""
    threading.Thread(target=_end_with, args=(os.getppid(),), daemon=True).start()
    with os.fdopen(os.dup(1), "wb") as sink, Path(os.devnull).open("wb") as nowhere:
        os.dup2(nowhere.fileno(), 1)
        _answer(sys.stdin.buffer, sink)


if __name__ == "__main__":
    serve()
