"""Layers at other widths, side by side: what they take is not tested, only that it is told."""

from __future__ import annotations

from typing import Literal

import numpy as np
import pytest

from graphopt.runtime.layer_times import TimedLayer, layer_times

PADS = (("pads", (1, 1, 1, 1)),)
LAYERS = [
    TimedLayer("Conv", (1, 8, 6, 6), (3, 3), PADS),
    TimedLayer("Conv", (1, 8, 6, 6), (3, 3), PADS, depthwise=True),
    TimedLayer("MatMul", (1, 5, 8)),
]


@pytest.mark.parametrize("form", ["float", "int8"])
@pytest.mark.parametrize("layer", LAYERS, ids=["conv", "depthwise", "matmul"])
def test_each_pair_of_widths_has_a_time(layer: TimedLayer, form: Literal["float", "int8"]) -> None:
    times = layer_times(layer, ((4, 8), (4, 6, 8)), form=form, threads=1)
    assert times.shape == (2, 3)
    assert (times >= 0).all()
    assert np.isfinite(times).all()
    if layer.depthwise:
        np.testing.assert_array_equal(times[0], times[1])


def test_shapes_at_other_widths() -> None:
    conv, depthwise, product = LAYERS
    assert conv.shapes(4, 6) == ((1, 4, 6, 6), (6, 4, 3, 3))
    assert depthwise.shapes(4, 4) == ((1, 4, 6, 6), (4, 1, 3, 3))
    assert product.shapes(4, 6) == ((1, 5, 4), (4, 6))
