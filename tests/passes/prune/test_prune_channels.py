from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray

from graphopt.errors import Need, UsageError
from graphopt.facts.cost import params
from graphopt.facts.macs import count_macs
from graphopt.facts.shapes import infer
from graphopt.families.channels import curves
from graphopt.families.channels.narrowable import Narrowable
from graphopt.families.channels.order import Criterion
from graphopt.graph.graph import Graph
from graphopt.graph.node import attribute
from graphopt.numerics.narrowing import Curve
from graphopt.numerics.sqnr import sqnr_db
from graphopt.passes.prune import PruneChannels, prune_channels
from graphopt.run.drive import drive
from graphopt.runtime.session import Session
from graphopt.testing import MODELS, Applied, apply_pass, model_from_text, staged

EXACT_DB = 45.0
"""The weights are held back by a thousandth of the moments, which costs as much."""


def _images(count: int = 24, seed: int = 0) -> NDArray[np.float32]:
    rng = np.random.default_rng(seed)
    return rng.normal(size=(count, 3, 8, 8)).astype(np.float32)


def _doubled() -> onnx.ModelProto:
    """Channels 4 to 7 are those of 0 to 3, twice as large; a depthwise Conv lies between."""
    rng = np.random.default_rng(1)
    first = rng.normal(size=(4, 3, 3, 3)).astype(np.float32)
    taps = rng.normal(size=(4, 1, 3, 3)).astype(np.float32)
    return model_from_text(
        """<ir_version: 8, opset_import: ["" : 17]>
        doubled (float[N,3,8,8] x) => (float[N,5,6,6] y) {
          c = Conv <pads = [1, 1, 1, 1]> (x, W1, B1)
          r = Relu (c)
          d = Conv <group = 8, pads = [1, 1, 1, 1]> (r, W2)
          y = Conv (d, W3)
        }""",
        {
            "W1": np.concatenate([first, 2 * first]),
            "B1": np.zeros(8, np.float32),
            "W2": np.concatenate([taps, taps]),
            "W3": rng.normal(size=(5, 8, 3, 3)).astype(np.float32),
        },
    )


def _apply(model: onnx.ModelProto, *, samples: Any = None, **options: Any) -> Applied:
    feeds = {"x": _images()} if samples is None else samples
    return apply_pass(PruneChannels(**options), model, samples=feeds)


def _shape(graph: Graph, name: str) -> tuple[int, ...]:
    constant = graph.main.constant(name)
    assert constant is not None
    return constant.shape


def _answers(graph: Graph | onnx.ModelProto, feeds: Mapping[str, Any]) -> NDArray[Any]:
    graph = graph if isinstance(graph, Graph) else Graph(graph)
    return next(iter(Session(graph, threads=1).run(feeds).values()))


def test_what_others_can_stand_in_for_goes() -> None:
    model = _doubled()
    graph, record = _apply(model, share=0.5, round_to=1)
    assert record.status == "done"
    assert _shape(graph, "W1") == (4, 3, 3, 3)
    assert _shape(graph, "W2") == (4, 1, 3, 3)
    assert _shape(graph, "W3") == (5, 4, 3, 3)
    assert [change.what for change in record.changes] == ["8 -> 4 channels"]
    feeds = {"x": _images(seed=5)}
    db = sqnr_db(_answers(model, feeds), _answers(graph, feeds))
    assert db is not None and db > EXACT_DB


def test_what_was_taken_is_told_with_what_it_costs() -> None:
    _, record = _apply(_doubled(), share=0.5, round_to=1)
    assert record.taken.criterion == "error"
    (group,) = record.taken.groups
    assert (group.before, group.after, group.channels) == (8, 4, 1)
    assert (group.makers, group.readers) == (["Conv(c)", "Conv(d)"], ["Conv(y)"])
    gone, loss = zip(*group.loss, strict=True)
    assert gone == tuple(range(9))
    assert loss[0] == 0 and loss[4] < 1e-3, "the doubles stand in for each other"
    assert list(loss) == sorted(loss) and loss[8] == pytest.approx(1, abs=0.01)
    counts, damage = zip(*group.damage, strict=True)
    assert counts == tuple(range(8)) and list(damage) == sorted(damage)


