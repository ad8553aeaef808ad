"""Layers along the residual stream: found, chosen and cut."""

from pathlib import Path

import cut_layers
import numpy as np
import onnx
import pytest

from graphopt.data import open_data
from graphopt.errors import ModelError
from graphopt.graph import check, io
from graphopt.graph.graph import Graph
from graphopt.graph.tensors import Array
from graphopt.testing import model_from_text

WIDTH = 4


def encoder(count: int, *, masked: bool = False, normalized: bool = True) -> Graph:
    """``count`` layers h + relu(h W [+ m]) V, behind each a normalization where asked for."""
    rng = np.random.default_rng(0)
    lines = ["h0 = Add(x, start)"]
    weights = ["start"]
    for i in range(count):
        inner = f"p{i}"
        lines.append(f"p{i} = MatMul(h{i}, w{i})")
        if masked:
            lines.append(f"q{i} = Add(p{i}, m)")
            inner = f"q{i}"
        lines.append(f"r{i} = Relu({inner})")
        lines.append(f"b{i} = MatMul(r{i}, v{i})")
        weights += [f"w{i}", f"v{i}"]
        if normalized:
            lines.append(f"s{i} = Add(h{i}, b{i})")
            lines.append(f"h{i + 1} = LayerNormalization(s{i}, g{i})")
            weights.append(f"g{i}")
        else:
            lines.append(f"h{i + 1} = Add(b{i}, h{i})")
    lines.append(f"y = Tanh(h{count})")
    if masked:
        lines.insert(0, "m = Neg(mask)")
    inputs = f"float[n, {WIDTH}] x" + (f", float[n, {WIDTH}] mask" if masked else "")
    vectors = {name for name in weights if name[0] in "sg"}
    declared = ", ".join(
        f"float[{WIDTH}] {name} = {{1, 1, 1, 1}}"
        if name in vectors
        else f"float[{WIDTH}, {WIDTH}] {name} = {{{', '.join(map(str, rng.normal(size=16)))}}}"
        for name in weights
    )
    body = "\n".join(lines)
    return Graph(
        model_from_text(
            f'<ir_version: 8, opset_import: ["" : 18]> '
            f"g ({inputs}) => (float[n, {WIDTH}] y) <{declared}> {{ {body} }}"
        )
    )


def inputs(count: int) -> Array:
    return np.random.default_rng(1).normal(size=(count, WIDTH)).astype(np.float32)


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("normalized", [False, True])
def test_layers_follow_the_stream(masked: bool, normalized: bool) -> None:
    found = cut_layers.layers(encoder(4, masked=masked, normalized=normalized))
    assert found == [("h0", "h1"), ("h1", "h2"), ("h2", "h3"), ("h3", "h4")]


def test_two_sums_make_one_layer() -> None:
    graph = encoder(6, normalized=False)
    for index, node in enumerate(graph.main.nodes):
        if node.op_type == "Relu" and (index // 4) % 2:
            node.op_type = "Sigmoid"  # every second branch is of another kind
    assert cut_layers.layers(graph) == [("h0", "h2"), ("h2", "h4"), ("h4", "h6")]


def test_nothing_is_repeated() -> None:
    graph = Graph(
        onnx.parser.parse_model(
            '<ir_version: 8, opset_import: ["" : 18]> '
            "g (float[n] x) => (float[n] y) { a = Relu(x) b = Neg(a) y = Add(a, b) }"
        )
    )
    with pytest.raises(ModelError, match="no layers are repeated"):
        cut_layers.layers(graph)


def test_cut_leaves_out_and_sweeps() -> None:
    graph = encoder(4)
    student = cut_layers.cut(graph, cut_layers.layers(graph), (0, 2))
    made = {name for node in student.main.nodes for name in node.output}
    assert {"h1", "h3"} <= made
    assert not {"h2", "h4", "r1", "r3"} & made
    assert "w1" not in student.main.initializers
    assert check.problems(student) == []
    assert "w1" in graph.main.initializers


def test_what_is_missed_least_is_left_out(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    graph = encoder(4, normalized=False)
    no_effect = graph.main.constant("v2")
    assert no_effect is not None
    no_effect.set(np.zeros((WIDTH, WIDTH), np.float32))
    io.save(graph, tmp_path / "model.onnx")
    np.savez(tmp_path / "calib.npz", x=inputs(5))
    arguments = [str(tmp_path / "model.onnx"), "--calib", str(tmp_path / "calib.npz")]
    out = tmp_path / "student.onnx"
    for most in ("100", "1"):
        assert cut_layers.main([*arguments, "--keep", "3", "--most", most, "-o", str(out)]) == 0
        assert "keeps layers 0, 1, 3, leaves out 2; cosine 1.0000" in capsys.readouterr().out
        assert "v2" not in io.load(out).main.initializers


def test_layers_go_one_after_another_where_there_are_many() -> None:
    worth = (5, 1, 4, 2, 3)
    tried: list[cut_layers.Kept] = []

    def score(kept: cut_layers.Kept) -> float:
        tried.append(kept)
        return sum(worth[index] for index in kept)

    assert cut_layers.choose(5, 2, 3, score) == (0, 2)
    assert len(tried) == 5 + 4 + 3


def test_likeness_is_the_mean_cosine() -> None:
    wanted = [{"y": np.array([[1.0, 0.0], [0.0, 2.0]]), "n": np.array([1, 2])}]
    found = [{"y": np.array([[2.0, 0.0], [1.0, 0.0]]), "n": np.array([1, 2])}]
    assert cut_layers.likeness(wanted, found) == pytest.approx(0.5)
    with pytest.raises(ModelError, match="shape"):
        cut_layers.likeness(wanted, [{"y": np.zeros((2, 3)), "n": np.array([1, 2])}])
    with pytest.raises(ModelError, match="no output"):
        cut_layers.likeness([{"n": np.array([1])}], [{"n": np.array([1])}])


@pytest.mark.parametrize("keep", ["0", "4"])
def test_a_number_of_layers_that_cannot_be(tmp_path: Path, keep: str) -> None:
    io.save(encoder(4), tmp_path / "model.onnx")
    with pytest.raises(SystemExit):
        cut_layers.main(
            [str(tmp_path / "model.onnx"), "--keep", keep, "--calib", "-", "-o", "out.onnx"]
        )


def test_samples_are_shared_by_both_models(tmp_path: Path) -> None:
    graph = encoder(3)
    samples = open_data({"x": inputs(3)}, graph)
    judge = cut_layers.Judge(graph, cut_layers.layers(graph), samples, threads=1)
    assert judge((0, 1, 2)) == pytest.approx(1.0)
