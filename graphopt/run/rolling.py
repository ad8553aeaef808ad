"""Models whose outputs are a state that they take at the next step: run for some steps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from graphopt.data.samples import Feeds
from graphopt.errors import NotRun
from graphopt.observe.request import Rows
from graphopt.runtime.session import Session
from graphopt.tasks.task import Task

__all__ = ["STEPS", "Rollout", "roll", "rollouts"]

STEPS = 8
"""Steps of feeding back, the first one on the state of the sample."""
_ROLLOUTS = 2


@dataclass(frozen=True)
class Rollout:
    """Feeds one after the other; of all but the first the state comes from the step before.

    Attributes:
        feeds: Of each step.
        rows: What of each counts.
        states: Outputs that are fed back, each with the input that takes it.
        answers: What the model that is right gives at each step.
    """

    feeds: Sequence[Feeds]
    rows: Sequence[Rows]
    states: Mapping[str, str]
    answers: list[dict[str, Any]]


def rollouts(
    session: Session, tasks: Mapping[str, Task], feeds: Sequence[Feeds], rows: Sequence[Rows]
) -> list[Rollout]:
    """Rollouts through some samples; none where no output is fed back, or that does not go on.

    A state that grows from step to step is none that can be fed back with the other inputs as
    they are.

    Args:
        session: Of the model that is right.
        tasks: What its outputs mean.
        feeds: Of some samples.
        rows: What of each feed counts.
    """
    states = {name: task.fed_to for name, task in tasks.items() if task.fed_to}
    if not states:
        return []
    found = list[Rollout]()
    for first in range(min(_ROLLOUTS, len(feeds))):
        places = [(first + step) % len(feeds) for step in range(STEPS)]
        rollout = Rollout([feeds[n] for n in places], [rows[n] for n in places], states, [])
        try:
            answers = roll(session, rollout)
        except NotRun:
            return []
        if answers[-1]:
            found.append(Rollout(rollout.feeds, rollout.rows, states, answers))
    return found


def roll(session: Session, rollout: Rollout) -> list[dict[str, Any]]:
    """What a model answers at each step; nothing from where its state changes in shape.

    Raises:
        NotRun: A step fails.
    """
    answers = list[dict[str, Any]]()
    state: dict[str, Any] = {}
    for feeds in rollout.feeds:
        if any(np.shape(value) != np.shape(feeds[name]) for name, value in state.items()):
            break
        answers.append(session.run({**feeds, **state}))
        state = {taken: answers[-1][name] for name, taken in rollout.states.items()}
    return answers + [{}] * (len(rollout.feeds) - len(answers))
