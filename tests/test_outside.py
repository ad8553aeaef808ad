from __future__ import annotations

import os
import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from graphopt import outside
from graphopt.callables import imported
from graphopt.contract.recipe import read_recipe
from graphopt.data.npy import npy_column
from graphopt.data.npz import npz_part
from graphopt.errors import GraphoptError
from graphopt.graph import io

needs_unix = pytest.mark.skipif(os.name == "nt", reason="Windows has no FIFO")


def test_a_file_is_read_and_a_link_is_followed(tmp_path: Path) -> None:
    file, link = tmp_path / "file", tmp_path / "link"
    file.write_bytes(b"\r\n\x1a bytes")
    link.symlink_to(file)
    for path in (file, link):
        with outside.opened(path) as held:
            assert held.read() == b"\r\n\x1a bytes"
            assert not os.get_inheritable(held.fileno())
        assert outside.regular(path).st_size == 9


def _bind(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as held:
        held.bind(str(path))


@needs_unix
@pytest.mark.parametrize("linked", [False, True])
@pytest.mark.parametrize(
    ("make", "kind"),
    [
        (os.mkfifo, "a FIFO"),
        (os.mkdir, "a folder"),
        (_bind, "a socket"),
        (lambda path: path.symlink_to("/dev/zero"), "a device"),
    ],
)
def test_what_is_no_file_is_named_and_not_waited_for(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    make: Callable[[Path], None],
    kind: str,
    linked: bool,
) -> None:
    monkeypatch.chdir(tmp_path)  # the name of a socket is short
    place = Path("place")
    make(place)
    if linked:
        place = Path("link")
        place.symlink_to("place")
    for look in (outside.opened, outside.regular):
        with pytest.raises(outside.IrregularFile) as caught:
            look(place)
        assert caught.value.strerror == f"it is {kind}, not a regular file"


@needs_unix
def test_what_takes_the_files_place_in_between_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place, fifo = tmp_path / "file", tmp_path / "fifo"
    place.write_bytes(b"x")
    os.mkfifo(fifo)
    opening = os.open
    descriptors = list[int]()

    def other(path: Path, flags: int) -> int:
        descriptors.append(opening(fifo, flags))
        return descriptors[-1]

    monkeypatch.setattr(os, "open", other)
    with pytest.raises(outside.IrregularFile, match="a FIFO"):
        outside.opened(place)
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(descriptors[0])


def test_names_that_no_file_can_have(tmp_path: Path) -> None:
    with pytest.raises(outside.IrregularFile, match="no file can have this name"):
        outside.opened(tmp_path / "a\0b")
    with pytest.raises(FileNotFoundError):
        outside.opened(tmp_path / "none")


@needs_unix
@pytest.mark.parametrize(
    ("read", "name"),
    [
        (io.load, "model.onnx"),
        (lambda path: npy_column(path, 0), "a.npy"),
        (lambda path: npz_part(path, 0), "a.npz"),
        (read_recipe, "recipe.toml"),
        (lambda path: imported(f"{path}:function"), "functions.py"),
    ],
)
def test_every_reader_names_the_fifo_that_it_does_not_open(
    tmp_path: Path, read: Callable[[Path], object], name: str
) -> None:
    os.mkfifo(tmp_path / name)
    with pytest.raises(GraphoptError, match="it is a FIFO, not a regular file") as caught:
        read(tmp_path / name)
    assert str(tmp_path / name) in str(caught.value)
    assert caught.value.exit_code in (2, 3)
