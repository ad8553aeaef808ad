"""Every bad input through a real process: exit code, one line, nothing written, input untouched."""

from __future__ import annotations

import hashlib
import os
import resource
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

Run = Callable[..., subprocess.CompletedProcess[str]]

USAGE, INPUT, MACHINE = 2, 3, 5


def nothing(_: Path) -> None:
    """Leave the folder as it is."""


@dataclass(frozen=True)
class Case:
    """What is wrong, what is typed, and what must come back."""

    name: str
    code: int
    words: str
    arguments: str = "-p quantize-static --calib calib.npz"
    prepare: Callable[[Path], object] = nothing


def model_of(change: Callable[[bytes], bytes]) -> Callable[[Path], None]:
    def prepare(folder: Path) -> None:
        path = folder / "model.onnx"
        path.write_bytes(change(path.read_bytes()))

    return prepare


def external(location: str) -> Callable[[Path], None]:
    """The model with its first weight said to be in another file."""

    def prepare(folder: Path) -> None:
        model = onnx.load(folder / "model.onnx")
        tensor = model.graph.initializer[0]
        tensor.ClearField("raw_data")
        tensor.data_location = onnx.TensorProto.EXTERNAL
        tensor.external_data.add(key="location", value=location)
        (folder / "model.onnx").write_bytes(model.SerializeToString())

    return prepare


Pictures = np.ndarray[Any, np.dtype[Any]]


def data(**arrays: Callable[[Pictures], Any]) -> Callable[[Path], None]:
    """Other arrays in ``calib.npz``, made from the good one."""

    def prepare(folder: Path) -> None:
        with np.load(folder / "calib.npz") as archive:
            good = archive["image"]
        made: dict[str, Any] = {name: make(good.copy()) for name, make in arrays.items()}
        np.savez(folder / "calib.npz", **made)

    return prepare


def same(good: Pictures) -> Pictures:
    return good


def with_nan(good: Pictures) -> Pictures:
    good[7, 0, 0, 0] = np.nan
    return good


