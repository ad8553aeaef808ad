"""The fuzzers: ``python -m tests.fuzz models --count 5000``, from the root of the repository."""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from pathlib import Path

from tests.fuzz.runner import Tally, run_cases
from tests.fuzz.worker import KINDS


def _main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("kind", choices=KINDS)
    parser.add_argument("--count", type=int, default=200, help="how many cases")
    parser.add_argument("--first", type=int, default=0, help="number of the first one")
    parser.add_argument("--by-command", action="store_true", help="each in a process of its own")
    parser.add_argument("--keep", type=Path, help="folder for the cases that ended as none may")
    parser.add_argument("--each", type=int, default=3, help="how often to show what is alike")
    asked = parser.parse_args()
    tally, seen = Tally(), Counter[tuple[str, str]]()

    def done(number: int) -> None:
        if (number + 1) % 100 == 0:
            print(*tally.lines(), sep="\n  ", file=sys.stderr, flush=True)

    numbers = range(asked.first, asked.first + asked.count)
    for finding in run_cases(
        asked.kind,
        numbers,
        by_command=asked.by_command,
        keep=asked.keep,
        tally=tally,
        done=done,
    ):
        alike = (finding.wrong[0], finding.where)
        seen[alike] += 1
        if seen[alike] <= asked.each:
            print(finding, flush=True)
    print(*tally.lines(), sep="\n")
    for (wrong, where), count in seen.most_common():
        print(f"{count:6} {wrong} {where}")
    return 1 if seen else 0


if __name__ == "__main__":
    sys.exit(_main())
