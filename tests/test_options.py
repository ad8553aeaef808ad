from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

import pytest

from graphopt.contract.passes import Changes, Context, Option, Pass
from graphopt.errors import UsageError, quoted
from graphopt.graph.graph import Graph
from graphopt.options import build, near_miss, number_of, option_fields


@dataclass(frozen=True, kw_only=True)
class Sample(Pass):
    """A pass of no use but its options."""

    name = "sample"
    share: Annotated[float, Option("a share", low=0, high=1, high_open=True)] = 0.5
    count: Annotated[int | None, Option("a count", low=1, unit="rows")] = None
    kind: Annotated[Literal["one", "two"], Option("a choice")] = "one"
    flag: Annotated[bool, Option("a switch")] = False
    nodes: Annotated[tuple[str, ...], Option("patterns", patterns=True)] = ()

    def run(self, graph: Graph, context: Context) -> Changes:
        return Changes()


def test_fields_are_read_from_the_annotations() -> None:
    fields = option_fields(Sample)
    assert list(fields) == ["share", "count", "kind", "flag", "nodes"]
    assert (fields["count"].kind, fields["count"].optional) == (int, True)
    assert fields["kind"].choices == ("one", "two")
    assert fields["nodes"].kind is tuple
    assert fields["share"].option.bounds == "0 <= x < 1"
    assert fields["count"].option.bounds == "1 <= x"
    assert fields["flag"].option.bounds == ""


def test_values_are_brought_into_their_type() -> None:
    made = build(Sample, {"share": 0, "nodes": "Conv"})
    assert made == Sample(share=0.0, nodes=("Conv",))
    assert build(Sample, {"nodes": ["a", "b"]}).options() == {"nodes": ("a", "b")}
    assert Sample().options() == {}


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("share", 1.0, "is out of bounds: 0 <= x < 1"),
        ("share", -0.001, "is out of bounds"),
        ("share", float("nan"), "is out of bounds"),
        ("share", "much", "must be a number"),
        ("share", True, "must be a number"),
        ("share", None, "must have a value"),
        ("count", 0, "is out of bounds: 1 <= x"),
        ("count", 1.5, "must be a whole number"),
        ("kind", "too", "is unknown; did you mean 'two'?"),
        ("flag", 1, "must be true or false"),
        ("nodes", (1,), "must be text or a list of texts"),
        ("share", 10**400, "share=<a whole number of about 401 digits> is too large"),
        ("share", float("inf"), "is out of bounds"),
        ("count", 10**5000, "count=<a whole number of about 5001 digits> is too large"),
        ("count", -(2**63), "is too large"),
        ("kind", 10**5000, "is unknown; known: one, two"),
        ("kind", ["one"], "is unknown; known: one, two"),
        ("kind", "o" * 10**6, "is unknown; known: one, two"),
        ("flag", [[[[[[[["deep"]]]]]]]], "flag=[[[[...]]]] must be true or false"),
        ("nodes", ["a"] * 100_001, "must be at most 100000 texts of 100000 characters"),
        ("nodes", "a" * 100_001, "must be at most 100000 texts of 100000 characters"),
        ("nodes", ["*"] * 1001, "must have at most 1000 patterns with wildcards"),
        ("nodes", "\ud800", "must be Unicode text"),
        ("shar" * 10**6, 0.5, "has no option 'sharshar"),
        ("shar", 0.5, "has no option 'shar'; did you mean 'share'?"),
    ],
    ids=quoted,
)
def test_refusals_say_what_was_expected(name: str, value: object, words: str) -> None:
    with pytest.raises(UsageError) as caught:
        build(Sample, {name: value})
    assert words in str(caught.value)
    assert "sample" in str(caught.value)
    assert len(str(caught.value)) < 400


def test_a_field_without_an_option_is_a_bug() -> None:
    @dataclass(frozen=True, kw_only=True)
    class Bare(Pass):
        """No option."""

        name = "bare"
        size: int = 3

        def run(self, graph: Graph, context: Context) -> Changes:
            return Changes()

    with pytest.raises(TypeError, match=r"Bare\.size lacks Annotated"):
        Bare()


def test_a_number_is_short_and_ascii() -> None:
    assert (number_of("1_000", int), number_of(" -2.5e3 ", float)) == (1000, -2500.0)
    for text, kind in (("9" * 101, int), ("0." + "1" * 99, float), ("\u0663", int), ("x", float)):
        with pytest.raises(ValueError, match=r"no number|could not convert"):
            number_of(text, kind)


def test_near_misses() -> None:
    assert near_miss("sparcity", ["sparsity", "scope"]) == "; did you mean 'sparsity'?"
    assert near_miss("zzz", ["b", "a"]) == "; known: a, b"
    assert near_miss("zzz", []) == ""
