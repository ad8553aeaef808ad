"""Helpers to test passes with: tiny models and the battery that runs over every pass."""

from graphopt.testing.apply import Applied, apply_pass, apply_passes, run_model
from graphopt.testing.checks import CLASS_CHECKS, MODEL_CHECKS, check_pass
from graphopt.testing.models import MODELS, model_from_text
from graphopt.testing.stages import staged

__all__ = [
    "CLASS_CHECKS",
    "MODELS",
    "MODEL_CHECKS",
    "Applied",
    "apply_pass",
    "apply_passes",
    "check_pass",
    "model_from_text",
    "run_model",
    "staged",
]
