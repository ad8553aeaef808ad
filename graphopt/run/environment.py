"""Where a run happens: CPU, its flags for integer kernels, versions."""

from __future__ import annotations

import platform
import sys
from importlib import metadata

import psutil

from graphopt.run.record import Environment
from graphopt.runtime.session import thread_count
from graphopt.targets import Target, elsewhere, find
from graphopt.targets.host import cpu_flags, cpu_name

__all__ = ["describe", "peak_rss_bytes"]

_PACKAGES = ("onnx", "onnxruntime", "numpy", "scipy")
_TELLING = ("avx2", "avx512f", "avx512_vnni", "avx_vnni", "amx_int8", "asimddp", "i8mm", "sve")


def describe(target: Target, threads: int) -> Environment:
    """The environment for the record."""
    versions = {"python": platform.python_version()}
    versions |= {package: metadata.version(package) for package in _PACKAGES}
    return Environment(
        cpu=cpu_name(),
        flags=[flag for flag in _TELLING if flag in cpu_flags()],
        threads=thread_count(threads),
        target=target.name,
        versions=versions,
        timed_on=_timed_on(target),
    )


def _timed_on(target: Target) -> str:
    """What the times are of, where the target is another machine or runtime; else empty."""
    here = find("host")
    if not elsewhere(target):
        return ""
    return f"{here.runtime} on this {here.machine}, not {target.machine}{_runtime(target, here)}"


def _runtime(target: Target, here: Target) -> str:
    return "" if target.runtime == here.runtime else f" with {target.runtime}"


def peak_rss_bytes() -> int:
    """Largest resident memory of this process so far."""
    if sys.platform == "win32":
        return int(psutil.Process().memory_info().peak_wset)
    import resource  # noqa: PLC0415 - there is none on Windows

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return int(peak) if sys.platform == "darwin" else int(peak) * 1024
