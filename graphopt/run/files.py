"""Every file that a run reads, and every place that it will write: none may be both.

A file is what the disk says it is, device and inode, so that links and other spellings are seen. A
place that is not there yet is its folder and its name.
"""

from __future__ import annotations

import importlib.machinery
import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from graphopt.callables import is_reference
from graphopt.data.folder import LABELS_FILE, array_files, files_below
from graphopt.data.images import image_files
from graphopt.errors import DataError, UsageError

__all__ = [
    "CheckpointsRead",
    "FileRead",
    "Read",
    "SamplesRead",
    "SourceRead",
    "Written",
    "function_file",
    "refuse_overlaps",
    "samples_read",
]

_Identity = tuple[int | str, ...]


@dataclass(frozen=True)
class Written:
    """A place that will be written.

    Attributes:
        role: What it is to the run, such as ``the output``.
        path: Where; what is there already is replaced.
        folder: Whether it is a folder that gets files, as for checkpoints.
    """

    role: str
    path: Path
    folder: bool = False


@dataclass(frozen=True)
class FileRead:
    """A file that is read, in some role."""

    role: str
    path: Path

    def files(self) -> Iterable[Path]:
        """What is there and is read."""
        return [self.path]

    def takes(self, place: Path) -> bool:  # noqa: ARG002 - folders look at it
        """Whether a new file at ``place`` would be read as well."""
        return False


@dataclass(frozen=True)
class SamplesRead(FileRead):
    """A folder whose samples are read, those in its subfolders too."""

    def files(self) -> Iterator[Path]:
        """Samples and labels."""
        with suppress(DataError):  # whoever opens the data says it
            yield from filter(_is_sample, map(Path, files_below(self.path)))

    def takes(self, place: Path) -> bool:
        """Whether a new file at ``place`` would be a sample."""
        try:
            inside = place.parent.resolve().relative_to(self.path.resolve())
        except (ValueError, OSError, RuntimeError):
            return False
        hidden = any(part.startswith(".") for part in (*inside.parts, place.name))
        return not hidden and _is_sample(place)


@dataclass(frozen=True)
class CheckpointsRead(FileRead):
    """The folder that the state of a training is read from, and written to."""

    def files(self) -> Iterator[Path]:
        """States that are there."""
        with suppress(OSError):
            yield from (item for item in self.path.iterdir() if self.takes(item))

    def takes(self, place: Path) -> bool:
        """Whether a file at ``place`` has a name that states have."""
        named = place.suffix.lower() in (".npz", ".part")
        return named and _identity(place.parent) == _identity(self.path)


@dataclass(frozen=True)
class SourceRead(FileRead):
    """A Python file whose function is called; it may import the modules beside it."""

    def takes(self, place: Path) -> bool:
        """Whether a file at ``place`` would be such a module."""
        named = place.suffix.lower() == ".py"
        return named and _identity(place.parent) == _identity(self.path.parent)


Read = FileRead | SamplesRead | CheckpointsRead | SourceRead


def samples_read(role: str, source: object) -> list[Read]:
    """What is read where samples come from ``source``; nothing for arrays and functions."""
    if not isinstance(source, str | Path):
        return []
    path = Path(source)
    if os.path.isdir(path):  # noqa: PTH112 - says no where pathlib raises: a name that is too long
        return [SamplesRead(role, path)]
    if is_reference(str(source)) and not os.path.exists(path):  # noqa: PTH110 - the same
        return function_file(role, str(source))
    return [FileRead(role, path)]


def function_file(role: str, reference: str) -> list[Read]:
    """The file of ``file.py:function`` or ``module:function``; nothing is imported."""
    place = reference.rpartition(":")[0]
    if place.endswith(".py"):
        return [SourceRead(role, Path(place))]
    folders: Sequence[str] | None = [os.fspath(Path.cwd()), *sys.path]
    spec = None
    for name in place.split("."):
        if folders is None:
            return []
        with suppress(ImportError, ValueError, OSError):
            spec = importlib.machinery.PathFinder.find_spec(name, folders)
        if spec is None:
            return []
        folders = spec.submodule_search_locations
    has_file = spec is not None and spec.has_location and spec.origin is not None
    return [SourceRead(role, Path(str(spec.origin)))] if spec is not None and has_file else []


def refuse_overlaps(reads: Sequence[Read], writes: Sequence[Written]) -> None:
    """Refuse a place that is read, or that two things will be written to.

    A folder of samples is walked only where a place is there already.

    Raises:
        UsageError: The two roles and their paths.
    """
    for index, place in enumerate(writes):
        for other in writes[:index]:
            _refuse_together(other, place)
    there = (place for place in writes if os.path.exists(place.path))  # noqa: PTH110 - see above
    taken = {_identity(place.path): place for place in there}
    for read in reads:
        for path in read.files() if taken else ():
            found = taken.get(_identity(path))
            if found is not None:
                raise UsageError(
                    f"{found.role} {found.path} is read by this run: it is {read.role} {path}; "
                    "give another name"
                )
    for read in reads:
        for place in writes:
            _refuse_new(read, place)


def _refuse_new(read: Read, place: Written) -> None:
    new = place.path / "state.npz" if place.folder else place.path
    own = isinstance(read, CheckpointsRead) and place.folder
    if not own and read.takes(new):
        raise UsageError(
            f"{place.role} {place.path} would be among the files of {read.role} {read.path}, "
            "whose folder is read by this run; give a place outside"
        )


def _refuse_together(one: Written, other: Written) -> None:
    same = _identity(one.path) == _identity(other.path)
    if same or _makes_folder_of(one, other) or _makes_folder_of(other, one):
        raise UsageError(
            f"{one.role} {one.path} and {other.role} {other.path} are one place: they need names "
            "of their own"
        )


def _makes_folder_of(folder: Written, file: Written) -> bool:
    """Whether making the folder would make one where the file is to go."""
    if not folder.folder or file.folder:
        return False
    try:
        return file.path.resolve() in folder.path.resolve().parents
    except (OSError, RuntimeError, ValueError):  # links in a circle: whoever writes there says it
        return False


def _is_sample(path: Path) -> bool:
    """Whether ``graphopt.data`` takes a file of this name out of a folder."""
    array = path.name == LABELS_FILE or array_files([str(path)])
    return bool(array or image_files([str(path)]))


def _identity(path: Path) -> _Identity:
    """Device and inode or, where nothing is, those of the folder and the name in lower case."""
    with suppress(OSError, ValueError):
        status = path.stat()
        return status.st_dev, status.st_ino
    with suppress(OSError, ValueError):
        status = path.parent.stat()
        return status.st_dev, status.st_ino, path.name.casefold()
    return (str(path.absolute()).casefold(),)
