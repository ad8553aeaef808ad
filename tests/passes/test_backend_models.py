"""Every pass that needs no data, over the models that come with onnx: valid, and right.

Each pass takes every second model, its neighbour in the list of passes the others.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx.backend.test import loader
from onnx.backend.test.case.test_case import TestCase

import graphopt.passes  # noqa: F401 - fills the registry
from graphopt.contract import registry
from graphopt.contract.preconditions import CalibrationSamples
from graphopt.data.samples import Feeds, Samples
from graphopt.data.synthetic import SyntheticSamples
from graphopt.errors import GraphoptError, ModelError
from graphopt.graph import check, io
from graphopt.graph.graph import Graph
from graphopt.graph.tensors import Array
from graphopt.run.judge import Judge
from graphopt.testing import apply_pass

_PASSES = [name for name in registry.names() if not registry.find(name)().asks(CalibrationSamples)]
_OUTCOMES = ("done", "nothing to do", "refused")
_KINDS = ("node", "simple", "pytorch-converted", "pytorch-operator")
_FAULTY = ("test_affine_grid_2d_expanded", "test_affine_grid_2d_align_corners_expanded")
"""Give Range a vector, hidden behind an If: onnxruntime finds out once the If is gone."""
_LIGHT = Path(loader.DATA_DIR) / "light"


@dataclass(frozen=True)
class _Recorded:
    """The one feed that comes with a test case."""

    values: Feeds
    count: int = 1
    labels: Array | None = None

    def feeds(self, batch: int = 1, limit: int | None = None) -> Iterator[tuple[Feeds, int]]:
        yield dict(self.values), 1


@dataclass(frozen=True)
class _Case:
    name: str
    graph: Graph
    samples: Samples


def _recorded(case: TestCase) -> tuple[onnx.ModelProto, list[object]]:
    """Model and inputs of a case, whether it was made in memory or is a folder."""
    if case.model is not None and case.data_sets:
        return case.model, list(case.data_sets[0][0])
    assert case.model_dir is not None
    folder = Path(case.model_dir)
    model = onnx.load(folder / "model.onnx")
    inputs: list[object] = []
    for index in range(len(list((folder / "test_data_set_0").glob("input_*.pb")))):
        tensor = onnx.TensorProto()
        tensor.ParseFromString((folder / f"test_data_set_0/input_{index}.pb").read_bytes())
        inputs.append(onnx.numpy_helper.to_array(tensor))
    return model, inputs


def _with_constants(model: onnx.ModelProto, inputs: Sequence[object], first: int) -> _Case | None:
    """The case with all inputs from ``first`` on turned into initializers; None if none is left."""
    changed = onnx.ModelProto()
    changed.CopyFrom(model)
    changed.ir_version = max(4, changed.ir_version)
    held = {tensor.name for tensor in changed.graph.initializer}
    named = [value.name for value in changed.graph.input if value.name not in held]
    feeds: Feeds = {}
    for index, (name, value) in enumerate(zip(named, inputs, strict=False)):
        if not isinstance(value, np.ndarray):
            return None
        if index < first:
            feeds[name] = value
            continue
        changed.graph.initializer.append(onnx.numpy_helper.from_array(value, name))
        changed.graph.input.remove(next(v for v in changed.graph.input if v.name == name))
    return _Case(f"from {first}", io.load(changed), _Recorded(feeds))


@cache
def _cases() -> list[tuple[_Case, Judge]]:
    """All that onnxruntime can run, with inputs as they are, behind the first, and all constant."""
    found: list[tuple[_Case, Judge]] = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the cases are made with overflowing casts on purpose
        listed = [case for kind in _KINDS for case in loader.load_model_tests(kind=kind)]
    for case in listed:
        if case.name in _FAULTY:
            continue
        model, inputs = _recorded(case)
        for first in sorted({len(inputs), min(1, len(inputs)), 0}, reverse=True):
            try:
                made = _with_constants(model, inputs, first)
                if made is None:
                    continue
                made = _Case(f"{case.name}, constants {made.name}", made.graph, made.samples)
                found.append((made, Judge(made.graph, made.samples, "eval", threads=1, limit=1)))
            except (GraphoptError, TypeError, ValueError):
                continue  # onnxruntime has no kernel for it, or the feed is no plain tensor
    for path in sorted(_LIGHT.glob("*.onnx")):
        graph = io.load(path)
        samples = SyntheticSamples(graph, count=1)
        found.append(
            (_Case(path.stem, graph, samples), Judge(graph, samples, "random", threads=1, limit=1))
        )
    return found


def _wrong(name: str, case: _Case, judge: Judge) -> str:
    """What a pass did wrong on a case; empty if nothing."""
    before = check.problems(case.graph)
    try:
        graph, record = apply_pass(registry.find(name)(), case.graph, samples=None, judge=judge)
    except ModelError as err:
        return f"{case.name}: {err}"
    if record.status not in _OUTCOMES:
        return f"{case.name}: {record.status}: {record.reason}"
    new = [problem for problem in check.problems(graph) if problem not in before]
    return f"{case.name}: invalid: {new[0]}" if new else ""


@pytest.mark.slow
@pytest.mark.parametrize("name", _PASSES)
def test_all_models_of_onnx(name: str) -> None:
    assert len(_cases()) > 4000
    chosen = _cases()[_PASSES.index(name) % 2 :: 2]
    assert [text for case, judge in chosen if (text := _wrong(name, case, judge))] == []
