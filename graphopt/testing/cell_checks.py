"""What must hold for a pass on a model: each check looks at a cell of the battery."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress

import numpy as np
import onnx

from graphopt import targets
from graphopt.contract.passes import Pass
from graphopt.contract.preconditions import TargetTakes
from graphopt.contract.spec import parse_passes
from graphopt.errors import UsageError
from graphopt.graph import check
from graphopt.graph.graph import Graph
from graphopt.graph.ports import compatible, described
from graphopt.testing.apply import run_model
from graphopt.testing.cell import Application, Cell, same
from graphopt.testing.forms import FORMS

__all__ = ["CELL_CHECKS", "EXAMPLE_CHECKS"]

_ENDINGS = ("done", "nothing to do", "refused")
_UNLIKE = ("x86-avx2", "generic", "tensorrt", "coreml")
"""Targets that differ most from each other and from the usual one."""
_ROOM, _HALF_ROOM = 1e-5, 2e-2
"""Relative and absolute rounding of a tiny model in float32, and in float16."""


def ends_well(cell: Cell) -> None:
    """Done, nothing to do or refused with a reason; valid; runs; outputs as they were."""
    _ends_well(cell.first)
    answers = run_model(cell.first.after)
    assert answers.keys() == cell.answers.keys()
    for name, value in cell.answers.items():
        assert answers[name].shape == value.shape
        assert answers[name].dtype == value.dtype or not cell.item.keeps_ports()


def _ends_well(application: Application) -> None:
    record = application.record
    assert record.status in _ENDINGS, f"{record.status}: {record.reason}"
    assert record.reason or record.changes or record.skipped, "says nothing at all"
    assert all(item.reason for item in record.skipped), "a skip without a reason"
    assert all(item.what for item in record.changes), "an edit without words"
    before = check.problems(Graph(application.before))
    new = [each for each in check.problems(Graph(application.after)) if each not in before]
    assert not new, new


def edits_its_example(cell: Cell) -> None:
    """A pass has something to do on an example of its own."""
    record = cell.first.record
    reasons = [record.reason, *(f"{item.node}: {item.reason}" for item in record.skipped)]
    assert cell.first.edited, f"{record.status}: {'; '.join(reasons)}"


def says_what_it_did(cell: Cell) -> None:
    """Edits are told, what is told was edited, and what it asks for it requires."""
    assert not cell.first.lies, cell.first.lies[0]


def interface_is_kept(cell: Cell) -> None:
    """Required inputs and all outputs keep name, type, shape, order and doc string.

    What a pass fixes by its own word are numbers afterwards, and what follows from them; one that
    changes types, and says so, keeps the rest.
    """
    models = cell.first.before, cell.first.after
    kept = cell.item.keeps_ports()
    before, after = (Graph(model if kept else _untyped(model)) for model in models)
    fed = cell.item.fed(before) if cell.first.edited else before
    if cell.pass_class.fed is Pass.fed or not cell.first.edited:
        assert list(after.main.proto.output) == list(before.main.proto.output), "outputs changed"
    assert after.main.outputs == before.main.outputs, "outputs changed"
    for old, new in zip(before.main.proto.output, after.main.proto.output, strict=True):
        assert compatible(old, new), f"output {old.name} is no more {described(old)}"
    assert after.required_inputs == fed.required_inputs, "inputs changed"


def _untyped(model: onnx.ModelProto) -> onnx.ModelProto:
    """The model without the element types of its inputs and outputs."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    for value in (*copy.graph.input, *copy.graph.output):
        value.type.tensor_type.ClearField("elem_type")
    return copy


def bystanders_are_kept(cell: Cell) -> None:
    """Metadata, doc strings and a node that no pass has to do with stay bit for bit."""
    before, after = cell.first.before, cell.first.after
    if not cell.first.edited:
        assert same(after, before), "it edited nothing, and the model is another one"
    for name in ("producer_name", "producer_version", "domain", "model_version", "doc_string"):
        assert getattr(after, name) == getattr(before, name), name
    assert list(after.metadata_props) == list(before.metadata_props), "metadata of the model"
    if cell.pass_class.strips:
        return
    assert list(after.graph.metadata_props) == list(before.graph.metadata_props), "metadata"
    assert all(function in before.functions for function in after.functions), "functions changed"
    assert (after.graph.name, after.graph.doc_string) == (
        before.graph.name,
        before.graph.doc_string,
    )
    aside = [node for node in after.graph.node if node.op_type == "Sin"]
    if cell.item.keeps_ports():  # else it may read the input behind a Cast
        assert aside == [node for node in before.graph.node if node.op_type == "Sin"]
    dressed = {node.name: node for node in before.graph.node if node.name}
    for node in after.graph.node:
        old = dressed.get(node.name)
        if old is not None and old.op_type == node.op_type:
            assert node.doc_string == old.doc_string, f"doc string of {node.name}"
            assert list(node.metadata_props) == list(old.metadata_props), f"metadata of {node.name}"


