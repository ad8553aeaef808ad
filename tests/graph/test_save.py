"""Saving: whole or not at all, external data included."""

import errno
import os
import re
import shutil
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import ModelProto, TensorProto

from graphopt.errors import SystemFailure, UsageError
from graphopt.graph import io, save, tensors
from graphopt.graph.graph import Graph
from graphopt.graph.lossless import differences


def make_model(count: int = 3, rows: int = 64) -> ModelProto:
    model = onnx.parser.parse_model(
        """<ir_version: 9, opset_import: ["" : 18]>
        g (float[N, 64] x) => (float[N, 64] y) { y = Identity(x) }"""
    )
    for index in range(count):
        values = np.full((rows, 64), index, np.float32)
        model.graph.initializer.append(tensors.from_array(f"w{index}", values))
        model.graph.node.add(op_type="MatMul", input=["x", f"w{index}"], output=[f"z{index}"])
    model.graph.initializer.append(tensors.from_array("small", np.ones(3, np.float32)))
    return model


@pytest.fixture
def external(tmp_path: Path) -> Path:
    """A model of three external weights and a small one inside."""
    folder = tmp_path / "in"
    folder.mkdir()
    path = folder / "model.onnx"
    model = make_model()
    with (folder / "model.onnx.data").open("wb") as file:
        for tensor in model.graph.initializer[:3]:
            data = tensor.raw_data
            tensors.refer(tensor, "model.onnx.data", file.tell(), len(data))
            file.write(data)
    path.write_bytes(model.SerializeToString())
    return path


def weight(graph: Graph, name: str) -> np.ndarray:
    constant = graph.main.constant(name)
    assert constant is not None
    return constant.values


def names(folder: Path) -> list[str]:
    return sorted(item.name for item in folder.iterdir())


def test_plain_model_is_one_file(tmp_path: Path) -> None:
    model = make_model()
    out = tmp_path / "out.onnx"
    io.save(io.load(model), out)
    assert names(tmp_path) == ["out.onnx"]
    assert out.read_bytes() == model.SerializeToString()


def test_permissions_follow_the_umask(tmp_path: Path) -> None:
    old = os.umask(0o027)
    try:
        io.save(io.load(make_model()), tmp_path / "out.onnx")
    finally:
        os.umask(old)
    assert (tmp_path / "out.onnx").stat().st_mode & 0o777 == 0o640


def test_external_stays_external(external: Path, tmp_path: Path) -> None:
    graph = io.load(external)
    constant = graph.main.constant("w1")
    assert constant is not None
    constant.set(np.full((64, 64), 9, np.float32))
    out = tmp_path / "out.onnx"
    io.save(graph, out)
    assert names(tmp_path) == ["in", "out.onnx", "out.onnx.data"]
    saved = onnx.load(out, load_external_data=False)
    held = {t.name: tensors.is_external(t) for t in saved.graph.initializer}
    assert held == {"w0": True, "w1": True, "w2": True, "small": False}
    again = io.load(out)
    assert [weight(again, f"w{i}")[0, 0] for i in range(3)] == [0, 9, 2]
    onnx.checker.check_model(str(out))
    assert differences(graph.to_model(), graph.copy().to_model()) == []


def fresh(folder: Path, out: str) -> str:
    """The data file beside ``out`` that is called after its content."""
    (found,) = (n for n in names(folder) if re.fullmatch(rf"{out}\.[0-9a-f]{{8}}\.data", n))
    return found


def test_data_that_is_read_is_not_overwritten(external: Path) -> None:
    graph = io.load(external)
    before = (external.parent / "model.onnx.data").read_bytes()
    io.save(graph, external)
    assert (external.parent / "model.onnx.data").read_bytes() == before
    data = fresh(external.parent, "model.onnx")
    assert names(external.parent) == ["model.onnx", data, "model.onnx.data"]
    assert weight(io.load(external), "w2")[0, 0] == 2
    assert weight(graph, "w2")[0, 0] == 2


def test_data_that_was_read_stays_when_no_weight_is_left_in_it(external: Path) -> None:
    graph = io.load(external)
    for index in range(3):
        constant = graph.main.constant(f"w{index}")
        assert constant is not None
        constant.set(np.full((64, 64), 7, np.float32))
    data = external.parent / "model.onnx.data"
    before = data.read_bytes()
    out = external.parent / "other.onnx"
    shutil.copy(external, external.parent / "twin.onnx")
    with pytest.raises(UsageError, match="holds weights"):
        io.save(graph.copy(), data)
    external.rename(out)  # an earlier result of that name, moved
    io.save(graph, external)
    assert data.read_bytes() == before
    assert weight(io.load(out), "w2")[0, 0] == 2
    assert weight(io.load(external), "w2")[0, 0] == 7


