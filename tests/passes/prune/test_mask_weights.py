from __future__ import annotations

import subprocess
import sys
from typing import Any

import numpy as np
import onnx
import pytest

from graphopt.commands.optimize import optimize
from graphopt.contract.spec import parse_passes
from graphopt.errors import Need, SystemFailure, UsageError
from graphopt.facts.layers import Layer, layers
from graphopt.families import training
from graphopt.graph import io
from graphopt.graph.graph import Graph
from graphopt.passes.prune import MaskWeights
from graphopt.runtime.session import Session
from graphopt.testing import MODELS, apply_pass, apply_passes, model_from_text, run_model


def _zeros(graph: Graph) -> dict[str, float]:
    found: dict[str, float] = {}
    for name, tensor in graph.main.initializers.items():
        values = graph.read(tensor)
        found[name] = float(1 - np.count_nonzero(values) / values.size)
    return found


def test_each_layer_loses_its_smallest_weights() -> None:
    model = MODELS["cnn"]()
    graph, record = apply_pass(MaskWeights(sparsity=0.25, criterion="magnitude"), model)
    zeros = _zeros(graph)
    assert zeros["W1"] == zeros["W2"] == 0.25
    assert zeros["B4"] == 0
    before = {t.name: t for t in model.graph.initializer}
    old, new = graph.read(before["W2"]), graph.read(graph.main.initializers["W2"])
    assert np.abs(old[new == 0]).max() <= np.abs(new[new != 0]).min()
    np.testing.assert_array_equal(new[new != 0], old[new != 0])
    assert record.changes[0].what == "25.0% of 432 weights are zero"


@pytest.mark.parametrize("criterion", ["magnitude", "second-order"])
def test_zeros_are_told_of_each_layer(criterion: Any) -> None:
    first = MaskWeights(sparsity=0.25, criterion=criterion)
    _, records = apply_passes([first, MaskWeights(sparsity=0.5), first], MODELS["mlp"]())
    once, twice, again = ({each.node: each for each in record.taken.zeros} for record in records)
    assert set(once) == set(twice) and not again, "a pass that changed nothing took nothing"
    for node, each in twice.items():
        assert (once[node].before, once[node].after) == (0, each.before)
        assert each.before == each.elements // 4 and each.after == each.elements // 2
    assert sum(each.elements for each in twice.values()) == 48 * 32 + 48 * 24


def test_a_weight_behind_a_transpose_is_one_too() -> None:
    text = """<ir_version: 8, opset_import: ["" : 13]>
    g (float[N,32] x) => (float[N,16] y) { t = Transpose (W)  y = MatMul (x, t) }"""
    graph, record = apply_pass(MaskWeights(pattern="2:4"), model_from_text(text, {"W": (16, 32)}))
    values = graph.read(graph.main.initializers["W"])
    assert (np.count_nonzero(values.reshape(16, 8, 4), axis=2) == 2).all()
    assert record.changes[0].node == "MatMul(y)"


def test_global_lets_layers_compete() -> None:
    graph, _ = apply_pass(MaskWeights(scope="global"), MODELS["mlp"]())
    sizes = {"W1": 48 * 32, "W2": 48 * 24}
    zeros = _zeros(graph)
    assert sum(zeros[n] * size for n, size in sizes.items()) == sum(sizes.values()) / 2
    assert zeros["W1"] != zeros["W2"]


def test_global_refuses_what_does_not_fit_into_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("graphopt.passes.prune.mask_weights._GLOBAL_BYTES", 1000)
    _, record = apply_pass(MaskWeights(scope="global"), MODELS["mlp"]())
    assert record.status == "refused"
    assert record.reason.endswith("use scope=local or a threshold")


def test_threshold_goes_by_value() -> None:
    graph, _ = apply_pass(MaskWeights(threshold=0.05), MODELS["mlp"]())
    values = graph.read(graph.main.initializers["W1"])
    assert 0 < _zeros(graph)["W1"] < 1
    assert np.abs(values[values != 0]).min() >= 0.05


def test_patterns_choose_the_layers() -> None:
    graph, _ = apply_pass(MaskWeights(nodes=("Conv",), exclude=("conv_0",)), MODELS["cnn"]())
    zeros = _zeros(graph)
    assert (zeros["W1"], zeros["W2"]) == (0, 0.5)
    _, record = apply_pass(MaskWeights(nodes=("conv_x*",)), MODELS["cnn"]())
    assert (record.status, record.skipped[-1].node) == ("nothing to do", "conv_x*")


