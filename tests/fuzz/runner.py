"""Cases made, run, tried by onnxruntime and judged, and what was found kept."""

from __future__ import annotations

import dataclasses
import re
import shutil
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from tests.fuzz.case import Case
from tests.fuzz.helper import Bounds, Helper, Lost, watched_command
from tests.fuzz.verdict import Ending, findings
from tests.fuzz.worker import ERRORS, PRINTED

__all__ = ["BOUNDS", "Finding", "Tally", "run_cases"]

BOUNDS = {
    "models": Bounds(seconds=60, bytes=10**9),
    "samples": Bounds(seconds=10, bytes=500 * 10**6),
    "texts": Bounds(seconds=10, bytes=500 * 10**6),
    "graphs": Bounds(seconds=60, bytes=10**9),
}
_AMPLE = Bounds(seconds=120, bytes=8 * 10**9)  # to make a case, and for onnxruntime alone
_START_BYTES = 300 * 10**6  # of a process that has loaded all of graphopt


@dataclass(frozen=True)
class Finding:
    """A case that ended as none may.

    Attributes:
        kind: Of the case.
        number: Of the case: with the kind it makes the case anew.
        wrong: What is wrong, worst first.
        where: File and line of an internal error, else empty.
        case: What was run.
        end: How it ended.
    """

    kind: str
    number: int
    wrong: tuple[str, ...]
    where: str
    case: Case
    end: Ending

    def __str__(self) -> str:
        lines = self.end.errors.strip().splitlines() or [""]
        line = lines[-1][:300]
        why = self.end.truth.get("why", "")
        return (
            (
                f"{self.kind} {self.number}: {', '.join(self.wrong)} {self.where}\n"
                f"    graphopt {' '.join(self.case.arguments)}\n"
                f"    {'; '.join(self.case.story)[:400]}\n"
                f"    exit {self.end.code}, {self.end.seconds:.1f} s, {self.end.bytes >> 20} MB:"
                f" {line}" + (f"\n    onnxruntime: {why[:200]}" if why else "")
            )
            .encode("ascii", "backslashreplace")
            .decode()
        )


@dataclass
class Tally:
    """Counts of a run of the fuzzer."""

    cases: int = 0
    endings: Counter[str] = field(default_factory=Counter)
    wrong: Counter[str] = field(default_factory=Counter)
    tried: Counter[str] = field(default_factory=Counter)
    slowest: float = 0
    largest: int = 0

    def count(self, end: Ending, wrong: Iterable[str]) -> None:
        """Enter a case."""
        self.cases += 1
        self.endings[
            end.death or ("internal" if end.code in {None, 1} else f"exit {end.code}")
        ] += 1
        self.wrong.update(list(wrong)[:1])
        if end.truth:
            state = "runs" if end.truth.get("runs") else "loads" if end.truth.get("loads") else "no"
            self.tried[f"exit {end.code}, onnxruntime: {state}"] += 1
        self.slowest = max(self.slowest, end.seconds)
        self.largest = max(self.largest, end.bytes)

    def lines(self) -> list[str]:
        """The counts for a reader."""
        parts = [f"{self.cases} cases, slowest {self.slowest:.1f} s, {self.largest / 1e6:.0f} MB"]
        for title, counts in (
            ("ended", self.endings), ("against onnxruntime", self.tried), ("wrong", self.wrong)
        ):  # fmt: skip
            found = ", ".join(f"{name}: {counts[name]}" for name in sorted(counts))
            parts.append(f"{title}: {found or 'none'}")
        return parts


