from __future__ import annotations

import gc
import platform

import numpy as np
import psutil
import pytest

from graphopt.graph.graph import Graph
from graphopt.runtime import session
from graphopt.runtime.heap import give_back
from graphopt.runtime.session import Session
from graphopt.testing import model_from_text

GLIBC = platform.libc_ver()[0] == "glibc"


@pytest.mark.skipif(not GLIBC, reason="malloc_trim is of glibc")
def test_free_memory_goes_back_to_the_machine() -> None:
    held = [bytearray(60_000) for _ in range(2000)]  # too small to be mapped one by one
    last = bytearray(60_000)
    before = psutil.Process().memory_info().rss
    del held
    give_back()
    assert psutil.Process().memory_info().rss < before - 60_000_000
    assert len(last) == 60_000


@pytest.mark.parametrize(("least", "calls"), [(0, 1), (1 << 40, 0)])
def test_a_session_of_a_large_model_gives_its_memory_back(
    monkeypatch: pytest.MonkeyPatch, least: int, calls: int
) -> None:
    given = list[bool]()

    def fake() -> bool:
        given.append(True)
        return True

    monkeypatch.setattr(session, "_LARGE_BYTES", least)
    monkeypatch.setattr(session, "give_back", fake)
    model = model_from_text(
        """<ir_version: 8, opset_import: ["" : 13]>
        g (float[N,4] x) => (float[N,4] y) { y = MatMul (x, w) }""",
        {"w": (4, 4)},
    )
    held = Session(Graph(model), threads=1)
    assert held.run({"x": np.zeros((2, 4), np.float32)})["y"].shape == (2, 4)
    assert given == []
    del held
    gc.collect()
    assert len(given) == calls
