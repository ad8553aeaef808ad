"""Leaves the room of torch out where torch is not installed."""

from importlib.util import find_spec

collect_ignore = [] if find_spec("torch") else ["graphopt/bridge", "tests/bridge"]


def pytest_report_header() -> str:
    """Says so at the start of a run."""
    return "torch is missing: the bridge is not tested" if collect_ignore else "with torch"
