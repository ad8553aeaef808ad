"""graphopt: the compressor for ONNX models.

The names below are loaded on first use, so that ``import graphopt`` stays cheap.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"
__all__ = [
    "Data",
    "GraphoptError",
    "Limits",
    "Machine",
    "Result",
    "__version__",
    "analyze",
    "bench",
    "compare",
    "distill",
    "inspect",
    "optimize",
]

if TYPE_CHECKING:
    from graphopt.commands.analyze import analyze
    from graphopt.commands.bench import bench
    from graphopt.commands.compare import compare
    from graphopt.commands.distill import distill
    from graphopt.commands.inspect import inspect
    from graphopt.commands.optimize import optimize
    from graphopt.commands.result import Result
    from graphopt.commands.sources import Data
    from graphopt.contract.settings import Limits, Machine
    from graphopt.errors import GraphoptError

_HOMES = {
    "Data": "graphopt.commands.sources",
    "GraphoptError": "graphopt.errors",
    "Limits": "graphopt.contract.settings",
    "Machine": "graphopt.contract.settings",
    "Result": "graphopt.commands.result",
    "analyze": "graphopt.commands.analyze",
    "bench": "graphopt.commands.bench",
    "compare": "graphopt.commands.compare",
    "distill": "graphopt.commands.distill",
    "inspect": "graphopt.commands.inspect",
    "optimize": "graphopt.commands.optimize",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'graphopt' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)
