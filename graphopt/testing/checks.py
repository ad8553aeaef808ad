"""The common battery: what must hold for every registered pass."""

from __future__ import annotations

import inspect
import json
import math
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import onnx

from graphopt.contract import registry
from graphopt.contract.passes import Pass
from graphopt.contract.recipe import Recipe, format_recipe, parse_recipe
from graphopt.contract.spec import format_passes, parse_passes
from graphopt.errors import UsageError
from graphopt.graph import check, io
from graphopt.options import OptionField, build, option_fields
from graphopt.testing.apply import apply_pass, run_model

__all__ = ["CLASS_CHECKS", "MODEL_CHECKS", "check_pass"]

_ENDINGS = ("done", "nothing to do", "refused")


def check_pass(name: str, models: dict[str, Callable[[], onnx.ModelProto]]) -> None:
    """Run the whole battery over one pass; the first broken promise raises AssertionError."""
    for class_check in CLASS_CHECKS.values():
        class_check(registry.find(name))
    for make in models.values():
        for model_check in MODEL_CHECKS.values():
            model_check(registry.find(name), make())


# what holds for the class


def _examples(item: OptionField) -> Iterator[Any]:
    """Values that an option must accept."""
    if item.choices:
        yield from item.choices
    elif item.kind is bool:
        yield from (False, True)
    elif item.kind in (int, float):
        yield from _inside(item)
    elif item.kind is tuple:
        yield from ((), ("Conv",), ("*a", 'with "quotes", and [brackets]'))
    else:
        yield from ("text", 'with "quotes", {braces} and \\')
    if item.optional:
        yield None


def _inside(item: OptionField) -> Iterator[Any]:
    """Numbers within the bounds, the bounds themselves where they are allowed."""
    option = item.option
    low = 0.0 if option.low is None else option.low
    high = low + 3.0 if option.high is None else option.high
    for value in (low, high, (low + high) / 2):
        number = item.kind(value)
        if option.admits(number):
            yield number


def _built(pass_class: type[Pass], name: str, value: Any) -> Pass | None:
    """A pass with one option set; None where that alone is a contradiction that it refuses."""
    try:
        return build(pass_class, {name: value})
    except UsageError as err:
        assert "out of bounds" not in str(err), err
        return None


def _variants(pass_class: type[Pass]) -> Iterator[Pass]:
    yield pass_class()
    for item in option_fields(pass_class).values():
        for value in _examples(item):
            made = _built(pass_class, item.name, value)
            if made is not None:
                yield made


def options_round_trip(pass_class: type[Pass]) -> None:
    """Spec text, recipe and JSON give back an equal pass."""
    for item in _variants(pass_class):
        assert parse_passes(format_passes([item])) == [item]
        recipe = Recipe(passes=(item,))
        assert parse_recipe(format_recipe(recipe)) == recipe
        assert build(pass_class, json.loads(json.dumps(item.options()))) == item


def bounds_are_kept(pass_class: type[Pass]) -> None:
    """One step outside each bound is refused, with the bounds in the message."""
    for item in option_fields(pass_class).values():
        for bound, outward, is_open in (
            (item.option.low, -math.inf, item.option.low_open),
            (item.option.high, math.inf, item.option.high_open),
        ):
            if bound is None:
                continue
            if is_open:
                value: Any = item.kind(bound)
            elif item.kind is int:
                value = int(bound) + (1 if outward > 0 else -1)
            else:
                value = math.nextafter(bound, outward)
            _assert_refused(pass_class, item.name, value, "out of bounds")


def wrong_values_are_refused(pass_class: type[Pass]) -> None:
    """A value of another type, and an unknown choice, are refused."""
    for item in option_fields(pass_class).values():
        _assert_refused(pass_class, item.name, {"a": 1}, item.name)
        if item.choices and item.kind is str:
            _assert_refused(pass_class, item.name, f"{item.choices[0]}x", str(item.choices[0]))


def near_misses_are_named(pass_class: type[Pass]) -> None:
    """An unknown option is refused; the message names the one that was meant."""
    for name in option_fields(pass_class):
        _assert_refused(pass_class, f"{name}x", 1, name)
    _assert_refused(pass_class, "no_such_option", 1, "no_such_option")


def _assert_refused(pass_class: type[Pass], name: str, value: Any, words: str) -> None:
    try:
        build(pass_class, {name: value})
    except UsageError as err:
        assert words in str(err), f"{err} lacks {words!r}"
    else:
        raise AssertionError(f"{pass_class.name}: {name}={value!r} was accepted")


def is_documented(pass_class: type[Pass]) -> None:
    """Named like its file; a page with a picture; a phrase for each option; frozen."""
    assert pass_class.name.replace("-", "_") == pass_class.__module__.rsplit(".", 1)[-1]
    page = inspect.getdoc(pass_class) or ""
    assert page.splitlines()[0].endswith("."), "the first line is a sentence"
    assert "becomes" in page, "the page shows what becomes what"
    for item in option_fields(pass_class).values():
        assert len(item.option.help) > 5
    assert pass_class() == pass_class(), "a pass is a value, a frozen dataclass"
    assert hash(pass_class()) == hash(pass_class())


# what holds for the class on a model


