"""Factors of a convolution fitted to its outputs: alternating least squares in a Gram matrix."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["OutputMetric", "fit_factors", "root"]

_Floats = NDArray[np.float64]

_STEPS = 8
"""Of conjugate gradients for a block that has no closed form; each lowers what is lost."""
_TINY = 1e-10
_SETTLED = 0.01  # share of what is lost by which a sweep must still gain


@dataclass(frozen=True)
class OutputMetric:
    """What the outputs of a convolution lose when another weight takes the place of its own.

    Attributes:
        weight: ``(out, in, *kernel)``, float64.
        gram: ``X^T X`` of its rows of input, ``(in * prod(kernel), same)``, in the order of the
            weight; None for the identity, which makes it the loss of the weights themselves.
    """

    weight: _Floats
    gram: _Floats | None = None

    def seen(self, weight: _Floats) -> _Floats:
        """``W G`` of a weight of the same shape, as ``(out, in * prod(kernel))``."""
        flat = weight.reshape(len(weight), -1)
        return flat if self.gram is None else flat @ self.gram

    def product(self, first: _Floats, second: _Floats) -> float:
        """``tr(A G B^T)``."""
        return float(np.vdot(self.seen(first), second.reshape(len(second), -1)))

    def kept(self, weight: _Floats) -> float:
        """Share of the energy of the outputs that is left with this weight, 1 for all."""
        total = self.product(self.weight, self.weight)
        lost = self.weight - weight
        return 1 - self.product(lost, lost) / total if total > 0 else 1.0

    def inputs(self, axes: int) -> _Floats:
        """Gram matrix of the input channels with the first so many kernel axes.

        It sums over what the other kernel axes read: ``(in * those axes, same)``. What a factor on
        the side of the input sees, whatever follows it.
        """
        shape = self.weight.shape[1:]
        rows = int(np.prod(shape[: 1 + axes]))
        if self.gram is None:
            return np.eye(rows) * (int(np.prod(shape)) // rows)
        split = self.gram.reshape(rows, -1, rows, int(np.prod(shape)) // rows)
        return np.asarray(np.einsum("akbk->ab", split))


def root(gram: _Floats) -> tuple[_Floats, _Floats]:
    """``G^(1/2)`` and its pseudo-inverse, symmetric.

    >>> [part.tolist() for part in root(np.diag([4.0, 0.0]))]
    [[[2.0, 0.0], [0.0, 0.0]], [[0.5, 0.0], [0.0, 0.0]]]
    """
    squares, vectors = np.linalg.eigh(gram)
    values = np.sqrt(squares.clip(min=0))
    real = values > 1e-7 * max(values.max(initial=0.0), 1e-300)
    values = np.where(real, values, 0.0)
    inverse = np.divide(1, values, where=real, out=np.zeros_like(values))
    return (vectors * values) @ vectors.T, (vectors * inverse) @ vectors.T


def fit_factors(
    metric: OutputMetric, equation: str, factors: Sequence[NDArray[Any]], sweeps: int
) -> list[_Floats]:
    """Factors whose product loses less of the outputs than those given; never more.

    Each sweep goes over the factors from the last, on the side of the outputs, to the first. The
    last has a closed form given the others (weighted least squares). For the others the normal
    equations have no product form, as the Gram matrix mixes the kernel axes with the channels:
    a few steps of conjugate gradients from where they are, preconditioned on the side of the
    inputs by the Gram matrix of what the factor reads.

    Args:
        metric: The weight and what its outputs are worth.
        equation: Of the product, as for ``einsum``: the factor of the outputs first, that of the
            inputs last, each with the rank axis in front (``or,rk,ri->oik``).
        factors: In that order.
        sweeps: How many; 0 fits only the factor of the outputs.
    """
    found = [np.asarray(each, np.float64) for each in factors]
    terms, result = equation.split("->")
    names = terms.split(",")
    product = _Product(metric, names, result)
    product.last(found)
    before = metric.kept(product.of(found))
    for _ in range(sweeps):
        for index in range(len(found) - 1, 0, -1):
            product.descend(found, index)
        product.last(found)
        now = metric.kept(product.of(found))
        if now - before < _SETTLED * (1 - before):
            break
        before = now
    return found


@dataclass(frozen=True)
class _Product:
    """A product of factors, linear in each of them."""

    metric: OutputMetric
    names: Sequence[str]
    result: str

    def of(self, factors: Sequence[_Floats]) -> _Floats:
        """The weight, of the shape that ``metric`` has."""
        equation = f"{','.join(self.names)}->{self.result}"
        made = np.einsum(equation, *factors, optimize=True)
        return np.asarray(made).reshape(self.metric.weight.shape)

    def last(self, factors: list[_Floats]) -> None:
        """The best factor of the outputs, given what the others make of the inputs."""
        shape = factors[0].shape
        read = self._read(factors, 0)
        seen = read if self.metric.gram is None else read @ self.metric.gram
        flat = self.metric.weight.reshape(shape[0], -1)
        solved = _inverse(seen @ read.T) @ (seen @ flat.T)
        factors[0] = np.ascontiguousarray(solved.T).reshape(shape)

    def descend(self, factors: list[_Floats], index: int) -> None:
        """Conjugate gradients in one factor, in place; what is lost never rises."""
        shape = factors[index].shape
        solve = self._preconditioner(factors, index)
        lost = self.metric.weight - self.of(factors)
        residual = self._back(lost, factors, index)
        step = direction = solve(residual)
        slope = float(np.vdot(residual, step))
        for _ in range(_STEPS):
            moved = [*factors[:index], direction, *factors[index + 1 :]]
            change = self.of(moved)
            curve = self.metric.product(change, change)
            if slope <= 0 or curve <= 0:
                break
            length = slope / curve
            factors[index] = factors[index] + length * direction
            lost = lost - length * change
            residual = self._back(lost, factors, index)
            step = solve(residual)
            last, slope = slope, float(np.vdot(residual, step))
            direction = step + slope / last * direction
        assert factors[index].shape == shape

    def _read(self, factors: Sequence[_Floats], index: int) -> _Floats:
        """What a factor reads as combinations of the layer's inputs, as the factors behind make it.

        ``(own axes but the first, inputs)``; an axis of the kernel that it has itself is read as it
        is.
        """
        own = self.names[index][1:]
        behind, result = list(self.names[index + 1 :]), self.result[1:]
        arrays = list(factors[index + 1 :])
        for name in own:
            if name in result:
                size = factors[index].shape[1 + own.index(name)]
                behind.append(name + name.upper())
                arrays.append(np.eye(size))
                result = result.replace(name, name.upper())
        made = np.einsum(f"{','.join(behind)}->{own}{result}", *arrays, optimize=True)
        return np.asarray(made).reshape(int(np.prod(factors[index].shape[1:])), -1)

    def _back(self, lost: _Floats, factors: Sequence[_Floats], index: int) -> _Floats:
        """The adjoint: what a change of the weight, as outputs see it, says to one factor."""
        shape = [dict(self._sizes(factors))[name] for name in self.result]
        others = [each for place, each in enumerate(factors) if place != index]
        names = [name for place, name in enumerate(self.names) if place != index]
        equation = f"{','.join([self.result, *names])}->{self.names[index]}"
        seen = self.metric.seen(lost).reshape(shape)
        return np.asarray(np.einsum(equation, seen, *others, optimize=True))

    def _sizes(self, factors: Sequence[_Floats]) -> list[tuple[str, int]]:
        return [
            pair
            for name, each in zip(self.names, factors, strict=True)
            for pair in zip(name, each.shape, strict=True)
        ]

    def _preconditioner(
        self, factors: Sequence[_Floats], index: int
    ) -> Callable[[_Floats], _Floats]:
        """About the inverse of the normal equations, as one matrix for each side of the factor."""
        own, shape = self.names[index], factors[index].shape
        front = np.einsum(
            f"{','.join(self.names[:index])}->{own[0]}{self._rest(own, index)}",
            *factors[:index],
            optimize=True,
        ).reshape(shape[0], -1)
        before = front @ front.T
        behind = self.names[index + 1 :]
        if not behind:
            after = self.metric.inputs(len(own) - 2)
        elif own[0] in behind[0]:  # each component has a window of its own
            inner = factors[index + 1]
            before = before * (inner @ self.metric.inputs(0) @ inner.T)
            after = np.eye(int(np.prod(shape[1:])))
        else:
            read = self._read(factors, index)
            after = read @ (read if self.metric.gram is None else read @ self.metric.gram).T
        left, right = _inverse(before), _inverse(after)
        return lambda value: (left @ value.reshape(shape[0], -1) @ right).reshape(shape)

    def _rest(self, own: str, index: int) -> str:
        """The other axes of the factors before one, which are summed over."""
        return "".join(dict.fromkeys(c for c in "".join(self.names[:index]) if c != own[0]))


def _inverse(matrix: _Floats) -> _Floats:
    """Of a matrix without negative directions; zero where it is, so that nothing moves there."""
    scale = float(np.trace(matrix)) / len(matrix)
    if not scale > 0:
        return np.zeros_like(matrix)
    return np.asarray(np.linalg.inv(matrix / scale + _TINY * np.eye(len(matrix)))) / scale
