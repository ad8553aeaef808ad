"""What limits the processors of this process."""

from __future__ import annotations

from pathlib import Path

import pytest

from graphopt.runtime import cores
from graphopt.runtime.cores import core_count, quota


def _quota(folder: Path, membership: str, files: dict[str, str]) -> float | None:
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    (folder / "membership").write_text(membership)
    return quota(folder, folder / "membership")


@pytest.mark.parametrize(
    ("membership", "files", "share"),
    [
        ("0::/\n", {"cpu.max": "200000 100000\n"}, 2.0),
        ("0::/\n", {"cpu.max": "max 100000\n"}, None),
        ("0::/\n", {}, None),
        ("0::/a/b\n", {"a/cpu.max": "150000 100000", "a/b/cpu.max": "max 100000"}, 1.5),
        ("0::/a/b\n", {"a/cpu.max": "400000 100000", "a/b/cpu.max": "100000 100000"}, 1.0),
        # In a container: the name is that outside.
        ("0::/docker/1234\n", {"cpu.max": "50000 100000"}, 0.5),
        (
            "3:memory:/x\n2:cpu,cpuacct:/x\n",
            {"cpu/x/cpu.cfs_quota_us": "300000\n", "cpu/x/cpu.cfs_period_us": "100000\n"},
            3.0,
        ),
        (
            "2:cpu,cpuacct:/\n",
            {"cpu/cpu.cfs_quota_us": "-1\n", "cpu/cpu.cfs_period_us": "100000\n"},
            None,
        ),
        ("junk\n0::/\n", {"cpu.max": "nothing"}, None),
        ("0::/\n", {"cpu.max": "100000 0"}, None),
    ],
)
def test_quotas_of_control_groups(
    tmp_path: Path, membership: str, files: dict[str, str], share: float | None
) -> None:
    assert _quota(tmp_path, membership, files) == share


def test_where_nothing_tells_of_control_groups_there_is_no_quota(tmp_path: Path) -> None:
    assert quota(tmp_path, tmp_path / "none") is None


def test_the_least_of_all_bounds_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("psutil.cpu_count", lambda logical: 64)
    monkeypatch.setattr("os.sched_getaffinity", lambda pid: set(range(16)), raising=False)
    for share, count in ((None, 16), (2.5, 3), (0.2, 1), (99.0, 16)):
        monkeypatch.setattr(cores, "quota", lambda share=share: share)
        assert core_count() == count
    monkeypatch.setattr("psutil.cpu_count", lambda logical: None)
    assert core_count() == 1