def is_deterministic(cell: Cell) -> None:
    """The same seed gives the same bytes."""
    assert same(cell.first.after, cell.apply().after), "another run gave another model"


def is_idempotent(cell: Cell) -> None:
    """Once more changes nothing, or is refused with a reason.

    A pass that trains may go on to train, if what it keeps is better by its own measure.
    """
    again = cell.apply(times=2)
    record = again.record
    unhelpful = cell.item.must_help and record.status == "rolled back"
    assert record.status in _ENDINGS or unhelpful, record.reason
    if record.status != "done":
        assert same(again.after, cell.first.after), "a second time it edits the model of the first"
    elif not (record.curves and record.curves.best_step):
        told = [item.what for item in record.changes]
        assert same(again.after, cell.first.after), f"a second time it edits: {told}"


def leaves_the_callers_model(cell: Cell) -> None:
    """The message that was handed in is not touched, nor is the model that results are held to."""
    first = cell.first
    assert cell.untouched(), "the model that was handed in is another one afterwards"
    assert first.kept_reference, "it edited the reference that it was given"


def never_grows_unsaid(cell: Cell) -> None:
    """The weights do not get larger, but for copies of what several nodes read.

    A pass that may do so has its reason in ``may_grow``.
    """
    if cell.item.may_grow or not cell.first.edited:
        return
    before, after = Graph(cell.first.before), Graph(cell.first.after)
    grown = after.weight_bytes - before.weight_bytes
    assert grown <= _shared_bytes(before), f"weights grew by {grown} bytes"


def _shared_bytes(graph: Graph) -> int:
    """What it takes to give each reader of a constant one of its own."""
    return sum(
        (len(scope.uses(name)) - 1) * constant.nbytes
        for scope in graph.scopes()
        for name in scope.initializers
        if scope.uses(name) and (constant := scope.constant(name)) is not None
    )


def lossless_is_exact(cell: Cell) -> None:
    """A lossless pass gives the same answers up to the rounding of the model's float type."""
    if not cell.item.lossy:
        _answers_alike(cell.first.after, cell.first.before)


def _answers_alike(after: onnx.ModelProto, before: onnx.ModelProto) -> None:
    answers, expected = run_model(after), run_model(before)
    for name, value in expected.items():
        if value.dtype.kind == "f":
            room = _ROOM if value.dtype.itemsize >= 4 else _HALF_ROOM
            np.testing.assert_allclose(answers[name], value, rtol=room, atol=room)
        else:
            np.testing.assert_array_equal(answers[name], value)


def works_on_every_target(cell: Cell) -> None:
    """On each target it edits, and keeps what it has to keep; if it looks at the target at all.

    What the target does not take is refused. Examples of other options than the default ones see
    targets that differ most alone.
    """
    names = _UNLIKE if cell.example.options or cell.example.before else targets.names()
    for name in names if cell.first.reads_target else ():
        before = parse_passes(cell.example.before) if cell.example.before else []
        if name != cell.target and all(_takes(name, item) for item in before):
            does = [edits_its_example] if _takes(name, cell.item) else []
            _hold(cell.on(name), *does)


def _takes(name: str, item: Pass) -> bool:
    """Whether a target takes what a pass would write with its options."""
    asked = [each for each in item.requires if isinstance(each, TargetTakes)]
    return not any(each.lacks(item, targets.find(name)) for each in asked)


def copes_with_every_form(cell: Cell) -> None:
    """The same model with initializers listed as inputs, constants as nodes, in a body ...

    There it may have nothing to do, and its options may name what there is not.
    """
    for form in FORMS:
        with suppress(UsageError):
            _hold(cell.formed(form))


def _hold(cell: Cell, *more: Callable[[Cell], None]) -> None:
    """The checks that need no further application."""
    for each in (ends_well, says_what_it_did, interface_is_kept, bystanders_are_kept,
                 lossless_is_exact, *more):  # fmt: skip
        try:
            each(cell)
        except AssertionError as err:
            raise AssertionError(f"{cell}: {each.__name__}: {err}") from err


CELL_CHECKS: dict[str, Callable[[Cell], None]] = {
    check_function.__name__: check_function
    for check_function in (
        ends_well,
        says_what_it_did,
        leaves_the_callers_model,
        interface_is_kept,
        bystanders_are_kept,
        never_grows_unsaid,
        lossless_is_exact,
        is_deterministic,
        is_idempotent,
    )
}
"""Checks on any model, by name."""

EXAMPLE_CHECKS: dict[str, Callable[[Cell], None]] = CELL_CHECKS | {
    check_function.__name__: check_function
    for check_function in (edits_its_example, works_on_every_target, copes_with_every_form)
}
"""Checks on an example of the pass's own, by name."""
