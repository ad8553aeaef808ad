"""A save that is killed, or refused by the disk, at any moment: OUT is old whole or new whole."""

from __future__ import annotations

import errno
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

SCRIPT = Path(__file__).with_name("commit_faults.py")
DONE, REFUSED, KILLED, PAST = 0, 5, 9, 99
OUT = "out.onnx"

needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="forks a process for each call")


def write(path: Path, number: int, *, external: bool) -> None:
    """A model whose producer and whose weights all say ``number``."""
    weights = [
        numpy_helper.from_array(np.full((64, 64), number, np.float32), f"w{i}") for i in "ab"
    ]
    nodes = [
        helper.make_node("MatMul", ["x", "wa"], ["z"]),
        helper.make_node("MatMul", ["z", "wb"], ["y"]),
    ]
    inputs, outputs = ([helper.make_tensor_value_info(n, 1, ["b", 64])] for n in "xy")
    graph = helper.make_graph(nodes, "g", inputs, outputs, weights)
    model = helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8, producer_name=str(number)
    )
    path.parent.mkdir(exist_ok=True)
    onnx.save_model(
        model, path, save_as_external_data=external, location=f"{path.name}.data", size_threshold=0
    )


def standing(folder: Path) -> int | None:
    """The number of the model at OUT, all of whose weights say the same; None without."""
    if not (folder / OUT).exists():
        return None
    model = onnx.load(folder / OUT)
    number = int(model.producer_name)
    for weight in model.graph.initializer:
        np.testing.assert_array_equal(numpy_helper.to_array(weight), np.float32(number))
    return number


def names(folder: Path) -> set[str]:
    return {item.name for item in folder.iterdir()}


def visible(folder: Path) -> set[str]:
    return {name for name in names(folder) if not name.startswith(".")}


FORMS = pytest.mark.parametrize("form", ["inline", "external"])
OLDS = pytest.mark.parametrize("old", [None, "inline", "external"])


@pytest.fixture
def folder(tmp_path: Path, form: str, old: str | None) -> Path:
    """Where OUT is to be written; the new model is beside it, in ``new``."""
    write(tmp_path / "new" / "new.onnx", 2, external=form == "external")
    folder = tmp_path / "out"
    folder.mkdir()
    if old is not None:
        write(folder / OUT, 1, external=old == "external")
    return folder


def saved(folder: Path, kind: str) -> Iterator[tuple[int, Path]]:
    """Exit code and folder of a save for each call that can be struck, and for one more."""
    call = [
        sys.executable,
        str(SCRIPT),
        str(folder.parent / "new" / "new.onnx"),
        str(folder),
        OUT,
        kind,
    ]
    done = subprocess.run(call, stdout=subprocess.PIPE, check=True, timeout=120)
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert lines[-1][0] == PAST
    for code, place in lines:
        yield code, Path(place)


def check_end(folder: Path, form: str) -> None:
    """What is there after a save that nothing disturbed: the new model alone."""
    assert standing(folder) == 2
    data = names(folder) - {OUT}
    assert len(data) == (form == "external")
    assert all(re.fullmatch(r"out\.onnx(\.[0-9a-f]{8})?\.data", name) for name in data)


@needs_fork
@FORMS
@OLDS
def test_killed_at_each_call(folder: Path, form: str, old: str | None) -> None:
    before = None if old is None else 1
    *struck, (_, last) = saved(folder, "kill")
    assert {code for code, _ in struck} == {KILLED}
    assert len(struck) >= (18 if form == "external" else 8)
    numbers = [standing(place) for _, place in struck]
    switch = numbers.index(2)  # the calls behind the switch: the folder is synced
    assert numbers == [before] * switch + [2] * (len(numbers) - switch)
    if before is not None:
        assert all(visible(place) >= visible(folder) for _, place in struck[:switch])
    check_end(last, form)


@needs_fork
@FORMS
@OLDS
def test_refused_at_each_call(folder: Path, form: str, old: str | None) -> None:
    before = None if old is None else 1
    *struck, (_, last) = saved(folder, str(errno.EIO if old else errno.ENOSPC))
    assert {code for code, _ in struck} == {DONE, REFUSED}
    for code, place in struck:
        if code == REFUSED:
            assert standing(place) == before
            assert names(place) == names(folder)
        else:  # what the old model had is looked at before, and removed after, as far as it goes
            assert standing(place) == 2
            assert visible(place) == names(place)
    check_end(last, form)


@pytest.mark.skipif(shutil.which("strace") is None, reason="needs strace")
@pytest.mark.parametrize(("form", "old"), [("external", "external"), ("inline", None)])
def test_killed_by_the_kernel_at_each_change_of_the_disk(
    folder: Path, form: str, old: str | None, tmp_path: Path
) -> None:
    """The seam sees what Python calls; this sees what the kernel does, with nothing in between."""
    code = (
        "import sys; from pathlib import Path; from graphopt.graph import io;"
        f"g = io.load({str(tmp_path / 'new' / 'new.onnx')!r}); io.save(g, Path(sys.argv[1]))"
    )
    changing = "fsync,rename,renameat2,unlink,unlinkat"
    number, numbers = 0, list[int | None]()
    while True:
        number += 1
        copy = tmp_path / f"copy{number}"
        shutil.copytree(folder, copy)
        call = ["strace", "-f", "-o", os.devnull, "-e", f"trace={changing}"]
        call += ["-e", f"inject={changing}:signal=KILL:when={number}"]
        done = subprocess.run(
            [*call, sys.executable, "-c", code, str(copy / OUT)],
            check=False,
            timeout=60,
            stderr=subprocess.PIPE,
        )
        if number == 1 and b"ptrace" in done.stderr:
            pytest.skip("tracing is not permitted here")
        if done.returncode == 0:
            break
        numbers.append(standing(copy))
    before = None if old is None else 1
    assert numbers == [before] * numbers.count(before) + [2] * numbers.count(2)
    assert numbers.count(2) >= 1
    check_end(copy, form)
