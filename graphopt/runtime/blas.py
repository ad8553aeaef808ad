"""Threads of the linear algebra of numpy and scipy."""

from __future__ import annotations

from contextlib import AbstractContextManager
from functools import cache

import numpy as np
import scipy.linalg
from threadpoolctl import ThreadpoolController

__all__ = ["one_blas_thread"]


def one_blas_thread() -> AbstractContextManager[object]:
    """Let products and factorisations of matrices run in the thread that asks for them.

    OpenBLAS's own threads wait for each other in loops. Where something else needs a core, each
    wait lasts until its turn comes: with two threads on two busy cores factorisations of 256 x 256
    took 160 times as much processor time as with one, those of 1152 x 1152 25 times. What is worth
    more than one core is divided into threads of Python, which sleep while they wait.

    Whoever calls in between, in whatever thread, is held to it as well; afterwards all is as it
    was.
    """
    held: AbstractContextManager[object] = _controller().limit(limits=1, user_api="blas")
    return held


@cache
def _controller() -> ThreadpoolController:
    """Finds the libraries that are loaded: scipy has one of its own beside numpy's."""
    assert np.linalg, scipy.linalg
    return ThreadpoolController()
