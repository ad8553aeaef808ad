"""Golden files: what a command prints, kept beside its test."""

from __future__ import annotations

from collections.abc import Callable

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--update-golden", action="store_true", help="write the golden files anew")


@pytest.fixture
def golden(request: pytest.FixtureRequest) -> Callable[[str, str], None]:
    """Compares text with the file ``golden/NAME`` beside the test, but for blanks at line ends."""

    def compare(name: str, text: str) -> None:
        path = request.path.parent / "golden" / name
        lines = "".join(f"{line.rstrip()}\n" for line in text.splitlines())
        if request.config.getoption("--update-golden"):
            path.parent.mkdir(exist_ok=True)
            path.write_text(lines, encoding="utf-8")
        assert path.exists(), f"{path} is missing; make it with --update-golden"
        assert lines == path.read_text(encoding="utf-8")

    return compare