@pytest.mark.parametrize(
    ("model", "options", "words"),
    [
        ("cnn", {}, "fewer than min_size=256 elements"),
        ("listed-inputs", {}, "put freeze-initializers before"),
        ("shared-weights", {"exclude": ("gemm_4",)}, "also read by another Gemm, which stays"),
    ],
)
def test_skips_with_a_reason(model: str, options: dict[str, Any], words: str) -> None:
    _, record = apply_pass(MaskWeights(**options), MODELS[model]())
    assert any(words in skip.reason for skip in record.skipped)


def test_a_quantized_model_is_refused() -> None:
    _, record = apply_pass(MaskWeights(), MODELS["quantized"]())
    assert record.status == "refused"
    assert record.reason.startswith("the model is quantized already (")


def test_constant_nodes_and_half_precision_keep_their_type() -> None:
    for name in ("constant-nodes", "float16"):
        model = MODELS[name]()
        graph, record = apply_pass(MaskWeights(), model)
        assert record.status == "done"
        assert run_model(graph.to_model())["y"].dtype == run_model(model)["y"].dtype


def test_sparse_storage_where_it_is_smaller() -> None:
    model = MODELS["mlp"]()
    dense, _ = apply_pass(MaskWeights(sparsity=0.9), model)
    sparse, record = apply_pass(MaskWeights(sparsity=0.9, storage="sparse"), model)
    assert "W1" not in sparse.main.initializers
    assert "stored sparse: 1848 bytes in place of 6144" in [e.what for e in record.changes]
    assert sparse.to_model().ByteSize() < 0.6 * dense.to_model().ByteSize()
    np.testing.assert_array_equal(
        run_model(sparse.to_model())["y"], run_model(dense.to_model())["y"]
    )
    _, record = apply_pass(MaskWeights(storage="sparse"), model)
    assert any("stays dense" in skip.reason for skip in record.skipped)


@pytest.mark.parametrize(("pattern", "share"), [("2:4", 0.5), ("1:4", 0.75), ("4:8", 0.5)])
def test_patterns_along_the_inputs(pattern: Any, share: float) -> None:
    graph, record = apply_pass(MaskWeights(pattern=pattern), MODELS["mlp"]())
    zeros = _zeros(graph)
    assert zeros["W1"] == zeros["W2"] == share
    kept, group = (int(number) for number in pattern.split(":"))
    for name, axis in (("W1", 1), ("W2", 0)):  # Gemm with transB = 1, MatMul
        values = np.moveaxis(graph.read(graph.main.initializers[name]), axis, -1)
        assert ((values.reshape(-1, group) != 0).sum(1) == kept).all()
    _, record = apply_pass(MaskWeights(pattern=pattern), graph.to_model())
    assert record.status == "nothing to do"


