"""Ctrl-C, SIGTERM and SIGHUP as an exception that half-written files cannot outlive."""

from __future__ import annotations

import _thread
import signal
import sys
import threading
from typing import TYPE_CHECKING, NoReturn

from graphopt.errors import Stopped

if TYPE_CHECKING:
    from sys import UnraisableHookArgs

__all__ = ["Stopped", "listen", "stop_behind"]

_AGAIN_SECONDS = 0.01


def listen() -> None:
    """Raise ``Stopped`` in the main thread on SIGTERM and, unless ignored, on SIGINT and SIGHUP."""
    signal.signal(signal.SIGTERM, _stop)
    if hasattr(signal, "SIGHUP") and signal.getsignal(signal.SIGHUP) is signal.SIG_DFL:
        signal.signal(signal.SIGHUP, _stop)
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, _stop)
    sys.unraisablehook = _unraisable


def stop_behind(err: BaseException) -> Stopped | None:
    """The stop that made ``err``: a C extension that one hits on import raises another error."""
    cause: BaseException | None = err
    while cause is not None and not isinstance(cause, Stopped):
        cause = cause.__cause__ or cause.__context__
    return cause


def _stop(signum: int, _frame: object) -> NoReturn:
    raise Stopped(signum)


def _unraisable(caught: UnraisableHookArgs) -> None:
    """Send a stop again that came inside a finalizer, where Python drops every exception."""
    if isinstance(caught.exc_value, Stopped):
        arguments = (caught.exc_value.signum,)
        threading.Timer(_AGAIN_SECONDS, _thread.interrupt_main, arguments).start()
    else:
        sys.__unraisablehook__(caught)
