"""The table of operators: which function computes which versions of which operator."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

import onnx

__all__ = [
    "RUNTIME_DOMAIN",
    "TorchOperator",
    "TrainingSettings",
    "find",
    "op",
    "operators",
    "since_version",
]

_DEFAULT_DOMAIN = ""
RUNTIME_DOMAIN = "com.microsoft"
"""Of onnxruntime's own operators, of which there is one version each."""
_Function = TypeVar("_Function", bound=Callable[..., Any])


@dataclass
class TrainingSettings:
    """How operators behave that act differently while training; shared by all steps of a module.

    Attributes:
        training: Whether the module is in training mode.
        batch_norm: BatchNormalization while training: with the statistics of the batch, which
            also move the stored ones, or with the stored ones alone.
        dropout: Whether Dropout drops anything while training.
    """

    training: bool
    batch_norm: str
    dropout: bool


@dataclass(frozen=True)
class TorchOperator:
    """One function of the table and what a plan has to know about it.

    Attributes:
        name: Type of the operator.
        domain: Its domain.
        versions: The versions that the function computes (``since_version`` of the schema).
        function: Called with the inputs in order, None for those left out, and the attributes by
            name. Gives a tensor, or a tuple of them where the operator has several outputs.
        host: Inputs whose values are read on the CPU and give the output its shape.
        reads_shapes: Only the shapes of the inputs count, not their values.
        by_data: The shape of the output depends on the values of the inputs.
        random: Two calls differ.
        wants: Which of the things below the function takes as well.
    """

    name: str
    domain: str
    versions: tuple[int, ...]
    function: Callable[..., Any]
    host: tuple[int, ...]
    reads_shapes: bool
    by_data: bool
    random: bool
    wants: frozenset[str]


_TABLE: dict[tuple[str, str, int], TorchOperator] = {}
_PROVIDED = frozenset(["settings", "outputs", "version", "input_types"])


def op(
    name: str,
    *versions: int,
    domain: str = _DEFAULT_DOMAIN,
    host: tuple[int, ...] = (),
    reads_shapes: bool = False,
    by_data: bool = False,
    random: bool = False,
) -> Callable[[_Function], _Function]:
    """Decorator that enters a function for these versions of an operator.

    The names and defaults of its keyword parameters are the operator's attributes. It may also
    take ``settings`` (how to behave while training), ``outputs`` (how many outputs the node
    names), ``version`` and ``input_types`` (ONNX element types of constant inputs, else 0).

    Raises:
        ValueError: A version is entered twice (a bug).
    """

    def enter(function: _Function) -> _Function:
        wants = _PROVIDED & _parameters(function)
        entry = TorchOperator(
            name, domain, versions, function, host, reads_shapes, by_data, random, wants
        )
        for version in versions:
            if (domain, name, version) in _TABLE:
                raise ValueError(f"{name} version {version} is in the table twice")
            _TABLE[domain, name, version] = entry
        return function

    return enter


def _parameters(function: Callable[..., Any]) -> frozenset[str]:
    """Names of the parameters; none for torch's own functions, which have no signature."""
    try:
        return frozenset(inspect.signature(function).parameters)
    except ValueError:
        return frozenset()


def find(domain: str, name: str, version: int) -> TorchOperator | None:
    """The entry for an operator's version; None if there is none."""
    return _TABLE.get((domain, name, version))


def operators() -> dict[tuple[str, str, int], TorchOperator]:
    """The whole table, by domain, operator and version."""
    return dict(_TABLE)


def since_version(domain: str, name: str, opset: int) -> int | None:
    """The version of the operator that a model of this opset means; None if nobody knows one.

    onnxruntime's own operators, and those that it writes into the default domain, are version 1.
    """
    try:
        return int(onnx.defs.get_schema(name, opset, domain).since_version)
    except onnx.defs.SchemaError:
        return 1 if (domain, name, 1) in _TABLE else None
