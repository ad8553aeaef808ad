from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import numpy_helper, parser

from graphopt.commands.inspect import inspect
from graphopt.contract import registry
from graphopt.contract.recipe import METADATA_KEY
from graphopt.errors import ModelError, Need
from graphopt.passes.prune import PruneChannels
from graphopt.report import listing
from graphopt.report.findings import Port, Quantization
from graphopt.report.json import dump
from graphopt.testing import MODELS, apply_pass, model_from_text

PORTS = "(float[N, 4] x) => (float[N, 4] y)"
F = np.ones((4, 4), np.float32)
I8 = np.ones((4, 4), np.int8)
S = np.float32(0.1)
QD = "q = QuantizeLinear(x, s, z) d = DequantizeLinear(q, s, z) "


def model(body: str, ports: str = PORTS, **constants: Any) -> onnx.ModelProto:
    made = parser.parse_model(
        f'<ir_version: 9, opset_import: ["" : 21, "com.microsoft" : 1], producer_name: "maker", '
        f'producer_version: "2"> g {ports} {{ {body} }}'
    )
    for name, values in constants.items():
        made.graph.initializer.append(numpy_helper.from_array(np.asarray(values), name))
    return made


def test_what_the_file_holds() -> None:
    ports = "(float[N, 4] x, float[4, 4] w, int64[1] k) => (float[N, 4] y)"
    made = model("r = MatMul(x, w) y = com.microsoft.QuickGelu(r)", ports, w=F * [0, 1, 1, 1])
    made.graph.initializer[0].CopyFrom(
        numpy_helper.from_array((F * [0, 1, 1, 1]).astype(np.float32), "w")
    )
    found = inspect(made, passes=False)
    assert found.path is None and found.weight_bytes == 64 and found.bytes >= 64
    assert (found.ir_version, found.producer) == (9, "maker 2")
    assert found.opset == {"ai.onnx": 21, "com.microsoft": 1}
    assert found.inputs == [
        Port("x", "float", ["N", 4]),
        Port("w", "float", [4, 4], optional=True),
        Port("k", "int64", [1]),
    ]
    assert found.outputs == [Port("y", "float", ["N", 4])]
    assert found.nodes == 2 and found.ops == {"MatMul": 1, "com.microsoft:QuickGelu": 1}
    assert found.params == 16 and found.sparsity == pytest.approx(0.25)
    assert found.recipe is None and found.passes == []


@pytest.mark.parametrize(
    ("body", "constants", "expected"),
    [
        ("y = MatMul(x, w)", {"w": F}, ("float", 1, 0)),
        ("y = Relu(x)", {}, ("float", 0, 0)),
        (
            "c = Cast<to = 1>(w) y = MatMul(x, c)",
            {"w": F.astype(np.float16)},
            ("float16", 1, 0),
        ),
        (
            QD + "v = DequantizeLinear(w, s) m = MatMul(d, v) y = MatMul(m, f)",
            {"w": I8, "s": S, "z": np.uint8(0), "f": F},
            ("qdq", 2, 1),
        ),
        (
            "v = DequantizeLinear(w, s) y = MatMul(x, v)",
            {"w": I8, "s": S},
            ("weight-only", 1, 1),
        ),
        (
            "q, qs, qz = DynamicQuantizeLinear(x) m = MatMulInteger(q, w, qz) "
            "f = Cast<to = 1>(m) k = Mul(qs, s) y = Mul(f, k)",
            {"w": I8, "s": S},
            ("dynamic", 1, 1),
        ),
        (
            "q = QuantizeLinear(x, s, z) m = QLinearMatMul(q, s, z, w, s, v, s, z) "
            "y = DequantizeLinear(m, s, z)",
            {"w": I8, "s": S, "z": np.uint8(0), "v": np.int8(0)},
            ("qoperator", 1, 1),
        ),
    ],
)
def test_form_of_quantization(
    body: str, constants: dict[str, Any], expected: tuple[str, int, int]
) -> None:
    assert inspect(model(body, **constants), passes=False).quantization == Quantization(*expected)


def test_recipe_from_the_metadata(tmp_path: Path) -> None:
    made = model("y = MatMul(x, w)", w=F)
    made.metadata_props.add(key=METADATA_KEY, value='[[passes]]\nname = "eliminate-dead"\n')
    path = tmp_path / "m.onnx"
    onnx.save(made, path)
    found = inspect(path, passes=False)
    assert found.recipe is not None and "eliminate-dead" in found.recipe
    assert found.path == str(path) and found.bytes == path.stat().st_size


def test_every_pass_is_tried_on_a_copy() -> None:
    made = model("i = Identity(x) y = MatMul(i, w)", w=F)
    before = made.SerializeToString(deterministic=True)
    seen: list[tuple[str, int, int]] = []
    found = inspect(made, progress=lambda *at: seen.append(at))
    assert made.SerializeToString(deterministic=True) == before
    assert [item.name for item in found.passes] == registry.names()
    assert [what for what, _, _ in seen] == registry.names()
    by_name = {item.name: item for item in found.passes}
    assert by_name["eliminate-identity"].edits == 1
    assert by_name["quantize-static"].edits is None
    assert "calibration" in by_name["quantize-static"].note
    assert by_name["distill"].note == "distill needs samples to train on"
    assert by_name["distill"].needs == (Need.TRAINING,)
    idle = by_name["fuse-batchnorm"]
    assert idle.edits == 0 and idle.reasons