def test_without_a_measurement_no_damage_is_told() -> None:
    _, record = _apply(_doubled(), share=0.5, round_to=1, criterion="l1", allocation="global")
    (group,) = record.taken.groups
    assert (record.taken.criterion, group.damage) == ("l1", [])
    assert group.loss[-1] == (8, 1.0)


def test_of_long_curves_some_points_are_told_and_the_chosen_one() -> None:
    model = model_from_text(
        """<ir_version: 8, opset_import: ["" : 17]>
        g (float[N,3] x) => (float[N,5] y) {
          h = Gemm (x, W1, B1)
          r = Relu (h)
          y = Gemm (r, W2)
        }""",
        {"W1": (3, 200), "B1": (200,), "W2": (200, 5)},
    )
    feeds = {"x": np.random.default_rng(0).normal(size=(64, 3)).astype(np.float32)}
    _, record = _apply(model, samples=feeds, share=0.155, round_to=1, allocation="uniform")
    (group,) = record.taken.groups
    gone = [at for at, _ in group.loss]
    assert group.before - group.after in gone
    assert len(gone) <= 50 and gone[0] == 0 and gone[-1] == 200 and gone == sorted(set(gone))


def test_chance_does_not_see_that() -> None:
    model = _doubled()
    graph, _ = _apply(model, share=0.5, round_to=1, criterion="random")
    feeds = {"x": _images(seed=5)}
    db = sqnr_db(_answers(model, feeds), _answers(graph, feeds))
    assert db is not None and db < EXACT_DB


def _stream() -> onnx.ModelProto:
    """A residual stream of 16 with a branch of 24, one of 8 that is joined, and a Gemm."""
    rng = np.random.default_rng(2)
    shapes = {
        "W0": (16, 3, 3, 3),
        "W1": (24, 16, 3, 3),
        "W2": (16, 24, 3, 3),
        "W3": (8, 16, 1, 1),
        "W4": (10, 24),
        "B4": (10,),
    }
    return model_from_text(
        """<ir_version: 8, opset_import: ["" : 17]>
        stream (float[N,3,8,8] x) => (float[N,10] y) {
          c0 = Conv <pads = [1, 1, 1, 1]> (x, W0)
          r0 = Relu (c0)
          c1 = Conv <pads = [1, 1, 1, 1]> (r0, W1)
          r1 = Relu (c1)
          c2 = Conv <pads = [1, 1, 1, 1]> (r1, W2)
          s = Add (r0, c2)
          c3 = Conv (s, W3)
          j = Concat <axis = 1> (s, c3)
          p = GlobalAveragePool (j)
          f = Flatten (p)
          y = Gemm <transB = 1> (f, W4, B4)
        }""",
        {name: rng.normal(size=shape).astype(np.float32) for name, shape in shapes.items()},
    )


@pytest.mark.parametrize("share", [0.75, 0.5, 0.3])
@pytest.mark.parametrize("allocation", ["sensitivity", "global", "uniform"])
def test_macs_fall_as_asked(share: float, allocation: str) -> None:
    model = _stream()
    graph, record = _apply(model, macs=share, round_to=1, allocation=allocation)
    assert record.status == "done"
    sized = [_macs(each) for each in (Graph(model), graph)]
    assert share - 0.12 < sized[1] / sized[0] <= share


def _macs(graph: Graph) -> int:
    fixed = graph.copy()
    fixed.main.proto.input[0].type.tensor_type.shape.dim[0].dim_value = 1
    total = count_macs(fixed, infer(fixed)).total
    assert total is not None
    return total


def test_the_rest_makes_up_for_what_went() -> None:
    model = _stream()
    feeds = {"x": _images(seed=5)}
    wanted = _answers(model, feeds)
    found = []
    for criterion in ("error", "random"):
        graph, _ = _apply(model, macs=0.6, round_to=1, criterion=criterion, allocation="global")
        found.append(sqnr_db(wanted, _answers(graph, feeds)))
    assert found[0] is not None and found[1] is not None
    assert found[0] > found[1] + 1


def test_widths_are_those_that_kernels_do_not_mind() -> None:
    graph, _ = _apply(_stream(), macs=0.6)
    assert _shape(graph, "W1")[0] % 4 == 0
    assert _shape(graph, "W0")[0] % 4 == 0


