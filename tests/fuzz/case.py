"""A case: files in a folder and a command line, made from a kind and a number alone."""

from __future__ import annotations

import dataclasses
import json
import random
from dataclasses import dataclass
from pathlib import Path

__all__ = ["Case", "dice"]

_NOTE = "case.json"


@dataclass(frozen=True, kw_only=True)
class Case:
    """What is run in the folder that holds the files.

    Attributes:
        arguments: Of graphopt.
        story: What was done to the seed, for a reader.
        model: The model that is asked about, to be tried by onnxruntime as well; None where the
            model is sound and the rest is odd.
        feeds: Samples for it as it was before it was changed, in the shape of its inputs.
        out: Where a model is to be written.
        lossless: Its answers are to be those of ``model``.
        sound: Nothing is odd: an error of any kind is a finding.
    """

    arguments: tuple[str, ...]
    story: tuple[str, ...]
    model: str | None = None
    feeds: str | None = None
    out: str | None = None
    lossless: bool = False
    sound: bool = False

    def note(self, folder: Path) -> None:
        """Leave a note of the case beside its files."""
        text = json.dumps(dataclasses.asdict(self), indent=1, default=repr)
        (folder / _NOTE).write_text(text, encoding="utf-8", errors="backslashreplace")

    @staticmethod
    def noted(folder: Path) -> Case:
        """The case whose note lies in a folder."""
        values = json.loads((folder / _NOTE).read_text(encoding="utf-8"))
        values["arguments"], values["story"] = tuple(values["arguments"]), tuple(values["story"])
        return Case(**values)


def dice(kind: str, number: int) -> random.Random:
    """The same numbers in every process and on every machine."""
    return random.Random(f"{kind} {number}")
