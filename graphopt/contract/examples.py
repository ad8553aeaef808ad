"""What a pass brings along so that it can be tested: models on which it has something to do."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    import onnx

__all__ = ["Example"]


@dataclass(frozen=True)
class Example:
    """A model and options with which a pass has something to do.

    ``graphopt.testing.check_pass`` asks of the examples of a pass that it edits every one of them,
    and that together they reach each choice of an option, both values of a bool, and a value
    other than the default of every other option. One example may reach many options. Small is
    fast: each is run some ten times.

    Attributes:
        model: Name of one of ``graphopt.testing.MODELS``, or a function that makes a model, the
            same one each time.
        options: Values by name, where they are not the defaults.
        before: Spec text of passes that run first. The model before them is the teacher of a pass
            that trains, and what the answers are measured against.
        samples: How many seeded random samples there are to calibrate and to train with.
        labels: What the labels of the samples are: the numbers of the classes, the values, or
            whether these are positive, that the model before ``before`` gives as its first output;
            empty for no labels.
    """

    model: str | Callable[[], onnx.ModelProto]
    options: Mapping[str, Any] = field(default_factory=dict)
    before: str = ""
    samples: int = 4
    labels: Literal["", "classes", "tags", "values"] = ""

    def but(self, **options: Any) -> Example:
        """The same with some options changed or added."""
        return replace(self, options={**self.options, **options})
