from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner

from graphopt import inspect, optimize
from graphopt.cli.app import app
from graphopt.contract import registry
from graphopt.contract.recipe import parse_recipe
from graphopt.contract.spec import parse_passes
from graphopt.errors import SystemFailure, UsageError
from graphopt.passes.prune import MaskWeights
from graphopt.testing import MODELS

PLUGIN = '''
from __future__ import annotations
from dataclasses import dataclass
from typing import Annotated
from graphopt.extend import Changes, Context, Graph, Option, Pass, register

@register("rename-nodes")
@dataclass(frozen=True, kw_only=True)
class RenameNodes(Pass):
    """Put a word in front of the names of all nodes.

        x -> [a] -> y      becomes      x -> [word/a] -> y
    """

    word: Annotated[str, Option("what to put in front")] = "new"

    def run(self, graph: Graph, context: Context) -> Changes:
        changes = Changes()
        for node in graph.main.nodes:
            if not node.name.startswith(f"{self.word}/"):
                changes.edit(node, f"now {self.word}/{node.name}")
                node.name = f"{self.word}/{node.name}"
        return changes
'''


Install = Callable[[str, str], None]


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Install]:
    """Installs a distribution of one module and its entry points into a folder of its own."""
    registry.names()
    monkeypatch.setattr(registry, "_PASSES", dict(registry._PASSES))
    monkeypatch.setattr(registry, "_LOADED", set(registry._LOADED))

    def install_one(source: str, value: str = "tiny_plugin") -> None:
        (tmp_path / "tiny_plugin.py").write_text(source)
        metadata = tmp_path / "tiny_plugin-1.0.dist-info"
        metadata.mkdir()
        (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: tiny-plugin\nVersion: 1\n")
        (metadata / "entry_points.txt").write_text(f"[graphopt.passes]\nrename = {value}\n")
        monkeypatch.syspath_prepend(tmp_path)

    yield install_one
    sys.modules.pop("tiny_plugin", None)


def test_finds_passes_by_name() -> None:
    assert registry.find("mask-weights") is MaskWeights
    assert registry.names() == sorted(registry.names())
    assert "mask-weights" in registry.names()


def test_an_unknown_name_gets_the_near_miss() -> None:
    with pytest.raises(
        UsageError, match="unknown pass 'mask-wieghts'; did you mean 'mask-weights'"
    ):
        registry.find("mask-wieghts")


def test_a_name_is_given_once() -> None:
    with pytest.raises(ValueError, match="two passes are called 'mask-weights'"):
        registry.register("mask-weights")(MaskWeights)


@pytest.mark.parametrize("value", ["tiny_plugin", "tiny_plugin:RenameNodes"])
def test_an_installed_pass_is_there_by_name(install: Install, value: str) -> None:
    install(PLUGIN, value)
    (item,) = parse_passes("rename-nodes{word=w}")
    assert type(item).__module__ == "tiny_plugin"
    assert "rename-nodes" in registry.names()
    assert parse_recipe('[[passes]]\nname = "rename-nodes"\nword = "w"').passes == (item,)
    with pytest.raises(UsageError, match="did you mean 'rename-nodes'"):
        registry.find("rename-node")


def test_commands_know_an_installed_pass(install: Install) -> None:
    install(PLUGIN, "tiny_plugin")
    model = MODELS["mlp"]()
    result = optimize(model, "rename-nodes{word=w}")
    assert [record.status for record in result.report.passes] == ["done"]
    assert {node.name.partition("/")[0] for node in result.model.graph.node} == {"w"}
    (outlook,) = (each for each in inspect(model).passes if each.name == "rename-nodes")
    assert outlook.edits == len(model.graph.node)
    listed = CliRunner().invoke(app, ["passes"], catch_exceptions=False)
    assert "rename-nodes" in listed.output
    page = CliRunner().invoke(app, ["passes", "rename-nodes", "--json"], catch_exceptions=False)
    assert '"family": "tiny_plugin"' in page.output


FAULTS = {
    "raise RuntimeError('half\\ninstalled')": "RuntimeError: half",
    "import no_such_module": "ModuleNotFoundError: No module named 'no_such_module'",
    "raise SystemExit(3)": "SystemExit: 3",
    PLUGIN.replace("rename-nodes", "mask-weights"): "two passes are called 'mask-weights'",
    f"{PLUGIN}\nregister('mask-weights')(RenameNodes)": "two passes are called 'mask-weights'",
}


@pytest.mark.parametrize("source", FAULTS)
def test_a_faulty_distribution_is_named_in_one_line(install: Install, source: str) -> None:
    install(source, "tiny_plugin")
    before = dict(registry._PASSES)
    for _ in range(2):  # nothing half-registered is left, so it says the same again
        with pytest.raises(SystemFailure) as caught:
            registry.names()
        assert "'tiny-plugin' cannot be loaded: entry point 'rename' (tiny" in str(caught.value)
        assert FAULTS[source] in str(caught.value)
        assert before == registry._PASSES
    assert registry.find("mask-weights") is MaskWeights


def test_help_and_our_own_passes_load_no_plugin(install: Install, tmp_path: Path) -> None:
    install("raise RuntimeError('loaded')", "tiny_plugin")
    script = """
import sys
from graphopt.cli import main
from graphopt.contract.spec import parse_passes
codes = [main(words.split()) for words in ("--help", "optimize --help", "distill --help")]
parse_passes("mask-weights")
print(codes, main(["passes"]), "tiny_plugin" in sys.modules)
"""
    done = subprocess.run(
        [sys.executable, "-c", f"import sys; sys.path.insert(0, {str(tmp_path)!r}){script}"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.splitlines()[-1] == "[0, 0, 0] 5 False"
    (line,) = done.stderr.splitlines()
    assert line.startswith("graphopt: error: the passes of the installed distribution 'tiny-plug")


def test_a_pass_is_lent_for_a_while() -> None:
    class Lent(MaskWeights):
        name = "lent"

    with registry.lent(Lent):
        assert registry.find("lent") is Lent
        assert parse_passes("lent{sparsity=0.25}") == [Lent(sparsity=0.25)]
    assert "lent" not in registry.names()
    with registry.lent(MaskWeights):
        assert registry.find("mask-weights") is MaskWeights
    assert registry.find("mask-weights") is MaskWeights

    class Impostor(MaskWeights):
        name = "mask-weights"

    with pytest.raises(ValueError, match="two passes are called 'mask-weights'"):
        registry.lent(Impostor).__enter__()
