"""Train the three digit models of this folder and write them with their data.

    pip install torch onnxscript onnxruntime scikit-learn && python models/train_digits.py

scikit-learn's digits (1,797 pictures of 8 x 8 pixels) are split at random into 1,000 for training,
200 of which serve for calibration, and 797 for evaluation. All random numbers come from one seed
and torch runs on one thread, so that a second run on the same machine writes the same weights.
"""

# /// script
# dependencies = ["torch>=2.9", "onnxscript", "onnx", "onnxruntime", "scikit-learn"]
# ///

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import onnxscript.optimizer
import torch
from numpy.typing import NDArray
from sklearn.datasets import load_digits
from torch import Tensor, nn

FOLDER = Path(__file__).parent
SEED = 7
TRAINING, CALIBRATION = 1000, 200
EPOCHS, BATCH = 60, 50
PIXEL_MAX = 16.0
FACTS = {
    "classes": "0,1,2,3,4,5,6,7,8,9",
    "dataset": "UCI Optical Recognition of Handwritten Digits (CC BY 4.0), as in scikit-learn",
    "license": "Apache-2.0",
}
DESCRIPTION = "Which digit is it? Trained on scikit-learn's digits by models/train_digits.py."


def conv_norm(
    inputs: int, outputs: int, kernel: int, *, stride: int = 1, groups: int = 1
) -> nn.Sequential:
    """Convolution without bias, then batch normalization, as ResNet and MobileNet have them."""
    conv = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(outputs))


class Residual(nn.Module):
    """The basic block of ResNet: ``relu(x + norm(conv(relu(norm(conv(x))))))``."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.first = conv_norm(width, width, 3)
        self.second = conv_norm(width, width, 3)

    def forward(self, x: Tensor) -> Tensor:
        """``(batch, width, height, width)`` to the same shape."""
        return torch.relu(x + self.second(torch.relu(self.first(x))))


class Depthwise(nn.Module):
    """The block of MobileNet v2 without shortcut: expand, filter each channel, project."""

    def __init__(self, inputs: int, hidden: int, outputs: int) -> None:
        super().__init__()
        self.expand = conv_norm(inputs, hidden, 1)
        self.depthwise = conv_norm(hidden, hidden, 3, stride=2, groups=hidden)
        self.project = conv_norm(hidden, outputs, 1)

    def forward(self, x: Tensor) -> Tensor:
        """``(batch, inputs, h, w)`` to ``(batch, outputs, h / 2, w / 2)``."""
        x = nn.functional.relu6(self.expand(x))
        return self.project(nn.functional.relu6(self.depthwise(x)))


class DigitsCnn(nn.Module):
    """Stem, residual block, depthwise block, residual block, average, linear layer."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = conv_norm(1, 48, 3)
        self.high = Residual(48)
        self.down = Depthwise(48, 144, 80)
        self.low = Residual(80)
        self.head = nn.Linear(80, 10)

    def forward(self, x: Tensor) -> Tensor:
        """Pictures ``(batch, 1, 8, 8)`` to logits ``(batch, 10)``."""
        x = self.high(torch.relu(self.stem(x)))
        x = self.low(self.down(x))
        return self.head(nn.functional.adaptive_avg_pool2d(x, 1).flatten(1))


