"""What the pages of reference say is what the code knows: presets, targets, keys, codes, specs."""

from __future__ import annotations

import dataclasses
import re
import signal
from pathlib import Path

import pytest

from graphopt import errors
from graphopt.contract import presets, recipe
from graphopt.contract.spec import format_passes, parse_passes
from graphopt.data.images import Preprocessing
from graphopt.errors import UsageError
from graphopt.facts.node_kinds import NODE_KINDS
from graphopt.report import json as report
from graphopt.targets.tables import TARGETS

DOCS = Path(__file__).parents[2] / "docs"
REFERENCE = (DOCS / "reference.md").read_text(encoding="utf-8")


def section(heading: str, text: str = REFERENCE) -> str:
    """The text below a heading, up to the next one."""
    _, found, rest = text.partition(f"\n## {heading}\n")
    assert found, heading
    return rest.partition("\n## ")[0]


def rows(text: str) -> list[list[str]]:
    """The cells of a table's rows, without its head."""
    lines = [line for line in text.splitlines() if line.startswith("| ")]
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines[1:]]


@pytest.mark.parametrize("spec", re.findall(r"^```spec\n(.*?)\n```$", REFERENCE, re.M | re.S))
def test_spec_reads_and_comes_back(spec: str) -> None:
    passes = parse_passes(spec)
    assert parse_passes(format_passes(passes)) == passes


def test_messages_are_those_of_the_parser() -> None:
    for spec, message in rows(section("Spec text").partition("**Patterns**")[0]):
        with pytest.raises(UsageError) as caught:
            parse_passes(spec.strip("`"))
        assert str(caught.value) == message


def test_recipe_reads() -> None:
    text = section("Recipes")
    (example,) = re.findall(r"^```toml\n(.*?)^```$", text, re.M | re.S)
    found = recipe.parse_recipe(example)
    assert found.min_sqnr_db == 20
    assert recipe.parse_recipe(recipe.format_recipe(found)) == found
    keys = {key for row in rows(text) for key in re.findall(r"`(\w+)`", row[0])}
    known = {field.name for field in dataclasses.fields(recipe.Recipe)} - {"auto"}
    assert keys == known | {"extends"}


def test_presets_are_those_of_the_contract() -> None:
    listed = {name.strip("`"): (text, spec) for name, text, spec in rows(section("Presets"))}
    assert [*listed] == presets.names()
    for name, (text, spec) in listed.items():
        assert text == presets.describe(name)
        assert spec == (f"`{found}`" if (found := presets.find(name)) else "chosen by measurement")


def test_targets_are_those_of_the_tables() -> None:
    (host, _), *listed = rows(section("Targets"))
    assert host == "`host`"
    assert listed == [[f"`{item.name}`", item.description] for item in TARGETS.values()]


def test_kinds_of_layers_are_those_of_the_patterns() -> None:
    words = {
        key.strip("`"): text
        for key, text in rows(section("Spec text").partition("**Patterns**")[2])
    }
    assert words == {word: kind.meaning for word, kind in NODE_KINDS.items()}


def test_keys_of_the_report_are_those_of_the_schema() -> None:
    described = report.schema()["properties"]
    listed = {key.strip("`"): text for key, text in rows(section("Reports"))}
    assert [*listed] == [*described]
    for key, text in listed.items():
        assert text == described[key].get("description", text) != ""
    assert f"`{report.SCHEMA}`" in listed["schema"]


def test_keys_of_pictures_are_those_of_the_preprocessing() -> None:
    listed = rows(section("Pictures", (DOCS / "data.md").read_text(encoding="utf-8")))
    fields = [field.name for field in dataclasses.fields(Preprocessing)]
    assert [row[:2] for row in listed] == [[f"`--image-{name}`", f"`{name}`"] for name in fields]


def test_exit_codes_are_those_of_the_errors() -> None:
    codes = ",".join(re.findall(r"^\| ([\d, ]+) \|", section("Exit codes"), re.MULTILINE))
    exported = (getattr(errors, name) for name in errors.__all__)
    known = {each.exit_code for each in exported if hasattr(each, "exit_code")}
    signals = {128 + number for number in (signal.SIGHUP, signal.SIGINT, signal.SIGTERM)}
    assert {*map(int, codes.split(","))} == {0, *signals, *known}
