"""Tokenize sentences into a folder of samples for a sentence encoder.

    python benchmarks/sentences.py TOKENIZER.json SENTENCES.txt.gz OUT

SENTENCES holds one sentence a line, UTF-8, plain or gzipped. OUT gets ``.npz`` files of sentences
of about the same length, which can be joined to batches with little padding: a form that
``--train`` takes. Needs numpy and the package ``tokenizers``.
"""

from __future__ import annotations

import argparse
import gzip
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

Encoded = dict[str, Sequence[int]]
"""A sentence by input name: ids, mask and types of its tokens."""


def read_sentences(path: Path) -> list[str]:
    """The lines of a file that hold something."""
    content = path.read_bytes()
    text = (gzip.decompress(content) if path.suffix == ".gz" else content).decode("utf-8")
    return [line.strip() for line in text.split("\n") if line.strip()]


def encode(tokenizer_file: Path, sentences: list[str], longest: int) -> list[Encoded]:
    """The tokens of each sentence, without padding."""
    from tokenizers import Tokenizer  # noqa: PLC0415 - only this step needs it

    tokenizer = Tokenizer.from_file(str(tokenizer_file))
    tokenizer.no_padding()
    tokenizer.enable_truncation(max_length=longest)
    return [
        {"input_ids": e.ids, "attention_mask": e.attention_mask, "token_type_ids": e.type_ids}
        for e in tokenizer.encode_batch(sentences)
    ]


def bucketed(encoded: Iterable[Encoded], least: int) -> list[dict[str, NDArray[np.int64]]]:
    """Arrays ``(sentences, length)`` by input name, of sentences of about the same length.

    Args:
        encoded: The sentences.
        least: Neighbouring lengths are put together until there are so many sentences; the shorter
            ones are padded with zeros, under a mask of zeros.
    """
    piles: list[list[Encoded]] = []
    for sentence in sorted(encoded, key=_length):
        if not piles or (len(piles[-1]) >= least and _length(sentence) > _length(piles[-1][-1])):
            piles.append([])
        piles[-1].append(sentence)
    if len(piles) > 1 and len(piles[-1]) < least:
        rest = piles.pop()
        piles[-1] += rest
    return [{name: _padded([s[name] for s in pile]) for name in pile[0]} for pile in piles]


def _length(sentence: Encoded) -> int:
    return len(sentence["input_ids"])


def _padded(rows: Sequence[Sequence[int]]) -> NDArray[np.int64]:
    padded = np.zeros((len(rows), max(map(len, rows))), np.int64)
    for target, row in zip(padded, rows, strict=True):
        target[: len(row)] = row
    return padded


def main(arguments: list[str] | None = None) -> int:
    """Write the folder."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("tokenizer", type=Path, metavar="TOKENIZER.json")
    parser.add_argument("sentences", type=Path, metavar="SENTENCES.txt.gz")
    parser.add_argument("out", type=Path, metavar="OUT")
    parser.add_argument("--longest", type=int, default=64, help="tokens kept (default 64)")
    parser.add_argument("--least", type=int, default=64, help="sentences a file (default 64)")
    options = parser.parse_args(arguments)
    sentences = read_sentences(options.sentences)
    buckets = bucketed(encode(options.tokenizer, sentences, options.longest), options.least)
    options.out.mkdir(parents=True, exist_ok=True)
    for arrays in buckets:
        length = next(iter(arrays.values())).shape[1]
        np.savez_compressed(options.out / f"{length:04}.npz", **arrays)  # type: ignore[arg-type]
    print(f"{options.out}: {len(sentences)} sentences in {len(buckets)} files")
    return 0


if __name__ == "__main__":
    sys.exit(main())
