"""Sentences by length."""

import gzip
from pathlib import Path

import numpy as np
import sentences


def encoded(*lengths: int) -> list[sentences.Encoded]:
    return [{"input_ids": [7] * n, "attention_mask": [1] * n} for n in lengths]


def shapes(*lengths: int, least: int) -> list[tuple[int, ...]]:
    return [a["input_ids"].shape for a in sentences.bucketed(encoded(*lengths), least)]


def test_like_lengths_lie_together() -> None:
    assert shapes(3, 5, 3, 5, 5, least=2) == [(2, 3), (3, 5)]


def test_short_files_are_joined() -> None:
    assert shapes(1, 2, 3, 3, 3, 9, least=3) == [(6, 9)]
    assert shapes(1, 2, 3, 9, 9, 9, least=3) == [(3, 3), (3, 9)]
    assert shapes(1, 1, 1, 2, 2, 2, 3, least=3) == [(3, 1), (4, 3)]
    assert shapes(4, least=3) == [(1, 4)]


def test_what_is_padded_is_masked() -> None:
    (arrays,) = sentences.bucketed(encoded(2, 4), least=2)
    np.testing.assert_array_equal(arrays["input_ids"], [[7, 7, 0, 0], [7, 7, 7, 7]])
    np.testing.assert_array_equal(arrays["attention_mask"], [[1, 1, 0, 0], [1, 1, 1, 1]])


def test_lines_are_read(tmp_path: Path) -> None:
    text = "a cat\n\nb\u2028c\n".encode()
    (tmp_path / "plain.txt").write_bytes(text)
    (tmp_path / "packed.txt.gz").write_bytes(gzip.compress(text))
    for name in ("plain.txt", "packed.txt.gz"):
        assert sentences.read_sentences(tmp_path / name) == ["a cat", "b\u2028c"]
