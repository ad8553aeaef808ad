"""Equations of Einsum: read by numpy's rules, and as which product they can be written."""

from __future__ import annotations

import pytest

from graphopt.facts.einsum import Contraction, Unspelled, contraction, spelled, weight_axes


@pytest.mark.parametrize(
    ("equation", "ranks", "terms", "result"),
    [
        ("ab,bc->ac", [2, 2], ["ab", "bc"], "ac"),
        (" ba , bc ", [2, 2], ["ba", "bc"], "ac"),
        ("ab,bc->ac", [None, 2], ["ab", "bc"], "ac"),
        ("...b,bc->...c", [3, 2], ["01b", "bc"], "01c"),
        ("...b,bc->...c", [1, 2], ["b", "bc"], "c"),
        ("...b,bc->...c", [None, 2], ["0b", "bc"], "0c"),
        ("...b,...bc->...c", [3, 3], ["01b", "1bc"], "01c"),
        ("a...b,bc", [3, 2], ["a0b", "bc"], "0ac"),
    ],
)
def test_each_axis_gets_a_letter(
    equation: str, ranks: list[int | None], terms: list[str], result: str
) -> None:
    assert spelled(equation, ranks) == (terms, result)


@pytest.mark.parametrize(
    ("equation", "ranks", "words"),
    [
        ("ab,bc->ac", [2], "has 2 operands"),
        ("ab,bc->ac", [3, 2], "'ab' does not fit 3 axes"),
        ("...ab,bc->ac", [1, 2], "'...ab' does not fit 1 axes"),
        ("a...b,bc->a...c", [None, 2], "how many axes its data has is not known"),
        ("a1,1c->ac", [2, 2], "has other signs than letters"),
    ],
)
def test_what_cannot_be_read(equation: str, ranks: list[int | None], words: str) -> None:
    with pytest.raises(Unspelled, match=words):
        spelled(equation, ranks)


@pytest.mark.parametrize(
    ("terms", "made"),
    [
        ("ab bc ac", Contraction("matmul", "ab", "bc", "ac", "b", "c")),
        ("ab cb ca", Contraction("matmul", "ab", "bc", "ac", "b", "c")),
        ("ba bc ac", Contraction("matmul", "ab", "bc", "ac", "b", "c")),
        ("sad dhk sahk", Contraction("matmul", "sad", "dhk", "sahk", "d", "hk")),
        ("sahk hkd sad", Contraction("matmul", "sahk", "hkd", "sad", "hk", "d")),
        ("shak khd sad", Contraction("matmul", "sahk", "hkd", "sad", "hk", "d")),
        ("bchw oc bohw", Contraction("conv", "bchw", "oc", "bohw", "c", "o")),
        ("bct co bot", Contraction("conv", "bct", "oc", "bot", "c", "o")),
        ("bct co bto", Contraction("matmul", "btc", "co", "bto", "c", "o")),
        ("bhsd hde bhse", Contraction("matmul", "bhsd", "hde", "bhse", "d", "e", "h")),
        ("hbsd hde hbse", Contraction("matmul", "hbsd", "hde", "hbse", "d", "e", "hb")),
    ],
)
def test_products(terms: str, made: Contraction) -> None:
    assert contraction(*terms.split()) == made


@pytest.mark.parametrize(
    ("terms", "words"),
    [
        ("aa ab b", "it takes a diagonal"),
        ("ab bc az", "its result has an axis that no operand has"),
        ("abc bd ad", "it sums up its data alone"),
        ("ab bcd ad", "it sums up its weight alone"),
        ("ab b ab", "it sums nothing up, so it multiplies elements"),
        ("ab b a", "its weight has no axis of outputs"),
        ("bhd hde bhe", "its weight is another one along h, which no MatMul takes as it is"),
    ],
)
def test_no_product(terms: str, words: str) -> None:
    with pytest.raises(Unspelled, match=words):
        contraction(*terms.split())


def test_without_the_rank_nothing_is_turned() -> None:
    assert contraction("0d", "df", "0f", ranked=False).kind == "matmul"
    for terms in (("0d", "dhk", "0hk"), ("d0", "df", "0f"), ("0d", "df", "f0")):
        with pytest.raises(Unspelled, match="how many axes its data has is not known"):
            contraction(*terms, ranked=False)


@pytest.mark.parametrize(
    ("equation", "index", "rank", "axes"),
    [
        ("ab,bc->ac", 1, 2, (1, 0)),
        ("ab,cb->ac", 1, 2, (0, 1)),
        ("oc,bchw->bohw", 0, 2, (0, 1)),
        ("bsd,dhk->bhsk", 1, 3, (2, 0)),
        ("bhd,hde->bhe", 1, 3, (2, 1)),
        ("...d,...df->...f", 1, 4, (3, 2)),
        ("ab,ab->ab", 1, 2, (1, 0)),
        ("ab,cb,cd->ad", 2, 2, (1, 0)),
    ],
)
def test_axes_of_a_weight(equation: str, index: int, rank: int, axes: tuple[int, int]) -> None:
    assert weight_axes(equation, index, rank) == axes
