"""Pass ``assign-precision``."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

import numpy as np
import onnx

from graphopt.contract.budgets import at_most_one, missed_budget
from graphopt.contract.examples import Example
from graphopt.contract.forms import FLOAT, FORMS, LayerForm, form_named
from graphopt.contract.passes import Changes, Context, Option, Pass
from graphopt.contract.preconditions import CalibrationSamples, MinOpset, Unquantized
from graphopt.contract.registry import register
from graphopt.errors import PassError
from graphopt.families.mixed_search import BudgetKind, MixedBudget, MixedSearch
from graphopt.graph.graph import Graph

__all__ = ["AssignPrecision"]

_DEFAULT_BYTES = 0.25


@register("assign-precision")
@dataclass(frozen=True, kw_only=True)
class AssignPrecision(Pass):
    """Give each layer the form that spends one budget best: floats, 8 or 4 bits.

        Conv, Conv, Conv, ...      becomes      Conv(int8), Conv(int4), Conv(float), ...

    Each layer alone takes each of ``forms``, as in ``graphopt analyze``, and the error at the
    outputs is measured, without labels. Noises of several layers add up, so the best choice for
    all of them follows exactly, by integer programming. It is made, measured as a whole, and mended
    where what was measured is off what was asked. With samples, ``rounding=data`` then chooses the
    codes as ``round-weights`` does; ``nearest`` leaves them as they are, for another pass behind.

    One budget says how much: ``bytes`` of the file or ``latency`` of its layers on this machine, as
    a share of the model before it, at the least error that these allow; or ``min_sqnr`` of the
    worst output at the fewest bytes, or with ``least=latency`` at the least time. Without any,
    bytes=0.25. Layers whose activations get a fixed grid share it with their neighbours, and pay
    for it together.

    Forms are int8-static and int4-static (activations on fixed grids), int8-weights and
    int4-weights (float arithmetic), int8-dynamic, and float32. Put it behind the clean-up passes.
    Source: Dong et al. 2020, HAWQ-V2 (one sensitivity a layer, a choice for all); Hubara et al.
    2021, Accurate Post Training Quantization With Small Calibration Sets, section 3.3 (integer
    programming).
    """

    bytes: Annotated[
        float | None,
        Option("bytes of the file at most, as a share of what it takes", low=0, high=1),
    ] = None
    latency: Annotated[
        float | None,
        Option("time of the layers at most, as a share of what they take", low=0, high=1),
    ] = None
    min_sqnr: Annotated[float | None, Option("SQNR of the worst output at least", unit="dB")] = None
    least: Annotated[
        Literal["bytes", "latency"], Option("what min_sqnr is to be had at least of")
    ] = "bytes"
    forms: Annotated[
        tuple[str, ...], Option("forms to choose from; floats are always among them")
    ] = ("int8-static", "int4-static")
    rounding: Annotated[
        Literal["data", "nearest"], Option("codes by what layers read, or the nearest ones")
    ] = "data"
    lossy: ClassVar[bool] = True
    quantizes: ClassVar[bool] = True
    as_stored: ClassVar[bool] = True
    may_grow: ClassVar[str] = "a layer may get a bias"
    requires = (
        Unquantized(),
        CalibrationSamples(),
        MinOpset("per-channel DequantizeLinear", 13),
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        at_most_one(
            self.name, {"bytes": self.bytes, "latency": self.latency, "min_sqnr": self.min_sqnr}
        )
        self._chosen_forms()

    def _chosen_forms(self) -> list[LayerForm]:
        """The forms by name, floats first."""
        chosen = {form_named(name).name for name in self.forms}
        return [form for form in FORMS if form.name in chosen or not form.item]

    @property
    def budget(self) -> MixedBudget:
        """The budget that was given, or the default one."""
        given: dict[BudgetKind, float | None] = {
            "bytes": self.bytes,
            "latency": self.latency,
            "min_sqnr": self.min_sqnr,
        }
        kind, value = next(
            ((kind, value) for kind, value in given.items() if value is not None),
            ("bytes", _DEFAULT_BYTES),
        )
        return MixedBudget(kind, value, by_time=kind == "latency" or self.least == "latency")

    def run(self, graph: Graph, context: Context) -> Changes:
        changes = Changes()
        if context.trials is None:
            raise PassError("the model was not run, so nothing shows what forms do to its answers")
        search = MixedSearch(graph, context, context.trials, self._chosen_forms())
        behind = "round-weights" if self.rounding == "data" else ""
        found = search.within(self.budget, behind)
        if found is None:
            changes.nothing = search.reason
            changes.missed = missed_budget(self.budget.kind, self.budget.value, None, search.reason)
            return changes
        changes.missed = missed_budget(
            self.budget.kind,
            self.budget.value,
            found.reached,
            "no choice of these forms comes nearer",
            least=self.budget.kind == "min_sqnr",
        )
        if not found.spec:
            changes.nothing = "all layers stay float: that spends the budget best"
            return changes
        graph.become(found.graph)
        for node, form in found.mixture.items():
            if form != FLOAT.name:
                changes.edit(node, f"{form}, alone {search.alone_db(node, form):.1f} dB")
            else:
                changes.skip(node, "it stays float by choice: that spends the budget best")
        counts = ", ".join(f"{n} {name}" for name, n in Counter(found.mixture.values()).items())
        changes.edit("the model", f"{counts}; {found.words}")
        return changes

    @classmethod
    def examples(cls) -> Sequence[Example]:
        lift = "upgrade-opset{opset=21}"
        plain = Example("cnn", {"rounding": "nearest", "bytes": 0.4}, lift, samples=8)
        timed = Example(_wide, {"forms": ("int8-static",), "rounding": "nearest"}, samples=8)
        return [
            plain,
            plain.but(rounding="data", forms=("int8-static",), bytes=0.6),
            Example("mlp", {"min_sqnr": 20.0, "forms": ("int8-weights",), "rounding": "nearest"}),
            timed.but(min_sqnr=20.0, least="latency"),
            timed.but(latency=0.9),
        ]


def _wide() -> onnx.ModelProto:
    """One layer that takes a time that can be told, and less of it on integers."""
    made: onnx.ModelProto = onnx.parser.parse_model(
        """<ir_version: 8, opset_import: ["" : 17]>
        wide (float[1, 64, 16, 16] x) => (float[1, 64, 16, 16] y) {
            y = Conv <pads = [1, 1, 1, 1]> (x, W)
        }"""
    )
    values = np.random.default_rng(0).normal(size=(64, 64, 3, 3)).astype(np.float32)
    made.graph.initializer.append(onnx.numpy_helper.from_array(values, "W"))
    return made
