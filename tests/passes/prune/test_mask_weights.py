from __future__ import annotations

import subprocess
import sys
from typing import Any

import numpy as np
import pytest

from graphopt.commands.optimize import optimize
from graphopt.errors import Need, SystemFailure, UsageError
from graphopt.graph.graph import Graph
from graphopt.passes.prune import MaskWeights
from graphopt.testing import MODELS, apply_pass, model_from_text, run_model


def _zeros(graph: Graph) -> dict[str, float]:
    found: dict[str, float] = {}
    for name, tensor in graph.main.initializers.items():
        values = graph.read(tensor)
        found[name] = float(1 - np.count_nonzero(values) / values.size)
    return found


def test_each_layer_loses_its_smallest_weights() -> None:
    model = MODELS["cnn"]()
    graph, record = apply_pass(MaskWeights(sparsity=0.25), model)
    zeros = _zeros(graph)
    assert zeros["W1"] == zeros["W2"] == 0.25
    assert zeros["B4"] == 0
    before = {t.name: t for t in model.graph.initializer}
    old, new = graph.read(before["W2"]), graph.read(graph.main.initializers["W2"])
    assert np.abs(old[new == 0]).max() <= np.abs(new[new != 0]).min()
    np.testing.assert_array_equal(new[new != 0], old[new != 0])
    assert record.changes[0].what == "25.0% of 432 weights are zero"


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


def test_a_pattern_skips_inputs_that_do_not_divide() -> None:
    graph, record = apply_pass(MaskWeights(pattern="2:4"), MODELS["cnn"]())
    assert _zeros(graph)["W1"] == 0
    assert "3 inputs are no multiple of 4" in [skip.reason for skip in record.skipped]
    assert _zeros(graph)["W2"] == 0.5


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"threshold": 0.1, "pattern": "2:4"}, "a threshold or a pattern"),
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
    monkeypatch.setattr("importlib.util.find_spec", lambda name: object())
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
