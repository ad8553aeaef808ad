"""Functions of the user's that raise, leave, print or hand out nonsense: one line, clean stdout."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from graphopt.cli.app import main

FUNCTIONS = """
import os
import sys
from collections.abc import Mapping

import numpy as np

x = np.ones((2, 3, 8, 8), np.float32)


class Own(BaseException):
    pass


class Unsayable(Exception):
    def __str__(self):
        raise ValueError("no words")


class Odd:
    def __array__(self, *args, **options):
        raise ZeroDivisionError("in __array__")


class Text(str):
    def __eq__(self, other):
        raise ValueError("not comparable")

    def __hash__(self):
        return 0


class Map(Mapping):
    def __getitem__(self, key):
        raise ZeroDivisionError("in the mapping")

    def __iter__(self):
        return iter(["image"])

    def __len__(self):
        return 1


class Endless(Map):
    count = 0

    def __getitem__(self, key):
        return x

    def __iter__(self):
        while True:
            self.count += 1
            yield f"image{self.count}"


def raising(error):
    def function(*_):
        raise error

    return function


def yielding(*items):
    return lambda: iter(items)


def returning(value):
    return lambda *_: value


interrupt = raising(KeyboardInterrupt("mine"))
closes = raising(GeneratorExit())
leaves = raising(SystemExit(7))
own = raising(Own("hello"))
unsayable = raising(Unsayable())
long = raising(ValueError("a" * 100_000))
memory = raising(MemoryError("Unable to allocate 7 TB"))
stops = raising(StopIteration())
recursive = lambda: recursive()
own_text = yielding({Text("imagé"): x})
objects = yielding({"image": np.broadcast_to(np.array("a", object), (2**40,))})
strided = yielding({"image": np.broadcast_to(np.float32(1), (2**33, 3, 8, 8))})
int_keys = yielding({1: x})
object_keys = yielding({object(): x})
no_keys = yielding({})
endless_keys = yielding(Endless())
array_raises = yielding({"image": Odd()})
mapping_raises = yielding(Map())
text = returning("hello")
nothing = returning(None)
number = yielding(3)
huge_int = yielding({"image": [10**400]})
ragged = yielding({"image": [[1.0], [1.0, 2.0]]})
complex_values = yielding({"image": x.astype(complex)})
dates = yielding({"image": np.zeros((2, 3, 8, 8), "M8[s]")})
texts = yielding({"image": np.full((2, 3, 8, 8), "a")})
records = yielding({"image": np.zeros((2, 3, 8, 8), [("a", "f4")])})
class_itself = int
not_a_number = returning(float("nan"))
infinite = returning(float("inf"))
digits = returning("0.5")
many = returning(list(range(100_000)))
imaginary = returning(1j)
several = returning(np.ones(3))


def prints():
    print("from python")
    os.write(1, b"from below\\n")
    sys.__stdout__.write("from the stream itself\\n")
    yield {"image": x}


def changes_its_mind(state=[]):
    state.append(1)
    yield {"image": x if len(state) == 1 else x[:, :2]}


def metric(outputs, labels):
    print("measuring")
    return float(len(labels))
