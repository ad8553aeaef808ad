"""No public name stands for two things in the package."""

from __future__ import annotations

import ast
from collections import defaultdict
from pathlib import Path

ROOT = Path(__file__).parents[1]

AFTER_OPERATORS = ("graphopt/bridge/ops/", "graphopt/facts/ax")
"""Where functions are named after the operator whose rule or computation they are."""

FINE = {
    **dict.fromkeys(
        ("analyze", "bench", "compare", "distill", "inspect", "optimize"),
        "a command and the function behind",
    ),
    **dict.fromkeys(
        ("describe", "evaluate", "find", "load", "names", "operators", "save", "size", "write"),
        "the same duty of several modules",
    ),
    **dict.fromkeys(
        ("page", "plain", "ratio", "sparsity", "whole"), "said with their module, or never together"
    ),
    "Walk": "what passes are promised, and the class that keeps it",
    "expand": "the operator's rule, and what expands stored integers",
    "fitted": "to a tensor's axes; to a student's names",
    "grouped": "keywords; layers; records",
    "quantize": "the operator's rule, and the formula",
    "staged": "samples on disk; a model as the first stage of a run",
}
"""Names that are defined more than once, with the reason why that misleads nobody."""


def definitions() -> dict[str, list[str]]:
    """Files by the public functions and classes at their top level."""
    places: dict[str, list[str]] = defaultdict(list)
    for folder in ("graphopt", "passes"):
        for path in sorted((ROOT / folder).rglob("*.py")):
            file = path.relative_to(ROOT).as_posix()
            if file.startswith("graphopt/passes/"):
                continue
            for node in ast.parse(path.read_text(encoding="utf-8")).body:
                if isinstance(node, ast.FunctionDef | ast.ClassDef) and node.name[0] != "_":
                    places[node.name].append(file)
    return places


def test_no_public_name_stands_for_two_things() -> None:
    places = definitions()
    assert len(places) > 500
    doubles = {
        name: files
        for name, files in places.items()
        if len(files) > 1 and not all(file.startswith(AFTER_OPERATORS) for file in files)
    }
    unknown = {name: files for name, files in doubles.items() if name not in FINE}
    assert unknown == {}
    assert [name for name in FINE if name not in doubles] == []
