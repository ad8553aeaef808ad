"""Operators of ONNX that the bridge does not have, and why not."""

from __future__ import annotations

__all__ = ["LEFT_OUT"]

_OPTIONAL = "optional values: a tensor is always there"
_SEQUENCE = "sequences: their length is no shape"
_TEXT = "text"
LEFT_OUT = {
    "ConcatFromSequence": _SEQUENCE,
    "ImageDecoder": "files of pictures",
    "Optional": _OPTIONAL,
    "OptionalGetElement": _OPTIONAL,
    "OptionalHasElement": _OPTIONAL,
    "RegexFullMatch": _TEXT,
    "SequenceAt": _SEQUENCE,
    "SequenceConstruct": _SEQUENCE,
    "SequenceEmpty": _SEQUENCE,
    "SequenceErase": _SEQUENCE,
    "SequenceInsert": _SEQUENCE,
    "SequenceLength": _SEQUENCE,
    "SequenceMap": _SEQUENCE,
    "SplitToSequence": _SEQUENCE,
    "StringConcat": _TEXT,
    "StringNormalizer": _TEXT,
    "StringSplit": _TEXT,
    "TfIdfVectorizer": "counts of n-grams, mostly of text: nothing to train",
}
"""Operators of the default domain that the bridge lacks, with the reason."""
