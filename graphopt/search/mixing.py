"""Which layers are worth to be kept float beside integer ones: by error, time and bytes of each."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from graphopt.contract.forms import FLOAT, LayerForm, ModelFigures, form_named
from graphopt.families.mixture import mixture_bytes, mixture_ms, smallest
from graphopt.numerics.sqnr import decibels
from graphopt.run.drive import form_maker
from graphopt.run.form_trials import StageTrials
from graphopt.run.means import Means
from graphopt.run.stage import Stage
from graphopt.search.candidate import BYTES_WEIGHT, MARGIN, SAME_DB, Candidate, weighed

__all__ = ["MixedForecast", "forecast_of", "worth_trying"]

_INTEGER = form_named("int8-static")
_FORMS: tuple[LayerForm, ...] = (FLOAT, _INTEGER)
_GAINS_DB = (1.0, 1.5, 2.0, 2.5, 3.0, 3.5, *map(float, range(4, 17)))
"""How much closer mixtures are looked for; the first is the least that layers stay float for."""
_STEP = 0.01
"""Times are told apart by no less than that part of the model's: clocks are not that exact."""


@dataclass(frozen=True)
class MixedForecast:
    """A mixture of float and integer layers that was not made yet.

    Attributes:
        floats: The layers that stay float, in the order of the graph.
        gain_db: By how much its answers are closer than those of all layers on integers.
        slower: What it takes more in time, as a share of what all layers take in floats; less
            than 0 where layers are faster in floats.
        larger: What it takes more in bytes.
    """

    floats: tuple[str, ...]
    gain_db: float
    slower: float
    larger: int

    def cost(self, static: Candidate, base_bytes: int) -> float:
        """What it would cost, as a candidate does."""
        missing = max(0.0, static.missing_db - self.gain_db)
        size = (static.bytes + self.larger) / base_bytes
        return weighed(max(_STEP, static.time + self.slower), size, missing)


def forecast_of(stage: Stage, means: Means) -> list[MixedForecast]:
    """Mixtures that take the least time for what they gain, the smallest gain first.

    Args:
        stage: The model in floats.
        means: What to measure with.

    Raises:
        PassError: No layer can be measured, or the time is over.
        DataError: The samples cannot be used.
        ModelError: onnxruntime cannot run it.
    """
    assert means.judge is not None
    trials = StageTrials(stage, means, means.judge, form_maker(stage, means))
    figures = _coarse(trials.figures(_FORMS, timed=True))
    return forecasts(figures)


def forecasts(figures: ModelFigures) -> list[MixedForecast]:
    """The same from what is known of the layers.

    Args:
        figures: Every layer in floats and on integers, timed where that could be done.
    """
    whole = {each.node: _INTEGER.name for each in figures.layers if _INTEGER.name in each.forms}
    loud, total = figures.summed(whole), mixture_ms(figures, {})
    priced = _with_bytes(figures, whole) if total > 0 else figures
    found = dict[tuple[str, ...], MixedForecast]()
    for gain in _GAINS_DB:
        noise = loud * 10 ** (-gain / 10)
        mixture = smallest(priced, _FORMS, noise, timed=total > 0)
        if mixture is None:
            continue
        floats = tuple(node for node in whole if mixture[node] == FLOAT.name)
        more = mixture_ms(figures, mixture) - mixture_ms(figures, whole)
        found[floats] = MixedForecast(
            floats,
            float(decibels(loud, figures.summed(mixture))),
            more / total if total > 0 else 0.0,
            mixture_bytes(figures, mixture) - mixture_bytes(figures, whole),
        )
    return [each for each in found.values() if len(each.floats) < len(whole)]


def _with_bytes(figures: ModelFigures, whole: Mapping[str, str]) -> ModelFigures:
    """The figures with times that hold what bytes weigh beside time in a candidate's cost."""
    each_byte = BYTES_WEIGHT * mixture_ms(figures, whole) / mixture_bytes(figures, whole)
    layers = tuple(
        replace(
            each,
            forms={
                name: replace(form, ms=(form.ms or 0.0) + each_byte * form.bytes)
                for name, form in each.forms.items()
            },
        )
        for each in figures.layers
    )
    return replace(figures, layers=layers)


def _coarse(figures: ModelFigures) -> ModelFigures:
    """The figures with times in steps that another run finds as well."""
    step = _STEP * mixture_ms(figures, {})
    if not step:
        return figures

    def rounded(ms: float | None) -> float | None:
        return None if ms is None else step * round(ms / step)

    layers = tuple(
        replace(each, forms={n: replace(f, ms=rounded(f.ms)) for n, f in each.forms.items()})
        for each in figures.layers
    )
    borders: Mapping[tuple[str, bool], float] = {
        grid: rounded(ms) or 0.0 for grid, ms in figures.borders.items()
    }
    return replace(figures, layers=layers, borders=borders)


def worth_trying(
    mixtures: list[MixedForecast],
    static: Candidate,
    least: float,
    base_bytes: int,
    needed_db: float = 0.0,
) -> tuple[list[MixedForecast], str]:
    """The mixtures that may be better than all forms so far: a cheap one, and a closer one.

    The first is the closest of those that cost hardly more than the cheapest, as ``choose`` would
    have it of forms that were made: a forecast of error is no more exact than one of cost.

    Args:
        mixtures: What could be made, the smallest gain first.
        static: The candidate with all layers on integers, measured.
        least: What the cheapest candidate costs that may be chosen.
        base_bytes: Size of the cleaned model.
        needed_db: How many dB are missing to what was asked.

    Returns:
        One or two of them, and a sentence where there is none.
    """
    costs = {each.floats: each.cost(static, base_bytes) for each in mixtures}
    paying = [
        each
        for each in mixtures
        if each.gain_db >= max(needed_db, _GAINS_DB[0])
        and costs[each.floats] < least + _allowed(each)
    ]
    if not paying:
        if not mixtures:
            return [], ""
        most = mixtures[-1]
        return [], (
            f"no candidate with sensitive layers in float: {_many(most)} that are the cheapest "
            f"for it would gain about {most.gain_db:.1f} dB, which does not pay"
        )
    cheapest = min(costs[each.floats] for each in paying)
    near = [each for each in paying if costs[each.floats] <= cheapest + MARGIN]
    best = max(near, key=lambda each: each.gain_db)
    closer = [each for each in paying if each.gain_db >= best.gain_db + SAME_DB]
    return [best, *closer[:1]], ""


def _allowed(mixture: MixedForecast) -> float:
    """By how much it may be dearer: of forms near in cost ``choose`` takes the more accurate."""
    return MARGIN if mixture.gain_db >= SAME_DB else -MARGIN


def _many(mixture: MixedForecast) -> str:
    return "1 layer" if len(mixture.floats) == 1 else f"{len(mixture.floats)} layers"
