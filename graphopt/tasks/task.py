"""What an output means, as a value."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

__all__ = ["FORMS", "KINDS", "Columns", "Form", "Task", "TaskKind"]

TaskKind = Literal[
    "classes",
    "binary",
    "multi-label",
    "regression",
    "embedding",
    "indices",
    "mask",
    "boxes",
    "detections",
    "state",
    "texts",
    "container",
]
"""Scores of classes that exclude each other; of one yes or no; of several that do not exclude
each other; numbers; vectors compared by their direction; integers that number things; yes or no
itself; four coordinates of a place; columns that mean different things (boxes, scores, classes);
what is fed back into an input; strings; sequences, maps and optionals."""

Form = Literal["logits", "probabilities", "log-probabilities"]
"""How scores are written."""

KINDS: tuple[TaskKind, ...] = get_args(TaskKind)
FORMS: tuple[Form, ...] = get_args(Form)

_WORDS: dict[TaskKind, str] = {
    "classes": "class scores",
    "binary": "yes-or-no scores",
    "multi-label": "scores of several labels",
    "regression": "numbers",
    "embedding": "an embedding",
    "indices": "integers that number things",
    "mask": "a mask",
    "boxes": "boxes",
    "detections": "packed detections",
    "state": "a state",
    "texts": "strings",
    "container": "a sequence, map or optional",
}


@dataclass(frozen=True)
class Columns:
    """What the columns of packed detections hold; others hold something else.

    Attributes:
        box: The first of the four of a box.
        score: That of the score; None where there is none.
        whole: Those of whole numbers: the class, before it perhaps the picture.
    """

    box: int
    score: int | None = None
    whole: tuple[int, ...] = ()

    @property
    def label(self) -> int | None:
        """That of the class; None where there is none."""
        return self.whole[-1] if self.whole else None

    def __str__(self) -> str:
        """The columns in words.

        >>> str(Columns(0, 4, (5,)))
        'box in columns 0 to 3, score in 4, class in 5'
        """
        words = f"box in columns {self.box} to {self.box + 3}"
        if self.score is not None:
            words += f", score in {self.score}"
        return words if self.label is None else f"{words}, class in {self.label}"


@dataclass(frozen=True)
class Task:
    """What one output means.

    Attributes:
        output: Its name.
        kind: See ``TaskKind``.
        axis: Of classes and labels: the axis along which they lie; of boxes that of the four
            coordinates, of detections that of the columns. Counted from the front; None where
            there is none, or it is not known.
        form: Of scores: how they are written; None of other kinds.
        other_form: How the model that is judged writes them, where it does so otherwise.
        columns: Of detections: what the columns hold; None where that is not known.
        fed_to: Of a state: the input that takes it.
        free_rows: Whether the size of an axis hangs on the values of the data.
        sorted_rows: Whether the entries along an axis are the best ones in their order.
        rows_axis: That axis, counted from the front; None where it is not known.
        why: The evidence, a phrase; that of the user is ``given``.
        given: Whether the user said so.
        sums: Whether a layer's sums are handed out as they are: scores among them are logits.
        rounding: What rounding alone makes a constant there vary by, over its magnitude; that of
            float32 unless told.
    """

    output: str
    kind: TaskKind
    axis: int | None = None
    form: Form | None = None
    other_form: Form | None = None
    columns: Columns | None = None
    fed_to: str = ""
    free_rows: bool = False
    sorted_rows: bool = False
    rows_axis: int | None = None
    why: str = ""
    given: bool = False
    sums: bool = False
    rounding: float = 2.0**-20

    @property
    def scores(self) -> bool:
        """Whether decisions follow from it."""
        return self.form is not None

    @property
    def pools_samples(self) -> bool:
        """Whether the rows of all samples of a feed come as one list, not told apart."""
        return self.free_rows and not self.rows_axis

    @property
    def threshold(self) -> float:
        """From where on a yes-or-no score says yes: 0.5 of probabilities, 0 of logits."""
        return 0.5 if self.form == "probabilities" else 0.0

    def __str__(self) -> str:
        """The meaning in words, without the reason.

        >>> str(Task("y", "classes", axis=1, form="logits"))
        'class scores (logits) along axis 1'
        """
        words = _WORDS[self.kind]
        if self.form is not None:
            other = "" if self.other_form is None else f" against {self.other_form}"
            words += f" ({self.form}{other})"
        if self.columns is not None:
            words += f" ({self.columns})"
        if self.axis is not None:
            words += f" along axis {self.axis}"
        if self.fed_to:
            words += f" that input {self.fed_to!r} takes"
        if self.free_rows:
            return f"{words}, as many as the data has"
        return f"{words}, the best ones in their order" if self.sorted_rows else words
