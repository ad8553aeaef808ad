"""graphopt: the compressor for ONNX models.

The names below are loaded on first use, so that ``import graphopt`` stays cheap.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"
__all__ = ["Result", "__version__", "bench", "compare", "inspect", "optimize"]

if TYPE_CHECKING:
    from graphopt.bench import bench
    from graphopt.compare import compare
    from graphopt.inspect import inspect
    from graphopt.optimize import Result, optimize

_HOMES = {
    "Result": "graphopt.optimize",
    "bench": "graphopt.bench",
    "compare": "graphopt.compare",
    "inspect": "graphopt.inspect",
    "optimize": "graphopt.optimize",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'graphopt' has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(_HOMES[name]), name)
