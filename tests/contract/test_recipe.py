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
    recipe = Recipe(
        passes=tuple(passes), min_sqnr_db=floor, min_agreement=floor, max_drop=floor, seed=seed
    )
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
        (
            'extends = "clean"\n[images]\nsise = 3',
            "unknown key 'images.sise'; did you mean 'size'?",
        ),
        ('extends = "clean"\nmin_sqnr_db = nan', "min_sqnr_db=nan must be a number"),
        ('extends = "clean"\nseed = -1', "seed=-1 must be 0 or more"),
        (f"seed = {'9' * 400}\nextends = 'clean'", "seed must be 9.22337e+18 or less"),
        (f"seed = {'9' * 5000}\nextends = 'clean'", "a number in it has too many digits"),
        (f"seed = 0x{'f' * 5000}\nextends = 'clean'", "seed must be 9.22337e+18 or less"),
        (f"max_drop = {'9' * 400}\nextends = 'clean'", "max_drop = <a whole number of about"),
        (f"max_drop = {'9' * 400}.0\nextends = 'clean'", "max_drop=inf must be a number"),
        (f"target = {'9' * 400}\nextends = 'clean'", "digits> must be of type str"),
        ("max_drop = 1979-05-27\nextends = 'clean'", "must be of type float"),
        ("\n" + "[" * 50_000, "line 2: nested deeper than 16"),
        ("x = " + "[" * 50_000 + "]" * 50_000, "line 1: nested deeper than 16"),
        ("x = " + "{a = " * 50_000, "line 1: nested deeper than 16"),
        ("a." * 500_000 + "b = 1", "line 1: nested deeper than 16"),
        ("[" + "a . " * 100_000 + "b]", "line 1: nested deeper than 16"),
        ('x = """' + '\\"""' * 100_000 + "\\", "not TOML"),
        ('x = "' + '\\"' * 200_000, "not TOML"),
        ("#" * (1 << 20) + "\n", "larger than 1048576 bytes"),
        ("[[passes]]\nname = 'eliminate-dead'\n" * 1001, "a run has at most 1000 passes"),
        (f"[[passes]]\nname = '{'x' * 10**6}'", "unknown pass 'xxx"),
        (f"{'x' * 10**6} = 1", "unknown key 'xxx"),
        (f"target = ['{'x' * 10**6}']\nextends = 'clean'", "must be of type str"),
        ("extends = 'clean'\n[images]\nsize = [[[[1]]]]", "size = [[[[...]]]] must be 1 to 16384"),
        (f"extends = 'clean'\n[images]\nmean = {'9' * 400}", "digits> must be a number"),
        ("extends = 'clean'\n[images]\nstd = 1e-300", "std must not be zero, nor nearly so"),
        ("extends = 'clean'\n[images]\nscale = inf", "scale = inf must be a number"),
    ],
)
def test_errors_name_the_source(text: str, words: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_recipe(text, "recipe r.toml")
    assert str(caught.value).startswith("recipe r.toml: ")
    assert words in str(caught.value)
    assert len(str(caught.value)) < 1000


def test_brackets_and_dots_in_strings_and_comments_do_not_nest() -> None:
    names = ", ".join(f"'{'[' * 20}{n}.0', 1.5" for n in range(3)).replace(", 1.5", "")
    deep = "x." * 30
    text = f"""# {"[" * 30} {deep}
extends = "clean"  # {deep}
[images]
mean = [{", ".join(["0.5"] * 3)}]
[[passes]]
name = "mask-weights"
nodes = [{names}, "{deep}\\"{deep}", '{deep}', '''{deep}
{"[" * 30}''', {'"' * 3}{"{" * 30}\\"{'"' * 3}]
"""
    assert len(parse_recipe(text).passes[-1].options()["nodes"]) == 7


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
