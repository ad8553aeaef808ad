"""Loading: every way to hand in a model, and every way in which one can be bad."""

import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import ModelProto, TensorProto

from graphopt.errors import ModelError
from graphopt.graph import io
from graphopt.graph.lossless import differences

TEXT = """
<ir_version: 9, opset_import: ["" : 18], producer_name: "exporter">
tiny (float[N, 4] x) => (float[N, 3] y) <float[4, 3] w = {1,2,3,4,5,6,7,8,9,10,11,12}> {
  y = MatMul(x, w)
}
"""


@pytest.fixture
def model() -> ModelProto:
    return onnx.parser.parse_model(TEXT)


@pytest.fixture
def external(tmp_path: Path) -> Callable[..., Path]:
    """Writes a model whose weight lies in ``weights.bin``, with entries to be spoilt."""

    def write(held: int = 48, **entries: str) -> Path:
        model = onnx.parser.parse_model(TEXT)
        (tensor,) = model.graph.initializer
        (tmp_path / "weights.bin").write_bytes(np.arange(1, 13, dtype=np.float32).tobytes()[:held])
        tensor.ClearField("float_data")
        tensor.data_location = TensorProto.EXTERNAL
        for key, value in {"location": "weights.bin", **entries}.items():
            tensor.external_data.add(key=key, value=value)
        path = tmp_path / "model.onnx"
        path.write_bytes(model.SerializeToString())
        return path

    return write


