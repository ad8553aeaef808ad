"""Latency of graphopt's int8 forms against those of onnxruntime's own quantizer, in the same run.

    python benchmarks/latency.py
    python benchmarks/latency.py --quick            # smaller networks, few settings
    python benchmarks/latency.py --networks resnet50 --threads 1 --json latency.json

The networks, ResNet-50 and the encoder of BERT-base, have seeded random weights and are built here;
calibration data are random too, the same for both sides. onnxruntime's quantizer runs in every
sensible setting. All models of a network are then measured in turns at batch 1 (wall time, or
processor time of one thread where the wall's does not agree with it), and the table gives
ratios of latency: below 1 is faster. ``integer`` counts the layers on integer kernels, as
onnxruntime's own optimized graph has them.
"""

from __future__ import annotations

import argparse
import json
import logging
import tempfile
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from itertools import product
from pathlib import Path
from typing import Any

import networks
import numpy as np
import onnx
from onnxruntime.quantization import (
    CalibrationDataReader,
    QuantType,
    quantize_dynamic,
    quantize_static,
)
from onnxruntime.quantization.shape_inference import quant_pre_process
from rich.console import Console
from rich.table import Table

import graphopt
from graphopt.analysis.audit import audit
from graphopt.graph import io
from graphopt.graph.tensors import Array
from graphopt.runtime import bursts, latency
from graphopt.runtime.bursts import runner
from graphopt.runtime.latency import Times
from graphopt.runtime.session import Session

FLOAT, DEFAULT = "float", "onnxruntime default"
CALIBRATION_SAMPLES = 4
TYPES = {"u8": QuantType.QUInt8, "s8": QuantType.QInt8}


@dataclass(frozen=True)
class Network:
    """A float model with calibration samples and what is tried on it."""

    name: str
    model: onnx.ModelProto
    samples: dict[str, Array]  # leading axis = samples
    dynamic: bool
    presets: tuple[str, ...]


@dataclass(frozen=True)
class Row:
    """One model of the table; ratios are medians over paired bursts."""

    network: str
    threads: int
    name: str
    bytes: int
    median_ms: float
    to_float: float
    to_default: float
    to_best: float
    spread: float
    integer: int
    layers: int


class Reader(CalibrationDataReader):  # type: ignore[misc]  # onnxruntime is untyped
    """The samples as onnxruntime's quantizer wants them."""

    def __init__(self, samples: dict[str, Array]) -> None:
        count = len(next(iter(samples.values())))
        self.left = iter(
            [{key: value[i : i + 1] for key, value in samples.items()} for i in range(count)]
        )

    def get_next(self) -> dict[str, Array] | None:
        """The next sample; None at the end."""
        return next(self.left, None)


def make_networks(names: list[str], quick: bool) -> Iterator[Network]:
    """The networks asked for, one at a time."""
    rng = np.random.default_rng(1)
    size, layers, tokens = (112, 2, 64) if quick else (224, 12, 128)
    pictures = rng.standard_normal((CALIBRATION_SAMPLES, 3, size, size), dtype=np.float32)
    hidden = rng.standard_normal((CALIBRATION_SAMPLES, tokens, 768), dtype=np.float32)
    if "resnet50" in names:
        model = networks.resnet50(folded=True, size=size)
        yield Network("resnet50", model, {"image": pictures}, False, ("int8-static",))
    if "resnet50-bn" in names:
        model = networks.resnet50(folded=False, size=size)
        yield Network("resnet50-bn", model, {"image": pictures}, False, ("int8-static",))
    if "bert" in names:
        model = networks.bert(layers=layers)
        presets = ("int8-static", "int8-dynamic", "int8-weights")
        yield Network("bert", model, {"hidden": hidden}, True, presets)


def ours(network: Network, auto: bool) -> Iterator[tuple[str, onnx.ModelProto]]:
    """The network by graphopt's presets."""
    for preset in (*network.presets, *(["auto"] if auto else [])):
        result = graphopt.optimize(network.model, preset=preset, calibration=network.samples)
        yield f"graphopt {preset}", result.model


