"""What a form of the model is and is called: by the passes that changed it, not by the plan."""

from __future__ import annotations

from collections.abc import Sequence

from graphopt.contract.passes import Pass
from graphopt.search.candidate import Kind

__all__ = ["called"]

_FORMS: tuple[tuple[str, Kind, str], ...] = (
    ("quantize-static", "static", "int8 static"),
    ("quantize-dynamic", "dynamic", "int8 dynamic"),
    ("quantize-weights", "weights", "int8 weights only"),
)
"""The pass that decides, the first of them that changed something."""
_SMOOTHS = {"smooth-activations", "scale-rows"}


def called(done: Sequence[Pass], kind: Kind, name: str) -> tuple[Kind, str]:
    """What came out of a proposal, and its name.

    Args:
        done: The passes that changed the model.
        kind: What was proposed; it stays where no pass quantized.
        name: Its name.
    """
    names = {item.name for item in done}
    found = next((form for form in _FORMS if form[0] in names), None)
    if found is None:
        return kind, name
    _, made, words = found
    if _SMOOTHS & names:
        return "smoothed", f"{words}, smoothed"
    return (kind, name) if kind == "mixed" and made == "static" else (made, words)