def test_a_budget_that_is_kept_already_changes_nothing() -> None:
    first, _ = _apply(_stream(), macs=0.6, round_to=1)
    item = PruneChannels(macs=0.6, round_to=1)
    again, record = apply_pass(item, _stream(), [item], samples={"x": _images()})
    assert record.reason == "the model keeps to the budget already"
    assert _shape(again, "W0") == _shape(first, "W0")


def test_macs_of_open_sizes_are_not_known_without_samples() -> None:
    item = PruneChannels(macs=0.6, criterion="l2", allocation="uniform")
    _, record = apply_pass(item, MODELS["embedding"](), samples=None)
    assert record.status == "refused"
    assert record.reason == (
        "without samples its MACs are not known: the file leaves sizes open: index int64[?, ?]"
    )


def test_only_chosen_layers_get_narrower() -> None:
    options = {"share": 0.5, "round_to": 1, "allocation": "uniform"}
    graph, _ = _apply(_stream(), **options, exclude=("Conv(c1)",))
    assert _shape(graph, "W1")[0] == 24
    assert _shape(graph, "W0")[0] == 8
    graph, _ = _apply(_stream(), **options, nodes=("Conv(c1)",))
    assert _shape(graph, "W1")[0] == 12
    assert _shape(graph, "W0")[0] == 16


def _transformer() -> onnx.ModelProto:
    """Four heads of 8 columns, then 64 neurons."""
    return model_from_text(
        """<ir_version: 10, opset_import: ["" : 23]>
        block (float[N,6,16] x) => (float[N,6,16] y) {
          q = MatMul (x, WQ)
          k = MatMul (x, WK)
          v = MatMul (x, WV)
          a = Attention <q_num_heads = 4, kv_num_heads = 4> (q, k, v)
          o = MatMul (a, WO)
          s = Add (x, o)
          h = MatMul (s, W1)
          g = Relu (h)
          y = MatMul (g, W2)
        }""",
        {"WQ": (16, 32), "WK": (16, 32), "WV": (16, 32), "WO": (32, 16), "W1": (16, 64),
         "W2": (64, 16)},
    )  # fmt: skip


@pytest.mark.parametrize(
    ("units", "heads", "neurons"),
    [("heads", 3, 64), ("channels", 4, 48), ("all", 3, 48)],
)
def test_heads_and_neurons_give_apart(units: str, heads: int, neurons: int) -> None:
    x = np.random.default_rng(0).normal(size=(8, 6, 16)).astype(np.float32)
    options = {"share": 0.25, "allocation": "uniform", "units": units}
    graph, record = _apply(_transformer(), samples={"x": x}, **options)
    assert record.status == "done"
    attention = graph.main.producer("a")
    assert attention is not None
    assert attribute(attention, "q_num_heads", 0) == attribute(attention, "kv_num_heads", 0)
    assert attribute(attention, "q_num_heads", 0) == heads
    assert _shape(graph, "WO") == (8 * heads, 16)
    assert _shape(graph, "W1") == (16, neurons)


def test_padding_has_no_say() -> None:
    """Half of the neurons see nothing but tokens of padding, which are larger than the others."""
    rng = np.random.default_rng(3)
    first, second = rng.normal(size=(16, 16)), rng.normal(size=(16, 5))
    first[:8, 8:] = first[8:, :8] = 0
    model = model_from_text(
        """<ir_version: 8, opset_import: ["" : 17]>
        words (float[N,6,16] x, int64[N,6] attention_mask) => (float[N,6,5] y) {
          h = MatMul (x, W1)
          r = Relu (h)
          o = MatMul (r, W2)
          f = Cast <to = 1> (attention_mask)
          m = Unsqueeze (f, last)
          y = Mul (o, m)
        }""",
        {"W1": first.astype(np.float32), "W2": second.astype(np.float32),
         "last": np.array([2], np.int64)},
    )  # fmt: skip
    mask = np.zeros((24, 6), np.int64)
    mask[:, :2] = 1
    x = rng.normal(size=(24, 6, 16))
    x[:, :2, 8:] = 0
    x[:, 2:, :8] = 0
    x[:, 2:] *= 10
    feeds = {"x": x.astype(np.float32), "attention_mask": mask}
    graph, _ = _apply(model, samples=feeds, share=0.5, round_to=1, allocation="global")
    left = graph.main.constant("W1")
    assert left is not None
    np.testing.assert_array_equal(left.values, first[:, :8].astype(np.float32))


