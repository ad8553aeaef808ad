"""What each layer does to the answers in each form: one at a time, in one session of the model."""

from __future__ import annotations

import hashlib
import logging
import math
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from graphopt.contract.forms import (
    FLOAT,
    FormFigures,
    Grid,
    LayerFigures,
    LayerForm,
    ModelFigures,
)
from graphopt.errors import PassError
from graphopt.graph import io
from graphopt.graph.tensors import Array
from graphopt.rewrite.switches import Switches, with_switches
from graphopt.run.form_twins import FormTwins, Made
from graphopt.run.judge import Judge
from graphopt.run.layer_figures import bytes_of_layers, times_of_layers
from graphopt.run.means import Means
from graphopt.run.stage import Stage
from graphopt.runtime.layer_times import rounding_ms
from graphopt.runtime.session import Session

__all__ = ["Measured", "measure_forms", "with_times"]

logger = logging.getLogger(__name__)

Floats = NDArray[np.float32]

_EXACT_DB = 200.0
_SAMPLES = 32
_MOST_MACS = 150_000_000_000
"""That many take two cores some ten seconds."""
_MOST_TOGETHER = 4
_FINE_SHARE = 0.25
"""Share of the parts, the noisiest ones, that are measured alone where others share a figure."""
_SESSIONS = 3
"""The model with its weights as inputs: as read, as fed, and those of a form."""

Measured = dict[str, float]
"""Noise by a text for what was measured: what a file keeps of it."""


def measure_forms(
    stage: Stage,
    means: Means,
    forms: Sequence[LayerForm],
    make: Callable[[str], Made],
    *,
    known: Measured | None = None,
    keep: Callable[[Measured], None] | None = None,
    partly: bool = False,
) -> ModelFigures:
    """Noise and bytes of each layer of a float graph in each form, and noise of each grid.

    Each layer alone gets the weights that it has in a form, and the mean of each channel of its
    result is put right, as a corrected bias would; each tensor alone goes on its grid. The error in
    the worst output, as a share of that output's power, is its noise. Where the model is large
    neighbours are measured together first, and those that are loud then alone.

    Args:
        stage: The model in floats.
        means: What to measure with.
        forms: Those that are compared.
        make: What passes make of the model: in a form, all layers that it suits are in it.
        known: What was measured before.
        keep: Is told all that is measured, each time that it has grown.
        partly: What the time does not suffice for is left out.

    Raises:
        PassError: No layer can be measured, or the time is over and ``partly`` is not set.
        DataError: The samples cannot be used.
        ModelError: onnxruntime cannot run it.
    """
    if means.judge is None:
        raise PassError("it was not run, so nothing shows what forms do to its answers")
    taken, most = _SESSIONS * stage.graph.weight_bytes, means.memory(2)
    if most is not None and taken > most:
        raise PassError("the memory limit leaves no room to measure layers one by one")
    found = FormTwins.read(stage, forms, make)
    meter = _Meter(stage, means, means.judge, found, {} if known is None else known, keep, partly)
    return meter.figures()


@dataclass(frozen=True)
class _Part:
    """Something that is measured: a layer with other weights, or a tensor on a grid."""

    name: str
    node: str = ""
    form: str = ""
    grid: Grid | None = None


