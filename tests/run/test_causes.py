"""What could be the reason that a result answers badly."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

import graphopt.passes  # noqa: F401 - fills the registry
from graphopt.contract.spec import parse_passes
from graphopt.data import open_data
from graphopt.graph.tensors import Array
from graphopt.run.causes import calibration_faults, likely_causes
from graphopt.run.means import Means
from graphopt.run.sequence import run_passes
from graphopt.run.stage import Stage
from graphopt.testing import model_from_text, staged

NET = """<ir_version: 8, opset_import: ["" : 17]>
g (float[n, 4] x, int64[n, 1] id) => (float[n, 8] y) {
    [first] a = MatMul(x, w) r = Relu(a) [second] b = MatMul(r, v) c = Cast<to = 1>(id)
    y = Add(b, c)
}"""
RNG = np.random.default_rng(0)


def rows(count: int, high: float, ids: int = 1) -> dict[str, Array]:
    return {
        "x": RNG.uniform(0, high, (count, 4)).astype(np.float32),
        "id": np.full((count, 1), ids, np.int64),
    }


def measured(
    calibration: dict[str, Array], judging: dict[str, Array] | None, spec: str = "quantize-static"
) -> tuple[Stage, Means]:
    stage, means = staged(model_from_text(NET, {"w": (4, 64), "v": (64, 8)}), calibrated=False)
    graph = means.reference
    means = replace(
        means,
        calibration=open_data(calibration, graph),
        evaluation=None if judging is None else open_data(judging, graph),
    )
    stage, _ = run_passes(Stage(graph, means), means, parse_passes(spec))
    return stage, means


def test_inputs_that_are_not_scaled_alike_are_named() -> None:
    (cause,) = likely_causes(*measured(rows(20, 1.0), rows(20, 255.0)))
    assert cause.startswith("input 'x' goes from ")
    assert cause.endswith(" in those that judge: they are not scaled alike")


def test_whole_numbers_are_inputs_too() -> None:
    (cause,) = likely_causes(*measured(rows(20, 1.0), rows(20, 1.0, ids=900)))
    assert cause.startswith("input 'id' goes from 1 to 1 in the calibration samples and from 900 ")


def test_a_tensor_beyond_its_range_is_named_with_both_ranges() -> None:
    (cause,) = likely_causes(*measured(rows(20, 1.0), rows(20, 2.5)))
    assert "what lies beyond is clipped" in cause
    assert cause.startswith(("'x' goes from 0", "'r' goes from 0"))


def test_the_same_kind_of_samples_is_no_cause() -> None:
    assert likely_causes(*measured(rows(40, 1.0), rows(40, 1.0))) == []


def test_few_samples_are_one() -> None:
    causes = likely_causes(*measured(rows(3, 1.0), rows(3, 1.0)))
    assert causes[-1] == "3 calibration samples are too few"


def test_without_fixed_ranges_only_scales_are_told() -> None:
    spec = "quantize-weights"
    assert likely_causes(*measured(rows(40, 1.0), rows(40, 2.5), spec)) == []


def test_samples_that_are_all_alike_are_a_fault_of_their_own() -> None:
    one = {name: np.repeat(each[:1], 6, axis=0) for name, each in rows(1, 1.0).items()}
    (fault,) = calibration_faults(measured(one, None)[1])
    assert fault.startswith("all 6 calibration samples are one and the same")
    assert likely_causes(*measured(one, rows(20, 9.0)))[0] == fault
    assert calibration_faults(measured(rows(6, 1.0), None)[1]) == []