@pytest.mark.parametrize("block", ["4x1", "1x4", "4x4", "1x16"])
@pytest.mark.parametrize("criterion", ["magnitude", "second-order", "wanda"])
def test_blocks_of_outputs_by_inputs(block: Any, criterion: Any) -> None:
    graph, _ = apply_pass(MaskWeights(block=block, criterion=criterion), MODELS["mlp"]())
    outputs, inputs = (int(number) for number in block.split("x"))
    for name, turned in (("W1", False), ("W2", True)):  # Gemm with transB = 1, MatMul
        values = graph.read(graph.main.initializers[name])
        values = values.T if turned else values
        out, width = values.shape
        blocks = values.reshape(out // outputs, outputs, width // inputs, inputs)
        present = (blocks != 0).sum(axis=(1, 3))
        assert set(np.unique(present)) == {0, outputs * inputs}
        assert (present == 0).mean() == pytest.approx(0.5, abs=0.05)


def test_blocks_count_channels_at_the_same_place_of_the_kernel() -> None:
    item = MaskWeights(block="1x4", criterion="second-order", exclude=("conv_0",))
    graph, _ = apply_pass(item, MODELS["cnn"]())
    out, width, *kernel = (values := graph.read(graph.main.initializers["W2"])).shape
    present = (values.reshape(out, width // 4, 4, *kernel) != 0).sum(axis=2)
    assert set(np.unique(present)) == {0, 4}
    assert (present == 0).mean() == 0.5


def test_blocks_skip_what_they_do_not_divide() -> None:
    _, record = apply_pass(MaskWeights(block="1x4"), MODELS["cnn"]())
    assert "3 inputs are no multiple of 4" in [skip.reason for skip in record.skipped]
    text = """<ir_version: 8, opset_import: ["" : 13]>
    g (float[N,32] x) => (float[N,18] y) { y = MatMul (x, W) }"""
    model = model_from_text(text, {"W": (32, 18)})
    _, record = apply_pass(MaskWeights(block="4x1"), model)
    assert [skip.reason for skip in record.skipped] == ["18 outputs are no multiple of 4"]


def _pictures(count: int = 24) -> dict[str, Any]:
    """Neighbours are alike: of white noise no input can stand in for another."""
    noise = np.random.default_rng(0).normal(0.3, 1, (count, 3, 8, 8)).astype(np.float32)
    rolled = (np.roll(noise, (up, left), (2, 3)) for up in range(3) for left in range(3))
    return {"x": sum(rolled, start=noise / 2) / np.float32(3)}


def _error(graph: Graph, model: onnx.ModelProto) -> float:
    feeds = _pictures(64)
    right = Session(io.load(model), threads=1).run(feeds)["y"]
    made = Session(graph, threads=1).run(feeds)["y"]
    return float(np.square(made - right).mean() / right.var())


def test_what_is_left_makes_up_for_what_went() -> None:
    model, errors = MODELS["cnn"](), {}
    for criterion in ("magnitude", "wanda", "second-order"):
        item = MaskWeights(criterion=criterion, min_size=0)
        graph, record = apply_pass(item, model, samples=_pictures())
        assert _zeros(graph)["W1"] == _zeros(graph)["W2"] == 0.5
        errors[criterion] = _error(graph, model)
    assert "; error of its result " in record.changes[0].what
    assert errors["second-order"] < 0.5 * min(errors["magnitude"], errors["wanda"])
    names = [node.name for node in graph.main.nodes]
    assert names == [node.name for node in model.graph.node]


@pytest.mark.parametrize("criterion", ["magnitude", "wanda", "second-order"])
def test_running_it_again_changes_nothing(criterion: Any) -> None:
    item = MaskWeights(criterion=criterion, min_size=0)
    once, _ = apply_pass(item, MODELS["cnn"](), samples=_pictures())
    again, record = apply_pass(item, once, samples=_pictures())
    assert record.status == "nothing to do"
    assert any("the zeros that are asked for" in skip.reason for skip in record.skipped)
    np.testing.assert_array_equal(run_model(once)["y"], run_model(again)["y"])


@pytest.mark.parametrize("criterion", ["wanda", "second-order"])
def test_inputs_that_are_never_there_go_first(criterion: Any) -> None:
    """The first half of the inputs is zero on all samples; magnitudes do not see that."""
    text = """<ir_version: 8, opset_import: ["" : 13]>
    g (float[N,32] x) => (float[N,16] y) { y = MatMul (x, W) }"""
    x = np.random.default_rng(0).normal(size=(24, 32)).astype(np.float32)
    x[:, :16] = 0
    item = MaskWeights(criterion=criterion, ridge=1e-6)
    graph, _ = apply_pass(item, model_from_text(text, {"W": (32, 16)}), samples={"x": x})
    values = graph.read(graph.main.initializers["W"])
    assert not values[:16].any()
    assert values[16:].all()


@pytest.mark.parametrize("kind", ["float16", "double", "bfloat16"])
def test_floats_of_other_widths_are_solved_and_stored_as_they_were(kind: str) -> None:
    number = onnx.TensorProto.DataType.Value(kind.upper())
    model = model_from_text(
        f"""<ir_version: 8, opset_import: ["" : 13]>
        g (float[N,3,8,8] x) => (float[N,10] y) {{
            h = Cast<to = {number}>(x) c = Conv(h, W1, B1) r = Relu(c) p = GlobalAveragePool(r)
            f = Flatten(p) g = Gemm<transB = 1>(f, W2, B2) y = Cast<to = 1>(g) }}""",
        {
            "W1": _kind(number, 16, 3, 3, 3),
            "B1": _kind(number, 16),
            "W2": _kind(number, 10, 16),
            "B2": _kind(number, 10),
        },
    )
    errors = {}
    for criterion in ("magnitude", "second-order"):
        item = MaskWeights(criterion=criterion, min_size=0)
        graph, record = apply_pass(item, model, samples=_pictures())
        errors[criterion] = _error(graph, model)
        assert _zeros(graph)["W1"] == _zeros(graph)["W2"] == 0.5
        assert {t.data_type for t in graph.main.initializers.values()} == {number}
    assert all("error of its result" in edit.what for edit in record.changes)
    assert errors["second-order"] < 0.5 * errors["magnitude"]


def _kind(number: int, *shape: int) -> Any:
    values = np.random.default_rng(shape[0]).normal(0.1, 0.4, shape)
    return values.astype(onnx.helper.tensor_dtype_to_np_dtype(number))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"criterion": "wanda"}, "tensor 'z' holds values that are infinite or too large to be"),
        ({"criterion": "second-order"}, "tensor 'z' holds values too large to be squared"),
        (
            {"criterion": "second-order", "scope": "layer-adaptive"},
            "tensor 'z' holds values that are infinite or too large to be",
        ),
    ],
)
def test_values_that_cannot_be_squared_cost_their_layer_alone(
    options: dict[str, Any], words: str
) -> None:
    model = model_from_text(
        """<ir_version: 8, opset_import: ["" : 13]>
        g (float[N,16] x) => (float[N,8] y) {
            [a] h = MatMul(x, A) z = Mul(h, K) [b] c = MatMul(z, B) d = Mul(c, L)
            e = Add(d, h) [c] y = MatMul(e, C) }""",
        {
            "A": (16, 16),
            "B": (16, 16),
            "C": (16, 8),
            "K": np.array([1e22], np.float32),
            "L": np.array([1e-22], np.float32),
        },
    )
    x = np.random.default_rng(0).normal(size=(24, 16)).astype(np.float32)
    _, record = apply_pass(MaskWeights(min_size=0, **options), model, samples={"x": x})
    assert record.status == "done", record.reason
    told = {edit.node: edit.what for edit in record.changes}
    assert sorted(told) == ["a", "b", "c"]
    assert ", by magnitude: " + words in told["b"]
    assert "magnitude" not in told["a"] + told["c"]


