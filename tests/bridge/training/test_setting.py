"""How torch behaves meanwhile, and afterwards."""

from __future__ import annotations

import pytest
import torch

from graphopt.bridge.training.setting import quiet_torch

CPU = torch.device("cpu")


def test_the_state_of_torch_comes_back_even_after_an_error() -> None:
    threads, mode = torch.get_num_threads(), torch.get_deterministic_debug_mode()
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    with pytest.raises(KeyboardInterrupt), quiet_torch(threads + 1, CPU):
        assert torch.get_num_threads() == threads + 1
        assert torch.are_deterministic_algorithms_enabled()
        torch.manual_seed(9)
        torch.rand(10)
        raise KeyboardInterrupt
    assert torch.get_num_threads() == threads
    assert torch.get_deterministic_debug_mode() == mode
    assert torch.equal(torch.rand(3), expected)


def test_no_wish_for_threads_leaves_them() -> None:
    threads = torch.get_num_threads()
    with quiet_torch(0, CPU):
        assert torch.get_num_threads() == threads
