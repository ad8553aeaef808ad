"""Pictures moved and mirrored, against loops over pixels."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from graphopt.bridge.training.augment import Augment, pictures_of
from graphopt.errors import PassError
from graphopt.graph.tensors import Array

FILL = np.array([0.25, -1.0])


def pictures(count: int, height: int, width: int, seed: int = 0) -> Array:
    return np.random.default_rng(seed).normal(size=(count, 2, height, width)).astype(np.float32)


def shifted(picture: Array, down: int, right: int, mirrored: bool) -> Array:
    """One picture pixel by pixel."""
    height, width = picture.shape[1:]
    found = np.empty_like(picture)
    for channel in range(len(picture)):
        for y in range(height):
            for x in range(width):
                row, column = y - down, x - right
                if not (0 <= row < height and 0 <= column < width):
                    found[channel, y, x] = FILL[channel]
                    continue
                found[channel, y, x] = picture[
                    channel, row, width - 1 - column if mirrored else column
                ]
    return found


@settings(max_examples=25)
@given(st.integers(1, 4), st.integers(1, 5), st.integers(0, 7), st.booleans(), st.integers(0, 99))
def test_each_picture_is_some_shift_and_mirror_image(
    height: int, width: int, shift: int, flip: bool, seed: int
) -> None:
    before = pictures(3, height, width, seed)
    augment = Augment(flip=flip, shift=shift, fill={"x": FILL})
    after = augment({"x": before}, np.random.default_rng(seed))["x"]
    assert after.dtype == np.float32
    for old, new in zip(before, after, strict=True):
        allowed = [
            shifted(old, down, right, mirrored)
            for down in range(-shift, shift + 1)
            for right in range(-shift, shift + 1)
            for mirrored in ((False, True) if flip else (False,))
        ]
        assert any(np.array_equal(new, each) for each in allowed)


def test_all_shifts_and_both_sides_come_up() -> None:
    before = np.arange(9, dtype=np.float32).reshape(1, 1, 3, 3).repeat(400, 0)
    augment = Augment(flip=True, shift=1, fill={"x": np.array([-1.0])})
    after = augment({"x": before}, np.random.default_rng(0))["x"]
    assert len({picture.tobytes() for picture in after}) == 2 * 9
    mirrored = (after[:, 0, 1, 0] > after[:, 0, 1, 2]) & (after[:, 0, 1, 2] >= 0)
    assert mirrored.any()


def test_other_inputs_and_the_given_arrays_are_left_alone() -> None:
    before = pictures(4, 3, 3)
    feeds = {"x": before.copy(), "mask": np.ones((4, 3), bool)}
    found = Augment(flip=True, shift=2, fill={"x": FILL})(feeds, np.random.default_rng(1))
    assert found["mask"] is feeds["mask"]
    assert np.array_equal(feeds["x"], before)
    assert not np.array_equal(found["x"], before)


def test_all_pictures_of_a_sample_move_alike() -> None:
    before = pictures(6, 4, 4)
    augment = Augment(flip=True, shift=2, fill={"a": FILL, "b": FILL})
    found = augment({"a": before, "b": before}, np.random.default_rng(2))
    assert np.array_equal(found["a"], found["b"])


def test_the_same_numbers_give_the_same_pictures() -> None:
    augment = Augment(flip=True, shift=3, fill={"x": FILL})
    first, second = (
        augment({"x": pictures(5, 6, 6)}, np.random.default_rng([1, 2]))["x"] for _ in range(2)
    )
    assert np.array_equal(first, second)


def test_bytes_are_filled_with_the_nearest_byte() -> None:
    before = np.full((8, 1, 2, 2), 200, np.uint8)
    augment = Augment(flip=False, shift=2, fill={"x": np.array([9.6])})
    found = augment({"x": before}, np.random.default_rng(0))["x"]
    assert found.dtype == np.uint8
    assert set(np.unique(found)) == {10, 200}


def test_the_fill_is_the_mean_colour() -> None:
    arrays = {"x": np.stack([pictures(1, 4, 4, seed) for seed in range(5)]), "ids": np.ones((5, 1))}
    found = pictures_of(arrays)
    assert list(found) == ["x"]
    assert found["x"] == pytest.approx(arrays["x"].mean((0, 1, 3, 4)))


def test_without_pictures_there_is_nothing_to_move() -> None:
    with pytest.raises(PassError, match="no input has four axes"):
        pictures_of({"x": np.ones((5, 1, 3))})


def test_pictures_with_channels_last_are_refused() -> None:
    with pytest.raises(PassError, match=r"channels first; input 'x' has shape \[1, 8, 9, 3\]"):
        pictures_of({"x": np.ones((5, 1, 8, 9, 3), np.float32)})
