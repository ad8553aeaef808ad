"""Codes in bytes, against their definition bit by bit."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray

from graphopt.numerics.packing import (
    fields_table,
    pack_fields,
    pack_planes,
    pack_rows,
    unpack_fields,
    unpack_planes,
    unpack_rows,
)


@given(st.sampled_from([1, 2, 4, 8]), st.data())
def test_fields_come_back_and_fill_their_bytes(bits: int, data: st.DataObject) -> None:
    count = 8 // bits * data.draw(st.integers(0, 5))
    codes = data.draw(hnp.arrays(np.int64, count, elements=st.integers(0, 2**bits - 1)))
    packed = pack_fields(codes, bits)
    assert packed.dtype == np.uint8 and packed.size == count * bits // 8
    number = sum(int(code) << (bits * at) for at, code in enumerate(codes))
    assert int.from_bytes(packed.tobytes(), "little") == number
    if bits < 8:
        assert unpack_fields(packed, bits).tolist() == codes.tolist()


@given(st.integers(1, 8), st.data())
def test_planes_come_back(bits: int, data: st.DataObject) -> None:
    shape = data.draw(st.sampled_from([(0,), (8,), (3, 16), (2, 4, 3)]))
    codes = data.draw(hnp.arrays(np.int64, shape, elements=st.integers(0, 2**bits - 1)))
    packed = pack_planes(codes, bits)
    assert packed.shape == (codes.size // 8, bits)
    for row, eight in zip(packed, codes.reshape(-1, 8), strict=True):
        for place, byte in enumerate(row):
            assert [int(byte) >> at & 1 for at in range(8)] == [int(c) >> place & 1 for c in eight]
    assert unpack_planes(packed).tolist() == codes.reshape(-1).tolist()


@pytest.mark.parametrize("bits", [1, 2, 4])
def test_the_table_has_a_row_for_every_byte(bits: int) -> None:
    every: NDArray[np.uint8] = np.arange(256).astype(np.uint8)
    assert pack_fields(fields_table(bits), bits).tolist() == every.tolist()


@pytest.mark.parametrize("bits", [1, 2, 4])
def test_what_does_not_fill_bytes_is_refused(bits: int) -> None:
    with pytest.raises(ValueError, match="reshape"):
        pack_fields(np.zeros(8 // bits + 1, np.int64), bits)
    with pytest.raises(ValueError, match="reshape"):
        pack_planes(np.zeros(9, np.int64), 3)


@given(st.sampled_from([1, 2, 4, 8]), st.integers(1, 3), st.integers(1, 9), st.integers(0, 9))
def test_rows_come_back_whatever_their_length(bits: int, rows: int, length: int, seed: int) -> None:
    codes = np.random.default_rng(seed).integers(0, 1 << bits, (rows, length))
    held = pack_rows(codes, bits)
    assert held.shape == (rows, -(-length * bits // 8))
    np.testing.assert_array_equal(unpack_rows(held, bits)[:, :length], codes)
    for row, packed in zip(codes, held, strict=True):
        number = sum(int(code) << (bits * at) for at, code in enumerate(row))
        assert int.from_bytes(packed.tobytes(), "little") == number
