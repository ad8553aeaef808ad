import numpy as np
import onnx.parser

from graphopt.bridge.inserted_norm import fold_norms, insert_norms, set_moments
from graphopt.graph.graph import Graph
from graphopt.runtime.session import Session

_MODEL = """
<ir_version: 8, opset_import: ["" : 17]>
net (float[N, 3, 6, 6] x) => (float[N, 4, 6, 6] y)
<float[4, 3, 3, 3] w1, float[4] b1, float[4, 4, 1, 1] w2, float[4, 4, 1, 1] w3, float[4] b3,
 float[4] gamma, float[4] beta, float[4] mean, float[4] variance>
{
    a = Conv<pads = [1, 1, 1, 1]>(x, w1, b1)
    r = Relu(a)
    c = Conv(r, w2)
    d = Conv(c, w3, b3)
    y = BatchNormalization(d, gamma, beta, mean, variance)
}
"""


def _graph() -> Graph:
    graph = Graph(onnx.parser.parse_model(_MODEL))
    rng = np.random.default_rng(3)
    for name, shape in {
        "w1": (4, 3, 3, 3),
        "b1": (4,),
        "w2": (4, 4, 1, 1),
        "w3": (4, 4, 1, 1),
        "b3": (4,),
        "gamma": (4,),
        "beta": (4,),
        "mean": (4,),
    }.items():
        graph.main.define(name, rng.normal(size=shape).astype(np.float32))
    graph.main.define("variance", np.full(4, 2.0, np.float32))
    return graph


def _run(graph: Graph) -> np.ndarray:
    x = np.random.default_rng(0).normal(size=(2, 3, 6, 6)).astype(np.float32)
    answer: np.ndarray = Session(graph, threads=1).run({"x": x})["y"]
    return answer


def test_only_a_conv_with_bias_and_nothing_behind_it_is_normalized() -> None:
    graph = _graph()
    norms = insert_norms(graph)
    assert [norm.output for norm in norms] == ["a"]
    added = graph.main.producer("a")
    assert added is not None
    assert added.op_type == "BatchNormalization"
    assert added.input[0] == norms[0].data


def test_any_moments_change_nothing() -> None:
    graph, before = _graph(), _run(_graph())
    norms = insert_norms(graph)
    moments = {norms[0].data: (np.array([1.0, -2, 0, 3]), np.array([4.0, 0.1, 1, 9]))}
    set_moments(graph, norms, moments)
    np.testing.assert_allclose(_run(graph), before, rtol=1e-4, atol=1e-5)


def test_folding_gives_the_answers_of_the_trained_copy() -> None:
    graph = _graph()
    trained = graph.copy()
    norms = insert_norms(trained)
    rng = np.random.default_rng(7)
    for name in (*norms[0].constants, "w1", "b1", "w2"):
        constant = trained.main.constant(name)
        assert constant is not None
        values = rng.uniform(0.5, 2, constant.shape).astype(np.float32)
        constant.set(values)
    changed = fold_norms(trained, norms, graph)
    assert sorted(changed) == ["b1", "w1", "w2"]
    np.testing.assert_allclose(_run(graph), _run(trained), rtol=1e-4, atol=1e-4)


def test_folding_an_untrained_copy_keeps_what_it_does_not_touch() -> None:
    graph = _graph()
    nodes = [node.SerializeToString() for node in graph.main.nodes]
    before = _run(graph)
    trained = graph.copy()
    norms = insert_norms(trained)
    set_moments(trained, norms, {norms[0].data: (np.zeros(4), np.ones(4))})
    assert set(fold_norms(trained, norms, graph)) <= {"w1", "b1"}
    assert [node.SerializeToString() for node in graph.main.nodes] == nodes
    np.testing.assert_allclose(_run(graph), before, rtol=1e-5, atol=1e-6)


def test_a_shared_weight_is_left_alone() -> None:
    graph = _graph()
    second = next(node for node in graph.main.nodes if node.output[0] == "d")
    graph.main.set_input(second, 1, "w2")
    third = next(node for node in graph.main.nodes if node.output[0] == "c")
    graph.main.set_input(third, 2, "b3")
    assert [norm.output for norm in insert_norms(graph)] == ["a"]