@pytest.mark.parametrize("kind", ["folder", "file", "link", "dangling link"])
def test_what_has_the_datas_name_is_never_touched(
    external: Path, tmp_path: Path, kind: str
) -> None:
    place = tmp_path / "out.onnx.data"
    if kind == "folder":
        place.mkdir()
        (place / "precious").write_text("p")
    elif kind == "file":
        place.write_text("p")
    else:
        place.symlink_to(tmp_path / ("none" if kind == "dangling link" else "in"))
    before = names(tmp_path)
    io.save(io.load(external), tmp_path / "out.onnx")
    first = fresh(tmp_path, "out.onnx")
    assert names(tmp_path) == sorted([*before, "out.onnx", first])
    io.save(io.load(external), tmp_path / "out.onnx")  # the same content once more
    second = first.replace(".data", ".1.data")
    assert names(tmp_path) == sorted([*before, "out.onnx", second])
    assert place.is_symlink() or place.is_dir() or place.read_text() == "p"
    assert weight(io.load(tmp_path / "out.onnx"), "w2")[0, 0] == 2


@pytest.mark.parametrize("way", ["copy", "hard link", "renamed", "fields"])
def test_old_data_that_another_model_names_stays(external: Path, tmp_path: Path, way: str) -> None:
    out, other = tmp_path / "out.onnx", tmp_path / "kept.bin"
    io.save(io.load(external), out)
    if way == "copy":
        shutil.copy(out, other)
    elif way == "hard link":
        other.hardlink_to(out)
    elif way == "renamed":
        out.rename(other)
    else:  # the same message with its first field last
        whole = out.read_bytes()
        version = onnx.load(out, load_external_data=False).ir_version
        head = bytes([8, version])
        assert whole.startswith(head)
        other.write_bytes(whole.removeprefix(head) + head)
    changed = io.load(external)
    constant = changed.main.constant("w0")
    assert constant is not None
    constant.set(np.full((64, 64), 5, np.float32))
    io.save(changed, out)
    assert weight(io.load(out), "w0")[0, 0] == 5
    assert weight(io.load(other), "w0")[0, 0] == 0


def test_old_data_that_a_model_one_folder_up_names_stays(external: Path, tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    out, above = tmp_path / "sub" / "out.onnx", tmp_path / "above.onnx"
    io.save(io.load(external), out)
    model = onnx.load(out, load_external_data=False)
    for tensor in model.graph.initializer:
        for entry in tensor.external_data:
            if entry.key == "location":
                entry.value = f"sub/{entry.value}"
    onnx.save(model, above)
    io.save(io.load(external), out)
    assert weight(io.load(above), "w1")[0, 0] == 1


def test_out_that_is_the_inputs_data(external: Path) -> None:
    data = external.parent / "model.onnx.data"
    before = data.read_bytes()
    with pytest.raises(UsageError, match="holds weights"):
        io.save(io.load(external), data)
    assert data.read_bytes() == before


def test_large_model_gets_external_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(save, "INLINE_LIMIT_BYTES", 30_000)
    out = tmp_path / "out.onnx"
    io.save(io.load(make_model()), out)
    assert names(tmp_path) == ["out.onnx", "out.onnx.data"]
    assert out.stat().st_size < 2000
    assert weight(io.load(out), "w1")[5, 5] == 1


def test_large_tensors_start_on_a_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(save, "INLINE_LIMIT_BYTES", 30_000)
    model = make_model(count=2, rows=4097)
    out = tmp_path / "out.onnx"
    io.save(io.load(model), out)
    saved = onnx.load(out, load_external_data=False)
    for tensor in saved.graph.initializer[:2]:
        assert int(tensors.external_entries(tensor)["offset"]) % 4096 == 0
    assert weight(io.load(out), "w1")[4096, 63] == 1


def test_external_tensors_in_nodes_and_bodies(tmp_path: Path) -> None:
    model = onnx.parser.parse_model(
        """<ir_version: 9, opset_import: ["" : 18]>
        g (bool c) => (float[4] y) {
          k = Constant <value: tensor = float[4] {1, 2, 3, 4}> ()
          y = If (c) <
            then_branch = t () => (float[4] a) <float[4] v = {5, 6, 7, 8}> { a = Add(k, v) },
            else_branch = e () => (float[4] b) { b = Identity(k) }
          >
        }"""
    )
    values = [model.graph.node[0].attribute[0].t, model.graph.node[1].attribute[0].g.initializer[0]]
    with (tmp_path / "w.bin").open("wb") as file:
        for tensor in values:
            data = onnx.numpy_helper.to_array(tensor).tobytes()
            tensors.refer(tensor, "w.bin", file.tell(), len(data))
            file.write(data)
    path = tmp_path / "model.onnx"
    path.write_bytes(model.SerializeToString())
    out = tmp_path / "sub" / "out.onnx"
    out.parent.mkdir()
    io.save(io.load(path), out)
    again = io.load(out)
    constant = again.main.constant("k")
    assert constant is not None
    assert constant.values.tolist() == [1, 2, 3, 4]
    body = again.main.children(again.main.nodes[1])["then_branch"]
    inner = body.constant("v")
    assert inner is not None
    assert inner.values.tolist() == [5, 6, 7, 8]


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit, MemoryError])
def test_interrupted_leaves_nothing(
    external: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: type[BaseException]
) -> None:
    graph = io.load(external)
    out = tmp_path / "out.onnx"
    out.write_bytes(b"older")
    wanted = graph.chunks

    def broken(tensor: TensorProto):  # type: ignore[no-untyped-def]
        if tensor.name == "w2":
            raise error
        return wanted(tensor)

    monkeypatch.setattr(graph, "chunks", broken)
    with pytest.raises(error):
        io.save(graph, out)
    assert names(tmp_path) == ["in", "out.onnx"]
    assert out.read_bytes() == b"older"


