"""How many processors this process may use."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from pathlib import Path

import psutil

__all__ = ["core_count", "quota"]

_MOUNT = Path("/sys/fs/cgroup")
_MEMBERSHIP = Path("/proc/self/cgroup")


def core_count() -> int:
    """Cores of the machine, fewer where the process is held to some or a container has a quota."""
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    bounds = [psutil.cpu_count(logical=False) or 1, allowed or 1]
    if (share := quota()) is not None:
        bounds.append(math.ceil(share))
    return max(1, min(bounds))


def quota(mount: Path = _MOUNT, membership: Path = _MEMBERSHIP) -> float | None:
    """Processors that Linux lets the control group of this process use, such as 1.5.

    Args:
        mount: Where control groups are mounted, of version 2, or of version 1 by controller.
        membership: The file that says which groups the process is in.

    Returns:
        The least over the group and those around it; None where nothing limits it.
    """
    found = [share for folder in _folders(mount, membership) if (share := _share(folder))]
    return min(found, default=None)


def _folders(mount: Path, membership: Path) -> Iterator[Path]:
    """Folders of the control groups that may limit the process."""
    try:
        lines = membership.read_text().splitlines()
    except (OSError, UnicodeError):
        return
    for line in lines:
        _, controllers, group = (*line.split(":", 2), "", "")[:3]
        if controllers and "cpu" not in controllers.split(","):
            continue
        root = mount / "cpu" if controllers else mount
        place = root / group.lstrip("/")
        yield place  # in a container the group's name is that outside, and the root is its folder
        yield from (each for each in place.parents if each == root or root in each.parents)


def _share(folder: Path) -> float | None:
    """The processors of one group; None without a limit."""
    try:
        if (file := folder / "cpu.max").exists():
            most, period = file.read_text().split()[:2]
        else:
            most = (folder / "cpu.cfs_quota_us").read_text()
            period = (folder / "cpu.cfs_period_us").read_text()
        share = int(most) / int(period)
    except (OSError, ValueError, ZeroDivisionError):  # "max" is no number
        return None
    return share if share > 0 else None
