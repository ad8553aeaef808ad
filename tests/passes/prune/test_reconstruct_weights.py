"""Layers solved again behind passes that took something away."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray

from graphopt.contract.passes import Changes, Context, Option, Pass
from graphopt.graph import check
from graphopt.graph.graph import Graph
from graphopt.observe.walk import Walk
from graphopt.passes.factorize import FactorizeConv
from graphopt.passes.prune import MaskWeights, ReconstructWeights
from graphopt.passes.quantize import QuantizeStatic, QuantizeWeights
from graphopt.runtime.session import Session
from graphopt.testing import MODELS, apply_passes, model_from_text, run_model

F32 = np.float32
NOISE = np.random.default_rng(0).normal(0.3, 1, (24, 3, 8, 8)).astype(F32)
ROLLED = (np.roll(NOISE, (up, left), (2, 3)) for up in range(3) for left in range(3))
IMAGES = sum(ROLLED, start=NOISE / 2) / F32(3)
"""Neighbours are alike, as in pictures: behind white noise a mask leaves nothing to make up for."""
HEAD = '<ir_version: 8, opset_import: ["" : 13]>'


@dataclass(frozen=True, kw_only=True)
class CutLast(Pass):
    """Removes the last channel between two layers."""

    name = "prune-channels"
    between: Annotated[Any, Option("the tensor")] = "c"
    makers: Annotated[Any, Option("its weight and bias")] = ("W1", "B1")
    reader: Annotated[Any, Option("the weight that reads it")] = "W2"
    lossy: ClassVar[bool] = True

    def __post_init__(self) -> None:
        pass

    def run(self, graph: Graph, context: Context) -> Changes:
        changes = Changes()
        values = {name: values_of(graph, name) for name in (*self.makers, self.reader)}
        left = len(values[self.makers[0]]) - 1
        for name in self.makers:
            graph.main.define(name, values[name][:left])
        graph.main.define(self.reader, values[self.reader][:, :left])
        graph.main.value_infos.drop(self.between)
        changes.edit(self.between, "one channel less")
        changes.kept = {(self.between, 1): np.arange(left)}
        return changes


@dataclass(frozen=True, kw_only=True)
class ZeroFirst(Pass):
    """Sets the first input channel of a weight to zero."""

    name = "mask-weights"
    lossy: ClassVar[bool] = True

    def run(self, graph: Graph, context: Context) -> Changes:
        changes = Changes()
        values = values_of(graph, "W").copy()
        values[:, 0] = 0
        graph.main.define("W", values)
        changes.edit("W", "zeroed")
        return changes


def values_of(graph: Graph, name: str) -> NDArray[Any]:
    constant = graph.main.constant(name)
    assert constant is not None
    return constant.values


def repaired(
    model: onnx.ModelProto, *before: Pass, item: ReconstructWeights | None = None, x: Any = IMAGES
) -> tuple[Graph, Any]:
    graph, records = apply_passes(
        [*before, item or ReconstructWeights()], model, samples={"x": x}, strict=True
    )
    assert check.problems(graph) == []
    return graph, records[-1]


def given_by(model: onnx.ModelProto | Graph, x: Any, tensor: str = "y") -> NDArray[Any]:
    graph = model if isinstance(model, Graph) else Graph(model)
    values: NDArray[Any] = Session(graph, threads=1, outputs=[tensor]).run({"x": x})[tensor]
    return values


def told(record: Any) -> dict[str, str]:
    return {each.node: each.reason for each in record.skipped}


def two_convs(middle: str = "") -> onnx.ModelProto:
    """Two convolutions; the last channel between them is a sum of the first three."""
    rng = np.random.default_rng(2)
    first, bias = rng.normal(size=(8, 3, 3, 3)), rng.normal(size=8)
    first[7], bias[7] = first[:3].sum(axis=0), bias[:3].sum()
    return model_from_text(
        f"""{HEAD} g (float[N, 3, 8, 8] x) => (float[N, 4, 6, 6] y) {{
            [a] c = Conv(x, W1, B1)  {middle}  [b] y = Conv(c, W2, B2) }}""",
        {"W1": first.astype(F32), "B1": bias.astype(F32), "W2": (4, 8, 1, 1), "B2": (4,)},
    )


def test_a_channel_that_follows_from_the_others_is_made_up_for() -> None:
    model = two_convs()
    graph, record = repaired(model, CutLast(), item=ReconstructWeights(ridge=1e-8))
    assert values_of(graph, "W1").shape == (7, 3, 3, 3)
    before, after = run_model(model)["y"], run_model(graph)["y"]
    np.testing.assert_allclose(after, before, atol=1e-4)
    assert told(record) == {"a": "it gives what it should already"}
    assert [each.node for each in record.changes] == ["b"]
    assert record.changes[0].what.endswith("now 0.00%")


def test_where_channels_went_the_first_goes_by_what_the_second_makes_of_it() -> None:
    """The last channel follows from the others only in front of the Relu."""
    model = two_convs("[r] r = Relu(c)")
    model.graph.node[-1].input[0] = "r"
    wanted = given_by(model, IMAGES)
    errors = {}
    for pairs in (True, False):
        graph, record = repaired(model, CutLast(), item=ReconstructWeights(pairs=pairs))
        errors[pairs] = float(np.square(given_by(graph, IMAGES) - wanted).mean())
        said = " ".join(each.what for each in record.changes)
        assert ("together with b: error of its result" in said) == pairs
    assert errors[True] < 0.7 * errors[False]


def test_zeros_stay_zeros_and_the_answers_come_nearer() -> None:
    model = MODELS["cnn"]()
    mask = MaskWeights(criterion="magnitude", min_size=0, sparsity=0.6, depthwise=True)
    masked, _ = apply_passes([mask], model, samples={"x": IMAGES}, strict=True)
    graph, records = apply_passes(
        [mask, ReconstructWeights()], model, samples={"x": IMAGES}, strict=True
    )
    for name in ("W1", "W2", "W3", "W4"):
        before, after = values_of(masked, name), values_of(graph, name)
        assert ((before == 0) == (after == 0)).all()
        assert (before != after).any()
    first, second = (record.sqnr_db or 0 for record in records)
    assert second > first + 1


def test_the_sum_with_a_shortcut_is_what_counts() -> None:
    model = model_from_text(
        f"""{HEAD} g (float[N, 3, 8, 8] x) => (float[N, 4, 8, 8] y) {{
            [s] side = Conv(x, S)  c = Relu(side)  [b] d = Conv(x, W)
            y = Add(d, c) }}""",
        {"S": (4, 3, 1, 1), "W": (4, 3, 1, 1)},
    )
    mask = MaskWeights(criterion="magnitude", min_size=0, nodes=("s",))
    graph, record = repaired(model, mask, item=ReconstructWeights(nodes=("b",)))
    assert [each.node for each in record.changes] == ["b"]
    kept = values_of(graph, "S") == 0
    assert kept.sum() == 6
    assert (values_of(graph, "W") != model_values(model, "W")).all()
    alone, _ = repaired(model, mask, item=ReconstructWeights())
    assert (values_of(alone, "W") != values_of(graph, "W")).any()


def model_values(model: onnx.ModelProto, name: str) -> NDArray[Any]:
    held = {each.name: each for each in model.graph.initializer}
    values: NDArray[Any] = onnx.numpy_helper.to_array(held[name])
    return values


def test_a_layer_without_a_bias_gets_one() -> None:
    model = two_convs()
    del model.graph.node[1].input[2:]
    graph, record = repaired(model, CutLast())
    assert values_of(graph, "W2_bias").shape == (4,)
    assert "larger" not in record.reason


def test_the_last_factor_of_a_product_is_solved_towards_the_layer_that_it_was() -> None:
    graph, record = repaired(
        two_convs(),
        MaskWeights(criterion="magnitude", min_size=0, nodes=("a",)),
        FactorizeConv(rank=2, scheme="spatial", min_size=0, nodes=("a",), allow_slower=True),
    )
    assert record.changes[0].node == "a"
    assert told(record).items() >= {"a_first": "the float model has no tensor 'c_rank'"}.items()
    assert len(graph.main.nodes) == 3


def test_the_first_factor_is_solved_for_what_the_last_makes_of_it() -> None:
    model = model_from_text(
        f"""{HEAD} g (float[N, 3, 8, 8] x) => (float[N, 8, 6, 6] y) {{ [a] y = Conv(x, W, B) }}""",
        {"W": (8, 3, 3, 3), "B": (8,)},
    )
    item = FactorizeConv(rank=2, scheme="channel", min_size=0, nodes=("a",), allow_slower=True)
    passes = [MaskWeights(criterion="magnitude", min_size=0, nodes=("a",)), item]
    before, _ = apply_passes(passes, model, samples={"x": IMAGES}, strict=True)
    only = ReconstructWeights(nodes=("a_first",), ridge=0)
    graph, record = repaired(model, *passes, item=only)
    assert [each.node for each in record.changes] == ["a_first"]
    right = given_by(model, IMAGES)

    def error(made: Graph) -> float:
        return float(np.square(given_by(made, IMAGES) - right).sum(dtype=np.float64))

    least = error(graph)
    assert least < 0.99 * error(before)
    name = graph.main.nodes[0].input[1]
    values = values_of(graph, name)
    for at in list(np.ndindex(*values.shape))[::7]:  # with the last factor, none comes nearer
        for step in (-1e-2, 1e-2):
            moved = values.copy()
            moved[at] += step
            graph.main.define(name, moved)
            assert error(graph) >= least * (1 - 1e-6)


@pytest.mark.parametrize("pooled", [True, False])
def test_behind_a_mean_over_all_positions_the_rows_before_it_are_taken(pooled: bool) -> None:
    rng = np.random.default_rng(3)
    first = rng.normal(size=(24, 3, 1, 1))
    first[23] = first[:3].sum(axis=0)
    pool = "p = GlobalAveragePool(r) f = Flatten(p)" if pooled else "f = Flatten(r)"
    sizes = "8, 8" if pooled else "1, 1"
    model = model_from_text(
        f"""{HEAD} g (float[N, 3, {sizes}] x) => (float[N, 5] y) {{
            [a] c = Conv(x, W1, B1)  r = Relu(c)  {pool}
            [b] y = Gemm<transB = 1>(f, W2, B2) }}""",
        {"W1": first.astype(F32), "B1": (24,), "W2": (5, 24), "B2": (5,)},
    )
    samples = IMAGES[:8] if pooled else IMAGES[:8, :, :1, :1]
    _, record = repaired(model, CutLast(between="c"), x=samples)
    assert [each.node for each in record.changes] == ["b"]


def test_products_of_three_axes_with_their_bias_behind() -> None:
    rng = np.random.default_rng(5)
    rows = rng.normal(size=(12, 6, 16)).astype(np.float32)
    model = model_from_text(
        f"""{HEAD} g (float[N, 6, 16] x) => (float[N, 6, 16] y) {{
            [p] m = MatMul(x, W1) a = Add(B1, m) r = Relu(a)
            [q] n = MatMul(r, W2) s = Add(n, B2) y = Add(s, x) }}""",
        {"W1": (16, 32), "B1": (32,), "W2": (32, 16), "B2": (16,)},
    )
    graph, record = repaired(model, MaskWeights(criterion="magnitude"), x=rows)
    assert [each.node for each in record.changes] == ["p", "q"]
    assert (values_of(graph, "B1") != model_values(model, "B1")).any()
    assert (values_of(graph, "B2") != model_values(model, "B2")).any()
    assert len(graph.main.nodes) == 6


@pytest.mark.parametrize("biased", [True, False])
def test_beside_weights_that_are_codes_the_bias_is_solved_for(biased: bool) -> None:
    model = two_convs()
    if not biased:
        del model.graph.node[1].input[2:]
    passes = [
        MaskWeights(criterion="magnitude", min_size=0),
        QuantizeWeights(nodes=("b",), min_size=0),
    ]
    before, _ = apply_passes(passes, model, samples={"x": IMAGES}, strict=True)
    graph, record = repaired(model, *passes, item=ReconstructWeights(nodes=("b",)))
    (edit,) = record.changes
    assert edit.what.startswith("its bias alone, since its weight is stored in less than float32; ")
    made = graph.main.nodes[-1].input[2]
    assert values_of(graph, made).shape == (4,)
    assert ("B2" in made) == biased
    right, off, now = (given_by(each, IMAGES) for each in (model, before, graph))
    assert np.abs((off - right).mean(axis=(0, 2, 3))).max() > 1e-2
    np.testing.assert_allclose(now.mean(axis=(0, 2, 3)), right.mean(axis=(0, 2, 3)), atol=1e-4)
    shift = values_of(graph, made) - (values_of(before, "B2") if biased else 0)
    np.testing.assert_allclose(
        now - off, np.broadcast_to(shift[:, None, None], now.shape), atol=1e-5
    )


def test_a_bias_of_integers_is_solved_for_on_its_grid() -> None:
    passes = [MaskWeights(criterion="magnitude", min_size=0, sparsity=0.6), QuantizeStatic()]
    before, _ = apply_passes(passes, two_convs(), samples={"x": IMAGES}, strict=True)
    graph, record = repaired(two_convs(), *passes)
    assert {each.node for each in record.changes} == {"a", "b"}, told(record)
    moved = 0
    for node in graph.main.nodes:
        if node.op_type == "Conv":
            name = next(each for each in graph.main.nodes if each.output[0] == node.input[2]).input[
                0
            ]
            assert values_of(graph, name).dtype == np.int32
            moved += int((values_of(graph, name) != values_of(before, name)).sum())
    assert moved > 4


def test_a_bias_behind_a_normalization_goes_into_its_mean() -> None:
    rng = np.random.default_rng(4)
    plain = np.ones(4, F32)
    model = model_from_text(
        f"""{HEAD} g (float[N, 3, 8, 8] x) => (float[N, 4, 6, 6] y) {{
            [a] c = Conv(x, W) n = BatchNormalization(c, G, H, M, V) y = Relu(n) }}""",
        {"W": rng.normal(0.2, 1, (4, 3, 3, 3)).astype(F32), "H": 0 * plain, "M": 0 * plain}
        | {"G": 2 * plain, "V": plain},
    )
    for name in "GV":  # each a tensor of its own
        assert values_of(Graph(model), name).shape == (4,)
    mask = MaskWeights(criterion="magnitude", min_size=0, sparsity=0.8)
    graph, record = repaired(model, mask)
    assert [each.node for each in record.changes] == ["a"]
    assert (values_of(graph, "M") != 0).all()
    assert len(graph.main.nodes[0].input) == 2
    bare, _ = repaired(model, mask, item=ReconstructWeights(exclude=("a",)))
    right, now, off = (given_by(each, IMAGES) for each in (model, graph, bare))
    assert np.square(now - right).mean() < 0.9 * np.square(off - right).mean()


def test_a_normalization_that_belongs_to_no_layer_is_solved_for_itself() -> None:
    rng = np.random.default_rng(4)
    stats: dict[str, Any] = {"G": (8,), "H": (8,), "M": (8,), "V": np.ones(8, F32)}
    model = model_from_text(
        f"""{HEAD} g (float[N, 3, 8, 8] x) => (float[N, 8, 6, 6] y) {{
            [a] c = Conv(x, W) [b] d = Conv(x, U) s = Add(c, d)
            [n] n = BatchNormalization(s, G, H, M, V) y = Relu(n) }}""",
        {"W": rng.normal(0.2, 1, (8, 3, 3, 3)).astype(F32), "U": (8, 3, 3, 3), **stats},
    )
    mask = MaskWeights(criterion="magnitude", min_size=0, sparsity=0.8)
    graph, record = repaired(model, mask, item=ReconstructWeights(nodes=("n",), ridge=0, rounds=0))
    assert [each.node for each in record.changes] == ["n"]
    before, _ = apply_passes([mask], model, samples={"x": IMAGES}, strict=True)
    sums = given_by(before, IMAGES, "s")
    right = given_by(model, IMAGES, "n")
    made = given_by(graph, IMAGES, "n")
    for channel in range(8):
        slope, offset = np.polyfit(sums[:, channel].ravel(), right[:, channel].ravel(), 1)
        expected = slope * sums[:, channel] + offset
        np.testing.assert_allclose(made[:, channel], expected, atol=1e-3)


@pytest.mark.parametrize(
    ("operator", "weight", "sizes", "rank"),
    [
        ("ConvTranspose<strides = [2, 2], pads = [1, 1, 1, 1]>", (6, 4, 3, 3), "15, 15", 2),
        ("ConvTranspose<group = 2, strides = [2, 2]>", (6, 3, 2, 2), "16, 16", 2),
        ("ConvTranspose<group = 6>", (6, 1, 3, 3), "10, 10", 2),
        ("ConvTranspose<strides = [2]>", (6, 4, 3), "17", 1),
        ("Conv<pads = [1, 1]>", (4, 6, 3), "8", 1),
        ("Conv<group = 2>", (4, 3, 3), "6", 1),
        ("Conv<pads = [1, 1, 1, 1, 1, 1]>", (4, 6, 3, 3, 3), "8, 8, 8", 3),
    ],
)
def test_layers_of_all_kinds_come_to_least_squares(
    operator: str, weight: tuple[int, ...], sizes: str, rank: int
) -> None:
    spread = "Transpose" in operator
    groups = int(operator.split("group = ")[1][0]) if "group" in operator else 1
    outs = weight[1] * groups if spread else weight[0]
    model = model_from_text(
        f"""{HEAD} g (float[N, 6{", 8" * rank}] x) => (float[N, {outs}, {sizes}] y) {{
            [a] y = {operator}(x, W, B) }}""",
        {"W": weight, "B": (outs,)},
    )
    noise = np.random.default_rng(1).normal(0.3, 1, (6, 6, *[8] * rank))
    x = (noise + np.roll(noise, 1, 1) + np.roll(noise, 1, -1)).astype(F32)
    mask = MaskWeights(criterion="magnitude", min_size=0, sparsity=0.4, depthwise=True)
    graph, record = repaired(model, mask, item=ReconstructWeights(ridge=0), x=x)
    assert [each.node for each in record.changes] == ["a"]
    right = given_by(model, x)
    values, kept = values_of(graph, "W"), values_of(graph, "W") != 0
    base = np.square(given_by(graph, x) - right).sum(dtype=np.float64)
    for at in np.argwhere(kept)[::17]:  # no step along a weight that is left makes it less
        for step in (-2e-2, 2e-2):
            moved = values.copy()
            moved[tuple(at)] += step
            graph.main.define("W", moved)
            other = np.square(given_by(graph, x) - right).sum(dtype=np.float64)
            assert other >= base * (1 - 1e-6)
    assert 0.3 < 1 - kept.mean() < 0.5


@pytest.mark.parametrize("kind", ["float16", "double"])
def test_floats_of_other_widths_are_solved_and_stored_as_they_were(kind: str) -> None:
    rng = np.random.default_rng(2)
    shapes: dict[str, Any] = {"W1": (8, 3, 3, 3), "B1": 8, "W2": (4, 8, 1, 1), "B2": 4}
    model = model_from_text(
        f"""{HEAD} g ({kind}[N, 3, 8, 8] x) => ({kind}[N, 4, 6, 6] y) {{
            [a] c = Conv(x, W1, B1) [b] y = Conv(c, W2, B2) }}""",
        {name: rng.normal(0, 0.4, shape).astype(kind) for name, shape in shapes.items()},
    )
    errors = []
    for passes in (
        [MaskWeights(criterion="magnitude", min_size=0)],
        [MaskWeights(criterion="magnitude", min_size=0), ReconstructWeights()],
    ):
        graph, records = apply_passes(
            passes, model, samples={"x": IMAGES.astype(kind)}, strict=True
        )
        assert {values_of(graph, name).dtype for name in ("W1", "B1", "W2")} == {np.dtype(kind)}
        errors.append(records[-1].sqnr_db or 0)
    assert [each.node for each in records[-1].changes] == ["a", "b"]
    assert errors[1] > errors[0] + 1


def test_a_layer_that_cannot_be_measured_is_left_and_the_others_are_solved() -> None:
    model = model_from_text(
        f"""{HEAD} g (float[N, 16] x) => (float[N, 8] y) {{
            [a] h = MatMul(x, A) z = Mul(h, K) [b] c = MatMul(z, B) d = Mul(c, L)
            e = Add(d, h) [c] y = MatMul(e, C) }}""",
        {
            "A": (16, 16),
            "B": (16, 16),
            "C": (16, 8),
            "K": np.array([1e22], F32),
            "L": np.array([1e-22], F32),
        },
    )
    x = np.random.default_rng(0).normal(size=(24, 6)) @ np.random.default_rng(1).normal(
        size=(6, 16)
    )
    _, record = repaired(model, MaskWeights(criterion="magnitude", min_size=0), x=x.astype(F32))
    assert sorted(each.node for each in record.changes) == ["a", "c"]
    assert told(record)["b"].startswith("tensor 'z' holds values too large to be squared")


def test_without_a_pass_that_took_something_there_is_nothing_to_repair() -> None:
    _, records = apply_passes([ReconstructWeights()], two_convs(), samples={"x": IMAGES})
    assert records[0].status == "refused"
    assert records[0].reason.startswith("no lossy pass stands before it")


def test_beside_a_shared_weight_each_bias_is_solved_for() -> None:
    model = model_from_text(
        f"""{HEAD} g (float[N, 3, 8, 8] x) => (float[N, 3, 8, 8] y) {{
            [a] c = Conv(x, W)  [b] y = Conv(c, W) }}""",
        {"W": (3, 3, 1, 1)},
    )
    graph, record = repaired(model, MaskWeights(criterion="magnitude", min_size=0))
    assert [each.node for each in record.changes] == ["a", "b"]
    assert record.changes[0].what.startswith(
        "its bias alone, since its weight is shared with others; error of its result "
    )
    assert len({node.input[1] for node in graph.main.nodes}) == 1
    assert len({node.input[2] for node in graph.main.nodes}) == 2


def masked_products() -> onnx.ModelProto:
    return model_from_text(
        f"""{HEAD} g (float[N, 6, 16] x, int64[N, 6] attention_mask) => (float[N, 6, 16] y) {{
            [p] m = MatMul(x, W1) a = Add(m, B1) k = Cast<to = 1>(attention_mask)
            u = Unsqueeze(k, A) y = Mul(a, u) }}""",
        {"W1": (16, 16), "B1": (16,), "A": np.array([2])},
    )


def test_tokens_of_padding_do_not_count() -> None:
    rng = np.random.default_rng(6)
    rows = (rng.normal(size=(12, 6, 16)) @ rng.normal(size=(16, 16))).astype(F32)
    mask = np.ones((12, 6), np.int64)
    mask[:, 4:] = 0
    rows[:, 4:] = 99 * rng.normal(size=(12, 2, 16))
    passes: list[Pass] = [
        MaskWeights(criterion="magnitude", min_size=0, nodes=("p",)),
        ReconstructWeights(ridge=1e-4),
    ]
    samples = {"x": rows, "attention_mask": mask}
    graph, _ = apply_passes(passes, masked_products(), samples=samples, strict=True)
    weight = values_of(graph, "W1")
    model = masked_products()
    x = rows[:, :4].reshape(-1, 16)
    before = x @ model_values(model, "W1") + model_values(model, "B1")
    after = x @ weight + values_of(graph, "B1")
    kept = weight != 0
    for out in range(16):
        inputs = np.hstack([x[:, kept[:, out]], np.ones((len(x), 1))])
        best = np.linalg.lstsq(inputs, before[:, out], rcond=None)[0]
        least = np.square(inputs @ best - before[:, out]).sum()
        error = np.square(after[:, out] - before[:, out]).sum()
        assert error <= 1.1 * least + 1e-3


def test_samples_that_would_take_too_much_memory_are_left_out(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    counts = []
    walk = Walk.__init__

    def counted(self: Walk, graph: Graph, samples: Any, *args: Any) -> None:
        walk(self, graph, samples, *args)
        counts.append(self.count)

    monkeypatch.setattr(Walk, "__init__", counted)
    repaired(two_convs(), MaskWeights(criterion="magnitude", min_size=0))
    monkeypatch.setattr("graphopt.families.refitting.walks._HELD_BYTES", 4 * 5 * 1000)
    repaired(two_convs(), MaskWeights(criterion="magnitude", min_size=0))
    assert counts[:2] == [24, 24]
    assert 1 < counts[2] == counts[3] < 24


@pytest.mark.parametrize("flat", [0, 1])
def test_behind_a_normalization_it_is_as_if_that_were_part_of_the_layer(flat: int) -> None:
    rng = np.random.default_rng(9)
    factor = rng.normal(size=8)
    factor[0] *= flat
    params = {"G": factor, "H": rng.normal(size=8), "M": rng.normal(size=8), "V": np.ones(8) * 2}
    weight = rng.normal(size=(8, 3, 3, 3))
    model = model_from_text(
        f"""{HEAD} g (float[N, 3, 8, 8] x) => (float[N, 8, 6, 6] y) {{
            [a] c = Conv(x, W) n = BatchNormalization<epsilon = 0.0>(c, G, H, M, V)
            z = Slice(x, S, E, A) t = Tile(z, R) s = Add(n, t) y = Relu(s) }}""",
        {
            "W": weight.astype(F32),
            "S": np.array([0, 0, 0]),
            "E": np.array([1, 6, 6]),
            "A": np.array([1, 2, 3]),
            "R": np.array([1, 8, 1, 1]),
            **{name: values.astype(F32) for name, values in params.items()},
        },
    )
    k = factor / np.sqrt(2)
    fused = model_from_text(
        f"""{HEAD} g (float[N, 3, 8, 8] x) => (float[N, 8, 6, 6] y) {{
            [a] c = Conv(x, W, B) z = Slice(x, S, E, A) t = Tile(z, R) s = Add(c, t)
            y = Relu(s) }}""",
        {
            **{each.name: model_values(model, each.name) for each in model.graph.initializer},
            "W": (weight * k[:, None, None, None]).astype(F32),
            "B": (params["H"] - params["M"] * k).astype(F32),
        },
    )
    for name in "GHMV":
        del fused.graph.initializer[[t.name for t in fused.graph.initializer].index(name)]
    item = ReconstructWeights(ridge=1e-6)
    plain, _ = repaired(model, ZeroFirst(), item=item)
    one, _ = repaired(fused, ZeroFirst(), item=item)
    answers = [run_model(each)["y"] for each in (plain, one)]
    if flat:
        np.testing.assert_allclose(answers[0], answers[1], atol=2e-2)
    assert (values_of(plain, "W") != model_values(model, "W")).any()
