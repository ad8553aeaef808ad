"""What training passes have in common, beside the training itself."""

from __future__ import annotations

from graphopt.contract.spec import parse_passes
from graphopt.families.training import beyond_memory


def test_a_limit_of_memory_that_does_not_hold_for_training_is_told() -> None:
    plain = parse_passes("fuse-batchnorm,mask-weights,quantize-static")
    assert beyond_memory(plain, 1 << 20) == []
    training = parse_passes("mask-weights{criterion=taylor},distill,quantize-static,distill")
    assert beyond_memory(training, None) == []
    (told,) = beyond_memory(training, 1 << 20)
    assert told.startswith("the memory limit does not hold for mask-weights, distill: gradients")