def ends_well(pass_class: type[Pass], model: onnx.ModelProto) -> None:
    """Done, nothing to do or refused with a reason; valid; runs; outputs as they were."""
    graph, record = apply_pass(pass_class(), model)
    assert record.status in _ENDINGS, f"{record.status}: {record.reason}"
    assert record.reason or record.changes or record.skipped, "says nothing at all"
    assert all(item.reason for item in record.skipped)
    before = check.problems(io.load(model))
    assert [problem for problem in check.problems(graph) if problem not in before] == []
    answers, expected = run_model(graph.to_model()), run_model(model)
    assert answers.keys() == expected.keys()
    for name, value in expected.items():
        assert (answers[name].dtype, answers[name].shape) == (value.dtype, value.shape)


def interface_is_kept(pass_class: type[Pass], model: onnx.ModelProto) -> None:
    """Required inputs and all outputs keep name, type, shape, order and doc string."""
    graph, _ = apply_pass(pass_class(), model)
    before = io.load(model)
    assert list(graph.main.proto.output) == list(before.main.proto.output)
    assert graph.required_inputs == before.required_inputs


def bystanders_are_kept(pass_class: type[Pass], model: onnx.ModelProto) -> None:
    """Metadata, doc strings and a node that no pass has to do with stay bit for bit."""
    graph, record = apply_pass(pass_class(), model)
    after = graph.to_model()
    if record.status != "done":
        assert _same(after, io.load(model).to_model())
    for name in ("producer_name", "producer_version", "domain", "model_version", "doc_string"):
        assert getattr(after, name) == getattr(model, name), name
    assert list(after.metadata_props) == list(model.metadata_props)
    assert list(after.graph.metadata_props) == list(model.graph.metadata_props)
    assert list(after.functions) == list(model.functions)
    assert (after.graph.name, after.graph.doc_string) == (model.graph.name, model.graph.doc_string)
    aside = [node for node in after.graph.node if node.op_type == "Sin"]
    assert aside == [node for node in model.graph.node if node.op_type == "Sin"]
    dressed = {node.name: node for node in model.graph.node if node.name}
    for node in after.graph.node:
        old = dressed.get(node.name)
        if old is not None and old.op_type == node.op_type:
            assert node.doc_string == old.doc_string, node.name
            assert list(node.metadata_props) == list(old.metadata_props), node.name


def _same(first: onnx.ModelProto, second: onnx.ModelProto) -> bool:
    a, b = (model.SerializeToString(deterministic=True) for model in (first, second))
    return bool(a == b)


def is_deterministic(pass_class: type[Pass], model: onnx.ModelProto) -> None:
    """The same seed gives the same bytes."""
    first, second = (apply_pass(pass_class(), model)[0].to_model() for _ in range(2))
    assert _same(first, second)


def is_idempotent(pass_class: type[Pass], model: onnx.ModelProto) -> None:
    """Once more changes nothing, or is refused with a reason."""
    graph, _ = apply_pass(pass_class(), model)
    once = graph.to_model()
    again, record = apply_pass(pass_class(), once)
    assert record.status in _ENDINGS, record.reason
    if record.status == "done":
        assert _same(again.to_model(), once), [c.what for c in record.changes]


def leaves_the_callers_model(pass_class: type[Pass], model: onnx.ModelProto) -> None:
    """The message that was handed in is not touched."""
    before = model.SerializeToString(deterministic=True)
    apply_pass(pass_class(), model)
    assert model.SerializeToString(deterministic=True) == before


def never_grows_unsaid(pass_class: type[Pass], model: onnx.ModelProto) -> None:
    """A lossless pass does not make the weights larger, unless that is what it is for."""
    if pass_class.lossy or pass_class.name in _MAY_GROW:
        return
    graph, record = apply_pass(pass_class(), model)
    if record.status == "done":
        shared = any("copied" in item.what for item in record.changes)
        assert shared or graph.weight_bytes <= io.load(model).weight_bytes


_MAY_GROW = {
    "smooth-activations": "it adds one factor a channel",
    "upgrade-opset": "attributes become inputs",
}


def lossless_is_exact(pass_class: type[Pass], model: onnx.ModelProto) -> None:
    """A lossless pass gives the same answers up to the rounding of the model's float type."""
    if pass_class.lossy:
        return
    graph, _ = apply_pass(pass_class(), model)
    answers, expected = run_model(graph.to_model()), run_model(model)
    for name, value in expected.items():
        if value.dtype.kind == "f":
            room = 1e-5 if value.dtype.itemsize >= 4 else 2e-2
            np.testing.assert_allclose(answers[name], value, rtol=room, atol=room)
        else:
            np.testing.assert_array_equal(answers[name], value)


CLASS_CHECKS: dict[str, Callable[[type[Pass]], None]] = {
    check_function.__name__: check_function
    for check_function in (
        options_round_trip,
        bounds_are_kept,
        wrong_values_are_refused,
        near_misses_are_named,
        is_documented,
    )
}
"""Checks that need no model, by name."""

MODEL_CHECKS: dict[str, Callable[[type[Pass], onnx.ModelProto], None]] = {
    check_function.__name__: check_function
    for check_function in (
        ends_well,
        interface_is_kept,
        bystanders_are_kept,
        is_deterministic,
        is_idempotent,
        leaves_the_callers_model,
        never_grows_unsaid,
        lossless_is_exact,
    )
}
"""Checks on one model, by name."""
