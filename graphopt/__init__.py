"""graphopt: the compressor for ONNX models.

The names below are loaded on first use, so that ``import graphopt`` stays cheap.
"""

from __future__ import annotations

import sys
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"
__all__ = [
    "GraphoptError",
    "Result",
    "__version__",
    "bench",
    "compare",
    "distill",
    "inspect",
    "optimize",
]

if TYPE_CHECKING:
    from graphopt.bench import bench
    from graphopt.compare import compare
    from graphopt.distill import distill
    from graphopt.errors import GraphoptError
    from graphopt.inspect import inspect
    from graphopt.optimize import Result, optimize

_HOMES = {
    "GraphoptError": "graphopt.errors",
    "Result": "graphopt.optimize",
    "bench": "graphopt.bench",
    "compare": "graphopt.compare",
    "distill": "graphopt.distill",
    "inspect": "graphopt.inspect",
    "optimize": "graphopt.optimize",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'graphopt' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


class _Package(ModuleType):
    """The package with functions where its modules of the same names would hide them.

    Importing ``graphopt.optimize``, anywhere, sets that module as an attribute of the package;
    ``graphopt.optimize(...)`` must go on being the function.
    """

    def __setattr__(self, name: str, value: Any) -> None:
        hides = name in _HOMES and isinstance(value, ModuleType)
        super().__setattr__(name, getattr(value, name) if hides else value)


sys.modules[__name__].__class__ = _Package
