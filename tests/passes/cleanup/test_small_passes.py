"""freeze-initializers, deduplicate-initializers, eliminate-dead, strip-metadata."""

from __future__ import annotations

import numpy as np
import onnx

from graphopt.passes.cleanup import (
    DeduplicateInitializers,
    EliminateDead,
    FreezeInitializers,
    StripMetadata,
)
from graphopt.testing import MODELS, apply_pass, model_from_text

_HEAD = '<ir_version: 8, opset_import: ["" : 13]>'


def test_freezing_takes_initializers_from_the_inputs_and_raises_the_ir_version() -> None:
    model = MODELS["listed-inputs"]()
    model.graph.input[1].doc_string = "the first weight"
    graph, record = apply_pass(FreezeInitializers(), model)
    assert graph.main.inputs == ["x"]
    assert graph.header.ir_version == 4
    assert len(record.changes) == len(model.graph.initializer) + 1
    assert [v.doc_string for v in graph.main.value_infos] == ["the first weight"]


def test_freezing_keeps_what_it_is_told_to() -> None:
    graph, record = apply_pass(FreezeInitializers(keep=("W1",)), MODELS["listed-inputs"]())
    assert graph.main.inputs == ["x", "W1"]
    assert record.skipped[0].node == "W1"
    _, record = apply_pass(FreezeInitializers(keep=("W9",)), MODELS["listed-inputs"]())
    assert record.status == "refused"
    assert record.reason == "keep names 'W9', which is no input of the model"


def test_equal_tensors_are_stored_once() -> None:
    same = np.arange(32, dtype=np.float32).reshape(1, 32)
    model = model_from_text(
        f"""{_HEAD} g (float[N,32] x) => (float[N,32] y) {{
          a = Add (x, A)  b = Mul (a, B)  c = Add (b, C)  y = Add (c, D) }}""",
        {"A": same, "B": same.copy(), "C": same.reshape(32), "D": -same},
    )
    graph, record = apply_pass(DeduplicateInitializers(), model)
    assert sorted(graph.main.initializers) == ["A", "C", "D"]
    assert record.changes[0].what == "the same as 'A': 128 bytes saved"


def test_signed_zeros_small_tensors_and_optional_inputs_stay_apart() -> None:
    zeros = np.zeros((1, 32), np.float32)
    model = model_from_text(
        f"""{_HEAD} g (float[N,32] x, float[1,32] C) => (float[N,32] y) {{
          a = Add (x, A)  b = Add (a, B)  c = Add (b, C)  d = Add (c, s)  y = Add (d, t) }}""",
        {
            "A": zeros,
            "B": -zeros,
            "C": zeros,
            "s": np.ones(1, np.float32),
            "t": np.ones(1, np.float32),
        },
    )
    graph, record = apply_pass(DeduplicateInitializers(), model)
    assert record.status == "nothing to do"
    graph, _ = apply_pass(DeduplicateInitializers(min_bytes=0), model)
    assert sorted(graph.main.initializers) == ["A", "B", "C", "s"]


def test_a_body_reads_the_outer_tensor() -> None:
    model = MODELS["bodies"]()
    branch = next(n for n in model.graph.node if n.op_type == "If").attribute[0].g
    inner = onnx.TensorProto()
    inner.CopyFrom(next(t for t in model.graph.initializer if t.name == "W1"))
    inner.name = "inner"
    branch.initializer.append(inner)
    branch.node[0].input[1] = "inner"
    graph, record = apply_pass(DeduplicateInitializers(), model)
    assert [edit.node for edit in record.changes] == ["inner"]
    assert all("inner" not in scope.initializers for scope in graph.scopes())


def test_what_no_output_needs_goes() -> None:
    model = model_from_text(
        f"""{_HEAD} g (float[N,2] x, float[2] unread) => (float[N,2] y) {{
          y = Relu (x)  d = Add (x, w)  e = Exp (d) }}""",
        {"w": np.ones(2, np.float32), "alone": np.ones(2, np.float32)},
    )
    graph, record = apply_pass(EliminateDead(), model)
    assert [node.op_type for node in graph.main.nodes] == ["Relu"]
    assert not graph.main.initializers
    assert graph.main.inputs == ["x", "unread"]
    assert {edit.node for edit in record.changes} == {"Add(d)", "Exp(e)", "w", "alone"}


def test_notes_of_the_exporter_go_and_those_of_the_model_stay() -> None:
    model = MODELS["bodies"]()
    model.metadata_props.add(key="author", value="somebody")
    model.doc_string = "a model"
    model.graph.input[0].doc_string = "the pixels"
    branch = next(n for n in model.graph.node if n.op_type == "If").attribute[0].g
    branch.node[0].metadata_props.add(key="trace", value="File model.py, line 7")
    model.graph.node[0].doc_string = "about a node"
    inner = onnx.helper.make_tensor_value_info(model.graph.node[0].output[0], 1, None)
    inner.metadata_props.add(key="scope", value="a.b")
    model.graph.value_info.append(inner)
    graph, record = apply_pass(StripMetadata(), model)
    after = graph.to_model()
    assert [entry.key for entry in after.metadata_props] == [e.key for e in model.metadata_props]
    assert (after.doc_string, after.graph.input[0].doc_string) == ("a model", "the pixels")
    for scope in graph.scopes():
        for message in (*scope.nodes, *scope.value_infos, scope.proto):
            assert not message.metadata_props and not message.doc_string
    names = [value.name for value in after.graph.value_info]
    assert names == [value.name for value in model.graph.value_info]
    assert "taken out" in record.changes[0].what
    assert [edit.node for edit in record.changes] == ["model", "if_3/"]
    _, record = apply_pass(StripMetadata(), graph)
    assert record.status == "nothing to do"


def test_notes_that_are_to_stay_do() -> None:
    model = model_from_text(f"{_HEAD} g (float[N,2] x) => (float[N,2] y) {{ y = Relu (x) }}", {})
    for key in ("partition", "trace.file", "trace.line"):
        model.graph.node[0].metadata_props.add(key=key, value="1")
    graph, record = apply_pass(StripMetadata(keep=("part*",)), model)
    assert [entry.key for entry in graph.main.nodes[0].metadata_props] == ["partition"]
    assert record.changes[0].what == "metadata and doc strings of 1 node taken out"
