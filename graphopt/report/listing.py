"""Tables of what ``passes``, ``inspect``, ``compare`` and ``bench`` found."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console

from graphopt.report.advice import advised
from graphopt.report.answers import answers
from graphopt.report.console import facts, heading, line, table, terminal
from graphopt.report.findings import (
    Benchmark,
    Comparison,
    Grouping,
    Inspection,
    Outlook,
    Port,
    TargetFit,
)
from graphopt.report.pages import PassPage
from graphopt.report.words import (
    NONE,
    change,
    count,
    decibel,
    macs_note,
    measured_on,
    metric_figures,
    metric_title,
    milliseconds,
    percent,
    size,
    time_ratio,
    time_words,
)
from graphopt.tasks.words import grouped_tasks

__all__ = [
    "print_benchmark",
    "print_comparison",
    "print_inspection",
    "print_page",
    "print_passes",
]


def print_passes(pages: Sequence[PassPage]) -> None:
    """All passes, family by family."""
    console = terminal()
    for family in sorted({page.family for page in pages}):
        heading(console, family)
        rows = [(page.name, _nature(page), page.summary) for page in pages if page.family == family]
        table(console, ("pass", "kind", "what it does"), rows)
    line(console, "graphopt passes NAME shows one pass with its options.", "dim")


def _nature(page: PassPage) -> str:
    return ("lossy" if page.lossy else "lossless") + (", needs data" * page.needs_samples)


def print_page(page: PassPage) -> None:
    """One pass in full: its text, options with bounds, an example."""
    console = terminal()
    heading(console, f"{page.name} ({page.family}; {_nature(page)})")
    console.print()
    for text in page.text.splitlines():
        line(console, text)
    console.print()
    if page.options:
        rows = [(row.name, row.default, row.values, row.help) for row in page.options]
        table(console, ("option", "default", "values", "meaning"), rows)
    else:
        line(console, "It has no options.")
        console.print()
    facts(console, [*(("requires", each) for each in page.requires), ("example", page.example)])


def print_benchmark(found: Benchmark) -> None:
    """Latency of each model, and how it stands to the first one's."""
    console = terminal()
    rows = [
        (
            item.path or NONE,
            milliseconds(item.median_ms),
            f"{milliseconds(item.low_ms)} .. {milliseconds(item.high_ms)}",
            time_ratio(item.ratio, item.ratio_spread, item.clock, 3),
        )
        for item in found.timings
    ]
    table(console, ("model", ">median", ">10 % .. 90 %", ">to the first"), rows)
    facts(
        console,
        [
            ("provider", found.provider),
            ("threads", str(found.threads)),
            ("clock", _clock(found)),
            ("bursts", f"{found.rounds} of each model, in turns"),
            ("feeds", found.feeds),
        ],
    )


def _clock(found: Benchmark) -> str:
    """What the times are of, in words."""
    if found.timings[0].clock == "wall":
        return "wall time"
    return "processor time of one thread; wall time scatters or does not agree"


def print_comparison(found: Comparison) -> None:
    """Both models in figures, then how close the answers of B are to those of A."""
    console = terminal()
    a, b = found.a, found.b
    clock = found.latency_clock
    speed = time_ratio(found.latency_ratio, found.latency_spread, clock, 3)
    rows = [
        ("bytes", size(a.bytes), size(b.bytes), change(a.bytes, b.bytes)),
        (
            "compressed",
            size(a.compressed_bytes),
            size(b.compressed_bytes),
            change(a.compressed_bytes, b.compressed_bytes),
        ),
        ("parameters", count(a.params), count(b.params), change(a.params, b.params)),
        ("MACs", count(a.macs), count(b.macs), change(a.macs, b.macs)),
        ("nodes", str(a.nodes), str(b.nodes), change(a.nodes, b.nodes)),
        (time_words(clock), milliseconds(a.latency_ms), milliseconds(b.latency_ms), speed),
    ]
    quality = found.quality
    if quality is not None and quality.metric is not None:
        rows += [
            (metric_title(each, len(quality.outputs)), *metric_figures(each))
            for each in (quality.metric, *quality.metric.beside)
        ]
    table(console, ("", ">A", ">B", ">B to A"), rows)
    if quality is not None:
        figures = [
            (name, decibel(value), _cosine(found.cosine.get(name)))
            for name, value in quality.sqnr_db.items()
        ]
        table(console, ("output", ">SQNR", ">cosine"), figures)
    feeds = found.feeds
    if quality is not None and quality.source == "data":
        feeds = measured_on(quality)
    lines = [("A", a.path or NONE), ("B", b.path or NONE), ("feeds", feeds)]
    notes = map(macs_note, (a, b))
    lines += [("MACs", note) for note in dict.fromkeys(filter(None, notes))]
    if quality is not None:
        lines += answers(quality)
    if found.note:
        lines.append(("note", advised(found.note, found.needs)))
    facts(console, lines)


