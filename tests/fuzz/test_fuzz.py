"""The fuzzers make the same cases anew, and see every bad end."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from tests.fuzz import graphs, models, samples, seeds, texts
from tests.fuzz.case import Case
from tests.fuzz.helper import Bounds, Helper, Lost, watched_command
from tests.fuzz.verdict import Ending, findings

CASE = Case(arguments=("inspect", "m.onnx"), story=(), model="m.onnx", out="o.onnx", lossless=True)
RUNS = {"loads": True, "runs": True, "valid": True}
ERROR = "graphopt: error: it is broken\n"
NO_KERNEL = "measured in float32: onnxruntime has no kernel here: no implementation for Gemm(13)\n"


def ending(**changes: Any) -> Ending:
    """A good one, but for the changes."""
    good: dict[str, Any] = {
        "code": 0,
        "death": None,
        "seconds": 1.0,
        "bytes": 0,
        "errors": "",
        "truth": {**RUNS, "out_loads": True, "out_runs": True, "sqnr_db": float("inf")},
        "written": True,
    }
    return Ending(**{**good, **changes})


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, []),
        ({"death": "signal 11", "code": None}, ["signal 11"]),
        ({"code": 1, "errors": ERROR}, ["internal"]),
        ({"code": None, "errors": ""}, ["internal"]),
        ({"code": 3, "errors": ERROR, "truth": {"loads": False}}, []),
        ({"code": 3, "errors": ERROR, "truth": RUNS}, ["refused though it is valid and runs"]),
        ({"code": 3, "errors": ERROR, "truth": {**RUNS, "valid": False}}, []),
        ({"code": 3, "truth": {}}, ["0 error lines"]),
        ({"code": 3, "errors": ERROR * 2, "truth": {}}, ["2 error lines"]),
        ({"code": 7, "errors": ERROR, "truth": {}}, ["exit 7"]),
        ({"written": False}, ["nothing written"]),
        ({"truth": {"loads": False}}, ["written in silence though nothing loads it"]),
        ({"truth": {"loads": False}, "errors": "note: nothing was run\n"}, []),
        ({"truth": {**RUNS, "out_loads": False}}, ["OUT does not load"]),
        ({"truth": {**RUNS, "out_loads": True, "out_runs": False}}, ["OUT does not run"]),
        ({"truth": {**RUNS, "out_loads": False, "out_runs": False}, "printed": NO_KERNEL}, []),
        ({"truth": {**RUNS, "sqnr_db": 60.0}}, ["answers differ"]),
    ],
)
def test_bad_ends_are_seen(changes: dict[str, Any], expected: list[str]) -> None:
    assert findings(CASE, ending(**changes)) == expected


def test_a_sound_case_must_pass() -> None:
    sound = Case(arguments=("inspect", "m.onnx"), story=(), sound=True)
    assert findings(sound, ending(code=3, errors=ERROR)) == ["a sound case refused"]


def head(path: Path) -> tuple[int, bytes]:
    """Size and first bytes; some files are mostly holes, and some are none."""
    if path.is_symlink() or not path.is_file():
        return 0, b""
    with path.open("rb") as file:
        return path.stat().st_size, file.read(100_000)


@pytest.mark.parametrize("kind", [models, samples, texts, graphs])
def test_a_case_is_made_anew(kind: Any, tmp_path: Path) -> None:
    stories = set()
    for number in range(30):
        cases, files = [], []
        for again in ("one", "two"):
            folder = tmp_path / f"{number}-{again}"
            folder.mkdir()
            cases.append(kind.make(number, folder))
            files.append({path.name: head(path) for path in folder.rglob("*")})
        assert cases[0] == cases[1]
        assert files[0] == files[1]
        cases[0].note(folder)
        assert Case.noted(folder).arguments == cases[0].arguments
        stories.add(cases[0].story)
    assert len(stories) > 5


@pytest.mark.parametrize("name", sorted(seeds.SEEDS))
def test_seeds_are_sound(name: str, tmp_path: Path) -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    model = seeds.seed_model(name)
    plain = onnxruntime.InferenceSession(model.SerializeToString()).run(None, seeds.samples(model))
    data = seeds.externalize(model, "m.data")
    (tmp_path / "m.data").write_bytes(data)
    (tmp_path / "m.onnx").write_bytes(model.SerializeToString())
    apart = onnxruntime.InferenceSession(str(tmp_path / "m.onnx")).run(None, seeds.samples(model))
    assert repr(plain) == repr(apart)


@pytest.mark.parametrize("number", range(20))
def test_random_graphs_are_sound(number: int) -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    model = graphs.random_graph(number)
    onnx.checker.check_model(model, full_check=True)
    session = onnxruntime.InferenceSession(model.SerializeToString())
    rows = 0
    for stream in (1, 2):
        given = graphs.fresh(model, 4, stream)
        batch = model.graph.input[0].type.tensor_type.shape.dim[0].dim_value or 4
        (answer, *_) = session.run(None, {"x": given[:batch]})
        assert np.isfinite(answer).all()
        rows += len(answer)
    assert rows > 0


AMPLE = Bounds(seconds=60, bytes=10**9)


def test_lost_workers_are_told_and_replaced(tmp_path: Path) -> None:
    helper = Helper()
    try:
        with pytest.raises(RuntimeError, match="no_such_module"):
            helper.ask(AMPLE, do="make", kind="no_such_module", number=0, folder=str(tmp_path))
        with pytest.raises(Lost, match="timeout"):
            helper.ask(Bounds(seconds=0, bytes=10**9), do="run", folder=str(tmp_path), arguments=[])
        answer = helper.ask(AMPLE, do="run", folder=str(tmp_path), arguments=["inspect", "nope"])
    finally:
        helper.end()
    assert answer["code"] == 3
    assert (tmp_path / "stderr.txt").read_text() == "graphopt: error: nope: no such file\n"


@pytest.mark.parametrize(
    ("body", "how"),
    [
        ("import os, signal\nos.kill(os.getpid(), signal.SIGSEGV)", f"signal {signal.SIGSEGV}"),
        ("x = bytearray(400_000_000)\nimport time\ntime.sleep(60)", "memory"),
    ],
)
def test_ends_of_commands(body: str, how: str, tmp_path: Path) -> None:
    """A function of the user that takes the process down, as a stand-in for a crash of ours."""
    lines = "".join(f"    {line}\n" for line in body.splitlines())
    (tmp_path / "feeds.py").write_text(f"def samples():\n{lines}")
    (tmp_path / "m.onnx").write_bytes(seeds.seed_model("mlp").SerializeToString())
    arguments = ("optimize", "m.onnx", "--calib", "feeds.py:samples", "-p", "eliminate-dead")
    bounds = Bounds(seconds=60, bytes=300_000_000)
    with Path(os.devnull).open("wb") as nowhere, pytest.raises(Lost, match=how):
        watched_command(arguments, tmp_path, bounds, nowhere, nowhere)