def test_weights_that_half_floats_do_not_hold_are_not_stored() -> None:
    """Of two inputs that are nearly alike one goes: what is left would need twice the weight."""
    model = model_from_text(
        """<ir_version: 8, opset_import: ["" : 13]>
        g (float[N,2] x) => (float[N,4] y) {
            s = Mul(x, K) h = Cast<to = 10>(s) [a] m = MatMul(h, A) c = Cast<to = 1>(m)
            y = Mul(c, K) }""",
        {"A": np.full((2, 4), 6e4, np.float16), "K": np.array([1e-3], np.float32)},
    )
    one = np.random.default_rng(0).normal(size=(48, 1)).astype(np.float32)
    x = np.hstack([one, one + np.float32(1e-3)])
    item = MaskWeights(criterion="second-order", min_size=0, ridge=1e-4)
    graph, record = apply_pass(item, model, samples={"x": x})
    (edit,) = record.changes
    assert edit.what.endswith(", by magnitude: its new weights do not fit into float16")
    values = graph.read(graph.main.initializers["A"])
    assert np.isfinite(values).all() and (values == 0).sum() == 4


def test_layer_adaptive_takes_the_same_share_however_large_a_layer_is() -> None:
    model = MODELS["mlp"]()
    adaptive = MaskWeights(scope="layer-adaptive", criterion="magnitude")
    first, _ = apply_pass(adaptive, model)
    for tensor in model.graph.initializer:
        if tensor.name == "W1":
            scaled = 100 * onnx.numpy_helper.to_array(tensor)
            tensor.CopyFrom(onnx.numpy_helper.from_array(scaled, tensor.name))
    second, _ = apply_pass(adaptive, model)
    plain, _ = apply_pass(MaskWeights(scope="global", criterion="magnitude"), model)
    assert _zeros(first) == _zeros(second)
    assert 0 < _zeros(second)["W1"] < 1
    assert _zeros(plain)["W2"] == 1
    sizes = {"W1": 48 * 32, "W2": 48 * 24}
    assert sum(_zeros(first)[n] * size for n, size in sizes.items()) == sum(sizes.values()) / 2


def test_shares_of_layers_hold_for_second_order_too() -> None:
    item = MaskWeights(criterion="second-order", scope="layer-adaptive", sparsity=0.7)
    graph, _ = apply_pass(item, MODELS["mlp"]())
    zeros = _zeros(graph)
    assert zeros["W1"] != zeros["W2"]
    assert zeros["W1"] * 48 * 32 + zeros["W2"] * 48 * 24 == pytest.approx(0.7 * 2688, abs=2)


def test_layers_of_which_samples_tell_nothing_are_masked_by_magnitude() -> None:
    _, record = apply_pass(
        MaskWeights(criterion="second-order", min_size=0), MODELS["shared-weights"]()
    )
    what = [edit.what for edit in record.changes]
    assert any(", by magnitude: its weight is shared with others" in each for each in what)


@pytest.mark.parametrize("criterion", ["wanda", "second-order"])
def test_statistics_need_samples(criterion: Any) -> None:
    _, record = apply_pass(MaskWeights(criterion=criterion), MODELS["mlp"](), samples=None)
    assert record.reason == "mask-weights needs calibration samples"


