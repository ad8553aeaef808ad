"""One session at a time of a large model; that of a small one stays."""

from __future__ import annotations

import gc
from weakref import ref

import numpy as np
import pytest

from graphopt.graph import io
from graphopt.run import shared_session as module
from graphopt.run.shared_session import SharedSession
from graphopt.testing import MODELS


def _shared(*, held: bool = True) -> SharedSession:
    return SharedSession(io.load(MODELS["mlp"]()), 1, held=held)


def test_the_session_of_a_small_model_stays() -> None:
    shared = _shared()
    first = ref(shared.get())
    gc.collect()
    assert first() is not None
    assert shared.get() is first()
    assert shared.passing() is first()


def test_the_session_of_a_large_model_is_shared_and_goes_with_its_last_holder(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "HELD_WEIGHTS_BYTES", 0)
    shared = _shared()
    mine = shared.get()
    assert shared.get() is mine
    assert shared.passing() is mine
    gone = ref(mine)
    del mine
    gc.collect()
    assert gone() is None
    assert shared.get().run({"x": np.zeros((1, 32), np.float32)})


@pytest.mark.parametrize("held", [True, False])
def test_who_needs_it_once_or_has_no_memory_holds_none(held: bool) -> None:
    shared = _shared(held=held)
    session = ref(shared.passing() if held else shared.get())
    gc.collect()
    assert session() is None