MODELS = [
    Case(
        "missing", INPUT, "model.onnx: no such file", prepare=lambda f: (f / "model.onnx").unlink()
    ),
    Case("no-onnx", INPUT, "model.onnx", prepare=model_of(lambda _: b"hello world\n" * 50)),
    Case("truncated", INPUT, "model.onnx", prepare=model_of(lambda data: data[: len(data) // 2])),
    Case("empty", INPUT, "model.onnx", prepare=model_of(lambda _: b"")),
    Case("no-external", INPUT, "'w.bin' is missing", prepare=external("w.bin")),
    Case("escaping", INPUT, "leaves the model's folder", prepare=external("../w.bin")),
    Case("absolute", INPUT, "leaves the model's folder", prepare=external("/etc/passwd")),
]

DATA = [
    Case("no-file", INPUT, "no.npz: no such file", "-p quantize-static --calib no.npz"),
    Case("no-folder", INPUT, "no such file or folder", "-p quantize-static --calib no"),
    Case("name", INPUT, "did you mean 'image'?", prepare=data(imgae=same)),
    Case("extra", INPUT, "'other' is no input", prepare=data(image=same, other=same)),
    Case("rank", INPUT, "'image' has shape [16, 3, 8]", prepare=data(image=lambda x: x[..., 0])),
    Case("shape", INPUT, "[16, 3, 8, 7]", prepare=data(image=lambda x: x[..., :7])),
    Case("dtype", INPUT, "holds int64", prepare=data(image=lambda x: x.astype(np.int64))),
    Case("nan", INPUT, "sample 7 of 'image' holds NaN", prepare=data(image=with_nan)),
    Case("empty-array", INPUT, "empty", prepare=data(image=lambda x: x[:0])),
    Case("pickled", INPUT, "pickled", prepare=data(image=lambda x: x.astype(object))),
    Case("junk", INPUT, "cannot be read", prepare=lambda f: (f / "calib.npz").write_bytes(b"junk")),
    Case("void", INPUT, "cannot be read", prepare=lambda f: (f / "calib.npz").write_bytes(b"")),
    Case("eval", INPUT, "no.npz: no such file", "-p fuse-batchnorm --eval no.npz"),
    Case("no-labels", INPUT, "'labels'", "-p fuse-batchnorm --eval calib.npz --metric top1"),
    Case("function", USAGE, "no function 'feed'", "-p quantize-static --calib math:feed"),
]

WORDS = [
    Case("pass", USAGE, "did you mean 'fuse-batchnorm'?", "-p fuse-batchnrm"),
    Case("option", USAGE, "did you mean 'per_channel'?", "-p quantize-static{per_chanel=true}"),
    Case("value", USAGE, "column", "-p quantize-static{per_channel=maybe}"),
    Case("spec", USAGE, "column", "-p quantize-static{"),
    Case("pattern", USAGE, "no node; nearest:", "-p eliminate-dead,mask-weights{nodes=Gemmm}"),
    Case("preset", USAGE, "known: auto", "--preset quickly"),
    Case("target", USAGE, "x86-avx2", "-p fuse-batchnorm --target x86-axv2"),
    Case("metric", USAGE, "top1", "-p fuse-batchnorm --eval eval.npz --metric top2"),
    Case("recipe", USAGE, "no.toml", "--recipe no.toml"),
    Case("two-plans", USAGE, "give one of passes", "-p fuse-batchnorm --preset auto"),
    Case("flag", USAGE, "--preset", "--presset auto"),
    Case("number", USAGE, "not a finite number", "-p fuse-batchnorm --min-sqnr nan"),
    Case("size", USAGE, "is not a size", "-p fuse-batchnorm --memory-limit much"),
    Case("threads", USAGE, "--threads", "-p fuse-batchnorm --threads -1"),
]


def write_samples(folder: Path) -> None:
    folder.mkdir()
    np.save(folder / "a.npy", np.ones((4, 3), np.float32))


def write_recipe(folder: Path) -> None:
    (folder / "recipe.toml").write_text('[[passes]]\nname = "fuse-batchnorm"\n')
    (folder / "r.json").symlink_to("recipe.toml")


PLACES = [
    Case("no-out-folder", MACHINE, "there is no folder no", "-p fuse-batchnorm -o no/out.onnx"),
    Case("out-in-file", MACHINE, "cannot write", "-p fuse-batchnorm -o calib.npz/out.onnx"),
    Case("out-folder", USAGE, "is a folder", "-p fuse-batchnorm -o ."),
    Case("out-is-model", USAGE, "is read by this run", "-p fuse-batchnorm -o ../FOLDER/model.onnx"),
    Case(
        "out-is-link",
        USAGE,
        "is read by this run",
        "-p fuse-batchnorm -o link.onnx",
        lambda f: (f / "link.onnx").symlink_to("model.onnx"),
    ),
    Case(
        "out-is-hard-link",
        USAGE,
        "is read by this run",
        "-p fuse-batchnorm -o link.onnx",
        lambda f: (f / "link.onnx").hardlink_to(f / "model.onnx"),
    ),
    Case(
        "out-is-data",
        USAGE,
        "is read by this run",
        "-p fuse-batchnorm --calib calib.npz -o calib.npz",
    ),
    Case(
        "out-is-a-sample",
        USAGE,
        "the output calib/a.npy is read by this run: it is the calibration data calib/a.npy",
        "-p fuse-batchnorm --calib calib -o calib/a.npy",
        lambda f: write_samples(f / "calib"),
    ),
    Case(
        "out-is-a-function's-file",
        USAGE,
        "the output feeds.py is read by this run: it is the calibration data feeds.py",
        "-p fuse-batchnorm --calib feeds.py:samples -o feeds.py",
        lambda f: (f / "feeds.py").write_text("raise SystemExit"),
    ),
    Case(
        "report-is-a-recipe",
        USAGE,
        "the report r.json is read by this run: it is the recipe recipe.toml",
        "--recipe recipe.toml --report r.json",
        write_recipe,
    ),
    Case(
        "report-is-model", USAGE, "name it .json or .html", "-p fuse-batchnorm --report model.onnx"
    ),
    Case(
        "report-is-out", USAGE, "names of their own", "-p fuse-batchnorm -o o.json --report o.json"
    ),
    Case("report-form", USAGE, "name it .json or .html", "-p fuse-batchnorm --report o.txt"),
    Case("report-folder", MACHINE, "no folder no", "-p fuse-batchnorm --report no/o.json"),
]


def contents(folder: Path) -> dict[str, str]:
    """Hash of each file below a folder, hidden ones included."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in folder.rglob("*")
        if path.is_file()
    }


def refuse(run: Run, folder: Path, case: Case, **options: Any) -> None:
    case.prepare(folder)
    before = contents(folder)
    result = run(
        "optimize", "model.onnx", *case.arguments.replace("FOLDER", folder.name).split(), **options
    )
    assert result.returncode == case.code, result.stderr
    assert result.stderr.startswith("graphopt: error: ")
    assert result.stderr.count("\n") == 1
    assert case.words in result.stderr
    assert result.stdout == ""
    assert contents(folder) == before


@pytest.mark.parametrize("case", [*MODELS, *DATA, *WORDS, *PLACES], ids=lambda case: case.name)
def test_bad_input(run: Run, folder: Path, case: Case) -> None:
    refuse(run, folder, case)


def test_folder_that_cannot_be_written(run: Run, folder: Path) -> None:
    closed = folder / "closed"
    closed.mkdir(mode=0o555)
    if os.access(closed, os.W_OK):  # as root, which no mode stops; /sys takes no files from anybody
        closed = Path("/sys")
        if not closed.is_dir():
            pytest.skip("root can write everywhere here")
    case = Case("closed", MACHINE, "cannot write", f"-p fuse-batchnorm -o {closed}/out.onnx")
    refuse(run, folder, case)


@pytest.mark.parametrize("arguments", ["-o out.onnx", "-o out.onnx --report out.json --json"])
def test_full_disk(run: Run, folder: Path, arguments: str) -> None:
    """A limit on the size of files stands for the disk: it fails at the same call."""

    def limited() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))

    case = Case("full", MACHINE, "out.onnx", f"-p fuse-batchnorm {arguments}")
    refuse(run, folder, case, preexec_fn=limited)


def test_full_disk_keeps_the_output_of_an_earlier_run(run: Run, folder: Path) -> None:
    (folder / "out.onnx").write_bytes(b"earlier")
    test_full_disk(run, folder, "-o out.onnx")
    assert (folder / "out.onnx").read_bytes() == b"earlier"


@pytest.mark.parametrize("command", ["inspect", "bench", "compare"])
def test_other_commands_refuse_a_bad_model_in_one_line(
    run: Run, folder: Path, command: str
) -> None:
    (folder / "bad.onnx").write_bytes(b"hello world\n")
    models = ["bad.onnx", "model.onnx"] if command == "compare" else ["bad.onnx"]
    result = run(command, *models)
    assert (result.returncode, result.stdout) == (INPUT, "")
    assert result.stderr.startswith("graphopt: error: bad.onnx")
    assert result.stderr.count("\n") == 1


def test_line_breaks_and_terminal_codes_of_names_stay_out_of_the_line(
    run: Run, folder: Path
) -> None:
    data(**{"a\nb\x1b[31m": same})(folder)
    result = run("optimize", "model.onnx", "--calib", "calib.npz")
    assert result.returncode == INPUT
    assert result.stderr.count("\n") == 1
    assert "\x1b" not in result.stderr
