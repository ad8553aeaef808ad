"""How far answers may be off before a form is not taken, and a result is called bad."""

from __future__ import annotations

from collections.abc import Collection

from graphopt.run.means import Means
from graphopt.run.quality import Quality
from graphopt.tasks.quality import OutputQuality, share_db

__all__ = ["FLOOR_DB", "held_outputs", "too_far"]

FLOOR_DB = 12.0
"""What is further off is never chosen: 6 % of the output's power would be error."""
_ERROR = 10 ** (-FLOOR_DB / 10)
"""The same share of decisions or rows."""


def held_outputs(quality: Quality | None, means: Means) -> frozenset[str]:
    """Outputs whose decisions a limit of the user's holds: no floor of ours is needed there.

    Args:
        quality: What was measured of them.
        means: With the limits, and the metric that a drop is one of.
    """
    held = set[str]()
    if means.limits.min_agreement is not None and quality is not None:
        decide = (n for n, each in quality.outputs.items() if each.agreement is not None)
        held.update(decide)
    if means.limits.max_drop is not None and means.metric is not None:
        task = means.metric.task
        held.update(means.reference.main.outputs if task is None else [task.output])
    return frozenset(held)


def too_far(
    quality: Quality | None, floor_db: float | None, held: Collection[str] = frozenset()
) -> str:
    """Why answers so close are not close enough; empty where they are.

    Args:
        quality: What was measured; where nothing could be compared, nothing shows that it is right.
        floor_db: Least SQNR of outputs that hold numbers; None for ours. What is decided must
            be the same by ours.
        held: Outputs that need no floor.
    """
    if quality is None or not quality.evidence:
        return "no output could be compared, so nothing shows that it answers right"
    for output, fault in quality.faults.items():
        return f"output {output!r}, {fault}"
    floor = FLOOR_DB if floor_db is None else floor_db
    numbers = {n: value for n, value in quality.numbers_db.items() if n not in held}
    least = min((value for value in numbers.values() if value is not None), default=None)
    if least is not None and least < floor:
        name = next(n for n, value in numbers.items() if value == least)
        where = f" of {name!r}" if len(quality.sqnr_db) > 1 else ""
        where += _part(quality.outputs.get(name))
        return f"{least:.1f} dB{where}, at least {floor:g} dB {_wanted(floor_db)}"
    free = {name: each for name, each in quality.outputs.items() if name not in held}
    for output, each in free.items() if floor_db is None else ():
        strict = floor + each.allowance_db
        if each.numbers_db is not None and each.numbers_db < strict:
            return f"state {output!r} at {each.numbers_db:.1f} dB, at least {strict:g} dB needed"
    errors = [(each.error, name) for name, each in free.items() if each.error is not None]
    error, name = max(errors, default=(0.0, ""))
    return _differs(error, name, free[name]) if share_db(error) < FLOOR_DB else ""


def _part(told: OutputQuality | None) -> str:
    """Which part of an output is as far off as its worst figure says; empty for the whole."""
    worst = None if told is None else told.worst_slice
    if told is None or told.numbers_db == told.sqnr_db:
        return ""
    if worst is not None and worst.sqnr_db == told.numbers_db:
        return f" (index {worst.index} of axis {worst.axis})"
    if told.after_steps_db == told.numbers_db:
        return f" (after {told.steps} steps of feeding back)"
    return " (about its means)"


def _differs(error: float, name: str, told: OutputQuality) -> str:
    """What is not the same in the output where most is not."""
    if told.rows is not None:
        recall, precision = told.rows.recall, told.rows.precision
        return (
            f"recall {recall:.1f} %, precision {precision:.1f} % of the rows of {name!r}, "
            f"at least {100 * (1 - _ERROR / 2):.0f} % needed"
        )
    return f"{error:.1%} of what {name!r} decides differs, at most {_ERROR:.0%} may"


def _wanted(floor_db: float | None) -> str:
    return "needed" if floor_db is None else "asked"
