"""A record as a real run leaves it: 60 layers of a mobile network, quantized by ``auto``."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import pytest

from graphopt.analysis.audit import Audit, Entry
from graphopt.contract.curves import TrainingCurves
from graphopt.contract.passes import Edit, Skip
from graphopt.contract.taken import GroupWidth, LayerRank, LayerZeros, Taken
from graphopt.run.quality import Fresh, Metric, Quality
from graphopt.run.record import (
    CandidateRecord,
    Environment,
    LayerRecord,
    LimitRecord,
    ModelRecord,
    PassRecord,
    RunRecord,
    StartRecord,
)
from graphopt.tasks.quality import OutputQuality

MakeRecord = Callable[..., RunRecord]

_SPEC = 'quantize-static{activations=uint8,ranges=mse,exclude=["/classifier/*"]}'
_RECIPE = """\
target = "x86-avx2"
min_sqnr_db = 20.0

[[passes]]
name = "fuse-batchnorm"

[[passes]]
name = "quantize-static"
activations = "uint8"
ranges = "mse"

[[passes]]
name = "correct-bias"
"""


@pytest.fixture
def make_record() -> MakeRecord:
    """Builds a record with any number of layers."""
    return _record


@pytest.fixture
def record() -> RunRecord:
    return _record()


@pytest.fixture
def curves() -> TrainingCurves:
    """240 of 600 steps: the loss falls fast, then the held-out one rises again."""
    return TrainingCurves(
        steps=600,
        samples=9500,
        held_out=500,
        metric="agreement %",
        loss=[(60, 1.31), (120, 0.214), (180, 0.095), (240, 0.041)],
        held_out_loss=[(0, 6.125), (60, 0.402), (120, 0.188), (180, 0.1512), (240, 0.1624)],
        scores=[(0, 41.2), (60, 88.6), (120, 93.4), (180, 95.2), (240, 95.0)],
        best_step=180,
        stopped="no gain on the held-out part in 1 evaluations",
        diverged=False,
        resumed=120,
        seconds=61.2,
    )


@pytest.fixture
def trained(record: RunRecord, curves: TrainingCurves) -> RunRecord:
    """A student measured against its teacher."""
    distilled = PassRecord(
        "distill",
        "distill{steps=600,patience=1}",
        "done",
        "",
        63.0,
        [Edit(f"layer{index}.weight", "trained") for index in range(53)],
        [],
        13_951_264,
        300_774_272,
        19.8,
        curves,
    )
    student = ModelRecord(
        *("pruned.onnx", "b1" * 32, 14_018_100, 3_487_816, 300_774_272, 153),
        compressed_bytes=6_402_118,
    )
    before = Quality(
        {"logits": 4.1, "features": 3.2}, 41.9, Metric("top1", 71.88, 39.4), 900, "eval"
    )
    return dataclasses.replace(
        record,
        command=distilled.spec,
        passes=[distilled],
        candidates=[],
        limits=[],
        messages=[],
        start=StartRecord(student, before),
    )


@pytest.fixture
def sparser(record: RunRecord) -> RunRecord:
    """60 groups of channels, of which all but the last ten lost some; zeros and ranks besides."""
    groups = [_group(index) for index in range(60)]
    zeros = [LayerZeros(f"/layer{index}/Conv", 2304, 0, 1150 + index) for index in range(60)]
    ranks = [
        LayerRank(f"/layer{index}/Conv", "spatial", (48,), (index + 1,)) for index in range(40)
    ]
    passes = [
        dataclasses.replace(record.passes[0], name=name, spec=name, taken=taken)
        for name, taken in (
            ("prune-channels", Taken("error", groups)),
            ("mask-weights", Taken(zeros=zeros)),
            ("factorize-conv", Taken(ranks=ranks)),
        )
    ]
    return dataclasses.replace(record, passes=passes, candidates=[])


def _group(index: int) -> GroupWidth:
    before = 16 * (1 + index // 20)
    after = before - 4 * (index % 3 + 1) if index < 50 else before
    loss = [(gone, (gone / before) ** (1 + index % 4)) for gone in range(before + 1)]
    damage = [(gone, 0.3 * value) for gone, value in loss[::4]]
    name = f"/features/features.{index}/conv/pointwise.{index % 3}/Conv"
    return GroupWidth(name, [name], [f"{name}_next"], before, after, 1, "", loss, damage)


def _record(layers: int = 60) -> RunRecord:
    items = [_layer(index, layers) for index in range(layers)]
    left = [item for item in items if item.ms_after == item.ms_before]
    integer = [item for item in items if item not in left]
    return RunRecord(
        command="auto",
        environment=Environment(
            cpu="AMD EPYC 7763 64-Core Processor",
            flags=["avx2"],
            threads=2,
            target="x86-avx2",
            versions={
                "python": "3.11.9",
                "onnx": "1.23.2",
                "onnxruntime": "1.32.0",
                "numpy": "2.4.1",
                "scipy": "1.17.0",
            },
        ),
        input=ModelRecord(
            *("models/mobilenet.onnx", "3f" * 32, 14_018_332, 3_487_816, 300_774_272, 153, 11.42),
            compressed_bytes=12_988_014,
        ),
        output=ModelRecord(
            *("models/mobilenet.opt.onnx", "a7" * 32, 3_655_120, 3_487_816, 300_774_272, 472, 6.18),
            compressed_bytes=3_102_440,
        ),
        quality=Quality(
            {"logits": 23.41, "features": 27.9},
            97.44,
            Metric("top1", 71.88, 71.63),
            900,
            "eval",
            worst_sample_db={"logits": 11.2, "features": 20.4},
            fresh=Fresh({"logits": 22.9, "features": 27.1}, {"logits": 96.5}),
            outputs={
                "logits": OutputQuality(
                    "classes", sqnr_db=23.41, worst_sample_db=11.2, agreement=97.44
                ),
                "features": OutputQuality("regression", sqnr_db=27.9, worst_sample_db=20.4),
            },
        ),
        passes=_passes(integer, left),
        candidates=_candidates(),
        audit=Audit(
            [Entry(item.node, item.op_type, "QLinearConv") for item in integer],
            [Entry(item.node, item.op_type, item.op_type, _reason(item)) for item in left],
        ),
        layers=items,
        limits=[
            LimitRecord("min_sqnr_db", 23.0, 23.41, True, 22.9),
            LimitRecord("max_drop", 0.2, 0.25, False),
        ],
        messages=["int8 in both forms was measured; the static one is faster by 31 %."],
        recipe=_RECIPE,
        latency_ratio=0.541,
        latency_spread=0.018,
        latency_clock="wall",
        peak_rss_bytes=412_000_000,
        seconds=48.3,
    )


def _layer(index: int, of: int) -> LayerRecord:
    """Small and slow at the front, large and fast at the back, every ninth left in float."""
    kind = "depthwise" if index % 3 == 1 else "pointwise"
    name = f"/features/features.{index // 3}/conv/{kind}.{index % 3}/Conv"
    weight = 1152 if kind == "depthwise" else 4 * 32 * 32 * (1 + index * 40 // of) ** 2
    before = 0.05 + 0.9 / (1 + index * 60 // of / 6) + (index * 7 % 5) * 0.03
    left = index == 0 or index % 9 == 4
    return LayerRecord(
        name,
        "Conv",
        weight,
        weight if left else weight // 4 + 128,
        before,
        before if left else before * (0.45 + index % 4 * 0.05),
        46.0 - 20.0 * index / of - (index * 13 % 7),
    )


def _reason(item: LayerRecord) -> str:
    if item.node.endswith(".0/Conv"):
        return "reads the input of the model; in float by choice, worth 2.1 dB"
    return "its result is added to a float tensor; onnxruntime fuses it only where both are integer"


def _passes(integer: list[LayerRecord], left: list[LayerRecord]) -> list[PassRecord]:
    full, small = 13_951_264, 3_607_424
    folds = [Edit(item.node, "took in the BatchNormalization behind it") for item in integer[:35]]
    edits = [
        Edit(item.node, f"uint8 activations, int8 weight of {item.bytes_after} B")
        for item in integer
    ]
    skips = [Skip(item.node, _reason(item)) for item in left]
    moved = [Edit(item.node, "bias moved by up to 0.031") for item in integer]
    return [
        PassRecord(
            "fuse-batchnorm",
            "fuse-batchnorm",
            "done",
            "",
            0.41,
            folds,
            [],
            full,
            300_774_272,
            128.2,
        ),
        PassRecord(
            "fold-constants",
            "fold-constants",
            "nothing to do",
            "",
            0.06,
            [],
            [Skip("Shape_12", "its input has a free axis")],
            full,
            300_774_272,
            128.2,
        ),
        PassRecord(
            "quantize-static", _SPEC, "done", "", 9.87, edits, skips, small, 300_774_272, 21.6
        ),
        PassRecord(
            "correct-bias", "correct-bias", "done", "", 6.2, moved, [], small, 300_774_272, 23.41
        ),
        PassRecord(
            "mask-weights",
            "mask-weights{sparsity=0.6}",
            "rolled back",
            "min-sqnr asks 20 dB, output 'logits' is at 11.2 dB",
            1.3,
            [],
            [],
            small,
            300_774_272,
            None,
        ),
    ]


def _candidates() -> list[CandidateRecord]:
    return [
        CandidateRecord(
            "cleaned float",
            "fuse-batchnorm",
            13_990_112,
            1.0,
            128.2,
            100.0,
            71.88,
            False,
            "the yardstick",
        ),
        CandidateRecord(
            "static, uint8 activations",
            _SPEC,
            3_655_120,
            0.541,
            23.41,
            97.44,
            71.63,
            True,
            "smallest and fastest within the limits",
            latency_spread=0.018,
            latency_clock="processor",
        ),
        CandidateRecord(
            "static, int8 activations",
            "quantize-static{activations=int8}",
            3_655_120,
            0.588,
            22.97,
            97.1,
            71.5,
            False,
            "slower than the chosen one",
            latency_spread=0.021,
            latency_clock="processor",
        ),
        CandidateRecord(
            "dynamic",
            "quantize-dynamic",
            3_601_004,
            1.31,
            26.2,
            98.2,
            71.8,
            False,
            "slower than float on this machine",
            latency_spread=0.049,
            latency_clock="processor",
        ),
        CandidateRecord(
            "weights only",
            "quantize-weights",
            3_598_220,
            None,
            None,
            None,
            None,
            False,
            "onnxruntime has no kernel for it here",
        ),
    ]