"""

FEEDS = [
    ("interrupt", "it raised KeyboardInterrupt: mine"),
    ("closes", "it raised GeneratorExit"),
    ("leaves", "it raised SystemExit: 7"),
    ("own", "it raised Own: hello"),
    ("unsayable", "it raised Unsayable"),
    ("long", "aaaa ..."),
    ("memory", "it raised MemoryError: Unable to allocate 7 TB"),
    ("stops", "it raised StopIteration"),
    ("recursive", "it raised RecursionError: maximum recursion depth exceeded"),
    ("own_text", "feed 0: 'imagé' is no input of the model"),
    ("objects", "holds 1099511627776 Python objects"),
    ("strided", "more than 10,000,000 samples"),
    ("int_keys", "feed 0: 1 is no name of an input"),
    ("object_keys", "feed 0: a object is no name of an input"),
    ("no_keys", "feed 0: no array 'image'"),
    ("endless_keys", "feed 0: more than 10,000 arrays"),
    ("array_raises", "feed 0: it raised ZeroDivisionError: in __array__"),
    ("mapping_raises", "feed 0: it raised ZeroDivisionError: in the mapping"),
    ("text", "feed 0: 'image' has shape []"),
    ("nothing", "it returned NoneType where feeds must be"),
    ("number", "feed 0: 'image' has shape []"),
    ("huge_int", "holds Python objects"),
    ("ragged", "'image' is no array"),
    ("complex_values", "'image' holds complex128"),
    ("dates", "'image' holds datetime64"),
    ("texts", "'image' holds str"),
    ("records", "holds Python objects"),
    ("class_itself", "it returned int where feeds must be"),
    ("changes_its_mind", "feed 0: 'image' has shape [2, 2, 8, 8]"),
]
METRICS = [
    ("interrupt", "KeyboardInterrupt: mine"),
    ("leaves", "SystemExit: 7"),
    ("not_a_number", "it returned nan"),
    ("infinite", "it returned inf"),
    ("digits", "it returned str where a number must be"),
    ("nothing", "TypeError: float() argument must be"),
    ("many", "TypeError: float() argument must be"),
    ("imaginary", "TypeError: float() argument must be"),
    ("several", "TypeError: only 0-dimensional arrays can be converted"),
]
MODULES = [
    ("import sys; sys.exit(3)", "cannot be imported: SystemExit: 3"),
    ("raise KeyboardInterrupt", "cannot be imported: KeyboardInterrupt"),
    ("import nowhere_at_all", "cannot be imported: ModuleNotFoundError"),
    ("def f(:", "cannot be imported: SyntaxError"),
    ("f = '" + "\\0" + "'\n\0", "cannot be imported:"),
    ("import sys; sys.path.clear(); 1 / 0", "cannot be imported: ZeroDivisionError"),
]

Typed = Callable[..., tuple[int, str, str]]


@pytest.fixture
def typed(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> Iterator[Typed]:
    """Runs the command line in this process and hands back exit code, stdout and stderr."""
    monkeypatch.chdir(folder)
    (folder / "own.py").write_text(FUNCTIONS)
    old = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    hook = sys.unraisablehook
    path = list(sys.path)

    def runs(*arguments: str) -> tuple[int, str, str]:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        code = main(["optimize", "model.onnx", "-o", "out.onnx", *arguments])
        return code, *capfd.readouterr()

    yield runs
    sys.path[:] = path
    sys.unraisablehook = hook
    for number, handler in old.items():
        signal.signal(number, handler)


def one_line(text: str) -> str:
    assert len(text) < 2000
    (line,) = text.splitlines()
    assert line.startswith("graphopt: error: ")
    return line


@pytest.mark.parametrize(("name", "words"), FEEDS)
def test_feeds(typed: Typed, folder: Path, name: str, words: str) -> None:
    code, out, err = typed("-p", "eliminate-dead", "--calib", f"own.py:{name}")
    line = one_line(err)
    assert (code, out) == (3, "")
    assert f"own.py:{name}" in line
    assert words in line
    assert not (folder / "out.onnx").exists()


@pytest.mark.parametrize(("name", "words"), METRICS)
def test_metrics(typed: Typed, folder: Path, name: str, words: str) -> None:
    code, out, err = typed(
        *("-p", "eliminate-dead", "--eval", "eval.npz", "--metric", f"own.py:{name}")
    )
    line = one_line(err)
    assert (code, out) == (3, "")
    assert f"metric 'own.py:{name}' cannot be computed" in line
    assert words in line
    assert not (folder / "out.onnx").exists()


@pytest.mark.parametrize(("text", "words"), MODULES)
def test_modules(typed: Typed, folder: Path, text: str, words: str) -> None:
    (folder / "bad.py").write_text(text)
    code, out, err = typed("-p", "eliminate-dead", "--calib", "bad.py:f")
    assert (code, out) == (3, "")
    assert words in one_line(err)


def test_a_step_of_the_users_own_may_raise_whatever_it_likes(typed: Typed) -> None:
    for name in ("interrupt", "own", "leaves"):
        code, out, err = typed("-p", f'apply-function{{function="own.py:{name}"}}')
        assert code == 4
        assert f"own.py:{name} raised " in out + err
        assert "internal error" not in err


def test_what_foreign_code_prints_goes_to_stderr(typed: Typed) -> None:
    code, out, err = typed(
        *("-p", "eliminate-dead", "--calib", "own.py:prints", "--json"),
        *("--eval", "eval.npz", "--metric", "own.py:metric"),
    )
    assert code == 0
    assert json.loads(out)["output"]["path"] == "out.onnx"
    for words in ("from python", "from below", "from the stream itself", "measuring"):
        assert words in err


def test_streams_that_a_function_closes_are_there_again(
    run: Callable[..., subprocess.CompletedProcess[str]], folder: Path
) -> None:
    (folder / "own.py").write_text(FUNCTIONS)
    (folder / "closes.py").write_text(
        "import sys\nfrom own import x\n"
        "def feeds():\n    sys.stdout.close()\n    sys.stderr.close()\n    yield {'image': x}\n"
        "def fails():\n    sys.stderr.close()\n    1 / 0\n"
    )
    typed = ("optimize", "model.onnx", "-o", "out.onnx", "-p", "eliminate-dead", "--calib")
    done = run(*typed, "closes.py:feeds", "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["output"]["path"] == "out.onnx"
    failed = run(*typed, "closes.py:fails")
    assert failed.returncode == 3
    assert "it raised ZeroDivisionError" in one_line(failed.stderr)


def test_a_stop_is_still_a_stop(typed: Typed, folder: Path) -> None:
    (folder / "kills.py").write_text(
        "import os, signal\ndef feeds():\n    os.kill(os.getpid(), signal.SIGINT)\n    yield 1\n"
    )
    code, out, err = typed("-p", "eliminate-dead", "--calib", "kills.py:feeds")
    assert (code, out) == (130, "")
    assert "interrupted" in one_line(err)
