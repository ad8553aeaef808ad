from __future__ import annotations

import logging

import pytest

from graphopt.cli.progress import speak


def test_what_is_said_cannot_steer_a_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    logger = logging.getLogger("graphopt")
    held = logger.handlers[:], logger.level
    try:
        speak()
        logging.getLogger("graphopt.pipeline").info("refused: %s", "Conv\x1b[2J\x9b31m")
    finally:
        logger.handlers[:], logger.level = held
    said = capsys.readouterr().err
    assert said.startswith("graphopt: refused: Conv")
    assert "\x1b" not in said
    assert "\x9b" not in said
