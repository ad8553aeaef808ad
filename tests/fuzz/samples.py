"""Samples that do not fit, cannot be read, or never end, with a sound model."""

from __future__ import annotations

import os
import random
from collections.abc import Callable
from pathlib import Path

import onnx

from tests.fuzz.arrays import write_npy, write_npz
from tests.fuzz.case import Case, dice
from tests.fuzz.functions import FEEDS, HEAD, METRICS
from tests.fuzz.pictures import picture_options, write_pictures
from tests.fuzz.seeds import samples, seed_model

__all__ = ["make"]

Shapes = dict[str, tuple[int, ...]]
_FORMS: dict[str, tuple[str, ...]] = {
    "npy": ("mlp", "cnn", "bodies"),
    "npz": ("mlp", "cnn", "embedding", "no-layers", "fixed-batch"),
    "folder": ("mlp", "embedding", "bodies"),
    "pictures": ("cnn", "fixed-batch"),
    "function": ("mlp",),
    "metric": ("mlp",),
    "name": ("mlp",),
}
_OPTIMIZE = ("optimize", "m.onnx", "-o", "o.onnx")
_NAMES = (
    "", ".", "..", "/", "nothing", "m.onnx", "/dev/zero", "/dev/stdin", "pipe.npy", "loop.npz", "feeds.py:",
    ":samples", "feeds.py:nothing", "feeds.py:x", "feeds.py:HEAD", "nothing.py:samples", "broken.py:samples",
    "leaves.py:samples", "os:getcwd", "os:abort2", "sys:exit", "os.path:x", "a b:c", "..:x", "é:x", "\udcff",
    "x" * 5000, "feeds.py:samples:samples", "feeds.py:Odd", "feeds.py:np", "folder.npz", "builtins:input",
    "antigravity2:x", "feeds.py:__name__",
)  # fmt: skip


def make(number: int, folder: Path) -> Case:
    """Write a model and samples for it, of which something is odd."""
    rng = dice("samples", number)
    form = rng.choice(list(_FORMS))
    seed = rng.choice(_FORMS[form])
    model = seed_model(seed)
    onnx.save(model, folder / "m.onnx")
    shapes = {name: values.shape for name, values in samples(model, batches=2).items()}
    data, what, options = _WRITERS[form](folder, shapes, rng)
    command = _command(data, rng) if form != "metric" else [*_OPTIMIZE, "-p", "eliminate-dead"]
    return Case(arguments=(*command, *options), story=(seed, form, what), out="o.onnx")


def _command(data: str, rng: random.Random) -> list[str]:
    limit = rng.choice([[], [], ["--memory-limit", "500MB"]])
    match rng.randrange(6):
        case 0:
            return ["compare", "m.onnx", "m.onnx", "--data", data]
        case 1:
            return [*_OPTIMIZE, "-p", "eliminate-dead", "--eval", data, *limit]
        case 2:
            return [*_OPTIMIZE, "--preset", "int8-static", "--calib", data, *limit]
        case 3:
            return [*_OPTIMIZE, "--preset", "clean", "--calib", data, "--eval", data, *limit]
        case _:
            return [*_OPTIMIZE, "-p", "eliminate-dead", "--calib", data, *limit]


def _npy(folder: Path, shapes: Shapes, rng: random.Random) -> tuple[str, str, list[str]]:
    name = rng.choice(["calib.npy", "calib.npy", "calib.NPY", "calib.npz"])
    return name, write_npy(folder / name, next(iter(shapes.values())), rng), []


def _npz(folder: Path, shapes: Shapes, rng: random.Random) -> tuple[str, str, list[str]]:
    return "calib.npz", write_npz(folder / "calib.npz", shapes, rng), []


def _folder(folder: Path, shapes: Shapes, rng: random.Random) -> tuple[str, str, list[str]]:
    """Several files, an odd one among them, and what else lies about in folders."""
    place = folder / "calib"
    place.mkdir()
    calm = random.Random(3)
    for index in range(rng.choice([0, 1, 2, 2, 30])):
        write_npz(place / f"a{index}.npz", shapes, calm)
    story = [write_npz(place / "b.npz", shapes, rng)]
    if rng.random() < 0.3:
        story.append("labels " + write_npy(place / "labels.npy", (4,), rng))
    others: dict[str, Callable[[], object]] = {
        "a folder called c.npz": (place / "c.npz").mkdir,
        "a pipe": lambda: os.mkfifo(place / "c.npz"),
        "a device": lambda: (place / "c.npy").symlink_to("/dev/zero"),
        "a link to itself": lambda: (place / "c.npz").symlink_to("c.npz"),
        "a link to the folder": lambda: (place / "c").symlink_to("."),
        "no UTF-8": lambda: (place / os.fsdecode(b"\xff\xfe.npz")).write_bytes(b"junk"),
        "a npy": lambda: write_npy(place / "c.npy", next(iter(shapes.values())), rng),
        "a picture": lambda: (place / "c.png").write_bytes(b"junk"),
        "a line break": lambda: (place / "c\nd.npz").write_bytes(b"junk"),
        "empty files": lambda: _empty(place, 1000),
    }
    if rng.random() < 0.6:
        other = rng.choice(list(others))
        others[other]()
        story.append(other)
    return "calib", "; ".join(story), []


def _empty(folder: Path, count: int) -> None:
    for index in range(count):
        (folder / f"e{index}.npy").touch()


def _pictures(folder: Path, _: Shapes, rng: random.Random) -> tuple[str, str, list[str]]:
    return "pictures", write_pictures(folder / "pictures", rng), picture_options(rng)


def _function(folder: Path, _: Shapes, rng: random.Random) -> tuple[str, str, list[str]]:
    body = rng.choice(FEEDS)
    before = rng.choice(["", "", "", body]) if "yield" not in body and "return" not in body else ""
    text = f"{HEAD}\ndef samples():\n    {body}\n{before}\n"
    (folder / "feeds.py").write_text(text)
    return "feeds.py:samples", body + (" on import too" if before else ""), []


def _metric(folder: Path, _: Shapes, rng: random.Random) -> tuple[str, str, list[str]]:
    body = rng.choice(METRICS)
    text = f"{HEAD}\ndef samples():\n    yield {{'x': x, 'labels': [0, 1]}}\n"
    (folder / "judge.py").write_text(f"{text}def metric(outputs, labels):\n    {body}\n")
    drop = rng.choice(["0.1", "0", "1e9", "nan", "-1"])
    return (
        "judge.py:samples",
        body,
        ["--eval", "judge.py:samples", "--metric", "judge.py:metric", "--max-drop", drop],
    )


def _name(folder: Path, _: Shapes, rng: random.Random) -> tuple[str, str, list[str]]:
    """What is no DATA at all."""
    (folder / "feeds.py").write_text(HEAD)
    (folder / "broken.py").write_text("def samples(:\n")
    (folder / "leaves.py").write_text("import sys\nsys.exit(3)\n")
    (folder / "loop.npz").symlink_to("loop.npz")
    (folder / "folder.npz").mkdir()
    os.mkfifo(folder / "pipe.npy")
    name = rng.choice(_NAMES)
    return name, "a name", []


_WRITERS = {
    "npy": _npy,
    "npz": _npz,
    "folder": _folder,
    "pictures": _pictures,
    "function": _function,
    "metric": _metric,
    "name": _name,
}
