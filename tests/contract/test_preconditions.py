"""What must hold before a pass edits anything, and what is said where it does not."""

from __future__ import annotations

from types import SimpleNamespace
from typing import cast

import pytest

import graphopt.passes  # noqa: F401 - fills the registry
from graphopt import targets
from graphopt.contract import registry
from graphopt.contract.passes import Context
from graphopt.contract.preconditions import CalibrationSamples, TrainingSamples, check_preconditions
from graphopt.contract.spec import parse_passes
from graphopt.contract.training import Training
from graphopt.data.synthetic import SyntheticSamples
from graphopt.errors import DataError, GraphoptError, Need, PassError
from graphopt.graph import io
from graphopt.graph.graph import Graph
from graphopt.options import option_fields
from graphopt.testing import MODELS


def _context(
    calibrated: bool = True, teacher: Graph | None = None, reference: Graph | None = None
) -> Context:
    """What preconditions read of a context; samples to train on, without labels, by ``teacher``."""
    training = None
    if teacher is not None:
        training = Training(SyntheticSamples(teacher, count=2), teacher)
    target = targets.find("generic")
    values = SimpleNamespace(
        target=target,
        calibrated=calibrated,
        training=training,
        reference=reference or _model("cnn"),
    )
    return cast(Context, values)


def _refusal(
    spec: str, graph: Graph, context: Context, *, of_model: bool = True
) -> tuple[type[GraphoptError], str]:
    refusal = _refused(spec, graph, context, of_model=of_model)
    return type(refusal), str(refusal)


def _refused(spec: str, graph: Graph, context: Context, *, of_model: bool = True) -> GraphoptError:
    (item,) = parse_passes(spec)
    with pytest.raises(GraphoptError) as refusal:
        check_preconditions(item, graph, context, of_model=of_model)
    return refusal.value


def test_a_refusal_keeps_what_is_needed() -> None:
    graph = _model("cnn")
    teaching = _context(teacher=graph)
    for spec, context, needs in (
        ("quantize-static", _context(False), (Need.CALIBRATION,)),
        ("distill", _context(), (Need.TRAINING,)),
        ("distill", teaching, (Need.TEACHER,)),
        ("finetune", teaching, ()),
    ):
        assert _refused(spec, graph, context).needs == needs, spec


def _model(name: str) -> Graph:
    return io.load(MODELS[name]())


@pytest.mark.parametrize("name", ["quantize-static", "mask-weights", "factorize-conv"])
def test_quantized_weights_are_refused_alike(name: str) -> None:
    error, words = _refusal(name, _model("quantized"), _context())
    assert error is PassError
    assert words.startswith("the model is quantized already (")
    assert words.endswith(f"); put {name} before the pass that quantizes")
    came = _model("quantized")
    _, words = _refusal(name, came, _context(reference=came))
    assert words.endswith(")")  # no order of passes would help


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ("quantize-dynamic", "opset 9 has no DynamicQuantizeLinear; put upgrade-opset before"),
        ("quantize-static", "opset 9 has no per-channel DequantizeLinear; put upgrade-opset be"),
        (
            "quantize-weights{weight_type=int4}",
            "opset 9 has no 4-bit integers; put upgrade-opset{opset=21} before quantize-weights",
        ),
    ],
)
def test_an_old_opset_is_refused_with_the_pass_that_lifts_it(spec: str, words: str) -> None:
    error, said = _refusal(spec, _model("opset-9"), _context())
    assert error is PassError
    assert said.startswith(words)


def test_an_option_decides_what_is_asked() -> None:
    (item,) = parse_passes("quantize-weights")
    check_preconditions(item, _model("opset-9"), _context())
    (magnitude,), (taylor,) = map(parse_passes, ("mask-weights", "mask-weights{criterion=taylor}"))
    assert not magnitude.asks(TrainingSamples)
    assert taylor.asks(TrainingSamples)
    check_preconditions(magnitude, _model("cnn"), _context())
    _, words = _refusal("mask-weights{criterion=taylor}", _model("cnn"), _context())
    assert words.startswith("mask-weights with criterion=taylor needs samples to take gradients on")


def test_to_time_a_model_takes_samples_and_nothing_else() -> None:
    (item,) = parse_passes("prune-channels{latency=0.5,criterion=l1,allocation=uniform}")
    asked = [str(each) for each in item.requires if each.asked(item)]
    assert asked[1:] == ["samples to time it with (with latency given)"]
    loose = "prune-channels{latency=0.5,criterion=l1,allocation=uniform}"
    _, words = _refusal(loose, _model("cnn"), _context(False))
    assert words.startswith("prune-channels with latency=0.5 needs samples to time it with")


def test_samples_are_asked_for_even_where_the_model_is_not_looked_at() -> None:
    quantized = _model("quantized")
    _, words = _refusal("quantize-static", quantized, _context(False), of_model=False)
    assert words.startswith("quantize-static needs calibration samples")
    (item,) = parse_passes("quantize-static")
    check_preconditions(item, quantized, _context(), of_model=False)
    _, words = _refusal("distill", quantized, _context(), of_model=False)
    assert words.startswith("distill needs samples to train on")


def test_labels_are_data_and_asked_for_where_the_loss_has_them() -> None:
    graph, other = _model("mlp"), _model("cnn")
    for spec in ("finetune", "distill{alpha=1}"):
        error, words = _refusal(spec, graph, _context(teacher=other))
        assert error is DataError
        assert "needs labels and the training data has none" in words
    check_preconditions(parse_passes("distill")[0], graph, _context(teacher=other))


def test_a_model_is_not_its_own_teacher() -> None:
    graph = _model("mlp")
    _, words = _refusal("distill", graph, _context(teacher=graph))
    assert words.startswith("distill: the model is its own teacher; ")
    _, words = _refusal("train-quantized", graph, _context())
    assert words.startswith("train-quantized: the model is not quantized; ")


@pytest.mark.parametrize("name", registry.names())
def test_what_a_pass_requires_is_told_in_phrases_of_its_own_options(name: str) -> None:
    pass_class = registry.find(name)
    for each in pass_class.requires:
        assert "{" not in str(each)
        if each.when is not None:
            option = option_fields(pass_class)[each.when.option]
            assert not option.choices or set(each.when.values) <= set(option.choices)
            assert each.when.option in str(each)


def test_who_asks_for_calibration_samples() -> None:
    asking = [name for name in registry.names() if registry.find(name)().asks(CalibrationSamples)]
    assert asking == [
        "absorb-bias",
        "assign-precision",
        "correct-bias",
        "drop-blocks",
        "prune-channels",
        "quantize-static",
        "reconstruct-weights",
        "round-weights",
        "scale-rows",
        "smooth-activations",
    ]