class DigitsMlp(nn.Module):
    """Three linear layers."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(64, 256)
        self.second = nn.Linear(256, 256)
        self.head = nn.Linear(256, 10)

    def forward(self, x: Tensor) -> Tensor:
        """Pictures ``(batch, 1, 8, 8)`` to logits ``(batch, 10)``."""
        x = torch.relu(self.first(x.flatten(1)))
        return self.head(torch.relu(self.second(x)))


class Encoder(nn.Module):
    """One layer of a transformer, normalization first."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.attention_norm = nn.LayerNorm(width)
        self.query = nn.Linear(width, width)
        self.key = nn.Linear(width, width)
        self.value = nn.Linear(width, width)
        self.out = nn.Linear(width, width)
        self.feed_norm = nn.LayerNorm(width)
        self.up = nn.Linear(width, 2 * width)
        self.down = nn.Linear(2 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        """``(batch, tokens, width)`` to the same shape."""
        x = x + self.attend(self.attention_norm(x))
        return x + self.down(nn.functional.gelu(self.up(self.feed_norm(x))))

    def attend(self, x: Tensor) -> Tensor:
        """Attention over the tokens, each head on its share of the width."""
        tokens, width = x.shape[1:]
        split = (-1, tokens, self.heads, width // self.heads)
        query, key, value = (
            layer(x).reshape(split).transpose(1, 2) for layer in (self.query, self.key, self.value)
        )
        scores = query @ key.transpose(2, 3) / (width // self.heads) ** 0.5
        mixed = torch.softmax(scores, dim=-1) @ value
        return self.out(mixed.transpose(1, 2).reshape(-1, tokens, width))


class DigitsTransformer(nn.Module):
    """Two encoder layers over the eight rows of the picture."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Linear(8, 96)
        self.position = nn.Parameter(torch.randn(8, 96) / 10)
        self.layers = nn.Sequential(Encoder(96, 4), Encoder(96, 4))
        self.norm = nn.LayerNorm(96)
        self.head = nn.Linear(96, 10)

    def forward(self, x: Tensor) -> Tensor:
        """Pictures ``(batch, 1, 8, 8)`` to logits ``(batch, 10)``."""
        x = self.layers(self.embed(x.squeeze(1)) + self.position)
        return self.head(self.norm(x).mean(dim=1))


def main() -> None:
    """Write the data, then train, export and judge each model."""
    torch.manual_seed(SEED)
    torch.set_num_threads(1)
    digits = load_digits()
    order = np.random.default_rng(SEED).permutation(len(digits.target))
    pictures = (digits.images[order, None] / PIXEL_MAX).astype(np.float32)
    labels = digits.target[order].astype(np.int64)
    np.savez_compressed(FOLDER / "digits-calib.npz", input=pictures[:CALIBRATION])
    held_out, answers = pictures[TRAINING:], labels[TRAINING:]
    np.savez_compressed(FOLDER / "digits-eval.npz", input=held_out, labels=answers)
    for name, network, opset in (
        ("digits-cnn", DigitsCnn(), 18),
        ("digits-mlp", DigitsMlp(), 18),
        ("digits-transformer", DigitsTransformer(), 20),  # the first opset with Gelu
    ):
        train(network, torch.from_numpy(pictures[:TRAINING]), torch.from_numpy(labels[:TRAINING]))
        model = export(network, name, opset)
        path = FOLDER / f"{name}.onnx"
        onnx.save(model, path)
        right = accuracy(path, held_out, answers)
        print(f"{path.name}: {path.stat().st_size} bytes, {right:.2f} % right")


def train(network: nn.Module, pictures: Tensor, labels: Tensor) -> None:
    """AdamW with a cosine schedule; each picture is moved by up to one pixel each time."""
    optimizer = torch.optim.AdamW(network.parameters(), lr=2e-3, weight_decay=0.02)
    steps = EPOCHS * (len(pictures) // BATCH)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=4e-3, total_steps=steps)
    network.train()
    for _ in range(EPOCHS):
        for rows in torch.randperm(len(pictures)).split(BATCH):
            padded = nn.functional.pad(pictures[rows], (1, 1, 1, 1))
            down, right = torch.randint(0, 3, (2,)).tolist()
            moved = padded[:, :, down : down + 8, right : right + 8]
            loss = nn.functional.cross_entropy(network(moved), labels[rows], label_smoothing=0.05)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
    network.eval()


def export(network: nn.Module, name: str, opset: int) -> onnx.ModelProto:
    """The model as ``torch.onnx.export`` writes it, batch normalization unfolded."""
    program = torch.onnx.export(
        network,
        (torch.zeros(2, 1, 8, 8),),
        input_names=["input"],
        output_names=["logits"],
        dynamic_shapes=({0: torch.export.Dim("batch", min=1)},),
        opset_version=opset,
        dynamo=True,
        optimize=False,
        verbose=False,
    )
    assert program is not None
    # The exporter's own optimizer folds batch normalization as well. Files from other frameworks
    # and from older exporters keep it, so only the constants are folded here.
    onnxscript.optimizer.fold_constants(program.model)
    onnxscript.optimizer.remove_unused_nodes(program.model)
    model = program.model_proto
    strip_paths(model)
    model.doc_string = DESCRIPTION
    model.graph.name = name
    model.graph.input[0].doc_string = "pictures, 0 (paper) to 1 (ink), shape (batch, 1, 8, 8)"
    model.graph.output[0].doc_string = "one score for each digit, shape (batch, 10)"
    onnx.helper.set_model_props(model, FACTS)
    onnx.checker.check_model(model, full_check=True)
    return model


def strip_paths(model: onnx.ModelProto) -> None:
    """Drop the stack traces that torch writes into each node: they name this machine's folders."""
    for node in model.graph.node:
        kept = [entry for entry in node.metadata_props if "stack_trace" not in entry.key]
        del node.metadata_props[:]
        node.metadata_props.extend(kept)


def accuracy(path: Path, pictures: NDArray[np.float32], labels: NDArray[np.int64]) -> float:
    """Percent of the pictures that the exported file gets right."""
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    (logits,) = session.run(None, {"input": pictures})
    return float(100 * (logits.argmax(axis=1) == labels).mean())


if __name__ == "__main__":
    main()
