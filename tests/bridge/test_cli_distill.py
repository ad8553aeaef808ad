"""``graphopt distill`` as a real process: what it makes, and every bad input in one line."""

from __future__ import annotations

import json
import resource
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx.numpy_helper
import pytest

from graphopt.contract.recipe import METADATA_KEY
from graphopt.graph import io
from graphopt.rewrite.rename import rename_tensors

Run = Callable[..., subprocess.CompletedProcess[str]]

USAGE, INPUT, LIMIT, MACHINE = 2, 3, 4, 5
DIVERGING = "--optimizer sgd --soft mse --lr 60 --warmup 1 --steps 200 --evaluations 200 --batch 8"


@pytest.fixture
def pair(folder: Path) -> Path:
    """The folder with ``student.onnx``, the model with noise on its weights, and more data."""
    model = onnx.load(folder / "model.onnx")
    rng = np.random.default_rng(5)
    for tensor in model.graph.initializer:
        values = onnx.numpy_helper.to_array(tensor)
        noisy = (values + 0.5 * rng.standard_normal(values.shape)).astype(np.float32)
        tensor.CopyFrom(onnx.numpy_helper.from_array(noisy, tensor.name))
    onnx.save(model, folder / "student.onnx")
    pictures = rng.standard_normal((64, 3, 8, 8)).astype(np.float32)
    np.savez(folder / "train.npz", image=pictures)
    for name, labels in (("good", 64), ("half", 32), ("odd", 63)):
        np.savez(folder / f"{name}.npz", image=pictures, labels=np.arange(labels) % 10)
    np.savez(folder / "classes.npz", image=pictures, labels=np.arange(64))
    np.savez(folder / "one.npz", image=pictures[:1])
    return folder


def distill(run: Run, arguments: str, **options: Any) -> subprocess.CompletedProcess[str]:
    """Runs it with the usual student and teacher unless others are named."""
    named = [] if "--teacher" in arguments else ["--teacher", "model.onnx"]
    return run("distill", "student.onnx", *named, *arguments.split(), **options)


def test_the_student_comes_closer_and_the_report_says_by_how_much(run: Run, pair: Path) -> None:
    before = {path: path.read_bytes() for path in pair.glob("*.onnx")}
    result = distill(run, "--data train.npz --steps 30 --eval eval.npz --report r.json --json")
    assert (result.returncode, result.stderr) == (0, "")
    report = json.loads(result.stdout)
    assert json.loads((pair / "r.json").read_text(encoding="utf-8")) == report
    assert all(path.read_bytes() == data for path, data in before.items())
    assert report["input"]["path"] == "model.onnx"
    assert report["start"]["model"]["path"] == "student.onnx"
    assert report["output"]["path"] == "student.distilled.onnx"
    assert report["quality"]["source"] == "eval"
    assert report["quality"]["metric"]["name"] == "top1"
    assert report["quality"]["sqnr_db"]["scores"] > report["start"]["quality"]["sqnr_db"]["scores"]
    curves = report["passes"][0]["curves"]
    assert curves["best_step"] > 0
    assert dict(curves["held_out_loss"])[curves["best_step"]] < curves["held_out_loss"][0][1]


def test_the_recipe_in_the_output_repeats_the_run(run: Run, pair: Path) -> None:
    assert distill(run, "--data train.npz --steps 10 --lr 0.01 -o a.onnx").returncode == 0
    recipe = {item.key: item.value for item in onnx.load(pair / "a.onnx").metadata_props}
    assert "steps = 10" in recipe[METADATA_KEY]
    (pair / "r.toml").write_text(recipe[METADATA_KEY], encoding="utf-8")
    again = "student.onnx --recipe r.toml --train train.npz --teacher model.onnx -o b.onnx"
    assert run("optimize", *again.split()).returncode == 0
    assert (pair / "a.onnx").read_bytes() == (pair / "b.onnx").read_bytes()


def test_a_teacher_with_other_names_teaches_the_same(run: Run, pair: Path) -> None:
    teacher = io.load(pair / "model.onnx")
    rename_tensors(teacher, {"image": "picture", "scores": "conv", "conv": "image"})
    io.save(teacher, pair / "other.onnx")
    for name in ("model", "other"):
        arguments = f"--teacher {name}.onnx --data train.npz --steps 5 -o by-{name}.onnx"
        assert distill(run, arguments).returncode == 0
    assert (pair / "by-model.onnx").read_bytes() == (pair / "by-other.onnx").read_bytes()


def test_labels_are_learned_from_where_asked(run: Run, pair: Path) -> None:
    result = distill(run, "--data good.npz --labels --steps 5 --json")
    assert (result.returncode, result.stderr) == (0, "")
    report = json.loads(result.stdout)
    assert report["command"] == "distill{steps=5,alpha=1.0}"
    assert report["passes"][0]["curves"]["metric"].startswith("accuracy")


def test_evaluations_are_told_with_v(run: Run, pair: Path) -> None:
    result = distill(run, "--data train.npz --steps 5 --evaluations 5 -v")
    assert result.returncode == 0
    assert result.stderr.count("held-out loss") == 6
    assert "trained" in result.stdout


def test_what_training_does_not_help_is_kept_untrained(run: Run, pair: Path) -> None:
    result = distill(
        run, "--data train.npz --steps 10 --optimizer sgd --lr 3 --soft kl -o out.onnx"
    )
    assert (result.returncode, result.stderr) == (0, "")
    assert "no step was better on the held-out samples; kept untrained" in result.stdout
    assert onnx.load(pair / "out.onnx") == onnx.load(pair / "student.onnx")


