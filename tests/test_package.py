"""What is installed is what is in the tree: packages, data files, versions, public names."""

from __future__ import annotations

import importlib
import os
import re
import subprocess
import sys
import tomllib
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.version import Version

import graphopt

ROOT = Path(__file__).parent.parent
PYPROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
SETUPTOOLS = PYPROJECT["tool"]["setuptools"]
HEAVY = ("jinja2", "numpy", "onnx", "onnxruntime", "rich", "scipy", "torch")


def folders_of_python() -> set[str]:
    """The dotted names of all folders with an ``__init__.py``, passes by their public name."""
    found = set()
    for top in ("graphopt", "passes"):
        for folder, _, files in os.walk(ROOT / top):  # does not enter the link to passes
            if "__init__.py" in files:
                found.add(Path(folder).relative_to(ROOT).as_posix().replace("/", "."))
    return {re.sub(r"^passes", "graphopt.passes", name) for name in found}


def test_packages_are_the_folders() -> None:
    assert sorted(SETUPTOOLS["packages"]) == sorted(folders_of_python())


def test_passes_are_reached_by_mapping_and_by_link() -> None:
    link = ROOT / "graphopt" / "passes"
    assert link.is_symlink()
    assert link.readlink().as_posix() == "../passes"
    assert SETUPTOOLS["package-dir"]["graphopt.passes"] == "passes"


def test_every_data_file_is_packaged() -> None:
    declared = {
        path
        for package, patterns in SETUPTOOLS["package-data"].items()
        for pattern in patterns
        for path in (ROOT / package.replace(".", "/")).glob(pattern)
    }
    present = {
        Path(folder) / name
        for top in ("graphopt", "passes")
        for folder, _, files in os.walk(ROOT / top)
        for name in files
        if not name.endswith((".py", ".pyc"))
    }
    assert present == declared


def test_every_folder_with_python_files_is_a_package() -> None:
    for top in ("graphopt", "passes"):
        for folder, _, files in os.walk(ROOT / top):
            if any(name.endswith(".py") for name in files):
                assert "__init__.py" in files, folder


def test_version_is_said_once() -> None:
    assert metadata.version("graphopt") == graphopt.__version__


def test_entry_point_is_the_command_line() -> None:
    (script,) = metadata.entry_points(group="console_scripts", name="graphopt")
    assert script.load() is importlib.import_module("graphopt.cli").main


def test_public_names_exist_and_are_listed() -> None:
    assert graphopt.__all__ == sorted(graphopt.__all__)
    for name in graphopt.__all__:
        assert getattr(graphopt, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'optimise'"):
        graphopt.optimise  # noqa: B018


def test_importing_the_package_loads_nothing_heavy() -> None:
    code = f"import graphopt, sys; print([m for m in {HEAVY} if m in sys.modules])"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT
    )
    assert done.stdout.strip() == "[]"


def pins() -> dict[str, Version]:
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    exact = [line.split("==") for line in lines if line and not line.startswith("#")]
    return {normal(name): Version(version) for name, version in exact}


def normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def requirements() -> list[Requirement]:
    project = PYPROJECT["project"]
    extras = project["optional-dependencies"].values()
    texts = [*project["dependencies"], *(text for extra in extras for text in extra)]
    return [Requirement(text) for text in texts if not text.startswith("graphopt")]


@pytest.mark.parametrize("requirement", requirements(), ids=str)
def test_each_requirement_is_pinned_within_its_range(requirement: Requirement) -> None:
    assert pins()[normal(requirement.name)] in requirement.specifier


def test_installed_versions_are_in_range() -> None:
    for requirement in map(Requirement, PYPROJECT["project"]["dependencies"]):
        assert Version(metadata.version(requirement.name)) in requirement.specifier


def test_contract_of_sessions_covers_every_room_but_runtime() -> None:
    """New rooms must be added to it; the layers contract refuses unlisted rooms by itself."""
    contracts = {each["name"]: each for each in PYPROJECT["tool"]["importlinter"]["contracts"]}
    (arrows,) = (each for each in contracts.values() if each["type"] == "layers")
    rooms = {room for layer in arrows["layers"] for room in layer.split(" | ")}
    covered = contracts["only runtime creates sessions"]["source_modules"]
    assert {f"graphopt.{room}" for room in rooms - {"runtime", "errors"}} == set(covered)


def test_contract_of_torch_covers_every_room_but_the_bridge() -> None:
    contracts = {each["name"]: each for each in PYPROJECT["tool"]["importlinter"]["contracts"]}
    sessions = set(contracts["only runtime creates sessions"]["source_modules"])
    rooms = sessions - {"graphopt.bridge"} | {"graphopt.runtime", "graphopt.testing"}
    assert set(contracts["only the bridge imports torch"]["source_modules"]) == rooms
