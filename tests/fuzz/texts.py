"""Recipes, pass specs and options as nobody should write them."""

from __future__ import annotations

import random
from functools import cache
from pathlib import Path

import numpy as np
import onnx

from graphopt.contract import presets, registry
from graphopt.options import option_fields
from tests.fuzz.case import Case, dice
from tests.fuzz.raw import change_bytes
from tests.fuzz.seeds import samples, seed_model

__all__ = ["make"]

_VALUES = (
    "0", "1", "-1", "0.5", "1e400", "-0.0", "nan", "inf", "-inf", "true", "false", "none", "null", '""', '"x"',
    '"*"', '"["', '"a\\"b"', '"unclosed', "x", "é", "\x00", "[]", "[1,2]", '["*", "?"]', "[[1]]", "{}", "{a=1}",
    "9" * 20, "9" * 5000, "1_000", "0x10", "1e308", "2147483648", "18446744073709551616", "int8", "uint8", "mse",
    "minmax", "Conv", "1.0e-320", "--", ",", "=", "}", "{", "\n", "\u202e", "*" * 200, "[" * 500, "(" * 3000,
)  # fmt: skip
_RECIPES = (
    'extends = "clean"\nmin_sqnr_db = 20.0\n',
    'extends = "int8-weights"\nseed = 3\ntarget = "host"\n[images]\nsize = "8x8"\nscale = 0.01\n',
    '[[passes]]\nname = "mask-weights"\nsparsity = 0.5\n[[passes]]\nname = "eliminate-dead"\n',
    '[[passes]]\nname = "quantize-weights"\nexclude = ["*1*"]\nmin_size = 16\n',
    'extends = "auto"\nmax_drop = 0.5\n',
)
_KEYS = (
    "extends", "target", "min_sqnr_db", "max_drop", "seed", "images", "passes", "name", "sparsity", "exclude",
    "min_size", "images.size", "passes.name", "other", '""', "a.b.c", '"\\u0000"', "'x'", "é",
)  # fmt: skip
_TOML = (
    "1979-05-27T07:32:00Z", "07:32:00", "0b1", "0o7", "'''x\ny'''", '"""x"""', "[1, 'a']", "{a = {b = {c = 1}}}",
    "[{name = 'eliminate-dead'}]", "{name = 'eliminate-dead'}", "1e5", "+1", "[" * 3000 + "]" * 3000,
    "{a=" * 2000 + "1" + "}" * 2000, "'" + "x" * 100_000 + "'", "[" + "1," * 100_000 + "]", "9" * 4500, "-" + "9" * 30,
)  # fmt: skip
_OPTIONS: dict[str, tuple[str, ...]] = {
    "--min-sqnr": ("20", "-1e400", "1e9"),
    "--max-drop": ("0.1",),
    "--target": ("host", "x86-vnni", "nowhere", "arm"),
    "--preset": ("clean", "int8-weights", "auto2", "../x"),
    "--memory-limit": ("2GB", "1", "0", "-1GB", "1e400GB", "9" * 30 + "TB", "1 QB", "GB", "0.1B", "5%"),
    "--threads": ("1", "1024", "1025", "-1", "99999999999999999999"),
    "--seed": ("0", "-1", "9" * 40, "1.5"),
    "--report": ("r.json", "r.html", "r.txt", "", "nowhere/r.json", "m.onnx", ".json", "r.json\n", "x" * 300 + ".json"),
    "-o": ("o.onnx", "", ".", "m.onnx", "nowhere/o.onnx", "o", "/dev/null", "/dev/full", "calib.npz", "é.onnx",
           "x" * 300, "a\nb.onnx", "\udcff.onnx", "-", "/proc/1/x"),
    "--metric": ("top1", "spearman", "other", "os:getcwd", ":", "m.onnx:x"),
    "--teacher": ("m.onnx", "nothing", "/dev/zero", "calib.npz"),
    "--checkpoints": ("ck", "m.onnx", ""),
    "--device": ("cpu", "cuda:99", "tpu", ""),
    "--recipe": ("r.toml", "nothing.toml", ".", "/dev/zero", "m.onnx"),
    "--strict": (),
    "--json": (),
    "-v": (),
    "--dry-run": (),
    "--no-such-option": (),
}  # fmt: skip


