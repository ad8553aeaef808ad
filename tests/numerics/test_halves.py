from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from graphopt.numerics.halves import HALF_FORMATS, HalfName, fits

NAMES: tuple[HalfName, ...] = ("float16", "bfloat16")


@pytest.mark.parametrize("name", NAMES)
def test_the_limits_are_those_of_the_format(name: HalfName) -> None:
    form = HALF_FORMATS[name]
    ends = np.array([form.largest, form.smallest], np.float32)
    assert form.rounded(ends).astype(np.float32).tolist() == ends.tolist()
    beyond = np.array([form.largest * (1.001 if name == "float16" else 1.003)], np.float32)
    assert np.isinf(form.rounded(beyond).astype(np.float32)).all()
    # From the smallest normal value on the error is half a step of the mantissa; below it is more.
    bits = 11 if name == "float16" else 8
    near = np.float32(form.smallest * (1 + 2.0**-bits * 0.98))
    apart = abs(float(form.rounded(np.array([near]))[0]) - float(near)) / float(near)
    assert apart <= 2.0**-bits


@given(arrays(np.float32, 7, elements=st.floats(-60000, 60000, width=32)))
def test_what_fits_is_near(values: np.ndarray) -> None:
    form = HALF_FORMATS["float16"]
    again = form.rounded(values).astype(np.float64)
    norm = float(np.linalg.norm(values.astype(np.float64)))
    error = float(np.linalg.norm(again - values))
    assert (fits(values, form) == "") == (error <= 2.0**-8 * norm)


@pytest.mark.parametrize(
    ("values", "name", "told"),
    [
        ([], "float16", ""),
        ([0.0, 0.0], "float16", ""),
        ([1.0, 1e-9], "float16", ""),  # lost, and of no weight beside the other
        ([-math.inf, 2.0], "float16", ""),
        ([math.nan], "float16", ""),
        ([65519.0], "float16", ""),
        ([65520.0], "float16", "values up to 6.55e+04 lie beyond 65504"),
        ([3e-8, 1e-7], "float16", "values as small as 3e-08 would be lost"),
        ([1e-12], "bfloat16", ""),
        ([-3.4028235e38], "bfloat16", "values up to 3.4e+38 lie beyond 3.38953e+38"),
    ],
)
def test_why_values_do_not_fit(values: list[float], name: HalfName, told: str) -> None:
    assert fits(np.array(values, np.float32), HALF_FORMATS[name]) == told
