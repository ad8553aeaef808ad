"""Groups of coupled channels, and that a graph without half of them equals one with zeros there."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
import pytest

from graphopt.analysis.channels import ChannelGroup, Channels, channel_groups
from graphopt.facts.cost import params
from graphopt.facts.shapes import infer
from graphopt.graph.graph import Graph
from graphopt.rewrite.remove_channels import remove_channels
from graphopt.testing import model_from_text, run_model, zeroed

ROUNDING = 1e-5
"""Relative to the largest value; float32 sums in another order."""


@dataclass(frozen=True)
class Net:
    """A model, and the groups that it has: name and number of units."""

    name: str
    ports: str
    body: str
    groups: dict[str, int]
    weights: dict[str, Any] = field(default_factory=dict)
    opset: int = 17

    def __str__(self) -> str:
        return self.name

    @property
    def graph(self) -> Graph:
        head = f'<ir_version: 8, opset_import: ["" : {self.opset}]>'
        text = f"{head} g {self.ports} {{ {self.body} }}"
        return Graph(model_from_text(text, self.weights))


def ints(*values: int) -> np.ndarray[Any, Any]:
    return np.array(values, np.int64)


PICTURE = "(float[1, 3, 8, 8] x) => (float[1, 5, 8, 8] y)"
ROWS = "(float[b, 6] x) => (float[b, 5] y)"
WORDS = "(float[2, 7, 8] x) => (float[2, 7, 8] y)"
NETS = [
    Net("chain", PICTURE, "h = Conv(x, v, c) r = Relu(h) y = Conv(r, w)", {"h": 6},
        {"v": (6, 3, 1, 1), "c": (6,), "w": (5, 6, 1, 1)}),
    Net("batch norm", PICTURE,
        "h = Conv(x, v) n = BatchNormalization(h, s, c, m, q) y = Conv(n, w)", {"h": 6},
        {"v": (6, 3, 1, 1), "w": (5, 6, 1, 1), "s": (6,), "c": (6,), "m": (6,),
         "q": np.ones(6, np.float32)}),
    Net("residual", PICTURE,
        "h = Conv(x, v) r = Relu(h) i = Conv(r, u) j = Conv(i, t) a = Add(r, j) y = Conv(a, w)",
        {"h": 6, "i": 4},
        {"v": (6, 3, 1, 1), "u": (4, 6, 1, 1), "t": (6, 4, 1, 1), "w": (5, 6, 1, 1)}),
    Net("depthwise", PICTURE,
        "h = Conv(x, v) d = Conv<group = 6, pads = [1, 1, 1, 1]>(h, u) y = Conv(d, w)", {"h": 6},
        {"v": (6, 3, 1, 1), "u": (6, 1, 3, 3), "w": (5, 6, 1, 1)}),
    Net("grouped", PICTURE, "h = Conv(x, v) d = Conv<group = 2>(h, u) y = Conv(d, w)",
        {"h": 4, "d": 3}, {"v": (8, 3, 1, 1), "u": (6, 4, 1, 1), "w": (5, 6, 1, 1)}),
    Net("many groups", PICTURE, "h = Conv(x, v) d = Conv<group = 4>(h, u) y = Conv(d, w)",
        {"h": 4}, {"v": (8, 3, 1, 1), "u": (8, 2, 1, 1), "w": (5, 8, 1, 1)}),
    Net("concat", PICTURE,
        "h = Conv(x, v) i = Conv(x, u) c = Concat<axis = 1>(h, i) y = Conv(c, w)",
        {"h": 4, "i": 6}, {"v": (4, 3, 1, 1), "u": (6, 3, 1, 1), "w": (5, 10, 1, 1)}),
    Net("split", PICTURE,
        "h = Conv(x, v) p, q = Split<axis = 1>(h) s = Sigmoid(q) m = Mul(p, s) y = Conv(m, w)",
        {"h": 4}, {"v": (8, 3, 1, 1), "w": (5, 4, 1, 1)}),
    Net("split by number", PICTURE,
        "h = Conv(x, v) p, q = Split<axis = 1, num_outputs = 2>(h) m = Mul(p, q) y = Conv(m, w)",
        {"h": 4}, {"v": (8, 3, 1, 1), "w": (5, 4, 1, 1)}, opset=18),
    Net("pad of channels", PICTURE,
        "h = Conv(x, v) p = Pad(h, pads) i = Conv(x, u) a = Add(p, i) y = Conv(a, w)",
        {"h": 4, "i": 4},
        {"v": (4, 3, 1, 1), "u": (8, 3, 1, 1), "w": (5, 8, 1, 1),
         "pads": ints(0, 2, 0, 0, 0, 2, 0, 0)}),
    Net("slice", PICTURE,
        "h = Conv(x, v) p = Slice(h, start, stop, one) y = Conv(p, w)", {"h": 3, "h (2)": 5},
        {"v": (8, 3, 1, 1), "w": (5, 5, 1, 1), "start": ints(3), "stop": ints(9), "one": ints(1)}),
    Net("picks", PICTURE, "h = Conv(x, v) p = Gather<axis = 1>(h, at) y = Conv(p, w)",
        {"h": 4}, {"v": (4, 3, 1, 1), "w": (5, 5, 1, 1), "at": ints(2, 0, 1, 3, -2)}),
    Net("shuffle", PICTURE,
        "h = Conv<group = 2>(x0, v) r = Reshape(h, five) t = Transpose<perm = [0, 2, 1, 3, 4]>(r) "
        "f = Reshape(t, four) d = Conv<group = 8>(f, u) y = Conv(d, w) x0 = Conv(x, z)",
        {"x0": 2, "h": 4},
        {"z": (4, 3, 1, 1), "v": (8, 2, 1, 1), "u": (8, 1, 1, 1), "w": (5, 8, 1, 1),
         "five": ints(1, 2, 4, 8, 8), "four": ints(0, -1, 8, 8)}),
    Net("depth to space", "(float[1, 3, 4, 4] x) => (float[1, 5, 8, 8] y)",
        "h = Conv(x, v) d = DepthToSpace<blocksize = 2>(h) y = Conv(d, w)", {"h": 3},
        {"v": (12, 3, 1, 1), "w": (5, 3, 1, 1)}),
    Net("transposed", PICTURE, "h = ConvTranspose(x, v) y = ConvTranspose<group = 1>(h, w)",
        {"h": 6}, {"v": (3, 6, 1, 1), "w": (6, 5, 1, 1)}),
    Net("squeeze and excite", PICTURE,
        "h = Conv(x, v) g = GlobalAveragePool(h) i = Conv(g, a) j = Relu(i) k = Conv(j, b) "
        "s = Sigmoid(k) m = Mul(h, s) y = Conv(m, w)", {"h": 6, "i": 2},
        {"v": (6, 3, 1, 1), "a": (2, 6, 1, 1), "b": (6, 2, 1, 1), "w": (5, 6, 1, 1)}),
    Net("flatten", "(float[b, 3, 4, 4] x) => (float[b, 5] y)",
        "h = Conv(x, v) f = Flatten(h) y = Gemm(f, w)", {"h": 6},
        {"v": (6, 3, 1, 1), "w": (96, 5)}),
    Net("gemms", ROWS, "h = Gemm<transB = 1>(x, v, c) r = Tanh(h) y = Gemm(r, w)", {"h": 4},
        {"v": (4, 6), "c": (4,), "w": (4, 5)}),
    Net("neurons", WORDS,
        "h = MatMul(x, v) a = Add(h, c) g = Elu(a) m = MatMul(g, w) y = Add(m, x)", {"h": 6},
        {"v": (8, 6), "c": (6,), "w": (6, 8)}),
    Net("heads", WORDS,
        "q = MatMul(x, wq) k = MatMul(x, wk) v = MatMul(x, wv) "
        "q4 = Reshape(q, four) k4 = Reshape(k, four) v4 = Reshape(v, four) "
        "qt = Transpose<perm = [0, 2, 1, 3]>(q4) kt = Transpose<perm = [0, 2, 3, 1]>(k4) "
        "vt = Transpose<perm = [0, 2, 1, 3]>(v4) s = MatMul(qt, kt) d = Div(s, root) "
        "p = Softmax(d) o = MatMul(p, vt) ot = Transpose<perm = [0, 2, 1, 3]>(o) "
        "m = Reshape(ot, three) y = MatMul(m, wo)", {"q": 4},
        {"wq": (8, 12), "wk": (8, 12), "wv": (8, 12), "wo": (12, 8), "four": ints(0, 7, 4, 3),
         "three": ints(2, 7, 12), "root": np.float32(1.7)}),
    Net("packed heads", WORDS,
        "q = MatMul(x, wq) r = Reshape(q, five) t = Transpose<perm = [2, 0, 3, 1, 4]>(r) "
        "a = Gather<axis = 0>(t, i0) b = Gather<axis = 0>(t, i1) v = Gather<axis = 0>(t, i2) "
        "bt = Transpose<perm = [0, 1, 3, 2]>(b) s = MatMul(a, bt) p = Softmax(s) "
        "o = MatMul(p, v) ot = Transpose<perm = [0, 2, 1, 3]>(o) m = Reshape(ot, three) "
        "y = MatMul(m, wo)", {"q": 4},
        {"wq": (8, 36), "wo": (12, 8), "five": ints(2, 7, 3, 4, 3), "three": ints(2, 7, -1),
         "i0": np.int64(0), "i1": np.int64(1), "i2": np.int64(2)}),
    Net("lstm", "(float[7, 2, 8] x) => (float[7, 2, 5] y)",
        "h = LSTM<hidden_size = 4>(x, v, u, c) s = Squeeze(h, one) y = MatMul(s, w)", {"h": 4},
        {"v": (1, 16, 8), "u": (1, 16, 4), "c": (1, 32), "w": (4, 5), "one": ints(1)}),
    Net("gru both ways", "(float[7, 2, 8] x) => (float[7, 2, 5] y)",
        'h = GRU<hidden_size = 4, direction = "bidirectional", linear_before_reset = 1>(x, v, u, c)'
        " t = Transpose<perm = [0, 2, 1, 3]>(h) r = Reshape(t, three) y = MatMul(r, w)", {"h": 4},
        {"v": (2, 12, 8), "u": (2, 12, 4), "c": (2, 24), "w": (8, 5), "three": ints(0, 0, -1)}),
    Net("codes", ROWS,
        "d = DequantizeLinear<axis = 0>(k, s, z) h = Gemm<transB = 1>(x, d) y = MatMul(h, w)",
        {"h": 4},
        {"k": np.arange(-12, 12, dtype=np.int8).reshape(4, 6), "s": np.full(4, 0.1, np.float32),
         "z": np.zeros(4, np.int8), "w": (4, 5)}),
    Net("heads folded into a free batch", "(float[b, t, 8] x) => (float[b, t, 8] y)",
        "dims = Shape(x) nb = Gather(dims, i0) nt = Gather(dims, i1) nbh = Mul(nb, four) "
        "b1 = Unsqueeze(nb, i0v) t1 = Unsqueeze(nt, i0v) bh1 = Unsqueeze(nbh, i0v) "
        "s4 = Concat<axis = 0>(b1, t1, four1, width) s3 = Concat<axis = 0>(bh1, t1, width) "
        "back = Concat<axis = 0>(b1, four1, t1, width) whole = Concat<axis = 0>(b1, t1, all) "
        "q = MatMul(x, wq) v = MatMul(x, wv) q4 = Reshape(q, s4) v4 = Reshape(v, s4) "
        "qt = Transpose<perm = [0, 2, 1, 3]>(q4) vt = Transpose<perm = [0, 2, 1, 3]>(v4) "
        "q3 = Reshape(qt, s3) v3 = Reshape(vt, s3) kt = Transpose<perm = [0, 2, 1]>(q3) "
        "s = MatMul(q3, kt) p = Softmax(s) o = MatMul(p, v3) o4 = Reshape(o, back) "
        "ot = Transpose<perm = [0, 2, 1, 3]>(o4) m = Reshape(ot, whole) y = MatMul(m, wo)",
        {"q": 4},
        {"wq": (8, 12), "wv": (8, 12), "wo": (12, 8), "i0": np.int64(0), "i1": np.int64(1),
         "i0v": ints(0), "four": np.int64(4), "four1": ints(4), "width": ints(3),
         "all": ints(12)}),
    Net("sizes that are computed with", "(float[b, 8] x) => (float[b, 5] y)",
        "h = MatMul(x, v) dims = Shape(h) n = Gather(dims, i1) f = Cast<to = 1>(n) r = Sqrt(f) "
        "d = Div(h, r) y = MatMul(d, w)", {"h": 6}, {"v": (8, 6), "w": (6, 5), "i1": np.int64(1)}),
    Net("sizes of another tensor", "(float[b, 6] x) => (float[b, 5] y)",
        "h = MatMul(x, v) r = Relu(h) dims = Shape(x) f = Reshape(r, dims) "
        "z = ConstantOfShape(dims) s = Add(f, z) y = MatMul(s, w)",
        {"h": 6}, {"v": (6, 6), "w": (6, 5)}),
    Net("bounds that are computed", "(float[b, 6] x) => (float[b, 5] y)",
        "h = MatMul(x, v) dims = Shape(h) n = Gather(dims, at) half = Div(n, two) "
        "p = Slice(h, zero, half, at) q = Slice(h, half, end, at) "
        "s = Mul(p, q) y = MatMul(s, w)", {"h": 4},
        {"v": (6, 8), "w": (4, 5), "at": ints(1), "zero": ints(0), "two": np.int64(2),
         "end": ints(2**63 - 1)}),
    Net("einsum", WORDS, 'h = Einsum<equation = "btc,cd->btd">(x, v) '
        'y = Einsum<equation = "btd,dc->btc">(h, w)', {"h": 6}, {"v": (8, 6), "w": (6, 8)}),
    Net("shared weight", WORDS, "h = MatMul(x, v) r = Relu(h) m = MatMul(r, w) i = MatMul(m, v) "
        "y = MatMul(i, w)", {"h": 6}, {"v": (8, 6), "w": (6, 8)}),
]  # fmt: skip


def halved(found: Channels, seed: int = 0) -> dict[ChannelGroup, list[int]]:
    """Half of the units of each group, drawn."""
    rng = np.random.default_rng(seed)
    return {
        group: sorted(rng.choice(group.size, group.size // 2, replace=False).tolist())
        for group in found.groups
    }


@pytest.mark.parametrize("net", NETS, ids=str)
def test_the_groups_of_small_nets(net: Net) -> None:
    graph = net.graph
    found = channel_groups(graph, infer(graph))
    assert (
        {group.name: group.size for group in found.groups}
        == {
            f"{graph.main.producer(name.split()[0]).op_type}({name.split()[0]})"  # type: ignore[union-attr]
            + "".join(f" {more}" for more in name.split()[1:]): size
            for name, size in net.groups.items()
        }
    )


@pytest.mark.parametrize("net", NETS, ids=str)
def test_without_half_of_the_units_it_equals_one_with_zeros(net: Net) -> None:
    graph = net.graph
    shapes = infer(graph)
    found = channel_groups(graph, shapes)
    gone = found.gone(halved(found))
    expected = run_model(zeroed(graph, shapes, gone))
    kept = remove_channels(graph, shapes, gone)
    onnx.checker.check_model(graph.to_model(), full_check=True)
    assert set(kept) == set(gone)
    for name, values in run_model(graph).items():
        limit = ROUNDING * np.abs(expected[name]).max()
        np.testing.assert_allclose(values, expected[name], rtol=0, atol=limit)
        assert limit > 0


def group_of(name: str) -> tuple[Graph, ChannelGroup, Channels]:
    graph = next(net for net in NETS if net.name == name).graph
    found = channel_groups(graph, infer(graph))
    return graph, found.groups[0], found


def test_a_unit_is_told_by_its_positions_on_every_axis() -> None:
    _, group, _ = group_of("chain")
    one = tuple((at,) for at in range(6))
    places = [("v", 0), ("c", 0), ("h", 1), ("r", 1), ("w", 1)]
    assert dict(group.positions) == dict.fromkeys(places, one)
    assert [layer.node.output[0] for layer in group.producers] == ["h"]
    assert [layer.node.output[0] for layer in group.consumers] == ["y"]


def test_a_head_is_a_block_of_columns() -> None:
    _, group, _ = group_of("heads")
    assert group.positions["wq", 1][1] == (3, 4, 5) == group.positions["wo", 0][1]
    assert group.positions["p", 1][1] == (1,)
    assert [layer.node.output[0] for layer in group.producers] == ["q", "k", "v"]


def test_shares_count_what_would_go_with_all_units() -> None:
    graph, group, found = group_of("chain")
    assert (group.share.params, found.whole.params) == (18 + 6 + 30, params(graph))
    assert (group.share.macs, found.whole.macs) == (64 * 48, 64 * 48)
    assert found.share == group.share


@pytest.mark.parametrize(
    ("ports", "body", "weights", "reason"),
    [
        (ROWS, "y = MatMul(x, w)", {"w": (6, 5)}, "it is an output of the model (y)"),
        (
            "(float[b, 6] x, float[6, 4] v) => (float[b, 5] y)",
            "h = MatMul(x, v) y = MatMul(h, w)",
            {"v": (6, 4), "w": (4, 5)},
            "it is listed as an input; put freeze-initializers before (v)",
        ),
        (ROWS, "h = MatMul(x, v) s = Softmax(h) y = MatMul(s, w)", {"v": (6, 4), "w": (4, 5)},
         "Softmax goes over it (Softmax(s))"),
        (ROWS, "h = MatMul(x, v) s = ReduceMean<axes = [1]>(h) y = MatMul(s, w)",
         {"v": (6, 4), "w": (1, 5)}, "ReduceMean goes over it (ReduceMean(s))"),
        (ROWS, "h = MatMul(x, v) n = LayerNormalization(h, s) y = MatMul(n, w)",
         {"v": (6, 4), "s": (4,), "w": (4, 5)}, "it is normalized over (LayerNormalization(n))"),
        (ROWS, "h = MatMul(x, v) y = MatMul(h, w)", {"v": (6, 1), "w": (1, 5)},
         "it is the only one of its kind ()"),
    ],
)  # fmt: skip
def test_what_stays_says_why(ports: str, body: str, weights: dict[str, Any], reason: str) -> None:
    net = Net("fixed", ports, body, {}, weights)
    found = channel_groups(net.graph, infer(net.graph))
    assert not found.groups
    assert reason in [f"{each.reason} ({each.at})" for each in found.fixed]


def test_what_a_body_reads_stays() -> None:
    text = """<ir_version: 8, opset_import: ["" : 17]> g (bool c, float[2, 6] x) => (float[2, 5] y)
    {
        h = MatMul(x, v)
        y = If (c) <
            then_branch = a () => (float[2, 5] p) { p = MatMul(h, w) },
            else_branch = b () => (float[2, 5] q) { n = Neg(h) q = MatMul(n, w) }
        >
    }"""
    graph = Graph(model_from_text(text, {"v": (6, 4), "w": (4, 5)}))
    found = channel_groups(graph, infer(graph))
    assert [each.reason for each in found.fixed] == [
        "it goes into a body or comes out", "it is in a body", "it is in a body"
    ]  # fmt: skip


def test_what_holds_weights_and_is_no_layer_is_told_too() -> None:
    text = """<ir_version: 8, opset_import: ["" : 17, "com.microsoft" : 1, "own" : 1]>
    g (float[2, 7, 8] x) => (float[2, 7, 8] y)
    {
        a = com.microsoft.Attention<num_heads = 2>(x, p, c)
        y = own.dense(a, w)
    }
    <domain: "own", opset_import: ["" : 17]> dense (i, k) => (o) { o = MatMul(i, k) }"""
    graph = Graph(model_from_text(text, {"p": (8, 24), "c": (24,), "w": (8, 8)}))
    assert [each.reason for each in channel_groups(graph, infer(graph)).fixed] == [
        "a rank is not known",
        "it calls a local function; put inline-functions before",
    ]
