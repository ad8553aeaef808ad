"""How many layers are worth to be kept float: what it brings and costs, told beforehand."""

from __future__ import annotations

import pytest

from graphopt.graph import io
from graphopt.run.quality import Quality
from graphopt.runtime.latency import Ratio
from graphopt.search.candidate import Candidate
from graphopt.search.shares import Forecast, worth_trying
from graphopt.testing import MODELS, staged

STAGE = staged(io.load(MODELS["no-layers"]()), judged=False)[0]
NAMES = [f"layer{number}" for number in range(50)]
WORK = dict.fromkeys(NAMES, 100)
BYTES = dict.fromkeys(NAMES, 10)


def static(db: float, ratio: float = 0.5) -> Candidate:
    quality = Quality(sqnr_db={"y": db})
    return Candidate("static", "int8", [], STAGE, [], 300, Ratio(ratio, 0.01), quality)


def noise(*loud: float) -> dict[str, float]:
    """The noisiest layers, and all others with 1 together."""
    rest = 1 / (50 - len(loud))
    return dict(zip(NAMES, [*loud, *[rest] * (50 - len(loud))], strict=True))


def test_noise_adds_up() -> None:
    forecast = Forecast(noise(9.0), WORK, BYTES)
    assert forecast.gain_db(0) == 0
    assert forecast.gain_db(1) == pytest.approx(10)


def test_layers_in_float_cost_their_share_of_time_and_their_bytes() -> None:
    forecast = Forecast(noise(9.0), WORK | {"layer0": 4900}, BYTES)
    few = forecast.cost(0, static(28.0), 1000)
    one = forecast.cost(1, static(28.0), 1000)
    assert few == pytest.approx(static(28.0).cost(1000))
    assert one > few + 0.4  # half of the work is as slow as before


@pytest.mark.parametrize(
    ("loud", "db", "needed", "counts"),
    [
        ((9.0,), 18.0, 0.0, [2]),  # all others gain less than a dB more
        ((9.0, 9.0, 4.0, 4.0, 4.0), 8.0, 0.0, [2, 5]),
        ((9.0, 9.0, 4.0, 4.0, 4.0), 8.0, 12.0, [5]),
        ((9.0, 9.0, 4.0, 4.0, 4.0), 8.0, 30.0, []),  # what was asked is out of reach
        ((), 18.0, 0.0, []),  # nothing stands out
        ((0.8,), 27.0, 0.0, []),  # close enough, one dB is not worth the time
    ],
)
def test_only_what_may_pay_is_tried(
    loud: tuple[float, ...], db: float, needed: float, counts: list[int]
) -> None:
    forecast, form = Forecast(noise(*loud), WORK, BYTES), static(db)
    found, why = worth_trying(forecast, form, form.cost(1000), 1000, needed)
    assert found == counts
    assert ("which does not pay" in why) == (not counts)


def test_a_model_of_one_layer_has_none_to_keep() -> None:
    assert worth_trying(Forecast({"a": 1.0}, {}, {}), static(10.0), 0.0, 1000) == ([], "")
