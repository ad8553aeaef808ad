"""Steps that are written elsewhere and run as passes."""

from graphopt.passes.foreign.apply_function import ApplyFunction, Foreign

__all__ = ["ApplyFunction", "Foreign"]