def test_path_text_bytes_and_message_give_the_same(model: ModelProto, tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(model.SerializeToString())
    for given in (path, str(path), model.SerializeToString(), model):
        assert differences(model, io.load(given).to_model()) == []


def test_the_callers_message_is_not_modified(model: ModelProto) -> None:
    before = model.SerializeToString()
    graph = io.load(model)
    constant = graph.main.constant("w")
    assert constant is not None
    constant.set(np.zeros((4, 3), np.float32))
    graph.main.nodes[0].op_type = "Gemm"
    assert model.SerializeToString() == before


def test_external_data_is_read_when_asked_for(external: Callable[..., Path]) -> None:
    path = external(offset="0", length="48")
    graph = io.load(path)
    (path.parent / "weights.bin").write_bytes(np.full(12, 7, np.float32).tobytes())
    constant = graph.main.constant("w")
    assert constant is not None
    assert constant.values.tolist() == [[7.0] * 3] * 4


def test_bad_files_are_named_with_what_is_wrong(model: ModelProto, tmp_path: Path) -> None:
    data = model.SerializeToString()
    cases = {
        "empty.onnx": (b"", "is empty"),
        "text.onnx": (b"hello, this is no model\n" * 9, "is not an ONNX model"),
        "picture.png": (b"\x89PNG\r\n\x1a\n" + bytes(100), "is not an ONNX model"),
        "cut.onnx": (data[:-20], "is truncated: "),
        "half.onnx": (data[: len(data) // 2], "is truncated: "),
        "headless.onnx": (data[:2], "it holds no graph"),
        "pointer.onnx": (b"version https://git-lfs.github.com/spec/v1\n", "git lfs pull"),
    }
    for name, (content, message) in cases.items():
        path = tmp_path / name
        path.write_bytes(content)
        with pytest.raises(ModelError, match=message) as caught:
            io.load(path)
        assert str(caught.value).startswith(str(path))
        assert "\n" not in str(caught.value)


def test_every_truncation_is_an_error_of_the_model(model: ModelProto) -> None:
    data = model.SerializeToString()
    for length in range(len(data)):
        with pytest.raises(ModelError):
            io.load(data[:length])


def test_damage_inside_the_graph(model: ModelProto) -> None:
    data = model.SerializeToString()
    at = data.index(b"MatMul") - 1
    assert data[at] == len("MatMul")
    with pytest.raises(ModelError, match="is damaged: its graph cannot be parsed"):
        io.load(data[:at] + b"\x7f" + data[at + 1 :])


def test_model_without_operator_sets(model: ModelProto) -> None:
    del model.opset_import[:]
    with pytest.raises(ModelError, match="names no operator set"):
        io.load(model.SerializeToString())
    model.ir_version = 2  # older than operator sets
    assert io.load(model.SerializeToString()).opset == 0


def test_names_that_are_no_text(model: ModelProto) -> None:
    model.graph.name = "main"
    data = model.SerializeToString().replace(b"\n\x01x", b"\n\x01\xff")
    with pytest.raises(ModelError, match="UTF-8"):
        io.load(data)


def test_missing_file_folder_and_pipe(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="no such file"):
        io.load(tmp_path / "none.onnx")
    with pytest.raises(ModelError, match="is a folder"):
        io.load(tmp_path)
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    with pytest.raises(ModelError, match="not a regular file"):
        io.load(pipe)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_unreadable_file(tmp_path: Path) -> None:
    path = tmp_path / "secret.onnx"
    path.write_bytes(b"x")
    path.chmod(0)
    with pytest.raises(ModelError, match="cannot be read: Permission denied"):
        io.load(path)


def test_file_beyond_two_gigabytes_is_refused_unread(tmp_path: Path) -> None:
    path = tmp_path / "huge.onnx"
    with path.open("wb") as file:
        file.truncate(3 << 30)
    with pytest.raises(ModelError, match="2 GB are the most"):
        io.load(path)


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        ({"location": "gone.bin"}, "file 'gone.bin' is missing"),
        ({"location": ""}, "leaves the model's folder"),
        ({"location": "/etc/passwd"}, "leaves the model's folder"),
        ({"location": "../weights.bin"}, "leaves the model's folder"),
        ({"location": "a/../../weights.bin"}, "leaves the model's folder"),
        ({"location": "..\\weights.bin"}, "leaves the model's folder"),
        ({"location": "."}, "it is a folder, not a regular file"),
        ({"location": "x" * 5000}, "cannot be used"),
        ({"location": "a\0b"}, "cannot be used"),
        ({"length": "44"}, "length 44 where its shape needs 48"),
        ({"length": "many"}, "not a number"),
        ({"offset": "4"}, "48 at offset 4 are needed"),
        ({"offset": "-4"}, "offset is not a number of bytes: '-4'"),
        ({"offset": "9" * 18}, "are needed"),
        ({"offset": "9" * 5000}, "offset is not a number of bytes"),
        ({"offset": "\u0661"}, "offset is not a number of bytes"),
        ({"location": "*/_ORT_MEM_ADDR_/*"}, "stands for an address in memory; refused"),
    ],
)
def test_bad_external_data(
    external: Callable[..., Path], entries: dict[str, str], message: str
) -> None:
    with pytest.raises(ModelError, match=message) as caught:
        io.load(external(**entries))
    assert "tensor 'w'" in str(caught.value)


def test_external_data_cut_off(external: Callable[..., Path]) -> None:
    with pytest.raises(ModelError, match=r"holds 47 bytes \(truncated\?\)"):
        io.load(external(held=47))


def test_link_that_leaves_the_folder(external: Callable[..., Path], tmp_path: Path) -> None:
    outside = tmp_path / "outside.bin"
    outside.write_bytes(bytes(48))
    inner = tmp_path / "inner"
    inner.mkdir()
    path = external()
    path = path.rename(inner / path.name)
    (inner / "weights.bin").symlink_to(outside)
    with pytest.raises(ModelError, match="is a link that leaves"):
        io.load(path)
    (inner / "weights.bin").unlink()
    (inner / "real.bin").write_bytes(bytes(48))
    (inner / "weights.bin").symlink_to("real.bin")
    assert io.load(path).came_external


def test_links_in_a_circle(external: Callable[..., Path]) -> None:
    path = external()
    data = path.parent / "weights.bin"
    data.unlink()
    data.symlink_to("weights.bin")
    with pytest.raises(ModelError, match=r"weights\.bin"):
        io.load(path)


def test_external_data_without_a_folder(external: Callable[..., Path]) -> None:
    with pytest.raises(ModelError, match="has no folder; give its path"):
        io.load(external().read_bytes())


def test_data_that_does_not_fit_its_shape(model: ModelProto) -> None:
    tensor = model.graph.initializer[0]
    for dims, message in (
        ([-1, 3], "negative dimension"),
        ([1 << 40, 1 << 40], "needs"),
    ):
        broken = TensorProto(name="w", data_type=1, dims=dims, raw_data=bytes(48))
        tensor.CopyFrom(broken)
        with pytest.raises(ModelError, match=message):
            io.load(model)
    tensor.CopyFrom(TensorProto(name="w", data_type=99, dims=[1], raw_data=bytes(4)))
    with pytest.raises(ModelError, match="element type 99"):
        io.load(model)


def test_serialize_holds_external_weights(external: Callable[..., Path]) -> None:
    graph = io.load(external())
    again = io.load(io.whole(graph).SerializeToString())
    assert not again.came_external
    constant = again.main.constant("w")
    assert constant is not None
    assert constant.values.ravel().tolist() == list(range(1, 13))


def test_size_and_bytes(external: Callable[..., Path], model: ModelProto, tmp_path: Path) -> None:
    path = external()
    assert io.file_bytes(io.load(path), path) == path.stat().st_size + 48
    assert io.size(io.load(path)) == pytest.approx(io.file_bytes(io.load(path), path), abs=8)
    assert io.size(io.load(model)) == pytest.approx(model.ByteSize(), abs=8)
    plain = tmp_path / "plain.onnx"
    plain.write_bytes(b"abc")
    assert io.sha256(plain) == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        (
            {"float_data": [1.0] * 11},
            "holds 11 values in float_data where its shape [4, 3] needs 12",
        ),
        ({"float_data": [1.0] * 13}, "holds 13 values in float_data"),
        ({"int32_data": [1] * 12}, "holds no values in float_data"),
        ({"raw_data": bytes(47)}, "holds 47 bytes where its shape [4, 3] needs 48"),
        ({"raw_data": bytes(48), "dims": [-4, -3]}, "has a negative dimension: [-4, -3]"),
        ({"raw_data": bytes(48), "dims": [2**62, 4]}, "needs 73786976294838206464"),
        ({"raw_data": bytes(48), "data_type": 99}, "element type 99 is unknown"),
        ({"raw_data": bytes(48), "data_type": 0}, "element type 0 is unknown"),
        ({"data_type": TensorProto.INT4, "int32_data": [1] * 12}, "needs 6"),
        ({"data_type": TensorProto.COMPLEX64, "float_data": [1.0] * 12}, "needs 24"),
        ({"data_type": TensorProto.STRING, "string_data": [b"a"] * 3}, "needs 12"),
    ],
)
def test_values_that_do_not_fit_their_shape(
    model: ModelProto, fields: dict[str, Any], words: str
) -> None:
    tensor = TensorProto(**{"name": "w", "data_type": 1, "dims": [4, 3], **fields})
    model.graph.initializer[0].CopyFrom(tensor)
    with pytest.raises(ModelError, match=re.escape(words)):
        io.load(model)


