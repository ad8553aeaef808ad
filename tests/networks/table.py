"""What part of each network can be pruned, as the table of docs/channels.md says it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from graphopt.analysis.channels import Channels
from graphopt.contract import registry
from graphopt.facts.sized import single, sized
from graphopt.graph.graph import Graph
from graphopt.testing import apply_pass

__all__ = ["folded", "heading", "row", "written"]

BEGIN, END = "<!-- table -->\n", "<!-- end of table -->"


def folded(model: object) -> Graph:
    """A network whose constants are folded."""
    graph, _ = apply_pass(registry.find("fold-constants")(), model, samples=None)  # type: ignore[arg-type]
    return graph


def heading() -> list[str]:
    """The first lines of the table."""
    return [
        "| network | exporter | groups | units | of parameters | of MACs | what stays, mostly |",
        "|---|---|---|---|---|---|---|",
    ]


def row(entry: str, graph: Graph, found: Channels) -> str:
    """One line for a network."""
    exporter, _, name = entry.partition("/")
    macs = sized(graph, single(graph)).macs.total
    share = found.share.macs
    reasons = Counter(fixed.reason for fixed in found.fixed)
    cells = (
        name,
        exporter,
        str(len(found.groups)),
        str(sum(group.size for group in found.groups)),
        f"{100 * found.share.params / found.whole.params:.1f} %",
        "-" if macs is None or share is None else f"{100 * share / macs:.1f} %",
        reasons.most_common(1)[0][0] if reasons else "nothing",
    )
    return f"| {' | '.join(cells)} |"


def written(text: str, rows: Iterable[str]) -> str:
    """The page with another table."""
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    return before + BEGIN + "\n".join([*heading(), *rows]) + "\n" + END + after