def test_full_disk(external: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    out = tmp_path / "out.onnx"
    with pytest.raises(SystemFailure, match="cannot be written: No space left on device"):
        io.save(io.load(external), out)
    assert names(tmp_path) == ["in"]


def test_rename_that_fails_leaves_the_old_pair(
    external: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    graph = io.load(external)
    out = tmp_path / "out.onnx"
    io.save(graph, out)
    pair = [out.read_bytes(), (tmp_path / "out.onnx.data").read_bytes()]
    constant = graph.main.constant("w0")
    assert constant is not None
    constant.set(np.full((64, 64), 5, np.float32))
    replace = os.replace

    def failing(source: Path, target: Path) -> None:
        if Path(target) == out:
            raise OSError(errno.EACCES, os.strerror(errno.EACCES))
        replace(source, target)

    monkeypatch.setattr(os, "replace", failing)
    with pytest.raises(SystemFailure, match="Permission denied"):
        io.save(graph, out)
    assert [out.read_bytes(), (tmp_path / "out.onnx.data").read_bytes()] == pair
    assert names(tmp_path) == ["in", "out.onnx", "out.onnx.data"]


def test_an_interrupt_behind_the_switch_leaves_the_new_pair(
    external: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, replace = tmp_path / "out.onnx", os.replace

    def interrupted(source: Path, target: Path) -> None:
        replace(source, target)
        if Path(target) == out:
            raise KeyboardInterrupt

    monkeypatch.setattr(os, "replace", interrupted)
    with pytest.raises(KeyboardInterrupt):
        io.save(io.load(external), out)
    assert names(tmp_path) == ["in", "out.onnx", "out.onnx.data"]
    assert weight(io.load(out), "w2")[0, 0] == 2


def test_saving_again_leaves_one_data_file(external: Path, tmp_path: Path) -> None:
    graph = io.load(external)
    out = tmp_path / "out.onnx"
    for value in range(3):
        constant = graph.main.constant("w0")
        assert constant is not None
        constant.set(np.full((64, 64), value, np.float32))
        io.save(graph, out)
        data = fresh(tmp_path, "out.onnx") if value == 1 else "out.onnx.data"
        assert names(tmp_path) == ["in", "out.onnx", data]
        assert weight(io.load(out), "w0")[0, 0] == value


def test_a_model_without_external_data_leaves_none(external: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.onnx"
    io.save(io.load(external), out)
    io.save(io.load(make_model()), out)
    assert names(tmp_path) == ["in", "out.onnx"]


@pytest.mark.parametrize("rubbish", [b"", b"\x08\x07\x0a", b"no model", "link"])
def test_what_is_no_model_has_no_data(external: Path, tmp_path: Path, rubbish: bytes | str) -> None:
    out = tmp_path / "out.onnx"
    (tmp_path / "out.onnx.data").write_text("p")
    if isinstance(rubbish, bytes):
        out.write_bytes(rubbish)
    else:
        out.symlink_to("nowhere")
    io.save(io.load(external), out)
    assert (tmp_path / "out.onnx.data").read_text() == "p"
    assert not out.is_symlink()
    assert weight(io.load(out), "w2")[0, 0] == 2


def test_missing_folder_and_no_regular_file(tmp_path: Path) -> None:
    graph = io.load(make_model())
    with pytest.raises(SystemFailure, match="does not exist"):
        io.save(graph, tmp_path / "none" / "out.onnx")
    with pytest.raises(SystemFailure, match="no regular file"):
        io.save(graph, tmp_path)
    with pytest.raises(SystemFailure, match="no regular file"):
        io.save(graph, Path(os.devnull))


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_no_permission(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(SystemFailure, match="Permission denied"):
        io.save(io.load(make_model()), tmp_path / "out.onnx")
