"""A form for each layer under one budget: the choice, and the passes that make it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise

from graphopt.contract.forms import FLOAT, FORMS, FormFigures, LayerForm, ModelFigures
from graphopt.contract.spec import format_value
from graphopt.facts.select import exactly
from graphopt.numerics.allocation import Priced
from graphopt.numerics.assignment import Border, Shared, assign

__all__ = ["mixture_bytes", "mixture_ms", "mixture_spec", "quietest", "smallest"]

Mixture = dict[str, str]


def quietest(
    figures: ModelFigures, forms: Sequence[LayerForm], most: float, *, timed: bool = False
) -> Mixture | None:
    """The choice of least noise within a budget.

    Args:
        figures: What each layer costs in each form.
        forms: Those to choose from.
        most: Bytes of the file or, if ``timed``, milliseconds of the layers.
        timed: What the budget is of.

    Returns:
        A form by the label of each layer; None where even the cheapest cost more.
    """
    rest = 0.0 if timed else float(figures.bytes)
    return _assigned(figures, forms, most - rest, timed=timed, by_noise=True)


def smallest(
    figures: ModelFigures, forms: Sequence[LayerForm], noise: float, *, timed: bool = False
) -> Mixture | None:
    """The choice of fewest bytes or, if ``timed``, of least time within a noise.

    Args:
        figures: What each layer costs in each form.
        forms: Those to choose from.
        noise: Most power of the error over the power of the worst output.
        timed: What is to be least.
    """
    return _assigned(figures, forms, noise, timed=timed, by_noise=False)


def _assigned(
    figures: ModelFigures,
    forms: Sequence[LayerForm],
    budget: float,
    *,
    timed: bool,
    by_noise: bool,
) -> Mixture | None:
    def priced(noise: float, taken: float) -> Priced:
        return Priced(taken, noise) if by_noise else Priced(noise, taken)

    names = [each.name for each in forms]
    choices = list[list[Priced]]()
    suited = list[list[str]]()
    needed = dict[tuple[str, bool], list[tuple[int, int]]]()
    for thing, each in enumerate(figures.layers):
        there = [name for name in names if name in each.forms]
        known = [name for name in there if not timed or each.forms[name].ms is not None]
        suited.append(known or [FLOAT.name])
        own = [each.forms[name] for name in suited[-1]]
        choices.append([priced(form.noise, _taken(form, timed=timed)) for form in own])
        for index, form in enumerate(own):
            for grid in form.grids:
                needed.setdefault(grid, []).append((thing, index))
    shared = [
        Shared(priced(figures.grids[grid], 0.0), tuple(pairs)) for grid, pairs in needed.items()
    ]
    borders = []
    for grid, pairs in needed.items():
        price = priced(0.0, figures.borders.get(grid, 0.0) if timed else 0.0)
        sides = _sides(pairs)
        borders += [Border(price, pair) for pair in pairwise(sides) if price.cost or price.loss]
    found = assign(choices, budget, shared, borders)
    if found is None:
        return None
    return {each.node: suited[thing][found[thing]] for thing, each in enumerate(figures.layers)}


def _sides(pairs: Sequence[tuple[int, int]]) -> list[tuple[int, tuple[int, ...]]]:
    """The things that a grid lies between, each with its forms that need it."""
    things = dict.fromkeys(thing for thing, _ in pairs)
    return [(each, tuple(form for thing, form in pairs if thing == each)) for each in things]


def _taken(form: FormFigures, *, timed: bool) -> float:
    return (form.ms or 0.0) if timed else float(form.bytes)


def mixture_bytes(figures: ModelFigures, mixture: Mapping[str, str]) -> int:
    """What the file of a choice takes, about."""
    return figures.bytes + sum(
        each.forms[mixture.get(each.node, FLOAT.name)].bytes for each in figures.layers
    )


def mixture_ms(figures: ModelFigures, mixture: Mapping[str, str]) -> float:
    """What a choice takes in one run, about: the layers, and tensors between two kinds of them."""
    chosen = [each.forms[mixture.get(each.node, FLOAT.name)] for each in figures.layers]
    between = 0.0
    for grid, ms in figures.borders.items():
        around = [
            grid in form.grids
            for form, each in zip(chosen, figures.layers, strict=True)
            if any(grid in other.grids for other in each.forms.values())
        ]
        between += ms * sum(one != other for one, other in pairwise(around))
    return sum(form.ms or 0.0 for form in chosen) + between


def mixture_spec(mixture: Mapping[str, str]) -> str:
    """The passes that give each layer its form, as spec text; empty where all stay float.

    Args:
        mixture: A form by the label of each layer.
    """
    used = [form for form in FORMS if form in map(_named, mixture.values())]
    lift = max((form.opset for form in used), default=0)
    specs = [f"upgrade-opset{{opset={lift}}}"] if lift else []
    static = [form for form in used if form.rounds == "fixed"]
    if static:
        specs.append(_static(mixture, static))
    for form in used:
        if form.item and form not in static:
            options = [form.options, f"nodes={_listed(mixture, [form])}"]
            specs.append(f"{form.item}{{{','.join(filter(None, options))}}}")
    return ",".join(specs)


def _static(mixture: Mapping[str, str], used: Sequence[LayerForm]) -> str:
    """One pass for all forms on fixed grids: they share these."""
    narrow = [form for form in used if form.options]
    options = [narrow[0].options] if narrow else []
    if narrow and len(narrow) < len(used):
        options.append(f"narrow={_listed(mixture, narrow)}")
    names = [form.name for form in used]
    if any(form not in names for form in mixture.values()):
        options.append(f"nodes={_listed(mixture, used)}")
    return f"quantize-static{{{','.join(options)}}}" if options else "quantize-static"


def _listed(mixture: Mapping[str, str], forms: Sequence[LayerForm]) -> str:
    names = [form.name for form in forms]
    return format_value(tuple(exactly(node) for node, each in mixture.items() if each in names))


def _named(name: str) -> LayerForm:
    return next(form for form in FORMS if form.name == name)
