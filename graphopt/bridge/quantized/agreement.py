"""Whether onnxruntime computes the integers that training saw."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from graphopt.bridge.module import GraphModule
from graphopt.bridge.quantized.fake import FakeActivation
from graphopt.bridge.quantized.trainee import QuantizedTrainee
from graphopt.bridge.tensors import to_tensor
from graphopt.data.samples import Samples
from graphopt.graph.graph import Graph
from graphopt.runtime.session import Session

__all__ = ["Agreement", "agreement"]


@dataclass
class Agreement:
    """How the integers behind all QuantizeLinear nodes compare.

    Attributes:
        tensors: How many tensors were compared.
        codes: How many integers, over all samples.
        equal: How many of them are the same.
        largest: Largest difference between two integers.
    """

    tensors: int = 0
    codes: int = 0
    equal: int = 0
    largest: int = 0

    def __str__(self) -> str:
        return (
            f"{self.equal} of {self.codes} behind {self.tensors} QuantizeLinear are in onnxruntime "
            f"those that training saw; the largest difference is {self.largest}"
        )


def agreement(
    trainee: QuantizedTrainee, graph: Graph, samples: Samples, *, limit: int = 16, threads: int = 0
) -> Agreement:
    """Compare the integers of a trained module with those of the written graph in onnxruntime.

    onnxruntime runs without optimizations. Sums of floats differ in their last bits, so values
    that lie half-way between two integers may come out as one or the other.

    Args:
        trainee: Trained.
        graph: What it was written to.
        samples: What to run on.
        limit: How many samples.
        threads: Of onnxruntime.

    Raises:
        ModelError: A model cannot run on the samples.
    """
    modules = {
        name: each for name, each in trainee.stand_ins.items() if isinstance(each, FakeActivation)
    }
    total = Agreement(len(modules))
    if not modules:
        return total
    session = Session(graph, outputs=list(modules), level="off", threads=threads)
    for feeds, _ in samples.feeds(limit=limit):
        theirs = session.run(feeds)
        tensors = {name: to_tensor(values) for name, values in feeds.items()}
        ours = _computed(trainee.module, tensors, list(modules))
        for name, module in modules.items():
            pair = [module.grid.integers(each) for each in (ours[name], to_tensor(theirs[name]))]
            apart = (pair[0] - pair[1]).abs()
            total.codes += apart.numel()
            total.equal += int((apart == 0).sum())
            total.largest = max(total.largest, int(apart.max()))
    return total


def _computed(
    module: GraphModule, feeds: dict[str, torch.Tensor], names: Sequence[str]
) -> dict[str, torch.Tensor]:
    with torch.no_grad():
        return module.eval()(feeds, taps=names)  # type: ignore[no-any-return]