def test_no_group_loses_more_than_it_may() -> None:
    graph, _ = _apply(_stream(), share=0.9, round_to=1, max_share=0.5)
    assert (_shape(graph, "W0")[0], _shape(graph, "W1")[0]) == (8, 12)


def test_two_budgets_are_one_too_many() -> None:
    with pytest.raises(UsageError, match="macs and share exclude each other"):
        PruneChannels(macs=0.5, share=0.5)


@pytest.mark.parametrize(
    ("options", "words"),
    [({}, "samples"), ({"criterion": "l2"}, "samples"), ({"criterion": "energy"}, "samples")],
)
def test_without_samples_it_is_refused(options: dict[str, Any], words: str) -> None:
    _, record = apply_pass(PruneChannels(**options), _stream(), samples=None)
    assert record.status == "refused"
    assert words in record.reason
    assert Need.CALIBRATION in record.needs


def test_weights_alone_do_where_that_is_asked() -> None:
    item = PruneChannels(criterion="l2", allocation="uniform", share=0.5, round_to=1)
    graph, record = apply_pass(item, _stream(), samples=None)
    assert record.status == "done"
    assert _shape(graph, "W0")[0] == 8


def test_scales_of_a_norm_decide() -> None:
    scale = np.array([1, 5, 0.1, 4], np.float32)
    ones = {name: np.ones(4, np.float32) for name in ("b", "m", "v")}
    rng = np.random.default_rng(0)
    weights = {
        "W1": rng.normal(size=(4, 3, 1, 1)).astype(np.float32),
        "W2": rng.normal(size=(2, 4, 1, 1)).astype(np.float32),
    }
    model = model_from_text(
        """<ir_version: 8, opset_import: ["" : 17]>
        normed (float[N,3,8,8] x) => (float[N,2,8,8] y) {
          c = Conv (x, W1)
          n = BatchNormalization (c, g, b, m, v)
          r = Relu (n)
          y = Conv (r, W2)
        }""",
        {"g": scale, **ones, **weights},
    )
    options = {"criterion": "batchnorm", "allocation": "uniform", "share": 0.5, "round_to": 1}
    graph, _ = _apply(model, **options)
    left = graph.main.constant("g")
    assert left is not None and left.values.tolist() == [5, 4]
    _, record = _apply(_stream(), **options)
    assert any("put the pass before fuse-batchnorm" in each.reason for each in record.skipped)


@pytest.mark.parametrize("form", ["float", "int8"])
def test_a_budget_of_time_is_kept(form: str) -> None:
    graph, record = _apply(_stream(), latency=0.6, form=form)
    assert record.status == "done"
    assert _macs(graph) < _macs(Graph(_stream()))


def test_biases_that_are_equal_by_chance_do_not_tie_layers_together() -> None:
    model = model_from_text(
        """<ir_version: 8, opset_import: ["" : 17]>
        g (float[N,3,8,8] x) => (float[N,5,8,8] y) {
          c = Conv (x, W1, zeros) r = Relu (c) d = Conv (r, W2, zeros) s = Relu (d) y = Conv (s, W3)
        }""",
        {
            "W1": (8, 3, 1, 1),
            "W2": (8, 8, 1, 1),
            "W3": (5, 8, 1, 1),
            "zeros": np.zeros(8, np.float32),
        },
    )
    graph, _ = _apply(model, share=0.5, round_to=1)
    first, second, *_ = (node.input[2] for node in graph.main.nodes if len(node.input) > 2)
    assert first != second
    assert _shape(graph, first) == _shape(graph, "W1")[:1]
    assert _shape(graph, second) == _shape(graph, "W2")[:1]


