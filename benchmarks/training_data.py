"""What the rows of ``training.py`` read: found in a folder, or made of what is there."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

import numpy as np

HERE = Path(__file__).parent
MEAN = np.array([0.485, 0.456, 0.406], np.float32) * 255
SPREAD = np.array([0.229, 0.224, 0.225], np.float32) * 255
KEPT_LAYERS = 3


class MissingError(Exception):
    """Something that a row needs is not there; says what, and how it is made."""


class Source:
    """A folder of models and data, and a folder for what is made of them.

    Args:
        folder: Holds what ``benchmarks/README.md`` lists, itself or in its folder ``build``.
        work: Where prepared data goes.
    """

    def __init__(self, folder: Path, work: Path) -> None:
        self.folder, self.work = folder, work

    def find(self, *names: str) -> Path:
        """The first of these files or folders that exists.

        Raises:
            MissingError: None does.
        """
        for name in names:
            for place in (self.folder, self.folder / "build"):
                if (place / name).exists():
                    return place / name
        raise MissingError(f"no {' and no '.join(names)} in {self.folder} or its folder build")

    def model(self, name: str) -> Path:
        """A float model."""
        return self.find(f"{name}/model.onnx")

    def training(self, kind: str, model: str) -> Path:
        """The samples to train ``model`` on: pictures, labelled-pictures, sentences or calib.

        Raises:
            MissingError: What they are made of is not there.
        """
        if kind == "calib":
            return self.find(f"{model}/calib.npz")
        return self.sentences() if kind == "sentences" else self.pictures(kind == "labelled")

    def pictures(self, labelled: bool) -> Path:
        """All training pictures, normalized, ``(n, 3, height, width)`` float32."""
        path = self.work / f"pictures{'-labelled' if labelled else ''}.npz"
        if path.exists():
            return path
        with np.load(self.find("train.npz"), allow_pickle=False) as archive:
            values = (archive["images"].astype(np.float32) - MEAN) / SPREAD
            arrays = {"input": np.ascontiguousarray(values.transpose(0, 3, 1, 2))}
            if labelled:
                arrays["labels"] = archive["labels"]
        self._save(path, arrays)
        return path

    def _save(self, path: Path, arrays: dict[str, np.ndarray]) -> None:
        part = path.with_name(f"part-{path.name}")
        np.savez(part, **arrays)  # type: ignore[arg-type]
        part.replace(path)

    def sentences(self) -> Path:
        """The unlabelled sentences as tokens, a file for each length."""
        folder = self.work / "sentences"
        if folder.exists():
            return folder
        text = self.find("minilm-unlabelled.txt.gz", "../minilm-unlabelled.txt.gz")
        tokenizer = self.find("cache/all-MiniLM-L6-v2/tokenizer.json")
        if importlib.util.find_spec("tokenizers") is None:
            raise MissingError("the sentences need the package tokenizers (pip install tokenizers)")
        part = self.work / "part-sentences"
        run([HERE / "sentences.py", tokenizer, text, part])
        part.rename(folder)
        return folder

    def cut(self, name: str) -> Path:
        """An encoder that keeps the best few of its layers."""
        path = self.work / f"{name}-{KEPT_LAYERS}-layers.onnx"
        if not path.exists():
            script = [HERE / "cut_layers.py", self.model(name), "--keep", KEPT_LAYERS]
            run([*script, "--calib", self.find(f"{name}/calib.npz"), "-o", path])
        return path


def run(arguments: Iterable[object]) -> None:
    """Run a script of this folder.

    Raises:
        MissingError: It failed; says its last line.
    """
    command = [sys.executable, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        said = done.stderr.strip() or f"exit code {done.returncode}"
        raise MissingError(f"{Path(command[1]).name}: {said.splitlines()[-1]}")
