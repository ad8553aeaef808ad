"""``graphopt passes``: what there is, or one pass in full."""

from __future__ import annotations

import click

from graphopt.cli.options import json_option


@click.command()
@click.argument("name", required=False)
@json_option
def passes(name: str | None, as_json: bool) -> None:
    """List the passes, or show one with its picture, options, bounds and an example."""
    from graphopt.contract import registry
    from graphopt.report import listing, pages
    from graphopt.report.json import dump

    chosen = [name] if name is not None else registry.names()
    found = [pages.page(registry.find(each)) for each in chosen]
    if as_json:
        click.echo(dump(found[0] if name is not None else found))
    elif name is not None:
        listing.print_page(found[0])
    else:
        listing.print_passes(found)