def test_channels_that_a_transposed_conv_spreads_are_made_up_for() -> None:
    rng = np.random.default_rng(3)
    first = rng.normal(size=(4, 3, 1, 1)).astype(np.float32)
    model = model_from_text(
        """<ir_version: 8, opset_import: ["" : 17]>
        spread (float[N,3,8,8] x) => (float[N,5,16,16] y) {
          c = Conv (x, W1, B1)
          r = Relu (c)
          y = ConvTranspose <strides = [2, 2]> (r, W2)
        }""",
        {
            "W1": np.concatenate([first, 2 * first]),
            "B1": np.zeros(8, np.float32),
            "W2": rng.normal(size=(8, 5, 2, 2)).astype(np.float32),
        },
    )
    graph, record = _apply(model, share=0.5, round_to=1)
    assert record.status == "done"
    assert _shape(graph, "W2") == (4, 5, 2, 2)
    feeds = {"x": _images(seed=5)}
    db = sqnr_db(_answers(model, feeds), _answers(graph, feeds))
    assert db is not None and db > EXACT_DB


def test_a_grouped_transposed_conv_that_loses_what_it_reads_and_gives_keeps_its_bias() -> None:
    rng = np.random.default_rng(4)
    arrays = {
        name: rng.normal(size=shape).astype(np.float32)
        for name, shape in {
            "W1": (8, 3, 1, 1),
            "B1": (8,),
            "W2": (8, 6, 2, 2),
            "B2": (12,),
            "W3": (5, 12, 1, 1),
        }.items()
    }
    arrays["W1"][1::2], arrays["B1"][1::2] = 0, 0
    arrays["W3"][:, [0, 2, 5, 6, 8, 11]] = 0  # the same three of each group
    model = model_from_text(
        """<ir_version: 8, opset_import: ["" : 17]>
        grouped (float[N,3,8,8] x) => (float[N,5,16,16] y) {
          c = Conv (x, W1, B1)
          r = Relu (c)
          t = ConvTranspose <strides = [2, 2], group = 2> (r, W2, B2)
          s = Sigmoid (t)
          y = Conv (s, W3)
        }""",
        arrays,
    )
    graph, record = _apply(model, share=0.5, round_to=1, allocation="uniform")
    assert record.status == "done"
    assert [_shape(graph, name) for name in ("W2", "B2", "W3")] == [
        (4, 3, 2, 2),
        (6,),
        (5, 6, 1, 1),
    ]
    feeds = {"x": _images(seed=5)}
    db = sqnr_db(_answers(model, feeds), _answers(graph, feeds))
    assert db is not None and db > EXACT_DB


def test_a_model_without_groups_is_left_alone() -> None:
    model = model_from_text(
        """<ir_version: 8, opset_import: ["" : 17]>
        single (float[N,3,8,8] x) => (float[N,5,8,8] y) { y = Conv (x, W) }""",
        {"W": (5, 3, 1, 1)},
    )
    _, record = _apply(model)
    assert record.reason == "no group of channels can get narrower"
    _, record = _apply(_stream(), units="heads", macs=0.5)
    assert record.reason == "no group of heads can get narrower"
    assert str(record.missed) == "macs=0.5 is missed at 1.000: no more heads can go"


def test_where_another_pass_would_let_channels_go_the_budget_tells_which() -> None:
    model = _doubled()
    for each in model.graph.initializer:
        model.graph.input.append(
            onnx.helper.make_tensor_value_info(each.name, each.data_type, each.dims)
        )
    _, record = _apply(model, macs=0.5)
    words = r"no channels can go; of \d layers?: it is listed as an input; put freeze-init"
    assert record.missed is not None
    assert re.match(words, record.missed.reason)


def test_a_budget_out_of_reach_is_told() -> None:
    graph, record = _apply(_stream(), macs=0.1, max_share=0.25)
    assert record.status == "done"
    assert record.missed is not None
    assert record.missed.reached == pytest.approx(_macs(graph) / _macs(Graph(_stream())))
    assert str(record.missed).endswith(": no more channels can go")


@pytest.mark.parametrize("kind", ["macs", "params", "bytes", "share"])
def test_a_budget_that_is_kept_is_not_said_to_be_missed(kind: str) -> None:
    _, record = _apply(_stream(), round_to=1, allocation="global", **{kind: 0.4})
    assert record.status == "done"
    assert record.missed is None


