"""What an Einsum of data and a weight computes: its letters by their duty, and as which product.

The letters of two operands and the result: a *row* is an axis of the data that the result keeps, a
*column* one of the weight that it keeps, a *batch* axis is in all three, and what both operands
have and the result lacks is *summed*.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from string import ascii_letters
from typing import Literal

__all__ = ["Contraction", "Unspelled", "contraction", "spelled", "weight_axes"]

_DOTS = "..."


class Unspelled(ValueError):  # noqa: N818 - no failure: the Einsum stays
    """Why an equation cannot be read, or is none of a single product."""


@dataclass(frozen=True)
class Contraction:
    """An Einsum as a MatMul or a Conv with turns and reshapes around it.

    Attributes:
        kind: ``matmul`` of the data and the weight as ``(*batch, in, out)``, or ``conv`` with a
            window of one element.
        data: Order that the data's axes are brought to.
        weight: Order of the weight's axes.
        result: The letters of what comes out, before it is turned; of a Conv as they are.
        summed: Letters that are summed, in this order; they are one axis of the product.
        columns: Letters of the outputs, in this order; they are one axis of the product.
        batch: Leading axes of the product that the weight has too, with 1 for those that it lacks.
    """

    kind: Literal["matmul", "conv"]
    data: str
    weight: str
    result: str
    summed: str
    columns: str
    batch: str = ""


def spelled(equation: str, ranks: Sequence[int | None]) -> tuple[list[str], str]:
    """The letters of each operand and of the result, one for each axis.

    Axes under dots get digits and what follows them.

    Args:
        equation: As the operator has it; without an arrow the result has the letters that occur
            once, in order of the alphabet.
        ranks: Those of the operands; None where one is not known, which dots of one operand in
            front of both it and the result get along with: they are then one letter.

    Raises:
        Unspelled: It does not fit the ranks.
    """
    before, arrow, after = equation.replace(" ", "").partition("->")
    terms = before.split(",")
    if len(terms) != len(ranks):
        raise Unspelled(f"its equation {equation!r} has {len(terms)} operands")
    if not arrow:
        once = sorted(c for c in set(before) if c in ascii_letters and before.count(c) == 1)
        after = (_DOTS if _DOTS in before else "") + "".join(once)
    letters = [term.replace(_DOTS, "") for term in terms]
    if not all(c in ascii_letters for c in "".join(letters) + after.replace(_DOTS, "")):
        raise Unspelled(f"its equation {equation!r} has other signs than letters")
    covered = [_covered(term, rank) for term, rank in zip(terms, ranks, strict=True)]
    dots = "".join(chr(ord("0") + at) for at in range(max(covered, default=0)))
    whole = [
        term.replace(_DOTS, dots[len(dots) - count :], 1)
        for term, count in zip(terms, covered, strict=True)
    ]
    return whole, after.replace(_DOTS, dots, 1)


def weight_axes(equation: str, index: int, rank: int) -> tuple[int, int]:
    """Axes of the outputs and of the inputs of a weight that an Einsum reads.

    The last axis that the result has and no other operand, else the last one; the first one that is
    summed, else the first.

    Args:
        equation: As the operator has it.
        index: Which operand is the weight.
        rank: The axes that it has.

    Raises:
        Unspelled: The equation does not fit.
    """
    before, arrow, after = equation.replace(" ", "").partition("->")
    terms = before.split(",")
    if index >= len(terms):
        raise Unspelled(f"its equation {equation!r} has {len(terms)} operands")
    own = terms.pop(index)
    spare = "\0" * _covered(own, rank)
    letters = own.replace(_DOTS, spare, 1)
    others = "".join(terms)
    outputs = [at for at, c in enumerate(letters) if c in after and c not in others]
    inputs = [at for at, c in enumerate(letters) if c in others and arrow and c not in after]
    return outputs[-1] if outputs else rank - 1, inputs[0] if inputs else 0


def _covered(term: str, rank: int | None) -> int:
    """How many axes the dots of an operand stand for."""
    named = len(term.replace(_DOTS, ""))
    if _DOTS not in term:
        if rank is not None and rank != named:
            raise Unspelled(f"{term!r} does not fit {rank} axes")
        return 0
    if rank is None:
        if not term.startswith(_DOTS):
            raise Unspelled("how many axes its data has is not known")
        return 1
    if rank < named:
        raise Unspelled(f"{term!r} does not fit {rank} axes")
    return rank - named


def contraction(data: str, weight: str, result: str, *, ranked: bool = True) -> Contraction:
    """As which product an Einsum of two operands can be computed.

    Args:
        data: Letters of the operand that is computed.
        weight: Letters of the constant.
        result: Letters of the result.
        ranked: Whether each letter of the data is one axis; else its first one stands for any
            number of them, and nothing may be turned or reshaped.

    Raises:
        Unspelled: It is no product of matrices; the message is a phrase for the report.
    """
    for term in (data, weight, result):
        if len(set(term)) < len(term):
            raise Unspelled("it takes a diagonal")
    if not set(result) <= {*data, *weight}:
        raise Unspelled("its result has an axis that no operand has")
    lone = [c for c in data if c not in weight and c not in result]
    if lone or [c for c in weight if c not in data and c not in result]:
        raise Unspelled(f"it sums up its {'data' if lone else 'weight'} alone")
    batch = [c for c in data if c in weight and c in result]
    summed = "".join(c for c in data if c in weight and c not in result)
    columns = "".join(c for c in result if c not in data)
    if not summed:
        raise Unspelled("it sums nothing up, so it multiplies elements")
    if not columns:
        raise Unspelled("its weight has no axis of outputs")
    if batch:
        made = _batched(data, weight, result, summed, columns)
    elif ranked and _is_conv(data, result, summed, columns):
        made = Contraction("conv", data, columns + summed, result, summed, columns)
    else:
        made = _plain(data, result, summed, columns)
    plain = made.data == data and made.result == result and len(summed) == len(columns) == 1
    if not ranked and not plain:
        raise Unspelled("how many axes its data has is not known")
    return made


def _is_conv(data: str, result: str, summed: str, columns: str) -> bool:
    """Whether channels stand where a Conv has them, with up to three axes of places behind."""
    return (
        3 <= len(data) <= 5
        and data[1] == summed
        and result == data.replace(summed, columns)
        and len(columns) == 1
    )


def _plain(data: str, result: str, summed: str, columns: str) -> Contraction:
    rows = "".join(c for c in data if c not in summed)
    if data != rows + summed:  # it is turned anyway, so that the result need not be
        rows = "".join(c for c in result if c not in columns)
    turned = rows + summed
    return Contraction("matmul", turned, summed + columns, rows + columns, summed, columns)


def _batched(data: str, weight: str, result: str, summed: str, columns: str) -> Contraction:
    """Only where nothing has to be turned: the row in front of the sums is no batch axis."""
    lead = data[: len(data) - len(summed)]
    fits = data == lead + summed and result == lead + columns
    if not fits or lead[-1] in weight:
        shared = ", ".join(c for c in data if c in weight and c in result)
        raise Unspelled(f"its weight is another one along {shared}, which no MatMul takes as it is")
    first = min(lead.index(c) for c in lead if c in weight)
    own = "".join(c for c in lead if c in weight)
    order = own + summed + columns
    return Contraction("matmul", data, order, lead + columns, summed, columns, lead[first:-1])
