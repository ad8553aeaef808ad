"""Options of a command that are those of a pass, read from the pass itself."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from graphopt.errors import quoted
from graphopt.options import number_of

if TYPE_CHECKING:
    from graphopt.options import OptionField

__all__ = ["PassCommand", "given"]


class _Number(click.ParamType):  # type: ignore[type-arg]  # generic from click 8.4 on
    """A number; its bounds are for the pass to check."""

    def __init__(self, name: str, kind: type[int] | type[float]) -> None:
        self.name, self.kind = name, kind

    def convert(self, value: Any, param: Any, ctx: Any) -> int | float:
        try:
            return number_of(str(value), self.kind)
        except ValueError:
            what = "a whole number" if self.kind is int else "a number"
            self.fail(f"{quoted(value)} is not {what}", param, ctx)


_KINDS: dict[type, click.ParamType[Any]] = {
    int: _Number("integer", int),
    float: _Number("float", float),
    str: click.STRING,
}


class PassCommand(click.Command):
    """A command with an option for every option of the pass of the same name.

    They are made when the command is used, so that the help of the others does not load passes.
    The function gets those that were given; bounds are checked by the pass.
    """

    def get_params(self, ctx: click.Context) -> list[click.Parameter]:
        """The command's own parameters, those of the pass before those for images; ``--help``."""
        from graphopt.contract import registry
        from graphopt.options import option_fields

        own = super().get_params(ctx)
        found = option_fields(registry.find(str(self.name))).values()
        names = [str(parameter.name) for parameter in own]
        place = next(at for at, name in enumerate(names) if name.startswith(("image_", "help")))
        return [*own[:place], *map(_option, found), *own[place:]]


def given(values: dict[str, Any]) -> dict[str, Any]:
    """The options of a pass that the user gave."""
    return {name: value for name, value in values.items() if value not in (None, ())}


def _option(item: OptionField) -> click.Option:
    """An option whose absence leaves the value to the pass."""
    flag = f"--{item.name.replace('_', '-')}"
    shown = item.default not in (None, ()) and item.default is not False
    default = f" [default: {_text(item.default)}]" if shown else ""
    help_text = f"{item.option.help[:1].upper()}{item.option.help[1:]}.{default}"
    if item.kind is bool:
        names = f"{flag}/--no-{flag[2:]}" if item.default else flag
        return click.Option([names], is_flag=True, default=None, help=help_text)
    if item.kind is tuple:
        return click.Option([flag], multiple=True, metavar="NAME", help=help_text)
    kind = click.Choice(item.choices) if item.choices else _KINDS[item.kind]
    metavar = item.option.unit.upper() or None
    return click.Option([flag], type=kind, default=None, metavar=metavar, help=help_text)


def _text(default: Any) -> str:
    if default is True:
        return "yes"
    return f"{default:g}" if isinstance(default, float) else str(default)
