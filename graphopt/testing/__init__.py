"""Helpers to test passes with: tiny models and the battery that runs over every pass."""

from graphopt.testing.apply import Applied, apply_pass, apply_passes, run_model
from graphopt.testing.battery import check_pass
from graphopt.testing.cell import Cell
from graphopt.testing.cell_checks import CELL_CHECKS, EXAMPLE_CHECKS
from graphopt.testing.class_checks import CLASS_CHECKS, unreached
from graphopt.testing.models import MODELS
from graphopt.testing.stages import staged
from graphopt.testing.text import model_from_text
from graphopt.testing.zeroed import zeroed

__all__ = [
    "CELL_CHECKS",
    "CLASS_CHECKS",
    "EXAMPLE_CHECKS",
    "MODELS",
    "Applied",
    "Cell",
    "apply_pass",
    "apply_passes",
    "check_pass",
    "model_from_text",
    "run_model",
    "staged",
    "unreached",
    "zeroed",
]
