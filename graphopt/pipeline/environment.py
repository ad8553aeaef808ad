"""Where a run happens: CPU, its flags for integer kernels, versions."""

from __future__ import annotations

import os
import platform
import resource
import sys
from importlib import metadata
from pathlib import Path

from graphopt.pipeline.record import Environment
from graphopt.targets import Target

__all__ = ["describe", "peak_rss_bytes"]

_PACKAGES = ("onnx", "onnxruntime", "numpy", "scipy")
_TELLING = ("avx2", "avx512f", "avx512_vnni", "avx_vnni", "amx_int8", "asimddp", "i8mm", "sve")


def describe(target: Target, threads: int) -> Environment:
    """The environment for the record."""
    name, flags = _cpu()
    versions = {"python": platform.python_version()}
    versions |= {package: metadata.version(package) for package in _PACKAGES}
    return Environment(
        cpu=name,
        flags=[flag for flag in _TELLING if flag in flags],
        threads=threads or len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 1,
        target=target.name,
        versions=versions,
    )


def _cpu() -> tuple[str, set[str]]:
    """Model name and flags as the kernel lists them; elsewhere what the platform module says."""
    info = Path("/proc/cpuinfo")
    name, flags = platform.processor() or platform.machine(), set[str]()
    if info.exists():
        for line in info.read_text(encoding="utf-8", errors="replace").splitlines():
            key, _, value = line.partition(":")
            if key.strip() == "model name":
                name = value.strip()
            elif key.strip() in ("flags", "Features"):
                flags = set(value.split())
    return name, flags


def peak_rss_bytes() -> int:
    """Largest resident memory of this process so far."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return int(peak) if sys.platform == "darwin" else int(peak) * 1024
