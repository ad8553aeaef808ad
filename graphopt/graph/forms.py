"""Models in the forms of other libraries, to the ONNX message and back; imports none unasked."""

from __future__ import annotations

import inspect
import sys
import typing
from collections.abc import Callable
from importlib import import_module
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar

from onnx import ModelProto

from graphopt.errors import ModelError

if TYPE_CHECKING:
    import onnx_graphsurgeon
    import onnx_ir
    import torch.onnx

__all__ = ["FORMS", "Form", "asked_form", "form_of", "from_message", "to_message"]

Form: TypeAlias = "ModelProto | onnx_graphsurgeon.Graph | onnx_ir.Model | torch.onnx.ONNXProgram"

FORMS = ("onnx.ModelProto", "onnx_graphsurgeon.Graph", "onnx_ir.Model", "torch.onnx.ONNXProgram")
"""What a model in memory can be, by the name of its class."""
_MESSAGE = FORMS[0]


def asked_form(function: Callable[..., Any]) -> str:
    """Which of ``FORMS`` a function takes, by the annotation of its first parameter.

    Without an annotation, or with one that leaves it open such as ``Any``, it is a message.

    Raises:
        ModelError: The annotation is something else.
    """
    try:
        first = next(iter(inspect.signature(function).parameters.values()))
    except (StopIteration, TypeError, ValueError):  # built-in functions have no signature
        return _MESSAGE
    try:
        hint = typing.get_type_hints(function).get(first.name, first.annotation)
    except (NameError, TypeError):  # imported for type checkers alone; no function but an object
        hint = first.annotation
    if hint in (first.empty, Any, object) or isinstance(hint, TypeVar):
        return _MESSAGE
    parts = hint.split("|") if isinstance(hint, str) else typing.get_args(hint) or (hint,)
    form = next((form for form in map(_annotated, parts) if form), None)
    if form is None:
        raise ModelError(f"its first parameter is {hint!r}; it can be {', '.join(FORMS)}")
    return form


def _annotated(part: Any) -> str | None:
    """The form that a class, or the name of one, stands for."""
    if isinstance(part, str):
        name = part.strip().rpartition(".")[2]
        return next((form for form in FORMS if form.endswith(f".{name}")), None)
    return next((form for form in FORMS if part is _class(form)), None)


def _class(form: str) -> type | None:
    """The class of a form; None where its library is not loaded, so that nothing can be of it."""
    module, _, name = form.rpartition(".")
    return getattr(sys.modules.get(module), name, None)


def form_of(model: object) -> str | None:
    """Which of ``FORMS`` an object is, or None."""
    for form in FORMS:
        kind = _class(form)
        if kind is not None and isinstance(model, kind):
            return form
    return None


def to_message(model: Form) -> ModelProto:
    """The model as a message with all its weights; a message is handed back itself.

    Raises:
        ModelError: The library that made the model cannot write it.
    """
    form = form_of(model)
    given: Any = model
    if form == _MESSAGE:
        return given  # type: ignore[no-any-return]  # form_of has looked
    try:
        if form == "onnx_graphsurgeon.Graph":
            graphsurgeon = import_module("onnx_graphsurgeon")
            message = graphsurgeon.export_onnx(given, do_type_check=False)
        else:
            message = _from_ir(given.model if form == "torch.onnx.ONNXProgram" else given)
    except Exception as err:  # whatever another library raises on a model that is not whole
        raise ModelError(
            f"the {form} cannot be written as ONNX: {type(err).__name__}: {err}"
        ) from err
    assert isinstance(message, ModelProto)
    return message


def _from_ir(model: Any) -> Any:
    """Weights that lie in files are read: where they lie, the message could not say."""
    onnx_ir = import_module("onnx_ir")
    whole = onnx_ir.external_data.load_to_model(model.clone())  # the caller's stays as it is
    return onnx_ir.to_proto(whole)


def from_message(message: ModelProto, form: str) -> Any:
    """The model in one of ``FORMS``; changes to it leave ``message`` alone, or are made in it.

    Raises:
        ModelError: The library is not installed, or cannot read the model.
    """
    if form == _MESSAGE:
        return message
    library = form.partition(".")[0]
    try:
        reader = import_module(library)
        return (
            reader.import_onnx(message)
            if library == "onnx_graphsurgeon"
            else reader.from_proto(message)
        )
    except ModuleNotFoundError as err:
        package = library.replace("_", "-")
        raise ModelError(f"{form} needs {library}; pip install {package}") from err
    except Exception as err:  # whatever another library raises on a model that it does not know
        raise ModelError(f"{library} cannot read the model: {type(err).__name__}: {err}") from err
