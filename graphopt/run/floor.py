"""How far answers may be off before a form is not taken, and a result is called bad."""

from __future__ import annotations

from graphopt.run.record import Quality
from graphopt.tasks.quality import share_db

__all__ = ["FLOOR_DB", "too_far"]

FLOOR_DB = 12.0
"""What is further off is never chosen: 6 % of the output's power would be error."""
_ERROR = 10 ** (-FLOOR_DB / 10)
"""The same share of decisions or rows."""


def too_far(quality: Quality | None, floor_db: float | None) -> str:
    """Why answers so close are not close enough; empty where they are.

    Args:
        quality: What was measured; where nothing could be compared, nothing shows that it is right.
        floor_db: Least SQNR of outputs that hold numbers; None for ours. What is decided must
            be the same by ours.
    """
    if quality is None or not quality.evidence:
        return "no output could be compared, so nothing shows that it answers right"
    for output, fault in quality.faults.items():
        return f"output {output!r}, {fault}"
    floor = FLOOR_DB if floor_db is None else floor_db
    least, error = quality.least_db, quality.error
    if least is not None and least < floor:
        return f"{least:.1f} dB, at least {floor:g} dB {_wanted(floor_db)}"
    for output, each in quality.outputs.items() if floor_db is None else ():
        strict = floor + each.allowance_db
        if each.numbers_db is not None and each.numbers_db < strict:
            return f"state {output!r} at {each.numbers_db:.1f} dB, at least {strict:g} dB needed"
    if error is not None and share_db(error) < FLOOR_DB:
        return f"{error:.1%} of its decisions or rows differ, at most {_ERROR:.0%} may"
    return ""


def _wanted(floor_db: float | None) -> str:
    return "needed" if floor_db is None else "asked"