def run_cases(
    kind: str,
    numbers: Iterable[int],
    *,
    by_command: bool = False,
    keep: Path | None = None,
    patience: float = 1.0,
    tally: Tally | None = None,
    done: Callable[[int], None] = lambda _: None,
) -> Iterator[Finding]:
    """Run cases and hand out those that ended as none may.

    Args:
        kind: One of ``worker.KINDS``.
        numbers: Of the cases.
        by_command: Each in a process of its own, as a user starts it, instead of many in one.
        patience: How often the seconds of ``BOUNDS`` a case may take: machines may be busy.
        keep: Where folders of findings are kept; removed without it.
        tally: Filled.
        done: Told the number of each case behind it.
    """
    worker, judge = Helper(), Helper()
    bounds = BOUNDS[kind]
    bounds = dataclasses.replace(bounds, seconds=bounds.seconds * patience)
    try:
        for number in numbers:
            folder = Path(tempfile.mkdtemp(prefix="graphopt-fuzz-"))
            try:
                worker.ask(_AMPLE, do="make", kind=kind, number=number, folder=str(folder))
                case, before = Case.noted(folder), _files(folder)
                end = _ended(case, folder, worker, judge, bounds, by_command)
                end = dataclasses.replace(end, touched=_touched(before, folder, case))
                wrong = findings(case, end)
                if tally is not None:
                    tally.count(end, wrong)
                if wrong:
                    yield Finding(kind, number, tuple(wrong), _where(folder, end), case, end)
                    if keep is not None:
                        place = keep / f"{kind}-{number}"
                        shutil.rmtree(place, ignore_errors=True)
                        shutil.copytree(folder, place, symlinks=True, ignore=_pipes)
            finally:
                shutil.rmtree(folder, ignore_errors=True)
            done(number)
    finally:
        worker.end()
        judge.end()


def _pipes(folder: str, names: list[str]) -> list[str]:
    return [name for name in names if (Path(folder) / name).is_fifo()]


def _ended(
    case: Case, folder: Path, worker: Helper, judge: Helper, bounds: Bounds, by_command: bool
) -> Ending:
    code: int | None = None
    death, seconds, held = None, 0.0, 0
    started = time.monotonic()
    try:
        if by_command:
            widened = Bounds(seconds=bounds.seconds, bytes=bounds.bytes + _START_BYTES)
            with (folder / PRINTED).open("wb") as out, (folder / ERRORS).open("wb") as errors:
                code, seconds, held = watched_command(case.arguments, folder, widened, out, errors)
            held = max(0, held - _START_BYTES)
        else:
            arguments = list(case.arguments)
            answer = worker.ask(bounds, do="run", folder=str(folder), arguments=arguments)
            code, seconds, held = answer["code"], answer["seconds"], answer["bytes"]
            if held > bounds.bytes:
                death = "memory"
    except Lost as lost:
        death, seconds = str(lost), time.monotonic() - started
        held = bounds.bytes if death == "memory" else 0
    truth = {}
    if case.model is not None and death is None:
        try:
            truth = judge.ask(
                _AMPLE,
                do="try",
                folder=str(folder),
                model=case.model,
                feeds=case.feeds,
                out=case.out,
            )
        except Lost as lost:
            truth = {"why": f"onnxruntime: {lost}"}
    return Ending(
        code=code,
        death=death,
        seconds=seconds,
        bytes=held,
        errors=_text(folder / ERRORS),
        printed=_text(folder / PRINTED),
        truth=truth,
        written=case.out is not None and (folder / case.out).exists(),
    )


def _text(path: Path) -> str:
    return path.read_text(errors="replace") if path.exists() else ""


def _files(folder: Path) -> dict[str, tuple[int, int]]:
    """Size and time of change of each file."""
    return {
        str(path.relative_to(folder)): (status.st_size, status.st_mtime_ns)
        for path in folder.rglob("*")
        for status in [path.lstat()]
        if not path.is_dir()
    }


def _touched(before: dict[str, tuple[int, int]], folder: Path, case: Case) -> tuple[str, ...]:
    """Inputs that were changed or are gone, and files that the command line does not name."""
    after = _files(folder)
    changed = [name for name, was in before.items() if after.get(name) != was]
    named = {PRINTED, ERRORS, *(Path(part).name for part in case.arguments)}
    stems = tuple(name for name in named if name.endswith(".onnx"))
    new = [
        name
        for name in after
        if name not in before
        and not name.startswith(("graphopt-", "ck/", *stems))
        and name not in named
        and name != "m.opt.onnx"
    ]
    return tuple(changed + new)


def _where(folder: Path, end: Ending) -> str:
    """The last place of graphopt in a traceback."""
    logs = [path.read_text(errors="replace") for path in folder.glob("graphopt-*.log")]
    text = "\n".join([*logs, end.errors])
    places = re.findall(r'File "[^"]*?((?:graphopt|passes)/[^"]+)", line (\d+), in (\w+)', text)
    return ":".join(places[-1]) if places else ""