def theirs(network: Network, folder: Path, quick: bool) -> Iterator[tuple[str, Path]]:
    """The network by onnxruntime's quantizer, in every sensible setting."""
    plain, prepared = folder / "float.onnx", folder / "prepared.onnx"
    onnx.save(network.model, plain)
    quant_pre_process(str(plain), str(prepared), skip_symbolic_shape=True)
    settings = [("s8", "s8", False, False)]
    if not quick:
        settings += list(product(("u8", "s8"), ("s8",), (False, True), (False, True)))
        settings += [("u8", "u8", False, False)]
    settings += [("u8", "s8", True, False), ("u8", "u8", True, False)]
    for source, (act, weight, channels, reduced) in product(
        (plain, prepared), dict.fromkeys(settings)
    ):
        words = [act + weight] + ["per channel"] * channels + ["7 bit"] * reduced
        words += ["pre-processed"] * (source is prepared)
        name = f"onnxruntime {', '.join(words)}"
        if source is plain and (act, channels, reduced) == ("s8", False, False):
            name = DEFAULT
        out = folder / f"{len(list(folder.iterdir()))}.onnx"
        quantize_static(
            str(source),
            str(out),
            Reader(network.samples),
            activation_type=TYPES[act],
            weight_type=TYPES[weight],
            per_channel=channels,
            reduce_range=reduced,
        )
        yield name, out
    if network.dynamic:
        for weight, channels, reduced in product(("s8", "u8"), (False, True), (False, True)):
            if weight == "u8" and (channels or reduced):
                continue
            words = [weight] + ["per channel"] * channels + ["7 bit"] * reduced
            out = folder / f"{len(list(folder.iterdir()))}.onnx"
            quantize_dynamic(
                str(plain),
                str(out),
                weight_type=TYPES[weight],
                per_channel=channels,
                reduce_range=reduced,
            )
            yield f"onnxruntime dynamic {', '.join(words)}", out


def measure(
    network: Network, models: dict[str, onnx.ModelProto | Path], threads: int, rounds: int
) -> list[Row]:
    """All models in turns; onnxruntime's best is the fastest of what its quantizer made.

    Every other burst chooses it; the ratios to it come from the others.
    """
    feeds = {key: value[:1] for key, value in network.samples.items()}
    graphs = {name: io.load(model) for name, model in models.items()}
    runners = [
        runner(graph, feeds, Session(graph, threads=threads), threads=threads)
        for graph in graphs.values()
    ]
    readings = bursts.measure(runners, rounds=rounds, seconds=20.0 * len(runners))
    del runners
    clock = latency.trusted(readings)
    times = {name: found.on(clock) for name, found in zip(graphs, readings, strict=True)}
    # The best of many is lucky as well; on bursts that did not choose it, the luck is gone.
    chosen, rest = ({n: Times(t.bursts_ms[half::2]) for n, t in times.items()} for half in (0, 1))
    theirs_best = min(
        (name for name in times if name.startswith("onnxruntime")),
        key=lambda name: latency.ratio(chosen[name], chosen[FLOAT]).median,
    )
    rows = []
    for name, own in times.items():
        found = audit(graphs[name])
        best = latency.ratio(rest[name], rest[theirs_best])
        rows.append(
            Row(
                network=network.name,
                threads=threads,
                name=f"{name} (its best)" if name == theirs_best else name,
                bytes=io.size(graphs[name]),
                median_ms=own.median_ms,
                to_float=latency.ratio(own, times[FLOAT]).median,
                to_default=latency.ratio(own, times[DEFAULT]).median,
                to_best=best.median,
                spread=best.spread,
                integer=len(found.integer),
                layers=len(found.integer) + len(found.float_),
            )
        )
    return rows


def show(rows: list[Row]) -> None:
    """One table for a network and a number of threads, fastest first."""
    table = Table(title=f"{rows[0].network}, {rows[0].threads} threads, batch 1")
    for title in ("model", "MB", "ms", "to float", "to its default", "to its best", "integer"):
        table.add_column(title, justify="left" if title == "model" else "right")
    for row in sorted(rows, key=lambda row: row.median_ms):
        table.add_row(
            row.name,
            f"{row.bytes / 1e6:.1f}",
            f"{row.median_ms:.2f}",
            f"{row.to_float:.2f}",
            f"{row.to_default:.2f}",
            f"{row.to_best:.2f} +-{row.spread:.2f}",
            f"{row.integer} of {row.layers}",
            style="bold" if row.name.startswith("graphopt") else "",
        )
    Console(width=110).print(table)


def parse() -> argparse.Namespace:
    """What to measure, from the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    known = ["resnet50", "resnet50-bn", "bert"]
    parser.add_argument("--networks", nargs="+", choices=known, default=known)
    parser.add_argument("--threads", nargs="+", type=int, default=[1, 2])
    parser.add_argument("--rounds", type=int, default=30, help="bursts of each model")
    parser.add_argument("--auto", action="store_true", help="measure what the preset auto makes")
    parser.add_argument("--quick", action="store_true", help="small networks, few settings")
    parser.add_argument("--json", type=Path, help="write all rows to this file")
    return parser.parse_args()


def main() -> None:
    """Make, measure and print, one network after the other."""
    options = parse()
    logging.disable(logging.WARNING)
    rows: list[Row] = []
    for network in make_networks(options.networks, options.quick):
        with tempfile.TemporaryDirectory(prefix="graphopt-latency-") as folder:
            models: dict[str, Any] = {FLOAT: network.model}
            models |= dict(ours(network, options.auto))
            models |= dict(theirs(network, Path(folder), options.quick))
            for threads in options.threads:
                found = measure(network, models, threads, options.rounds)
                show(found)
                rows += found
    if options.json is not None:
        options.json.write_text(json.dumps([asdict(row) for row in rows], indent=2) + "\n")


if __name__ == "__main__":
    main()