def make(number: int, folder: Path) -> Case:
    """Write a sound model and meet it with odd words."""
    rng = dice("texts", number)
    model = seed_model("mlp")
    onnx.save(model, folder / "m.onnx")
    np.savez(folder / "calib.npz", **samples(model, batches=2))  # type: ignore[arg-type]
    arguments = ["optimize", "m.onnx"]
    match rng.randrange(3):
        case 0:
            text, what = _recipe(rng)
            (folder / "r.toml").write_bytes(text)
            arguments += ["--recipe", "r.toml", "-o", "o.onnx", "--calib", "calib.npz"]
        case 1:
            what = _spec(rng)
            arguments += ["-o", "o.onnx", "--calib", "calib.npz", "-p", what]
        case _:
            arguments, what = _options(rng)
            (folder / "r.toml").write_text(_RECIPES[0])
    # What training was asked for may take its time: only words are on trial here.
    if any(word in f"{arguments} {what}" for word in _TRAINING) and "--dry-run" not in arguments:
        arguments.append("--dry-run")
    return Case(arguments=tuple(arguments), story=(what[:300],))


_TRAINING = ("distill", "finetune", "prune-it", "train-q", "correct-bias", "rounds", "epochs")


@cache
def _pass_options() -> dict[str, list[str]]:
    return {name: list(option_fields(registry.find(name))) for name in registry.names()}


def _spec(rng: random.Random) -> str:
    """Passes with options, in the main well formed; then perhaps a change of its letters."""
    parts = []
    for _ in range(rng.choice([1, 1, 2, 3])):
        name = rng.choice(sorted(_pass_options()))
        keys = [*_pass_options()[name], "other"]
        options = [
            f"{rng.choice(keys)}={rng.choice(_VALUES)}" for _ in range(rng.choice([0, 1, 1, 2]))
        ]
        parts.append(name + ("{" + ",".join(options) + "}" if options else ""))
    text = ",".join(parts)
    if rng.random() < 0.3:
        text = change_bytes(text.encode(), b"{a=[1]},", rng)[0].decode(errors="replace")
    if rng.random() < 0.05:
        text = rng.choice([text * 300, "{" * 5000, ",", "", " ", text + "," * 1000])
    return text.replace("\0", "") if rng.random() < 0.9 else text


def _recipe(rng: random.Random) -> tuple[bytes, str]:
    text = rng.choice(_RECIPES)
    story = []
    for _ in range(rng.choice([1, 1, 2])):
        lines = text.splitlines()
        index = rng.randrange(len(lines) + 1)
        line = f"{rng.choice(_KEYS)} = {rng.choice([*_TOML, *_VALUES])}"
        if rng.random() < 0.5 and index < len(lines) and "=" in lines[index]:
            line = f"{lines[index].split('=')[0]}= {rng.choice([*_TOML, *_VALUES])}"
            lines[index] = line
        else:
            lines.insert(index, line)
        story.append(line[:100])
        text = "\n".join(lines) + "\n"
    data = text.encode()
    if rng.random() < 0.3:
        data, what = change_bytes(data, rng.choice(_RECIPES).encode(), rng)
        story.append(what)
    if rng.random() < 0.05:
        data, what = rng.choice([
            (b"\xff\xfe" + data, "a mark of UTF-16"), (b"\xef\xbb\xbf" + data, "a mark of UTF-8"),
            (data + b"# " + b"x" * 2_000_000, "2 MB"), (data * 5000, "many times"), (b"", "empty"),
        ])  # fmt: skip
        story.append(what)
    return data, "; ".join(story)


def _options(rng: random.Random) -> tuple[list[str], str]:
    """Options of the command line, in any order, with a value of each that is odd."""
    command = rng.choice(
        ["optimize", "optimize", "optimize", "inspect", "compare", "bench", "passes"]
    )
    arguments = [command, *{"compare": ["m.onnx", "m.onnx"], "passes": []}.get(command, ["m.onnx"])]
    if command == "bench":
        arguments += [rng.choice(["--runs", "--threads", "--batch", "--data"]), rng.choice(_VALUES)]
        return arguments, "bench"
    if command == "optimize":
        spec = rng.choice([["-p", "eliminate-dead"], ["--preset", rng.choice(presets.names())], []])
        arguments += [*spec, "--calib", "calib.npz"]
    for name in rng.sample(sorted(_OPTIONS), rng.choice([1, 2, 3])):
        arguments.append(name)
        if _OPTIONS[name]:
            arguments.append(rng.choice([*_OPTIONS[name], rng.choice(_VALUES)]))
    return arguments, command