def test_of_a_diverging_training_the_best_is_kept_and_the_code_is_4(run: Run, pair: Path) -> None:
    result = distill(run, f"--data train.npz {DIVERGING} -o out.onnx --json")
    assert result.returncode == LIMIT
    assert result.stderr.startswith("graphopt: error: distill: the loss is not finite at step ")
    assert "the output has the weights of step " in result.stderr
    assert result.stderr.count("\n") == 1
    curves = json.loads(result.stdout)["passes"][0]["curves"]
    assert curves["diverged"]
    assert 0 < curves["best_step"] < 200
    assert (pair / "out.onnx").exists()


@dataclass(frozen=True)
class Case:
    """What is typed, and what must come back in one line."""

    name: str
    code: int
    words: str
    arguments: str


CASES = [
    Case("no-labels", INPUT, "the training data has none; add an", "--data train.npz --labels"),
    Case("half-labels", INPUT, "32 labels for 64 samples", "--data half.npz --labels"),
    Case("odd-labels", INPUT, "odd.npz: 63 labels for 64 samples", "--data odd.npz --labels"),
    Case(
        "classes",
        INPUT,
        "from 0 to 63 fit no output",
        "--data classes.npz --labels",
    ),
    Case("alpha", USAGE, "alpha=0 gives them no weight", "--data good.npz --labels --alpha 0"),
    Case("nothing", LIMIT, "leave nothing to train by", "--data train.npz --beta 0"),
    Case("too-small", LIMIT, "too few to hold out", "--data one.npz --steps 5"),
    Case("no-data", INPUT, "no.npz: no such file", "--data no.npz"),
    Case("no-teacher", INPUT, "no.onnx: no such file", "--teacher no.onnx --data train.npz"),
    Case("itself", LIMIT, "its own teacher", "--teacher student.onnx --data train.npz"),
    Case("both", USAGE, "epochs or steps, not both", "--data train.npz --steps 5 --epochs 1"),
    Case("unknown-device", USAGE, "device 'tpu'", "--data train.npz --device tpu"),
    Case("no-such-gpu", USAGE, "device 'cuda:99'", "--data train.npz --device cuda:99"),
    Case("bounds", USAGE, "option lr=-1.0 is out of bounds", "--data train.npz --lr -1"),
    Case("number", USAGE, "--lr", "--data train.npz --lr fast"),
    Case("choice", USAGE, "--soft", "--data train.npz --soft hard"),
    Case("feature", USAGE, "'inner'", "--data train.npz --features inner"),
    Case("pattern", USAGE, "*conv9*", "--data train.npz --nodes *conv9*"),
    Case(
        "checkpoints",
        USAGE,
        "the checkpoints train.npz is read by this run",
        "--data train.npz --checkpoints train.npz",
    ),
    Case("no-folder", MACHINE, "checkpoints one.npz: ", "--data train.npz --checkpoints one.npz"),
    Case("out-is-teacher", USAGE, "is read by this run", "--data train.npz -o model.onnx"),
    Case("out-is-data", USAGE, "is read by this run", "--data train.npz -o train.npz"),
    Case("diverges", LIMIT, "not finite at step 2 of 20", "--data train.npz --lr 1e30 --steps 20"),
]


def refused(run: Run, pair: Path, case: Case, **options: Any) -> None:
    before = {path.name: path.read_bytes() for path in pair.iterdir() if path.is_file()}
    result = distill(run, case.arguments, **options)
    assert result.returncode == case.code, result.stderr
    assert result.stderr.startswith("graphopt: error: ")
    assert result.stderr.count("\n") == 1
    assert case.words in result.stderr
    assert result.stdout == ""
    assert {p.name: p.read_bytes() for p in pair.iterdir() if p.is_file()} == before


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_bad_input(run: Run, pair: Path, case: Case) -> None:
    refused(run, pair, case)


def test_a_teacher_with_other_outputs(run: Run, pair: Path) -> None:
    model = onnx.load(pair / "model.onnx")
    model.graph.output[0].type.tensor_type.shape.dim[1].dim_value = 100
    onnx.save(model, pair / "hundred.onnx")
    words = (
        "student and teacher differ in their outputs: 'scores' float[?, 10] of the student, "
        "'scores' float[?, 100] of the teacher"
    )
    refused(run, pair, Case("", INPUT, words, "--teacher hundred.onnx --data train.npz"))
    result = run(
        *("optimize", "student.onnx", "-p", "distill", "--train", "train.npz"),
        *("--teacher", "hundred.onnx"),
    )
    assert (result.returncode, result.stdout) == (INPUT, "")
    assert words in result.stderr


def test_a_full_disk_during_a_checkpoint(run: Run, pair: Path) -> None:
    """A limit on the size of files stands for the disk; only the checkpoint is larger than it."""

    def limited() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (13_000, 13_000))

    arguments = "--data calib.npz --held-out 0.2 --steps 10 --checkpoints kept"
    case = Case("full", MACHINE, "cannot be written", arguments)
    refused(run, pair, case, preexec_fn=limited)
    assert list((pair / "kept").iterdir()) == []


def test_a_finished_run_is_taken_up_from_its_checkpoint(run: Run, pair: Path) -> None:
    arguments = "--data train.npz --steps 10 --checkpoints kept --json -o"
    first, second = (distill(run, f"{arguments} {name}.onnx") for name in "ab")
    assert (first.returncode, second.returncode) == (0, 0)
    assert json.loads(second.stdout)["passes"][0]["curves"]["resumed"] == 10
    assert (pair / "a.onnx").read_bytes() == (pair / "b.onnx").read_bytes()
