"""apply-function: a step of one's own, in whatever library it is written."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar

import onnx
from onnx import ModelProto

from graphopt.callables import foreign, imported, is_reference
from graphopt.contract.examples import Example
from graphopt.contract.passes import Changes, Context, Option, Pass
from graphopt.contract.registry import register
from graphopt.errors import DataError, ModelError, PassError, UsageError
from graphopt.facts.shapes import Shapes
from graphopt.graph import io
from graphopt.graph.forms import FORMS, asked_form, form_of, from_message, to_message
from graphopt.graph.graph import Graph
from graphopt.graph.losses import edits, losses

__all__ = ["ApplyFunction", "Foreign"]


@register("apply-function")
@dataclass(frozen=True, kw_only=True)
class ApplyFunction(Pass):
    """Let a function of your own edit the model, and check what it did as for any pass.

        MODEL      becomes      function(MODEL)

    The function takes what its first parameter is annotated with, an ``onnx.ModelProto`` (also
    without annotation), an ``onnx_graphsurgeon.Graph`` or an ``onnx_ir.Model``, and returns a model
    in one of these forms, or None where it edited the one it got. It may drop inputs, and drop or
    add outputs; those that both models have are compared. What it lost on the way, such as doc
    strings and metadata, is told. ``docs/examples`` holds some, for graphsurgeon, onnxscript and
    onnxslim.

    The function runs where you name it: here, in a recipe file that you hand over, in Python. The
    recipe that a model carries is never run.
    """

    function: Annotated[str, Option("the function, as file.py:name or module:name")] = ""
    lossless: Annotated[bool, Option("hold the result to what rounding alone may cost")] = False

    lossy: ClassVar[bool] = True
    as_stored: ClassVar[bool] = True

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "lossy", not self.lossless)

    def check(self, graph: Graph, context: Context) -> None:
        if not self.function:
            raise PassError('say what to apply: apply-function{function="file.py:name"}')
        if not is_reference(self.function):
            raise PassError(f"{self.function!r} is not of the form file.py:name or module:name")
        place = self.function.rpartition(":")[0]
        if place.endswith(".py") and not Path(place).is_file():
            raise PassError(f"{self.function}: there is no file {place}")

    def step(self) -> Callable[..., Any]:
        """The function; runs the module that it is in.

        Raises:
            UsageError: There is none.
            DataError: Its module raises on import.
        """
        return imported(self.function)

    def run(self, graph: Graph, context: Context) -> Changes:
        changes = Changes(nothing=f"{self.function} changed nothing that the model computes")
        try:
            before = io.whole(graph)
            with redirect_stdout(sys.stderr):  # stdout is for results, such as --json
                after = self._applied(before)
            result = io.load(after)
            _declare_outputs(result, context.shapes)
        except (DataError, ModelError, UsageError) as err:
            place = "" if str(err).startswith(self.function) else f"{self.function}: "
            raise PassError(f"{place}{err}") from err
        rows = edits(before, after)
        self._check_ports(graph, result, rows)
        if rows:
            for where, what in rows:
                changes.edit(where, what)
            for what in losses(before, after):
                changes.edit("lost on the way", what)
            result.came_external, result.data_files = graph.came_external, graph.data_files
            result.libraries = graph.libraries
            graph.become(result)
        return changes

    def _applied(self, before: ModelProto) -> ModelProto:
        """What the function makes of a copy of the model.

        Raises:
            PassError: The function raises or returns no model.
        """
        step = self.step()
        message = ModelProto()
        message.CopyFrom(before)
        given = from_message(message, asked_form(step))
        with foreign(lambda what: PassError(f"{self.function} raised {what}")):
            returned = step(given)
        after = given if returned is None else returned
        if form_of(after) is None:
            kind = type(after).__name__
            raise PassError(
                f"{self.function} returned {kind}, where one of {', '.join(FORMS)} or None must be"
            )
        return to_message(after)

    def _check_ports(self, graph: Graph, result: Graph, rows: list[tuple[str, str]]) -> None:
        known = {value.name for value in graph.main.proto.input}
        for value in result.required_inputs:
            if value.name not in known:
                raise PassError(
                    f"{self.function} makes a model with the new input {value.name!r}, for which "
                    "there are no samples; it cannot be checked"
                )
        gone = [name for name in graph.main.outputs if name not in result.main.outputs]
        if gone and self.lossless:
            raise PassError(
                f"{self.function} drops the output {gone[0]!r}, which is not lossless; "
                "leave lossless=true away"
            )

    @classmethod
    def examples(cls) -> Sequence[Example]:
        plain = Example("cnn", {"function": "graphopt.testing.forms:constants_as_nodes"})
        return [plain, plain.but(lossless=True)]


def _declare_outputs(result: Graph, known: Shapes) -> None:
    """Give outputs without a type, which used to be tensors inside, the one that they had."""
    for value in result.main.proto.output:
        info = known.get(value.name)
        if not value.HasField("type") and info is not None:
            kind = onnx.helper.make_tensor_type_proto(info.data_type, info.shape)
            value.type.CopyFrom(kind)


class Foreign(ApplyFunction):
    """``apply-function`` with a function at hand: any callable from model to model.

    Args:
        function: Takes and gives a model; ``ApplyFunction`` says in which forms.
        lossless: Hold the result to what rounding alone may cost.

    A recipe names it by its module and name; what has none, such as a lambda, runs in this process
    alone.
    """

    def __init__(self, function: Callable[..., Any], *, lossless: bool = False) -> None:
        super().__init__(function=_reference(function), lossless=lossless)
        object.__setattr__(self, "_function", function)

    def check(self, graph: Graph, context: Context) -> None:
        """A callable needs no looking up."""

    def step(self) -> Callable[..., Any]:
        """The callable."""
        function: Callable[..., Any] = vars(self)["_function"]
        return function


def _reference(function: Callable[..., Any]) -> str:
    """How a recipe can name a callable, as far as it has a name."""
    name = getattr(function, "__qualname__", type(function).__qualname__)
    module = getattr(function, "__module__", None) or type(function).__module__
    main = getattr(sys.modules.get("__main__"), "__file__", None)
    return f"{main if module == '__main__' and main else module}:{name}"
