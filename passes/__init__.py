"""All passes; importing this package fills the registry."""

from graphopt.passes import cleanup, factorize, foreign, prune, quantize, train

__all__ = ["cleanup", "factorize", "foreign", "prune", "quantize", "train"]