@pytest.mark.parametrize(
    ("name", "behind"),
    [
        ("cnn", "quantize-static"),
        ("cnn", "quantize-weights{min_size=0}"),
        ("mlp", "quantize-dynamic{min_size=0}"),
    ],
)
def test_zeros_stay_zeros_behind_quantization(name: str, behind: str) -> None:
    item = MaskWeights(sparsity=0.75, criterion="second-order", min_size=0, depthwise=True)
    passes = [item, *parse_passes(behind)]
    graph, records = apply_passes(passes, MODELS[name](), samples=24)
    assert records[-1].status == "done"
    codes = [
        (layer, layer.weight.values())
        for layer in layers(graph)
        if isinstance(layer, Layer) and layer.weight.form != "float"
    ]
    assert codes
    for _, values in codes:
        assert (values == 0).mean() >= 0.74


def test_a_pattern_skips_inputs_that_do_not_divide() -> None:
    graph, record = apply_pass(MaskWeights(pattern="2:4"), MODELS["cnn"]())
    assert _zeros(graph)["W1"] == 0
    assert "3 inputs are no multiple of 4" in [skip.reason for skip in record.skipped]
    assert _zeros(graph)["W2"] == 0.5


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"threshold": 0.1, "pattern": "2:4"}, "a threshold or a pattern"),
        ({"pattern": "2:4", "block": "4x1"}, "or a pattern or a block, one of them"),
        ({"threshold": 0.1, "criterion": "snip"}, "a threshold is one of magnitudes"),
    ],
)
def test_contradictions_are_refused(options: dict[str, Any], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        MaskWeights(**options)


def test_gradients_need_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(SystemFailure, match=r"criterion=taylor needs PyTorch.*graphopt\[train\]"):
        apply_pass(MaskWeights(criterion="taylor"), MODELS["mlp"]())


def test_gradients_need_samples(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(training, "require_torch", lambda name: None)
    result = optimize(MODELS["mlp"](), MaskWeights(criterion="snip"))
    (record,) = result.report.passes
    assert record.reason == "mask-weights with criterion=snip needs samples to take gradients on"
    assert record.needs == (Need.TRAINING,)


def test_magnitudes_do_without_torch() -> None:
    code = (
        "import sys; from graphopt.testing import MODELS, apply_pass; "
        "from graphopt.passes.prune import MaskWeights; "
        "apply_pass(MaskWeights(), MODELS['mlp']()); assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_depthwise_convolutions_stay_unless_asked_for() -> None:
    graph, record = apply_pass(MaskWeights(min_size=0), MODELS["cnn"]())
    assert _zeros(graph)["W3"] == 0
    assert any("a depthwise convolution" in skip.reason for skip in record.skipped)
    for criterion in ("magnitude", "second-order"):
        item = MaskWeights(min_size=0, depthwise=True, criterion=criterion)
        assert _zeros(apply_pass(item, MODELS["cnn"]())[0])["W3"] == 0.5


def test_zeros_that_a_weight_cannot_have_are_told_as_missed() -> None:
    graph, record = apply_pass(MaskWeights(pattern="2:4", min_size=0), MODELS["cnn"]())
    assert record.missed is not None
    zeros = size = 0
    for layer in layers(graph):
        if isinstance(layer, Layer) and not layer.depthwise:
            zeros += int((layer.weight.values() == 0).sum())
            size += layer.weight.values().size
    assert record.missed.reached == pytest.approx(zeros / size)
    assert (record.missed.budget, record.missed.asked) == ("sparsity", 0.5)
    item = MaskWeights(pattern="2:4", min_size=0, exclude=("conv_0",))
    assert apply_pass(item, MODELS["cnn"]())[1].missed is None


def test_recurrent_layers_go_by_magnitude_with_the_reason() -> None:
    model = model_from_text(
        """<ir_version: 8, opset_import: ["" : 17]>
        g (float[4,N,8] x) => (float[4,1,N,8] y) { [a] y = GRU<hidden_size = 8>(x, W, R, B) }""",
        {"W": (1, 24, 8), "R": (1, 24, 8), "B": (1, 48)},
    )
    x = np.random.default_rng(0).normal(size=(4, 6, 8)).astype(np.float32)
    second = MaskWeights(min_size=0, criterion="second-order")
    _, record = apply_pass(second, model, samples={"x": x})
    assert [each.what.partition(", ")[2] for each in record.changes] == [
        "by magnitude: nobody knows which rows a GRU reads"
    ] * 2
