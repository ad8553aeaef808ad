from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

import graphopt.passes  # noqa: F401 - fills the registry
from graphopt.contract.spec import format_passes, format_value, parse_passes
from graphopt.errors import UsageError
from graphopt.passes.cleanup import EliminateDead, UpgradeOpset
from graphopt.passes.prune import MaskWeights


def test_reads_options_of_every_kind() -> None:
    text = """ eliminate-dead , mask-weights { sparsity = 0.25 , scope=global,
      nodes=["/layer4/*", Conv], exclude="a \\"b\\" {c}", threshold=none },
      upgrade-opset{opset=17}"""
    assert parse_passes(text) == [
        EliminateDead(),
        MaskWeights(
            sparsity=0.25, scope="global", nodes=("/layer4/*", "Conv"), exclude=('a "b" {c}',)
        ),
        UpgradeOpset(opset=17),
    ]
    assert parse_passes("eliminate-dead{}") == [EliminateDead()]
    assert parse_passes("mask-weights{nodes=[]}") == [MaskWeights()]


def test_writes_only_what_differs_from_the_defaults() -> None:
    passes = [MaskWeights(sparsity=0.5, min_size=1, nodes=("a b", "none")), EliminateDead()]
    assert format_passes(passes) == 'mask-weights{min_size=1,nodes=["a b","none"]},eliminate-dead'


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "column 1: expected the name of a pass; found 'the end'"),
        ("eliminate-dead,", "column 16: expected the name of a pass"),
        ("eliminate-dead fold-constants", "column 16: expected ',' between passes; found 'f'"),
        ("a-dead", "column 1: unknown pass 'a-dead'"),
        ("eliminate-dead,mask-weigts", "column 16: unknown pass 'mask-weigts'; did you mean"),
        ("mask-weights{sparcity=1}", "column 14: pass 'mask-weights' has no option 'sparcity'"),
        ("mask-weights{sparsity 1}", "column 23: expected '=' after 'sparsity'; found '1'"),
        ("mask-weights{sparsity=}", "column 23: expected a value; found '}'"),
        ("mask-weights{sparsity=much}", "column 23: option 'sparsity' is a number, not 'much'"),
        ("mask-weights{min_size=1.5}", "option 'min_size' is a whole number, not '1.5'"),
        ("mask-weights{sparsity=0.1,sparsity=0.2}", "column 27: option 'sparsity' is given twice"),
        (
            "mask-weights{sparsity=2}",
            "column 1: mask-weights: option sparsity=2.0 is out of bounds",
        ),
        ("mask-weights{sparsity=nan}", "is out of bounds"),
        ("mask-weights{scope=all}", "option scope='all' is unknown"),
        ("mask-weights{sparsity=0.5", "expected ',' or '}'; found 'the end'"),
        ("mask-weights{min_size=" + "9" * 5000, "option 'min_size' is a whole number, not '999"),
        ("mask-weights{sparsity=" + "9" * 400, "option 'sparsity' is a number, not '999"),
        ("mask-weights{min_size=\u0663}", "option 'min_size' is a whole number, not '\u0663'"),
        ("mask-weights{sparsity=inf}", "is out of bounds"),
        ("mask-weights{nodes=\udcff}", "must be Unicode text"),
        ("x" * 10**6, "unknown pass 'xxx"),
        ("mask-weights{" + "x" * 10**6, "has no option 'xxx"),
        ("mask-weights{nodes=" + "[" * 10**6, "column 21: expected a value; found '['"),
        (",".join(["eliminate-dead"] * 10_000), "column 15001: a run has at most 1000 passes"),
        ('mask-weights{nodes="a', "column 20: expected a closing quote"),
        ("mask-weights{nodes=[a", "expected ',' or ']'"),
    ],
)
def test_errors_point_at_the_column(text: str, words: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_passes(text)
    assert str(caught.value).startswith("pass spec, column ")
    assert words in str(caught.value)
    assert len(str(caught.value)) < 1000


def test_an_error_shows_the_part_of_the_text_that_it_is_about() -> None:
    text = "eliminate-dead," * 50 + "?" + ",eliminate-dead" * 50
    with pytest.raises(UsageError) as caught:
        parse_passes(text)
    part = "..." + text[750 - 40 : 750 + 40] + "..."
    assert str(caught.value).endswith(
        f"column 751: expected the name of a pass; found '?' in '{part}'"
    )


def test_a_text_of_megabytes_is_refused_unread() -> None:
    with pytest.raises(UsageError, match="longer than 1048576 characters"):
        parse_passes("eliminate-dead," * 100_000)


@given(st.lists(st.text(max_size=20), max_size=4), st.floats(0, 1))
def test_any_text_survives(nodes: list[str], sparsity: float) -> None:
    made = MaskWeights(nodes=tuple(nodes), sparsity=sparsity)
    assert parse_passes(format_passes([made])) == [made]


@given(st.text(max_size=40))
def test_junk_is_refused_in_one_line_or_read(text: str) -> None:
    try:
        passes = parse_passes(text)
    except UsageError as err:
        assert "column" in str(err)
    else:
        assert parse_passes(format_passes(passes)) == passes


def test_values() -> None:
    assert [format_value(v) for v in (None, True, 3, 0.1, "a", "none", ("x", "y z"))] == [
        "none",
        "true",
        "3",
        "0.1",
        "a",
        '"none"',
        '[x,"y z"]',
    ]
