"""What the documents say is true: commands parse, code runs, transcripts are what is printed."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from graphopt.cli.app import app
from graphopt.contract import presets

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
PAGES = sorted(path.relative_to(ROOT).as_posix() for path in ROOT.glob("docs/*.md"))
SHOWN = {name: (ROOT / name).read_text(encoding="utf-8") for name in ("README.md", *PAGES)}
"""What users read of commands, by file."""
DOCUMENTS = (*SHOWN, "CONTRIBUTING.md", "models/README.md", "benchmarks/README.md")
MEASURED = ("optimize", "distill", "compare", "bench")
NEEDS_TORCH = ("distill",)
BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def blocks(kind: str, text: str = README) -> list[str]:
    """The code blocks of a language, in order."""
    return [body for language, body in BLOCK.findall(text) if language == kind]


def transcripts(page: str) -> dict[str, str]:
    """Command to printed text, from the blocks that show both; without torch only some."""
    parts = (block.partition("\n") for block in blocks("console", SHOWN[page]))
    shown = {command.removeprefix("$ "): output for command, _, output in parts}
    able = find_spec("torch") is not None
    return {c: text for c, text in shown.items() if able or c.split()[1] not in NEEDS_TORCH}


def commands() -> Iterator[str]:
    """Every graphopt command line in the documents, without the environment's folder."""
    for text in SHOWN.values():
        code = "".join(body for kind in ("sh", "console") for body in blocks(kind, text))
        for line in code.split("\n"):
            yield from re.findall(r"(?:^\$ |\.venv/bin/)(graphopt \w[^&]*)", line)
        yield from re.findall(r"`(graphopt \w+(?: [^`]+)?)`", BLOCK.sub("", text))


@pytest.fixture
def clone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working folder with the models in it."""
    (tmp_path / "models").symlink_to(ROOT / "models")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def printed(command: str) -> str:
    """What a command prints, without blanks at line ends."""
    name, *arguments = shlex.split(command)
    result = CliRunner().invoke(app, arguments, prog_name=name, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return "\n".join(line.rstrip() for line in result.stdout.strip("\n").splitlines()) + "\n"


def test_first_block_is_the_main_job_and_the_tests() -> None:
    before, _, _ = README.partition("```")
    assert [line for line in before.splitlines()[1:] if line] == [before.splitlines()[2]]
    main_job, tests = blocks("sh")[0].splitlines()
    assert "graphopt optimize models/digits-cnn.onnx" in main_job
    assert tests.endswith("pytest -q -n 2 --dist worksteal")
    for line in (main_job, tests):
        assert line.startswith("python3 -m venv .venv && .venv/bin/pip install ")


@pytest.mark.parametrize("command", sorted(set(commands())))
def test_commands_parse(command: str) -> None:
    name, *arguments = shlex.split(command)[1:]
    found = app.commands[name]
    if arguments and "--help" not in arguments:
        found.make_context(name, arguments, **app.context_settings)
    for path in (argument for argument in arguments if argument.startswith("models/")):
        assert (ROOT / path).exists()


def test_named_options_exist() -> None:
    known = {
        option
        for command in (app, *app.commands.values())
        for parameter in command.get_params(click.Context(command, **app.context_settings))
        if isinstance(parameter, click.Option)
        for option in parameter.opts
    }
    prose = re.sub(r"`(python|pytest) [^`]+`", "", BLOCK.sub("", "\n".join(SHOWN.values())))
    assert set(re.findall(r"(?<![\w-])--[a-z][a-z-]*", prose)) <= known


def test_every_command_has_its_section() -> None:
    headings = re.findall(r"^### `graphopt (\w+)`", README, re.MULTILINE)
    assert sorted(headings) == sorted(app.commands)


@pytest.mark.parametrize("page", [page for page in SHOWN if "```console" in SHOWN[page]])
def test_transcripts_are_what_is_printed(
    page: str, clone: Path, request: pytest.FixtureRequest
) -> None:
    """In order, as a reader would type them; ``--update-golden`` writes the page anew."""
    now = {command: printed(command) for command in transcripts(page)}
    if request.config.getoption("--update-golden"):
        text = SHOWN[page]
        for command, shown in transcripts(page).items():
            text = text.replace(f"$ {command}\n{shown}```", f"$ {command}\n{now[command]}```")
        (ROOT / page).write_text(text, encoding="utf-8")
        return
    for command, shown in transcripts(page).items():
        measured = command.split()[1] in MEASURED and "--help" not in command
        if measured:
            assert titles(shown) <= titles(now[command]), command
        else:
            assert now[command] == shown, command


def titles(text: str) -> set[str]:
    """The words at the margin. The figures beside them, and what follows from those, change."""
    busy = {"latency", "processor", "times"}  # by which clock they are, and that it is said
    return set(re.findall(r"^[A-Za-z-]+", text, re.MULTILINE)) - {"Written", *busy}


@pytest.mark.parametrize("number", range(2))
def test_python_examples_run(number: int, clone: Path, capsys: pytest.CaptureFixture[str]) -> None:
    exec(compile(blocks("python")[number], "README.md", "exec"), {})
    assert capsys.readouterr().out


def test_torch_example_is_five_lines_that_compile() -> None:
    example = blocks("python")[2]
    compile(example, "README.md", "exec")
    assert len(example.splitlines()) == 5


def test_presets_are_listed() -> None:
    row = next(line for line in README.splitlines() if line.startswith("| `--preset NAME`"))
    assert {*re.findall(r"`([a-z0-9-]+)`", row)} == {*presets.names()} - {"auto"}


@pytest.mark.parametrize("document", DOCUMENTS)
def test_links_and_paths_lead_somewhere(document: str) -> None:
    path = ROOT / document
    text = path.read_text(encoding="utf-8")
    for link in re.findall(r"\]\(([^)#:]+)\)", text):
        assert (path.parent / link).exists(), link
    for named in re.findall(r"`((?:graphopt|passes|tests|models|benchmarks|docs)/[\w./-]+)`", text):
        assert (ROOT / named).exists(), named


def test_contributing_adds_a_pass_in_six_steps() -> None:
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    _, _, section = text.partition("## Add a pass in six steps")
    section, _, _ = section.partition("\n## ")
    assert re.findall(r"^(\d)\. ", section, re.MULTILINE) == list("123456")


def test_benchmarks_are_described() -> None:
    text = (ROOT / "benchmarks" / "README.md").read_text(encoding="utf-8")
    scripts = {path.name for path in (ROOT / "benchmarks").glob("*.py")}
    assert scripts == set(re.findall(r"`(\w+\.py)`", text))


def test_every_page_is_named_in_the_readme() -> None:
    for page in PAGES:
        assert f"]({page})" in README