@pytest.mark.parametrize(
    ("options", "reached"),
    [
        ({"params": 0.1}, None),
        ({"bytes": 0.1}, None),
        ({"share": 0.9}, 0.25),
        ({"latency": 0.01, "form": "int8"}, None),
        ({"latency": 0.01}, None),
    ],
)
def test_every_budget_says_that_it_was_missed(
    options: dict[str, Any], reached: float | None
) -> None:
    model = _stream()
    graph, record = _apply(model, max_share=0.25, round_to=1, allocation="global", **options)
    assert record.missed is not None
    assert record.missed.budget in options
    if "params" in options:
        reached = params(graph) / params(Graph(model))
    if reached is not None:
        assert record.missed.reached == pytest.approx(reached)


def test_parameters_are_those_of_the_file_that_came() -> None:
    """Vectors that several layers share are counted once, and biases that come in too."""
    rng = np.random.default_rng(0)
    shapes = {"W1": (8, 3, 1, 1), "W2": (8, 8, 1, 1), "W3": (8, 8, 1, 1), "W4": (40, 8, 1, 1)}
    model = model_from_text(
        """<ir_version: 8, opset_import: ["" : 17]>
        g (float[N,3,8,8] x) => (float[N,40,8,8] y) {
          a = Conv (x, W1, b) ar = Relu (a) c = Conv (ar, W2, b) cr = Relu (c)
          d = Conv (cr, W3, b) dr = Relu (d) y = Conv (dr, W4)
        }""",
        {**{name: rng.normal(size=s).astype(np.float32) for name, s in shapes.items()}, "b": (8,)},
    )
    for kept in (0.8, 0.7, 0.6):
        graph, record = _apply(model, params=kept, round_to=1, allocation="global")
        assert record.missed is None
        assert params(graph) <= kept * params(Graph(model))


def test_what_is_out_of_reach_is_not_said_to_be_kept() -> None:
    _, record = _apply(_doubled(), macs=0.01, max_share=0.0)
    assert record.status == "nothing to do"
    assert record.reason == "no more channels can go"
    assert str(record.missed) == "macs=0.01 is missed at 1.000: no more channels can go"


def _speech(cell: str) -> onnx.ModelProto:
    """Two recurrent layers, as exporters join them, behind a product and before one."""
    gates = 4 if cell == "LSTM" else 3
    rng = np.random.default_rng(4)
    shapes: dict[str, tuple[int, ...]] = {"W0": (6, 12), "Wy": (20, 5)}
    for number, (read, hidden, ways) in enumerate([(12, 10, 2), (20, 20, 1)], 1):
        shapes[f"W{number}"] = (ways, gates * hidden, read)
        shapes[f"R{number}"] = (ways, gates * hidden, hidden)
        shapes[f"B{number}"] = (ways, 2 * gates * hidden)
    weights = {name: 0.3 * rng.normal(size=shape) for name, shape in shapes.items()}
    return model_from_text(
        f"""<ir_version: 8, opset_import: ["" : 17]>
        speech (float[N,7,6] x) => (float[7,N,5] y) {{
          xt = Transpose <perm = [1, 0, 2]> (x)
          e = MatMul (xt, W0)
          r = Relu (e)
          a = {cell} <hidden_size = 10, direction = "bidirectional"> (r, W1, R1, B1)
          at = Transpose <perm = [0, 2, 1, 3]> (a)
          j = Reshape (at, joined)
          b, last = {cell} <hidden_size = 20> (j, W2, R2, B2)
          s = Squeeze (b, one)
          y = MatMul (s, Wy)
        }}""",
        {
            **{name: value.astype(np.float32) for name, value in weights.items()},
            "joined": np.array([0, 0, -1]),
            "one": np.array([1]),
        },
    )


@pytest.mark.parametrize("cell", ["LSTM", "GRU"])
def test_hidden_values_of_recurrent_layers_go(cell: str) -> None:
    model = _speech(cell)
    rng = np.random.default_rng(7)
    feeds = {"x": rng.normal(size=(16, 7, 6)).astype(np.float32)}
    found = {}
    criteria: tuple[Criterion, ...] = ("error", "random")
    for criterion in criteria:
        options: dict[str, Any] = {"share": 0.5, "round_to": 1, "allocation": "uniform"}
        item = PruneChannels(criterion=criterion, **options)
        graph, record = apply_pass(item, model, samples=feeds)
        assert record.status == "done"
        assert record.missed is None
        gates = 4 if cell == "LSTM" else 3
        assert _shape(graph, "R1") == (2, gates * 5, 5)
        assert _shape(graph, "R2") == (1, gates * 10, 10)
        assert _shape(graph, "W2") == (1, gates * 10, 10)
        found[criterion] = sqnr_db(_answers(model, feeds), _answers(graph, feeds))
        whats = [edit.what for edit in record.changes]
        assert any("keeps its weights" in what for what in whats) == (criterion == "error")
    assert found["error"] is not None
    assert found["random"] is not None
    assert found["error"] > found["random"]


