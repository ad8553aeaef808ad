"""The command line: one file a command, thin, on top of the Python API."""

from graphopt.cli.app import main

__all__ = ["main"]
