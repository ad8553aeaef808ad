"""The bridge's speed: ResNet-50 from its ONNX file against a hand-written torch module.

    python benchmarks/bridge.py [--batch N] [--size N] [--rounds N] [--threads N] [--channels-last]

Both hold the same weights. A round times a forward pass and a training step (mean square of the
logits, backward, no optimizer) of each, in turns. Fails (exit code 1) where the median ratio is
above 1.1 (forward) or 1.15 (step). Needs the extra ``train``.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable

import networks
import numpy as np
import torch
from torch import Tensor, nn

from graphopt.bridge import GraphModule, to_torch
from graphopt.graph import io

PARTS = ("0.weight", "1.weight", "1.bias", "1.running_mean", "1.running_var")
MOST = {"forward": 1.1, "step": 1.15}


def conv_norm(inputs: int, outputs: int, kernel: int, stride: int) -> nn.Sequential:
    """A convolution without bias and its normalization."""
    conv = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(outputs))


class Block(nn.Module):
    """A bottleneck block of ResNet-50."""

    def __init__(self, inputs: int, width: int, stride: int) -> None:
        super().__init__()
        self.a = conv_norm(inputs, width, 1, 1)
        self.b = conv_norm(width, width, 3, stride)
        self.c = conv_norm(width, 4 * width, 1, 1)
        self.d = conv_norm(inputs, 4 * width, 1, stride) if inputs != 4 * width else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """The block's output."""
        y = torch.relu(self.b(torch.relu(self.a(x))))
        return torch.relu(self.c(y) + self.d(x))


class ResNet50(nn.Module):
    """ResNet-50 as one writes it by hand."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = conv_norm(3, 64, 7, 2)
        self.pool = nn.MaxPool2d(3, 2, 1)
        blocks: list[nn.Module] = []
        channels = 64
        for stage, (count, width) in enumerate(networks.STAGES):
            for index in range(count):
                blocks.append(Block(channels, width, 2 if stage and not index else 1))
                channels = 4 * width
        self.blocks = nn.Sequential(*blocks)
        self.fc = nn.Linear(channels, 1000)

    def forward(self, x: Tensor) -> Tensor:
        """Logits."""
        y = self.blocks(self.pool(torch.relu(self.stem(x))))
        logits: Tensor = self.fc(y.mean((2, 3)))
        return logits


def copy_weights(source: GraphModule, target: ResNet50) -> None:
    """Give ``target`` the weights of ``source``, found by the names of ``networks.resnet50``."""
    held = {**dict(source.weights()), **dict(source.statistics())}
    places: dict[str, nn.Module] = {"stem": target.stem}
    blocks = iter(target.blocks)
    for stage, (count, _) in enumerate(networks.STAGES):
        for index in range(count):
            block = next(blocks)
            places |= {f"s{stage}b{index}_{part}": getattr(block, part) for part in "abcd"}
    with torch.no_grad():
        for name, pair in places.items():
            if isinstance(pair, nn.Sequential):
                suffixes = dict(zip(PARTS, ("w", "gamma", "beta", "mean", "variance"), strict=True))
                state = {part: held[f"{name}_{suffix}"] for part, suffix in suffixes.items()}
                pair.load_state_dict(state, strict=False)
        target.fc.weight.copy_(held["fc_w"])
        target.fc.bias.copy_(held["fc_b"])


def forward(call: Callable[[Tensor], Tensor], x: Tensor) -> None:
    """A forward pass without gradients."""
    with torch.inference_mode():
        call(x)


def step(call: Callable[[Tensor], Tensor], x: Tensor) -> None:
    """Forward and backward."""
    torch.autograd.backward(call(x).square().mean())


def lay_out(module: nn.Module, layout: torch.memory_format) -> None:
    """Put the kernels of all convolutions into this order in memory."""
    for parameter in module.parameters():
        if parameter.dim() == 4:
            parameter.data = parameter.data.contiguous(memory_format=layout)


def seconds(work: Callable[[], None]) -> float:
    """Time that ``work`` takes."""
    started = time.perf_counter()
    work()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter() - started


def main() -> int:
    """Measure, print, and judge; gives the exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--size", type=int, default=128)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--channels-last", action="store_true")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    bridge = to_torch(io.load(networks.resnet50(folded=False, size=args.size)))
    written = ResNet50().eval()
    copy_weights(bridge, written)
    layout = torch.channels_last if args.channels_last else torch.contiguous_format
    x = torch.randn(args.batch, 3, args.size, args.size).to(device, memory_format=layout)
    for module in (bridge, written):
        lay_out(module.to(device), layout)
    calls: dict[str, Callable[[Tensor], Tensor]] = {
        "bridge": lambda x: bridge({"image": x})["logits"],
        "written": written,
    }
    with torch.inference_mode():
        expected, found = written(x), calls["bridge"](x)
    difference = float((expected - found).abs().max() / expected.abs().max())
    print(f"device {device}, largest relative difference {difference:.1e}")
    failed = False
    for name, work in (("forward", forward), ("step", step)):
        for module in (bridge, written):
            module.train(name == "step")
        times: dict[str, list[float]] = {key: [] for key in calls}
        for index in range(args.rounds + 1):
            for key in sorted(calls, reverse=bool(index % 2)):
                taken = seconds(lambda key=key, work=work: work(calls[key], x))  # type: ignore[misc]
                if index:  # the first round warms up
                    times[key].append(taken)
        ratio = float(np.median(np.divide(times["bridge"], times["written"])))
        medians = {key: np.median(taken) * 1000 for key, taken in times.items()}
        print(
            f"{name:8} bridge {medians['bridge']:8.1f} ms  written {medians['written']:8.1f} ms  "
            f"ratio {ratio:.3f} (at most {MOST[name]})"
        )
        failed |= ratio > MOST[name]
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