def test_what_nobody_sums_over_goes_by_the_weights_that_make_it() -> None:
    """Queries and keys of one head: only activations read them."""
    rng = np.random.default_rng(5)
    weights = {name: rng.normal(size=(8, 12)) for name in ("Wq", "Wk")}
    weights["Wq"][:, :4] *= 1e-3
    weights["Wk"][:, :4] *= 1e-3
    model = model_from_text(
        """<ir_version: 8, opset_import: ["" : 17]>
        scores (float[N,5,8] x) => (float[N,5,5] y) {
          q = MatMul (x, Wq) k = MatMul (x, Wk)
          t = Transpose <perm = [0, 2, 1]> (k)
          y = MatMul (q, t)
        }""",
        {name: value.astype(np.float32) for name, value in weights.items()},
    )
    feeds = {"x": rng.normal(size=(9, 5, 8)).astype(np.float32)}
    item = PruneChannels(macs=0.7, round_to=1, allocation="global")
    graph, record = apply_pass(item, model, samples=feeds)
    assert record.status == "done"
    assert "by l2 of what makes them" in record.changes[0].what
    left = graph.main.constant("Wq")
    assert left is not None
    assert left.shape == (8, 8)
    assert np.abs(left.values).max(axis=0).min() > 0.01


def test_an_einsum_that_reads_channels_keeps_its_weight() -> None:
    model = model_from_text(
        """<ir_version: 8, opset_import: ["" : 17]>
        g (float[N,5,8] x) => (float[N,5,3,2] y) {
          a = MatMul (x, W) r = Relu (a) y = Einsum <equation = "btc,cde->btde"> (r, V)
        }""",
        {"W": (8, 12), "V": (12, 3, 2)},
    )
    feeds = {"x": np.random.default_rng(0).normal(size=(9, 5, 8)).astype(np.float32)}
    graph, record = apply_pass(PruneChannels(share=0.5, round_to=1), model, samples=feeds)
    assert _shape(graph, "V") == (6, 3, 2)
    (change,) = record.changes
    assert change.what.startswith("12 -> 6 channels: Einsum 'Einsum(y)' keeps its weights")


def test_another_budget_from_the_same_state_measures_nothing_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    measured = list[object]()

    def counted(model: Narrowable, samples: int) -> list[Curve]:
        measured.append(model)
        return curves.measured_curves(model, samples)

    monkeypatch.setattr(prune_channels, "measured_curves", counted)
    stage, means = staged(_doubled(), count=8)
    for macs in (0.8, 0.6):
        alone, _ = staged(_doubled(), count=8)
        item = PruneChannels(macs=macs, round_to=1)
        here, there = drive(item, stage, means), drive(item, alone, means)
        assert here.status == "done"
        assert here.changes.edits == there.changes.edits
        assert here.stage.graph.to_model() == there.stage.graph.to_model()
    assert len(measured) == 3
    drive(PruneChannels(macs=0.8, round_to=2), stage, means)
    assert len(measured) == 4


def _shared(doubled: bool = False) -> onnx.ModelProto:
    """A head that two levels of a pyramid share, as detectors have it."""
    rng = np.random.default_rng(6)
    first = rng.normal(size=(6, 3, 3, 3))
    shapes = {"Wa": (12, 3, 3, 3), "Wh": (16, 12, 3, 3), "Wo": (5, 16, 1, 1)}
    weights = {name: rng.normal(size=shape) for name, shape in shapes.items()}
    if doubled:
        weights["Wa"] = np.concatenate([first, 2 * first])
    return model_from_text(
        """<ir_version: 8, opset_import: ["" : 17]>
        pyramid (float[N,3,8,8] x) => (float[N,5,8,8] y, float[N,5,4,4] z) {
          a = Conv <pads = [1, 1, 1, 1]> (x, Wa) ar = Relu (a)
          p = MaxPool <kernel_shape = [2, 2], strides = [2, 2]> (ar)
          h = Conv <pads = [1, 1, 1, 1]> (ar, Wh) hr = Relu (h) y = Conv (hr, Wo)
          g = Conv <pads = [1, 1, 1, 1]> (p, Wh) gr = Relu (g) z = Conv (gr, Wo)
        }""",
        {name: value.astype(np.float32) for name, value in weights.items()},
    )


