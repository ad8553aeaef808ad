"""Without torch the networks can be read, but not exported."""

from __future__ import annotations

from importlib.util import find_spec

collect_ignore = [] if find_spec("torch") else ["exported.py", "sequences.py", "vision.py"]
