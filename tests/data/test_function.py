"""Feeds from functions."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx.parser
import pytest

from graphopt.data import open_data
from graphopt.errors import DataError, UsageError
from graphopt.graph.graph import Graph


def graph_of(inputs: str) -> Graph:
    text = f"""<ir_version: 8, opset_import: ["" : 17]>
    g ({inputs}) => (float[1] out) {{ out = Constant<value_floats: floats = [1.0]>() }}"""
    return Graph(onnx.parser.parse_model(text))


ONE = graph_of("float[N, 2] x")


def test_dicts_arrays_and_single_samples() -> None:
    def dicts() -> Iterator[Any]:
        yield {"x": np.array([[1, 2], [3, 4]], np.float32)}
        yield {"x": [5.0, 6.0]}
        yield np.array([[7, 8]], np.float32)
        yield np.array([9, 10], np.float64)

    samples = open_data(dicts, ONE)
    assert samples.count == 5
    for _ in range(2):  # it is called again, so it starts again
        read = np.concatenate([f["x"] for f, _ in samples.feeds(2)])
        assert read.tolist() == [[1, 2], [3, 4], [5, 6], [7, 8], [9, 10]]


def test_all_at_once_or_as_a_list() -> None:
    forms: list[Callable[[], Any]] = [
        lambda: {"x": np.ones((3, 2), np.float32), "labels": np.arange(3)},
        lambda: np.ones((3, 2), np.float32),
        lambda: [np.ones(2, np.float32)] * 3,
    ]
    assert [open_data(form, ONE).count for form in forms] == [3, 3, 3]


def test_labels_in_the_feeds() -> None:
    samples = open_data(lambda: ({"x": [0.0, 1.0], "labels": n} for n in range(3)), ONE)
    assert samples.labels is not None
    assert samples.labels.tolist() == [0, 1, 2]


def test_a_buffer_may_be_used_again() -> None:
    def feeds() -> Iterator[Any]:
        buffer = np.zeros((1, 2), np.float32)
        for number in range(4):
            buffer[:] = number
            yield {"x": buffer}

    read = [f["x"][:, 0].tolist() for f, _ in open_data(feeds, ONE).feeds(2)]
    assert read == [[0, 1], [2, 3]]


def raising() -> Iterator[Any]:
    yield np.zeros(2, np.float32)
    raise RuntimeError("camera\nunplugged")


@pytest.mark.parametrize(
    ("function", "words"),
    [
        (raising, "raising: it raised RuntimeError: camera"),
        (lambda: 3, "it returned int where feeds must be"),
        (lambda: None, "it returned NoneType"),
        (lambda: iter(()), "empty"),
        (lambda: [{"y": np.zeros(2)}], "feed 0: 'y' is no input of the model"),
        (lambda: [np.zeros(2), np.zeros(3)], "feed 1: 'x' has shape"),
        (
            lambda: [np.zeros(2), np.array([0, np.nan], np.float64)],
            "feed 1: sample 0 of 'x' holds NaN",
        ),
        (lambda: [None], "holds Python objects"),
    ],
)
def test_refusals(function: Callable[[], Any], words: str) -> None:
    with pytest.raises(DataError) as caught:
        open_data(function, ONE)
    assert words in str(caught.value)


def test_several_inputs_need_names() -> None:
    with pytest.raises(DataError, match="give a dict with arrays for 'x', 'y'"):
        open_data(lambda: [np.zeros(2)], graph_of("float[N] x, float[N] y"))


def test_iterator_that_is_used_up_is_noticed() -> None:
    used_up = iter([np.array([0, 1], np.float32), np.array([2, 3], np.float32)])
    samples = open_data(lambda: used_up, ONE)
    with pytest.raises(DataError, match="2 of 2 samples are missing when it is read again"):
        list(samples.feeds())


SCRIPT = """
from __future__ import annotations
from dataclasses import dataclass, field
import numpy as np
from beside import OFFSET

@dataclass
class Point:
    values: list[float] = field(default_factory=list)

def feeds():
    for n in range(3):
        yield {"x": np.array(Point([n, OFFSET]).values, np.float32)}

not_callable = 3
"""


@pytest.fixture
def script(tmp_path: Path) -> Iterator[Path]:
    (tmp_path / "beside.py").write_text("OFFSET = 10")
    (tmp_path / "calib_source.py").write_text(SCRIPT)
    path = list(sys.path)
    yield tmp_path / "calib_source.py"
    assert sys.path == path
    for name in ("beside", "calib_source", "graphopt_file_calib_source"):
        sys.modules.pop(name, None)


def test_file_and_function(script: Path) -> None:
    samples = open_data(f"{script}:feeds", ONE)
    assert [f["x"].tolist() for f, _ in samples.feeds(3)] == [[[0, 10], [1, 10], [2, 10]]]


def test_module_in_the_current_folder(script: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(script.parent)
    assert open_data("calib_source:feeds", ONE).count == 3


@pytest.mark.parametrize("name", ["nothing", "not_callable"])
def test_name_that_is_no_function(script: Path, name: str) -> None:
    with pytest.raises(UsageError, match=f"has no function '{name}'"):
        open_data(f"{script}:{name}", ONE)


def test_script_with_a_mistake(script: Path) -> None:
    script.write_text("def feeds(:\n")
    with pytest.raises(DataError, match="cannot be imported: SyntaxError"):
        open_data(f"{script}:feeds", ONE)


class RaisesAsArray:
    def __array__(self, *_arguments: object, **_named: object) -> None:
        raise ZeroDivisionError("in __array__")


class RaisesAsMapping(Mapping[str, Any]):
    def __getitem__(self, key: str) -> Any:
        raise ZeroDivisionError(f"in {key}")

    def __iter__(self) -> Iterator[str]:
        return iter(["x"])

    def __len__(self) -> int:
        return 1


def leaves() -> None:
    sys.exit(7)


def closes_itself() -> None:
    raise GeneratorExit


def ends_late() -> Iterator[Any]:
    yield {"x": [1.0, 2.0]}
    sys.exit(7)


@pytest.mark.parametrize(
    ("function", "words"),
    [
        (lambda: [{1: [1.0, 2.0]}], "feed 0: 1 is no name of an input"),
        (lambda: [{"x": RaisesAsArray()}], "feed 0: it raised ZeroDivisionError: in __array__"),
        (lambda: [RaisesAsArray()], "feed 0: it raised ZeroDivisionError: in __array__"),
        (lambda: [RaisesAsMapping()], "feed 0: it raised ZeroDivisionError: in x"),
        (leaves, "leaves: it raised SystemExit: 7"),
        (ends_late, "ends_late: it raised SystemExit: 7"),
        (closes_itself, "closes_itself: it raised GeneratorExit"),
    ],
)
def test_odd_functions_end_in_one_line(function: Callable[[], Any], words: str) -> None:
    with pytest.raises(DataError) as caught:
        open_data(function, ONE)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_reader_that_stops_early_closes_the_function() -> None:
    closed = []

    def feeds() -> Iterator[Any]:
        try:
            yield {"x": [1.0, 2.0]}
            yield {"x": [3.0, 4.0]}
        finally:
            closed.append(True)

    samples = open_data(feeds, ONE)
    assert closed == [True]
    reader = samples.feeds()
    next(reader)
    del reader
    assert closed == [True, True]
