from __future__ import annotations

from pathlib import Path

import onnx
import pytest
from onnx import parser

from graphopt.commands.bench import bench
from graphopt.errors import ModelError, UsageError
from graphopt.report import listing

MODEL = parser.parse_model("""
<ir_version: 8, opset_import: ["" : 17]>
g (float[N, 4] x, int64[2] i) => (float[N, M] y) { y = Gather<axis = 1>(x, i) }
""")


def test_each_model_in_turns(tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    onnx.save(MODEL, path)
    seen: list[tuple[str, int, int]] = []
    found = bench(path, MODEL, threads=1, rounds=4, progress=lambda *at: seen.append(at))
    assert [timing.path for timing in found.timings] == [str(path), None]
    assert (found.threads, found.rounds, found.provider) == (1, 4, "CPUExecutionProvider")
    assert found.timings[0].ratio == 1.0 and found.timings[0].ratio_spread == 0.0
    for timing in found.timings:
        assert 0 < timing.low_ms <= timing.median_ms <= timing.high_ms
    assert found.feeds == "random, seed 0: x float32[1, 4], i int64[2]"
    assert seen[-1] == ("measure", 4, 4)


def test_no_model_and_no_rounds_are_refused() -> None:
    with pytest.raises(UsageError, match="at least one model"):
        bench()
    with pytest.raises(UsageError, match="rounds=0"):
        bench(MODEL, rounds=0)


def test_a_missing_file_is_named() -> None:
    with pytest.raises(ModelError, match=r"nothing\.onnx"):
        bench("nothing.onnx")


def test_it_prints(capsys: pytest.CaptureFixture[str]) -> None:
    listing.print_benchmark(bench(MODEL, MODEL, rounds=3))
    text = capsys.readouterr().out
    for word in ("median", "1.000x", "CPUExecutionProvider", "3 of each model, in turns"):
        assert word in text
