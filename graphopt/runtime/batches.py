"""How many samples a model takes at once."""

from __future__ import annotations

from graphopt.data.samples import Samples
from graphopt.errors import ModelError
from graphopt.runtime.session import Session

__all__ = ["largest_batch"]


def largest_batch(session: Session, samples: Samples, wanted: int) -> int:
    """``wanted`` if the model runs on a feed of so many samples, else 1.

    Some exports declare a free batch and reshape to a fixed one inside.

    Args:
        session: A session of the model.
        samples: Where the feed comes from; a model of fixed batch gets its own batch anyway.
        wanted: Samples in one feed.
    """
    try:
        for feeds, _ in samples.feeds(batch=wanted, limit=wanted):
            session.run(feeds)
    except ModelError:
        return 1
    return wanted
