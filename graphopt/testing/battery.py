"""The common battery: what must hold for every pass, of this package or from elsewhere."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TypeVar

from graphopt.callables import failure, is_stop
from graphopt.contract import registry
from graphopt.contract.examples import Example
from graphopt.contract.passes import Pass
from graphopt.testing.cell import Cell
from graphopt.testing.cell_checks import CELL_CHECKS, EXAMPLE_CHECKS
from graphopt.testing.class_checks import CLASS_CHECKS, unreached
from graphopt.testing.models import MODELS

__all__ = ["check_pass"]

Subject = TypeVar("Subject")


def check_pass(
    pass_class: type[Pass] | str,
    examples: Sequence[Example] | None = None,
    models: Iterable[str] = tuple(MODELS),
) -> None:
    """Run the whole battery over one pass.

    What needs torch is left out where that is not installed.

    Args:
        pass_class: The pass, registered or not, or its name.
        examples: Models and options with which it has something to do; ``pass_class.examples()``
            by default.
        models: Names of tiny models of ``MODELS``, on which it is run with its default options,
            whether it finds something to do or not.

    Raises:
        AssertionError: A promise is broken; the message names the check and the example.
    """
    found = registry.find(pass_class) if isinstance(pass_class, str) else pass_class
    assert getattr(found, "name", ""), f"{found.__name__}: register it, or give it a name"
    with registry.lent(found):
        for name, class_check in CLASS_CHECKS.items():
            _hold(f"{found.name}: {name}", class_check, found)
        brought = found.examples() if examples is None else examples
        assert brought, f"{found.name}: brings no examples"
        missing = unreached(found, brought)
        assert not missing, f"{found.name}: no example reaches {', '.join(missing)}"
        _hold_all([Cell(found, each) for each in brought], EXAMPLE_CHECKS)
        _hold_all([Cell(found, Example(each)) for each in models], CELL_CHECKS)


def _hold_all(cells: Iterable[Cell], checks: dict[str, Callable[[Cell], None]]) -> None:
    for cell in cells:
        for name, check in checks.items() if cell.runnable else ():
            _hold(f"{name}: {cell}", check, cell)


def _hold(where: str, check: Callable[[Subject], None], subject: Subject) -> None:
    try:
        check(subject)
    except BaseException as err:
        if is_stop(err):
            raise
        said = str(err) if isinstance(err, AssertionError) else failure(err)
        raise AssertionError(f"{where}: {said}") from err