@dataclass
class _Meter:
    """Measures one part after another in one session."""

    stage: Stage
    means: Means
    judge: Judge
    forms: FormTwins
    known: Measured
    keep: Callable[[Measured], None] | None
    partly: bool
    switches: Switches = field(init=False)
    session: Session = field(init=False)

    def figures(self) -> ModelFigures:
        """All that is asked.

        Raises:
            PassError: No layer can be measured, or the time is over.
            ModelError: onnxruntime cannot run the model.
        """
        weights = {pair: self._of_weights(*pair) for pair in self.forms.pairs()}
        if not weights:
            reasons = dict.fromkeys(self.forms.reasons.values())
            raise PassError("; ".join(["no layer has any of these forms", *reasons]))
        grids = {grid: self._of_grid(grid) for grid in self.forms.all_grids}
        parts = {part.name: part for part in (*grids.values(), *weights.values())}
        samples, together = _plan(self.stage.macs, len(parts))
        self.judge = self.judge.first(samples)
        ranks = self.forms.ranks(sum(each.rows.real for each in self.judge.samples))
        self.switches = with_switches(self.stage.graph, ranks, self.forms.all_grids)
        outputs = [*self.stage.graph.main.outputs, *self.switches.means.values()]
        self.session = Session(self.switches.graph, threads=self.means.threads, outputs=outputs)
        self.expected, self.middles = self._run(self.switches.feed({}))
        self._measure(list(parts.values()), together)
        left = sum(name not in self.known for name in parts)
        return self._put_together(
            {
                pair: self.known[part.name]
                for pair, part in weights.items()
                if part.name in self.known
            },
            {
                grid: self.known[part.name]
                for grid, part in grids.items()
                if part.name in self.known
            },
            left,
        )

    def _of_weights(self, node: str, form: str) -> _Part:
        values = self.forms.weights(node, form)
        assert values is not None
        return _Part(f"{node} with weights {_digest(values)}", node, form)

    def _of_grid(self, grid: Grid) -> _Part:
        fixed = self.forms.all_grids[grid]
        where = "each run finds" if fixed is None else _digest(*(each.values for each in fixed))
        return _Part(f"{grid[0]} on the grid {where}", grid=grid)

    def _measure(self, parts: Sequence[_Part], together: int) -> None:
        """The noise of each part, of those that are measured together an equal share."""
        groups = [parts[i : i + together] for i in range(0, len(parts), together)]
        self._groups("measure layers", groups)
        if together > 1:
            loudest = sorted(parts, key=lambda part: -self.known.get(part.name, 0.0))
            loud = loudest[: round(_FINE_SHARE * len(parts))]
            for part in loud:
                self.known.pop(part.name, None)
            self._groups("measure layers alone", [[part] for part in loud])

    def _groups(self, what: str, groups: Sequence[Sequence[_Part]]) -> None:
        left = [group for group in groups if any(part.name not in self.known for part in group)]
        began = time.perf_counter()
        for index, group in enumerate(left):
            self.means.tell(what, index, len(left))
            if self.partly and self.means.deadline.over:
                return
            self.means.deadline.check("before all layers were measured")
            power = self._power(group) / len(group)
            self.known.update((part.name, power) for part in group)
            if self.keep is not None:
                self.keep(self.known)
            if index == 0:
                seconds = (time.perf_counter() - began) * len(left)
                logger.info("%s in %d steps: about %.0f s", what, len(left), seconds)

    def _power(self, group: Sequence[_Part]) -> float:
        """Noise of parts together, the means of the layers that they change put right."""
        weights, on, right = dict[str, Floats](), list[Grid](), set[str]()
        for part in group:
            if part.grid is None:
                values = self.forms.weights(part.node, part.form)
                assert values is not None
                weights[part.node] = values
                right.add(part.node)
            else:
                on.append(part.grid)
                right |= {n for n, each in self.forms.layers.items() if each.data == part.grid[0]}
        answers, middles = self._run(self.switches.feed(weights, {}, on))
        shifts = {
            name: middles[name] - self.middles[name] for name in right if name in self.middles
        }
        if shifts:
            answers, _ = self._run(self.switches.feed(weights, shifts, on))
        found = self.judge.compare(answers, self.expected)
        worst = found.worst_db if found.close_db is None else found.close_db
        return float(10 ** (-(_EXACT_DB if worst is None else worst) / 10))

    def _run(self, fed: Mapping[str, Array]) -> tuple[list[dict[str, Any]], dict[str, Floats]]:
        """The answers to all samples, and the means of the layers over them."""
        answers = list[dict[str, Any]]()
        sums: dict[str, Any] = dict.fromkeys(self.switches.means, 0.0)
        for sample in self.judge.samples:
            answer = self.session.run({**sample.feeds, **fed})
            for name, tensor in self.switches.means.items():
                sums[name] = sums[name] + answer.pop(tensor).astype(np.float64)
            answers.append(answer)
        return answers, {name: total / len(answers) for name, total in sums.items()}

    def _put_together(
        self, noise: Mapping[tuple[str, str], float], rounded: Mapping[Grid, float], left: int
    ) -> ModelFigures:
        graph, forms = self.stage.graph, self.forms
        plain = bytes_of_layers(graph, graph)
        sizes = {name: bytes_of_layers(graph, twin) for name, twin in forms.twins.items()}
        rest = io.size(graph) - sum(plain.values())
        having = Counter(form for _, form in noise)
        beside = {  # nodes and parameters of activations, shared by the layers that have the form
            name: (io.size(twin) - rest - sum(sizes[name].values())) / max(1, having[name])
            for name, twin in forms.twins.items()
        }
        layers = []
        for node, own in forms.layers.items():
            made = {FLOAT.name: FormFigures(0.0, plain[node])}
            for form in forms.rounds:
                grids = forms.grids(node, form)
                if (node, form) in noise and all(grid in rounded for grid in grids):
                    size = max(0, round(sizes[form][node] + beside[form]))
                    made[form] = FormFigures(noise[node, form], size, None, grids)
            layers.append(LayerFigures(node, own.node.op_type, made))
        rest += sum(size for node, size in plain.items() if node not in forms.layers)
        samples = sum(sample.rows.real for sample in self.judge.samples)
        return ModelFigures(tuple(layers), rounded, rest, forms.reasons, samples, left)


def _plan(macs: int | None, parts: int) -> tuple[int, int]:
    """Samples for each measurement, and parts that are measured together at first.

    Both follow from what the model computes and not from the clock, so that a busy machine finds
    the same.
    """
    work = max(1, parts * (macs or 1))
    samples = max(1, min(_SAMPLES, _MOST_MACS // work))
    return samples, min(_MOST_TOGETHER, -(-work // _MOST_MACS))


def _digest(*arrays: NDArray[Any]) -> str:
    found = hashlib.sha256()
    for values in arrays:
        found.update(f"{values.dtype}{values.shape}".encode() + values.tobytes())
    return found.hexdigest()[:12]


def with_times(
    figures: ModelFigures, stage: Stage, means: Means, made: Mapping[str, Made]
) -> ModelFigures:
    """The figures with what each layer takes on this machine in each form.

    Args:
        figures: Without times.
        stage: The model in floats.
        means: Has the sample that is run.
        made: The model in each form, by its name.

    Raises:
        ModelError: A model cannot be run.
    """
    assert means.judge is not None
    twins = {name: twin for name, twin in made.items() if not isinstance(twin, str)}
    graphs = {FLOAT.name: stage.graph, **twins}
    feeds = means.judge.samples[0].feeds
    times = times_of_layers(stage.graph, list(graphs.values()), feeds, means.threads)
    by_form = dict(zip(graphs, times, strict=True))
    layers = tuple(
        replace(
            each,
            forms={
                name: replace(form, ms=by_form.get(name, {}).get(each.node))
                for name, form in each.forms.items()
            },
        )
        for each in figures.layers
    )
    shapes = stage.sizes.shapes
    known = {grid: shapes.static_shape(grid[0]) for grid in figures.grids}
    values = {grid: math.prod(shape) for grid, shape in known.items() if shape}
    each_ms = rounding_ms(max(values.values(), default=1), means.threads)
    borders = {grid: count * each_ms for grid, count in values.items()}
    return replace(figures, layers=layers, borders=borders)
