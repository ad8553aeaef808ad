"""The loss of a batch as a module."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import torch

from graphopt.bridge import to_torch
from graphopt.bridge.training import losses
from graphopt.bridge.training.criterion import criterion
from graphopt.bridge.training.objective import Objective, on_device
from graphopt.contract.training import LossOptions
from graphopt.tasks.task import Task

CPU = torch.device("cpu")


def test_it_is_the_criterion_of_what_the_student_answers(convnet: Any, pictures: Any) -> None:
    student = to_torch(convnet(1))
    feeds = on_device({"x": pictures(4)}, CPU)
    wanted = {"y": torch.randn(4, 5)}
    answers = student(feeds)
    tasks = {"y": Task("y", "classes", 1, "logits")}
    goal = criterion(LossOptions(), convnet(1), convnet(1), tasks)
    expected = losses.divergence(answers["y"], wanted["y"], 4.0)
    assert torch.equal(Objective(student, goal, half=False)(feeds, wanted, None), expected)
    half = Objective(student, goal, half=True)(feeds, wanted, None)
    assert half.dtype == torch.float32
    assert not torch.equal(half, expected)
    assert torch.allclose(half, expected, rtol=0.05)


def test_arrays_of_every_rank_and_type_become_tensors() -> None:
    arrays = {
        "number": np.array(2.5, np.float32),
        "picture": np.zeros((2, 3, 4, 5), np.float32),
        "half": np.ones(2, ml_dtypes.bfloat16),
        "flags": np.array([True, False]),
        "view": np.arange(6)[::-2],
    }
    found = on_device(arrays, CPU)
    assert found["number"].shape == ()
    assert found["picture"].is_contiguous(memory_format=torch.channels_last)
    assert found["half"].dtype == torch.bfloat16
    assert found["flags"].dtype == torch.bool
    assert found["view"].tolist() == [5, 3, 1]
    arrays["flags"][0] = False
    assert found["flags"].tolist() == [True, False]