def odd_ir(model: ModelProto) -> None:
    model.ir_version = 2**31


def odd_opset(model: ModelProto) -> None:
    model.opset_import[0].version = 2**62


def no_opset(model: ModelProto) -> None:
    model.opset_import[0].version = 0


def odd_own_opset(model: ModelProto) -> None:
    model.opset_import.add(domain="own", version=2**40)


def odd_type(model: ModelProto) -> None:
    model.graph.input[0].type.tensor_type.elem_type = 99


@pytest.mark.parametrize(
    ("edit", "words"),
    [
        (odd_ir, "its IR version is 2147483648: there is none"),
        (odd_opset, "imports version 4611686018427387904 of operator set 'ai.onnx': there is none"),
        (no_opset, "imports version 0 of operator set 'ai.onnx'"),
        (odd_own_opset, "imports version 1099511627776 of operator set 'own'"),
        (odd_type, "'x' has element type 99, which ONNX does not have"),
    ],
)
def test_numbers_out_of_range(
    model: ModelProto, edit: Callable[[ModelProto], None], words: str
) -> None:
    edit(model)
    with pytest.raises(ModelError, match=f"the model is not valid: .*{re.escape(words)}"):
        io.load(model)


def test_versions_that_onnxruntime_takes_pass(model: ModelProto) -> None:
    model.opset_import.add(domain="own", version=-5)
    model.opset_import.add(domain="", version=17)
    model.ir_version = 0
    assert io.load(model).opset == 17
    for item in model.opset_import:
        item.domain = "own"
    model.ir_version = 9
    assert io.load(model).opset == 0  # onnxruntime takes the newest one