@pytest.mark.parametrize("kind", ["params", "bytes", "macs"])
def test_weights_that_are_shared_stay_so_and_budgets_are_kept(kind: str) -> None:
    model = _shared()
    graph, record = _apply(model, round_to=1, allocation="global", **{kind: 0.6})
    assert record.status == "done"
    assert record.missed is None
    reads = [node.input[1] for node in graph.main.nodes if node.op_type == "Conv"]
    assert reads == ["Wa", "Wh", "Wo", "Wh", "Wo"]
    left = {"params": params, "bytes": lambda each: each.weight_bytes, "macs": _macs}[kind]
    assert left(graph) <= 0.6 * left(Graph(model))


def test_layers_that_share_a_weight_are_solved_together() -> None:
    model, feeds = _shared(doubled=True), {"x": _images(seed=5)}
    graph, _ = _apply(model, share=0.5, round_to=1, nodes=("Conv(a)",))
    assert _shape(graph, "Wh") == (16, 6, 3, 3)
    db = sqnr_db(_answers(model, feeds), _answers(graph, feeds))
    assert db is not None
    assert db > EXACT_DB


def test_a_table_that_is_also_the_last_layer_stays_one() -> None:
    rng = np.random.default_rng(8)
    model = model_from_text(
        """<ir_version: 8, opset_import: ["" : 17]>
        tied (int64[N,5] x) => (float[N,5,30] y) {
          e = Gather (T, x)
          u = MatMul (e, W1) r = Relu (u) d = MatMul (r, W2)
          s = Add (e, d)
          Tt = Transpose <perm = [1, 0]> (T)
          y = MatMul (s, Tt)
        }""",
        {
            "T": rng.normal(size=(30, 12)).astype(np.float32),
            "W1": rng.normal(size=(12, 24)).astype(np.float32),
            "W2": rng.normal(size=(24, 12)).astype(np.float32),
        },
    )
    feeds = {"x": rng.integers(0, 30, (20, 5))}
    item = PruneChannels(params=0.6, round_to=1, allocation="global")
    graph, record = apply_pass(item, model, samples=feeds)
    assert record.status == "done"
    assert record.missed is None
    assert params(graph) <= 0.6 * params(Graph(model))
    assert _answers(graph, feeds).shape == (20, 5, 30)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
@pytest.mark.parametrize("name", ["W1", "W3"])
@pytest.mark.parametrize(
    "options",
    [
        {"allocation": "global"},
        {"criterion": "l2", "allocation": "uniform"},
        {"criterion": "random"},
    ],
)
def test_weights_that_are_no_numbers_keep_their_group(
    bad: float, name: str, options: dict[str, Any]
) -> None:
    model = _doubled()
    (tensor,) = (each for each in model.graph.initializer if each.name == name)
    values = onnx.numpy_helper.to_array(tensor).copy()
    values.flat[3] = bad
    tensor.CopyFrom(onnx.numpy_helper.from_array(values, name))
    _, record = _apply(model, share=0.5, round_to=1, **options)
    assert record.status == "nothing to do"
    assert "the weight holds NaN or infinity" in [each.reason for each in record.skipped]
    assert str(record.missed) == "share=0.5 is missed at 0.000: no more channels can go"


def test_weights_that_are_all_zero_can_go() -> None:
    model = _doubled()
    for tensor in model.graph.initializer:
        if tensor.name in ("W1", "W3"):
            zeros = np.zeros(tuple(tensor.dims), np.float32)
            tensor.CopyFrom(onnx.numpy_helper.from_array(zeros, tensor.name))
    for options in ({}, {"criterion": "l2"}, {"criterion": "median"}):
        graph, record = _apply(model, share=0.5, round_to=1, allocation="global", **options)
        assert record.missed is None
        assert _shape(graph, "W1") == (4, 3, 3, 3)
