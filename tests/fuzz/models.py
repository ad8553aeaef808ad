"""Mutants of small models, and the commands that they meet."""

from __future__ import annotations

import contextlib
import os
import random
from functools import cache
from pathlib import Path

import numpy as np
import onnx
from google.protobuf.message import Error

from graphopt.contract import registry
from tests.fuzz.case import Case, dice
from tests.fuzz.edits import EDITS
from tests.fuzz.fields import change_field, unclean
from tests.fuzz.raw import change_bytes
from tests.fuzz.seeds import SEEDS, externalize, samples, seed_model

__all__ = ["make"]

_SLOW = {"apply-function", "distill", "finetune", "prune-iteratively", "train-quantized"}
_DATA = "m.data"
_MODEL, _OUT, _FEEDS = "m.onnx", "o.onnx", "feeds.npz"


@cache
def _passes() -> list[str]:
    return [name for name in registry.names() if name not in _SLOW]


def make(number: int, folder: Path) -> Case:
    """Write the mutant of that number with its samples; every fiftieth is left as it is."""
    rng = dice("models", number)
    name = rng.choice(sorted(SEEDS))
    model = seed_model(name)
    story = [name]
    np.savez(folder / _FEEDS, **samples(model))  # type: ignore[arg-type] # names are inputs
    np.savez(folder / "calib.npz", **samples(model, batches=2))  # type: ignore[arg-type]
    onnx.save(model, folder / "seed.onnx")
    if rng.random() < 0.3:
        data = externalize(model, _DATA)
        story.append("external data")
        if data and rng.random() < 0.2:
            data, what = change_bytes(data, data, rng)
            story.append(f"data: {what}")
        (folder / _DATA).write_bytes(data)
        (folder / "link.data").symlink_to("/etc/hostname")
        os.mkfifo(folder / "pipe")
    sound = number % 50 == 0 and len(story) == 1
    serialized = model.SerializeToString() if sound else _mutated(model, story, rng)
    (folder / _MODEL).write_bytes(serialized)
    arguments, lossless = _command(name, rng)
    return Case(
        arguments=arguments,
        story=tuple(story),
        model=_MODEL,
        feeds=_FEEDS,
        out=_OUT if "-o" in arguments else None,
        lossless=lossless,
        sound=sound,
    )


def _mutated(model: onnx.ModelProto, story: list[str], rng: random.Random) -> bytes:
    """One to three changes, mostly of the structure; bytes come last."""
    raw = rng.random() < 0.2
    for _ in range(rng.choice([1, 1, 1, 2, 3]) - raw):
        # What it edits may be gone by a change before it, or nested too deep for protobuf.
        with contextlib.suppress(ValueError, IndexError, Error):
            change = change_field if rng.random() < 0.5 else rng.choice(EDITS)
            story.append(change(model, rng))
    serialized = unclean(model.SerializeToString())
    if raw:
        other = seed_model(rng.choice(sorted(SEEDS))).SerializeToString()
        serialized, what = change_bytes(serialized, other, rng)
        story.append(what)
    return serialized


def _command(seed: str, rng: random.Random) -> tuple[tuple[str, ...], bool]:
    """A command line, and whether it promises the same answers."""
    calib = ("--calib", "calib.npz") if rng.random() < 0.5 else ()
    optimize = ("optimize", _MODEL, "-o", _OUT)
    match rng.randrange(20):
        case 0:
            return ("inspect", _MODEL, "--no-passes"), False
        case 1 | 2:
            return ("inspect", _MODEL), False
        case 3:
            return ("compare", _MODEL, "seed.onnx", "--data", "calib.npz"), False
        case 4:
            return (*optimize, *calib), False
        case 5 | 6:
            return (*optimize, "--preset", "int8-static", "--calib", "calib.npz"), False
        case 7 | 8:
            preset = rng.choice(["int8-dynamic", "int8-weights"])
            return (*optimize, "--preset", preset, *calib), False
        case 9 | 10 | 11 | 12 | 13:
            return (*optimize, "--preset", "clean", *calib), True
        case _:
            chosen = ",".join(rng.sample(_passes(), rng.choice([1, 2, 3])))
            return (*optimize, "-p", chosen, *calib), False
