from __future__ import annotations

import errno
import os
import stat
from contextlib import nullcontext
from pathlib import Path

import pytest

from graphopt import atomic


def test_a_file_appears_when_it_is_complete(tmp_path: Path) -> None:
    place = tmp_path / "file"
    place.write_bytes(b"old")
    with atomic.whole(place) as file:
        file.write(b"new")
        file.flush()
        assert place.read_bytes() == b"old"
    assert place.read_bytes() == b"new"
    assert list(tmp_path.iterdir()) == [place]


@pytest.mark.parametrize("part", [None, "file.part"])
def test_an_error_leaves_what_was_there(tmp_path: Path, part: str | None) -> None:
    place = tmp_path / "file"
    place.write_bytes(b"old")
    with (
        pytest.raises(KeyboardInterrupt),
        atomic.whole(place, tmp_path / part if part else None) as file,
    ):
        file.write(b"half")
        raise KeyboardInterrupt
    assert place.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [place]


def test_what_a_killed_writer_left_is_written_over(tmp_path: Path) -> None:
    place, part = tmp_path / "file", tmp_path / "file.part"
    part.write_bytes(b"a longer half")
    with atomic.whole(place, part) as file:
        file.write(b"new")
    assert place.read_bytes() == b"new"
    assert list(tmp_path.iterdir()) == [place]


@pytest.mark.skipif(os.name == "nt", reason="Windows syncs no folders")
def test_the_file_is_synced_then_its_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[bool] = []

    def note(descriptor: int) -> None:
        synced.append((tmp_path / "file").exists())

    monkeypatch.setattr(os, "fsync", note)
    with atomic.whole(tmp_path / "file") as file:
        file.write(b"new")
    assert synced == [False, True]


@pytest.mark.parametrize(("error", "fails"), [(errno.EINVAL, False), (errno.EIO, True)])
def test_a_folder_that_cannot_be_synced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: int, fails: bool
) -> None:
    """What is no fault of the disk stops nothing; a fault before the switch leaves the old."""
    place, given = tmp_path / "file", os.fsync

    def refused(descriptor: int) -> None:
        if stat.S_ISDIR(os.fstat(descriptor).st_mode):
            raise OSError(error, os.strerror(error))
        given(descriptor)

    place.write_bytes(b"old")
    monkeypatch.setattr(os, "fsync", refused)
    with (
        pytest.raises(OSError, match="error") if fails else nullcontext(),
        atomic.Staged(place) as staged,
    ):
        with staged.companion() as file:
            file.write(b"data")
        assert staged.settle(["file", "file.data"]) == "file.data"
        with staged.main() as file:
            file.write(b"new")
        assert not staged.commit()
    assert place.read_bytes() == (b"old" if fails else b"new")
    held = ["file"] if fails else ["file", "file.data"]
    assert sorted(item.name for item in tmp_path.iterdir()) == held


def test_every_name_is_taken(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").symlink_to("nowhere")
    with pytest.raises(FileExistsError), atomic.Staged(tmp_path / "file") as staged:
        with staged.companion() as file:
            file.write(b"data")
        staged.settle(["a", "b"])
    assert sorted(item.name for item in tmp_path.iterdir()) == ["a", "b"]


def test_the_longest_name_can_be_written(tmp_path: Path) -> None:
    place = tmp_path / ("n" * 255)
    with atomic.whole(place) as file:
        file.write(b"new")
    assert place.read_bytes() == b"new"