def _cosine(value: float | None) -> str:
    return NONE if value is None else f"{value:.6f}"


def _macs(found: Inspection) -> str:
    note = macs_note(found)
    return note if found.macs is None else " ".join(filter(None, [count(found.macs), note]))


def print_inspection(found: Inspection) -> None:
    """What the file holds, its ports and operators, its recipe, and what passes could do."""
    console = terminal()
    quantization = found.quantization
    facts(
        console,
        [
            ("model", found.path or NONE),
            ("bytes", f"{size(found.bytes)}, {size(found.weight_bytes)} of them weights"),
            ("producer", found.producer or NONE),
            ("IR version", str(found.ir_version)),
            ("opset", ", ".join(f"{domain} {version}" for domain, version in found.opset.items())),
            ("parameters", f"{count(found.params)}, {100 * found.sparsity:.1f} % of them zero"),
            ("MACs", _macs(found)),
            (
                "quantization",
                f"{quantization.form}; {quantization.integer_layers} of "
                f"{quantization.layers} layers have integer weights",
            ),
        ],
    )
    ports = [("input" + " (optional)" * port.optional, port) for port in found.inputs]
    ports += [("output", port) for port in found.outputs]
    table(
        console,
        ("", "name", "type", "shape"),
        [(kind, port.name, port.dtype, _shape(port)) for kind, port in ports],
    )
    table(
        console, ("operator", ">nodes"), [(name, str(number)) for name, number in found.ops.items()]
    )
    rows = [
        (each.reader, each.stored, str(each.tensors), count(each.elements), size(each.bytes))
        for each in found.weights
    ]
    titles = ("weights of", "stored as", ">tensors", ">parameters", ">bytes")
    table(console, titles, rows)
    heading(console, "What the outputs mean, as far as the graph tells")
    facts(console, grouped_tasks(found.tasks))
    if found.channels is not None:
        _print_channels(console, found.channels)
    if found.fits:
        _print_fits(console, found.fits)
    if found.passes:
        heading(console, "What each pass could do, with default options")
        table(console, ("pass", ">changes", "what it leaves alone"), _outlooks(found.passes))
    if found.recipe is not None:
        heading(console, "Recipe that made it")
        for text in found.recipe.splitlines():
            line(console, text)


def _print_fits(console: Console, fits: Sequence[TargetFit]) -> None:
    """Layers on integers by target, then why the others are not."""
    heading(console, "Layers on integers, by the tables of the targets; nothing was run there")
    rows = [
        (
            fit.target,
            f"{fit.integer} of {fit.layers}",
            NONE if fit.quantized is None else str(fit.quantized),
            "; ".join(fit.hurdles),
        )
        for fit in fits
    ]
    titles = ("target", ">as it is", ">by quantize-static", "what else is to be known")
    table(console, titles, rows)
    reasons = [
        (fit.target, str(each.layers), each.reason, each.first)
        for fit in fits
        for each in fit.reasons
    ]
    if reasons:
        table(console, ("target", ">layers", "why in floats, or not at all", "first at"), reasons)


def _print_channels(console: Console, found: Grouping) -> None:
    """Groups with what would go with all of each, then why the rest stays."""
    heading(console, "Channels that can be removed, each with what must go with it")
    if found.refused:
        line(console, f"prune-channels refuses: {found.refused}; prune before, and quantize then")
    rows = [
        (
            group.name,
            f"{group.size}{' heads' if group.heads else ''}",
            str(len(group.producers)),
            str(len(group.consumers)),
            _share(group.params, found.of_params),
            _share(group.macs, found.of_macs),
        )
        for group in found.groups
    ]
    rows.append(
        (
            "all of them",
            str(sum(group.size for group in found.groups)),
            "",
            "",
            _share(found.params, found.of_params),
            _share(found.macs, found.of_macs),
        )
    )
    titles = ("made by", ">units", ">layers", ">readers", ">of parameters", ">of MACs")
    table(console, titles, rows)
    reasons = [(str(len(each.layers)), each.reason, each.at) for each in found.fixed]
    if reasons:
        table(console, (">layers", "why output channels stay", "first at"), reasons)


def _share(part: int | None, whole: int | None) -> str:
    return percent(100 * part / whole) if part is not None and whole else NONE


def _shape(port: Port) -> str:
    if port.shape is None:
        return "unknown"
    return f"[{', '.join('?' if dim is None else str(dim) for dim in port.shape)}]"


def _outlooks(passes: Sequence[Outlook]) -> list[tuple[str, str, str]]:
    """One row a pass, with the most frequent reason for what it leaves alone."""
    rows = []
    for item in passes:
        text = advised(item.note, item.needs)
        if not text and item.reasons:
            reason, number = next(iter(item.reasons.items()))
            others = sum(item.reasons.values()) - number
            text = reason if number == 1 else f"{number} nodes: {reason}"
            text += f"; {others} for other reasons" if others else ""
        rows.append((item.name, NONE if item.edits is None else str(item.edits), text))
    return rows
