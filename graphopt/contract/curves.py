"""What a training went through, as values."""

from __future__ import annotations

from dataclasses import dataclass, field

__all__ = ["TrainingCurves"]


@dataclass
class TrainingCurves:
    """The course of a training.

    Attributes:
        steps: Optimizer steps planned.
        samples: Samples trained on.
        held_out: Samples that decided what was kept.
        metric: Name of the figure in ``scores``; empty for none.
        loss: Training loss, mean since the last entry: step and value.
        held_out_loss: Step and value, step 0 being the untrained model.
        scores: Of the held-out part: step and value.
        kept_by: What decided which weights were kept: ``metric``, or ``loss``; empty where nothing
            was held out.
        best_step: The step whose weights were kept; 0 for the untrained model.
        stopped: Why training ended before its last step; else empty.
        diverged: The loss was not finite any more; ``stopped`` says where.
        resumed: The step at which an earlier run was taken up; 0 for none.
        seconds: Wall time of all runs together.
    """

    steps: int
    samples: int
    held_out: int
    metric: str
    loss: list[tuple[int, float]] = field(default_factory=list)
    held_out_loss: list[tuple[int, float]] = field(default_factory=list)
    scores: list[tuple[int, float]] = field(default_factory=list)
    kept_by: str = ""
    best_step: int = 0
    stopped: str = ""
    diverged: bool = False
    resumed: int = 0
    seconds: float = 0.0

    @property
    def untrained(self) -> str:
        """Why nothing was kept of the training, where ``best_step`` is 0."""
        by = ""
        if self.kept_by and self.kept_by == self.metric:
            by = f" by {self.metric}, nor by the loss where that is within its noise"
        return f"no step was better on the held-out samples{by}; kept untrained"
