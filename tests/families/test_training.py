"""What training passes have in common, beside the training itself."""

from __future__ import annotations

import pytest

from graphopt.contract.spec import parse_passes
from graphopt.errors import SystemFailure
from graphopt.families import training
from graphopt.families.training import beyond_memory, require_torch_for

TIMED = "prune-channels{latency=0.5},drop-blocks{latency=0.8}"


def test_a_limit_of_memory_that_does_not_hold_for_training_is_told() -> None:
    plain = parse_passes("fuse-batchnorm,mask-weights,quantize-static")
    assert beyond_memory(plain, 1 << 20) == []
    training = parse_passes("mask-weights{criterion=taylor},distill,quantize-static,distill")
    assert beyond_memory(training, None) == []
    (told,) = beyond_memory(training, 1 << 20)
    assert told.startswith("the memory limit does not hold for mask-weights, distill: gradients")
    assert beyond_memory(parse_passes(TIMED), 1 << 20) == []  # nothing is trained


def test_torch_is_asked_for_where_gradients_are_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(training, "torch_is_there", lambda: False)
    require_torch_for(parse_passes(f"{TIMED},prune-channels{{macs=0.5}}"))
    with pytest.raises(SystemFailure, match="prune-channels with criterion=taylor needs PyTorch;"):
        require_torch_for(parse_passes("prune-channels{criterion=taylor}"))
    with pytest.raises(SystemFailure, match="distill needs PyTorch;"):
        require_torch_for(parse_passes("distill"))


def test_torch_that_cannot_be_loaded_is_told_with_what_to_do(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fails(name: str) -> None:
        raise OSError("libtorch_cpu.so:\nno such file")

    monkeypatch.setattr(training, "torch_is_there", lambda: True)
    monkeypatch.setattr("importlib.import_module", fails)
    told = r"distill needs PyTorch, .* cannot be loaded \(libtorch_cpu.so: no such file\); install"
    with pytest.raises(SystemFailure, match=told):
        require_torch_for(parse_passes("distill"))
