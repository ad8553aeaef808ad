"""States on disk: whole, readable, and without pickle."""

from __future__ import annotations

import io
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from graphopt.bridge.training.checkpoint import Checkpoint, load, prepare, save
from graphopt.errors import SystemFailure, UsageError

STATE = Checkpoint(
    {"fingerprint": "me", "step": 3, "loss": [[1, 0.1]]},
    {
        "now/a.b": torch.randn(3, 2, generator=torch.Generator().manual_seed(0)),
        "half": torch.tensor([0.1, -3e38], dtype=torch.bfloat16),
        "float16": torch.tensor([0.1], dtype=torch.float16),
        "flag": torch.tensor([True, False]),
        "count": torch.tensor(7),
        "none": torch.zeros(0, 4),
        "last": torch.randn(2, 3, 4, 4).to(memory_format=torch.channels_last),
    },
)


def test_a_round_trip_keeps_every_bit(tmp_path: Path) -> None:
    path = tmp_path / "state.npz"
    save(path, STATE)
    found = load(path, "me")
    assert found is not None
    assert found.meta == STATE.meta
    assert list(found.tensors) == list(STATE.tensors)
    for name, tensor in STATE.tensors.items():
        assert found.tensors[name].dtype == tensor.dtype
        assert torch.equal(found.tensors[name], tensor)
    assert [each.name for each in tmp_path.iterdir()] == ["state.npz"]


def test_there_may_be_none(tmp_path: Path) -> None:
    assert load(tmp_path / "state.npz", "me") is None


def test_that_of_another_run_is_not_taken_up(tmp_path: Path) -> None:
    save(tmp_path / "state.npz", STATE)
    with pytest.raises(UsageError, match=r"state.npz: belongs to another run; delete it"):
        load(tmp_path / "state.npz", "you")


VALUES = STATE.tensors["now/a.b"].numpy().tobytes()


def array_file(values: Any) -> bytes:
    file = io.BytesIO()
    np.save(file, values, allow_pickle=True)
    return file.getvalue()


def flipped(whole: bytes) -> bytes:
    place = whole.index(VALUES)
    return whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :]


def rewritten(whole: bytes, **changed: Any) -> bytes:
    """The archive with some arrays in place of others, or without those that are None."""
    arrays = dict(np.load(io.BytesIO(whole))) | changed
    file = io.BytesIO()
    np.savez(file, **{name: values for name, values in arrays.items() if values is not None})
    return file.getvalue()


def text(words: bytes) -> Any:
    return np.frombuffer(words, np.uint8)


BROKEN: dict[str, Callable[[bytes], bytes]] = {
    "short": lambda whole: whole[: len(whole) // 2],
    "empty": lambda whole: b"",
    "no archive": lambda whole: b"hello",
    "a flipped bit": flipped,
    "a single array": lambda whole: array_file(np.zeros(3)),
    "a pickle": lambda whole: array_file(np.array([print], object)),
    "pickles inside": lambda whole: rewritten(whole, **{"t/half": np.array([{}], object)}),
    "no meta": lambda whole: rewritten(whole, meta=None),
    "no fingerprint": lambda whole: rewritten(whole, meta=text(b"{}")),
    "a list": lambda whole: rewritten(whole, types=text(b"[1]")),
    "no text": lambda whole: rewritten(whole, meta=text(b"\xff{")),
    "a tensor missing": lambda whole: rewritten(whole, types=text(b'{"gone": "int64"}')),
    "too large a claim": lambda whole: whole.replace(b"(3, 2), }", b"(9**9,),}"),
    "a claim too large to hold": lambda whole: whole.replace(b"(3, 2), } ", b"(%d,)}" % 10**4),
}


@pytest.mark.parametrize("how", BROKEN)
def test_a_broken_file_is_refused_in_one_line(how: str, tmp_path: Path) -> None:
    path = tmp_path / "state.npz"
    save(path, STATE)
    before = path.read_bytes()
    path.write_bytes(BROKEN[how](before))
    assert path.read_bytes() != before
    message = r"^checkpoint .*state.npz: cannot be read: [^\n]*; delete it$"
    with pytest.raises(UsageError, match=message):
        load(path, "me")


@pytest.mark.parametrize("failing", ["savez", "fsync", "replace"])
def test_a_full_disk_keeps_the_last(
    failing: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "state.npz"
    save(path, STATE)

    def full(*_: Any, **__: Any) -> None:
        raise OSError(28, "No space left on device")

    place = {"savez": "numpy.savez", "fsync": "os.fsync", "replace": "os.replace"}
    monkeypatch.setattr(place[failing], full)
    message = f"checkpoint {path}: cannot be written: No space left on device; the last is kept"
    with pytest.raises(SystemFailure, match=re.escape(message)):
        save(path, Checkpoint({"fingerprint": "me", "step": 4}, {}))
    found = load(path, "me")
    assert found is not None
    assert found.meta["step"] == 3
    assert [each.name for each in tmp_path.iterdir()] == ["state.npz"]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a disk that is full")
def test_a_really_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened = os.open

    def full(path: Path, flags: int, mode: int = 0o777) -> int:
        special = Path(path).name == "state.part"
        return opened("/dev/full", os.O_WRONLY) if special else opened(path, flags, mode)

    monkeypatch.setattr(os, "open", full)
    with pytest.raises(SystemFailure, match="No space left on device; the last is kept"):
        save(tmp_path / "state.npz", STATE)


def test_a_link_where_the_new_state_is_written_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "precious").write_text("p")
    (tmp_path / "state.part").symlink_to(tmp_path / "precious")
    save(tmp_path / "state.npz", STATE)
    assert (tmp_path / "precious").read_text() == "p"
    assert not (tmp_path / "state.npz").is_symlink()


def test_what_an_interrupted_writer_left_is_written_over(tmp_path: Path) -> None:
    (tmp_path / "state.part").write_bytes(b"half of a state")
    save(tmp_path / "state.npz", STATE)
    assert load(tmp_path / "state.npz", "me") is not None
    assert [each.name for each in tmp_path.iterdir()] == ["state.npz"]


def test_the_folder_is_made_or_refused_beforehand(tmp_path: Path) -> None:
    prepare(tmp_path / "a" / "b")
    assert (tmp_path / "a" / "b").is_dir()
    (tmp_path / "file").touch()
    for folder in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(SystemFailure, match=rf"^checkpoints {re.escape(str(folder))}: "):
            prepare(folder)
