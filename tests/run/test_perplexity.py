from __future__ import annotations

import numpy as np
import pytest

from graphopt.data import open_data
from graphopt.graph import io
from graphopt.graph.graph import Graph
from graphopt.run.evaluation import evaluate
from graphopt.run.perplexity import Perplexity
from graphopt.runtime.session import Session
from graphopt.tasks.task import Task
from graphopt.testing import model_from_text

TASKS = {"logits": Task("logits", "classes", axis=2, form="logits")}
TOKENS = 8
SURE = 4.0
TEXT = (np.arange(10)[None] * 3 + np.arange(5)[:, None]) % TOKENS
"""Each token is followed by the third one behind it."""


def _model(shift: int, sure: float = SURE) -> Graph:
    """It expects the token ``shift`` behind the one that it reads."""
    table = sure * np.roll(np.eye(TOKENS, dtype=np.float32), shift, axis=1)
    return io.load(
        model_from_text(
            """<ir_version: 8, opset_import: ["" : 13]>
            g (int64[N,T] ids) => (float[N,T,8] logits) { logits = Gather (table, ids) }""",
            {"table": table},
        )
    )


def _perplexity(sure: float) -> float:
    return 1 + (TOKENS - 1) * float(np.exp(-sure))


def test_the_proof_of_a_language_model_tells_its_perplexity() -> None:
    right, less_sure = _model(3), _model(3, 2.0)
    sessions = [Session(each, threads=1) for each in (right, less_sure)]
    samples = open_data({"ids": TEXT}, right)
    (quality,) = evaluate(right, sessions, samples, None, source="eval", tasks=TASKS)
    metric = quality.metric
    assert metric is not None
    assert (metric.name, metric.output, metric.higher_is_better) == ("perplexity", "logits", False)
    assert metric.before == pytest.approx(_perplexity(SURE), rel=1e-5)
    assert metric.after == pytest.approx(_perplexity(2.0), rel=1e-5)
    assert metric.fall > 0


@pytest.mark.parametrize("shift", [0, 5])
def test_a_model_that_does_not_tell_the_next_token_has_none(shift: int) -> None:
    model = _model(shift)
    sessions = [Session(model, threads=1)] * 2
    samples = open_data({"ids": TEXT}, model)
    (quality,) = evaluate(model, sessions, samples, None, source="eval", tasks=TASKS)
    assert quality.metric is None


def test_a_model_that_answers_in_another_shape_has_none() -> None:
    texts = Perplexity(TASKS, 3)
    right = {"logits": np.eye(TOKENS, dtype=np.float32)[(TEXT + 3) % TOKENS]}
    for _ in range(2):
        texts.add({"ids": TEXT}, [right, {"logits": right["logits"][:, :4]}, right], 5)
    first, second = texts.values()
    assert first is None
    assert second is not None
    assert second.before == second.after
