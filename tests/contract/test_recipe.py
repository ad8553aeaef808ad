from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import graphopt.passes  # noqa: F401 - fills the registry
from graphopt.contract import presets
from graphopt.contract.recipe import (
    Recipe,
    format_recipe,
    from_preset,
    parse_recipe,
    read_recipe,
)
from graphopt.errors import UsageError
from graphopt.passes.cleanup import EliminateDead
from graphopt.passes.prune import MaskWeights

_TEXT = """
target = "generic"
min_sqnr_db = 30
seed = 7

[images]
size = 32
mean = [0.5, 0.5, 0.5]

[[passes]]
name = "mask-weights"
sparsity = 0.25
nodes = ["/layer4/*"]

[[passes]]
name = "eliminate-dead"
"""


def test_reads_every_key() -> None:
    assert parse_recipe(_TEXT) == Recipe(
        passes=(MaskWeights(sparsity=0.25, nodes=("/layer4/*",)), EliminateDead()),
        target="generic",
        min_sqnr_db=30.0,
        seed=7,
        images={"size": 32, "mean": [0.5, 0.5, 0.5]},
    )


def test_extends_puts_the_preset_first() -> None:
    recipe = parse_recipe('extends = "clean"\n[[passes]]\nname = "mask-weights"')
    assert recipe.passes == (*from_preset("clean").passes, MaskWeights())
    assert parse_recipe('extends = "auto"').auto


@given(
    st.lists(
        st.builds(MaskWeights, sparsity=st.floats(0, 1), nodes=st.lists(st.text()).map(tuple)),
        min_size=1,
        max_size=3,
    ),
    st.none() | st.floats(0, 100),
    st.integers(0, 2**31),
)
def test_round_trip(passes: list[MaskWeights], floor: float | None, seed: int) -> None:
    recipe = Recipe(passes=tuple(passes), min_sqnr_db=floor, max_drop=floor, seed=seed)
    assert parse_recipe(format_recipe(recipe)) == recipe


@pytest.mark.parametrize("name", presets.names())
def test_presets_round_trip(name: str) -> None:
    recipe = from_preset(name)
    assert parse_recipe(format_recipe(recipe)) == recipe


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("passes = [", "not TOML"),
        ("", "it names no pass"),
        ('targt = "host"', "unknown key 'targt'; did you mean 'target'?"),
        ('extends = "clean"\ntarget = 3', "target = 3 must be of type str"),
        ('extends = "clean"\nseed = true', "seed = True must be of type int"),
        ('extends = "claen"', "unknown preset 'claen'; did you mean 'clean'?"),
        ("[[passes]]\nsparsity = 1", 'each [[passes]] table needs name = "..."'),
        ('[[passes]]\nname = "mask"', "unknown pass 'mask'; did you mean 'mask-weights'?"),
        ('[[passes]]\nname = "mask-weights"\nsparsity = 2', "is out of bounds: 0 <= x <= 1"),
        ('[[passes]]\nname = "mask-weights"\nshare = 2', "has no option 'share'"),
        ('extends = "auto"\n[[passes]]\nname = "eliminate-dead"', "chooses the passes itself"),
        ('extends = "clean"\n[images]\nsise = 3', "unknown key images.sise; did you mean 'size'?"),
        ('extends = "clean"\nmin_sqnr_db = nan', "min_sqnr_db = nan must be a finite number"),
        ('extends = "clean"\nseed = -1', "seed = -1 must be 0 or more"),
    ],
)
def test_errors_name_the_source(text: str, words: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_recipe(text, "recipe r.toml")
    assert str(caught.value).startswith("recipe r.toml: ")
    assert words in str(caught.value)


def test_files(tmp_path: Path) -> None:
    path = tmp_path / "r.toml"
    path.write_text(_TEXT)
    assert read_recipe(path).seed == 7
    with pytest.raises(UsageError, match="cannot be read"):
        read_recipe(tmp_path / "none.toml")
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(UsageError, match="cannot be read"):
        read_recipe(path)
    path.write_text("#" * (1 << 21))
    with pytest.raises(UsageError, match="larger than"):
        read_recipe(path)