def test_costly_passes_are_not_tried_on_a_very_large_model(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.import_module("graphopt.commands.inspect"), "_MOST_BYTES", 0)
    found = {item.name: item for item in inspect(MODELS["mlp"]()).passes}
    assert found["mask-weights"].edits is None
    assert "so large" in found["mask-weights"].note
    assert found["eliminate-dead"].edits == 0


def test_a_sequence_input_has_no_shape() -> None:
    found = inspect(
        model("y = ConcatFromSequence<axis = 0>(x)", "(seq(float[N]) x) => (float[M] y)"),
        passes=False,
    )
    assert found.inputs == [Port("x", "sequence", None)]


def test_a_pass_without_edits_says_why() -> None:
    passes = {item.name: item for item in inspect(MODELS["no-layers"]()).passes}
    assert all(item.edits or item.note or item.reasons for item in passes.values())
    assert passes["quantize-weights"].note == "found nothing in this model that it changes"


def test_not_a_model() -> None:
    with pytest.raises(ModelError):
        inspect(b"not a model")


def test_it_prints_and_dumps(capsys: pytest.CaptureFixture[str]) -> None:
    made = model("i = Identity(x) y = MatMul(i, w)", w=F)
    made.metadata_props.add(key=METADATA_KEY, value="target = 'host'")
    found = inspect(made)
    listing.print_inspection(found)
    text = capsys.readouterr().out
    for word in ("maker 2", "[N, 4]", "MatMul", "eliminate-identity", "target = 'host'", "float;"):
        assert word in text
    assert '"quantization"' in dump(found)


def test_a_slice_with_lists_of_different_lengths_is_left_alone() -> None:
    text = """<ir_version: 8, opset_import: ["" : 13]>
    g (float[4] x) => (float[4] y) { y = Slice (x, starts, ends) }"""
    lists = {"starts": np.array([0]), "ends": np.array([4, 4])}
    found = inspect(model_from_text(text, lists), trial=False)
    outlook = next(item for item in found.passes if item.name == "eliminate-identity")
    assert outlook.edits == 0


def test_floats_without_kernels_have_a_way_out() -> None:
    text = """<ir_version: 10, opset_import: ["" : 22]> g (bfloat16[2, 4] x) => (bfloat16[2, 4] y)
        { y = Sin(x) }"""
    note = inspect(onnx.parser.parse_model(text), passes=False).note
    assert note.startswith("not loaded by onnxruntime: onnxruntime has no kernel here")
    assert note.endswith("; convert-to-float32 makes one of it that computes in float32")


def test_groups_of_channels_are_told_with_their_shares(capsys: pytest.CaptureFixture[str]) -> None:
    made = model("h = MatMul(x, v) y = MatMul(h, w)", v=F, w=F)
    found = inspect(made, passes=False, groups=True)
    assert found.channels is not None
    (group,) = found.channels.groups
    assert (group.name, group.size, group.params, group.macs) == ("MatMul(h)", 4, 32, 32)
    assert (group.producers, group.consumers) == (["MatMul(h)"], ["MatMul(y)"])
    (fixed,) = found.channels.fixed
    assert (fixed.reason, fixed.at, fixed.layers) == (
        "it is an output of the model",
        "y",
        ["MatMul(y)"],
    )
    listing.print_inspection(found)
    text = capsys.readouterr().out
    for word in ("MatMul(h)", "100.00 %", "all of them", "it is an output of the model"):
        assert word in text
    assert '"channels"' in dump(found)
    assert inspect(made, passes=False).channels is None


def test_groups_of_a_quantized_model_are_shown_with_what_refuses_them(
    capsys: pytest.CaptureFixture[str],
) -> None:
    made = model_from_text(
        """<ir_version: 8, opset_import: ["" : 17]>
        g (float[b, 6] x) => (float[b, 5] y) {
            d = DequantizeLinear<axis = 0>(k, s, z) h = Gemm<transB = 1>(x, d) y = MatMul(h, w)
        }""",
        {
            "k": np.arange(-12, 12, dtype=np.int8).reshape(4, 6),
            "s": np.full(4, 0.1, np.float32),
            "z": np.zeros(4, np.int8),
            "w": (4, 5),
        },
    )
    found = inspect(made, passes=False, groups=True)
    assert found.channels is not None
    refused = "the model is quantized already (DequantizeLinear(d))"
    assert found.channels.refused == refused
    listing.print_inspection(found)
    assert f"prune-channels refuses: {refused}" in capsys.readouterr().out
    item = PruneChannels(criterion="l2", allocation="uniform")
    assert apply_pass(item, made, samples=None)[1].reason == refused
