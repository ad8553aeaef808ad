"""RNN, GRU and LSTM, step by step over time."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from graphopt.bridge.ops.table import op

_Function = Callable[[Tensor], Tensor]
_Cell = Callable[[Tensor, tuple[Tensor, ...]], tuple[Tensor, ...]]
_WITH_ALPHA = {"leakyrelu": 0.01, "thresholdedrelu": 1.0, "hardsigmoid": 0.2, "elu": 1.0}
_WITH_BOTH = {"affine": (1.0, 0.0), "scaledtanh": (1.0, 1.0)}


def _activation(name: str, alpha: float | None, beta: float | None) -> _Function:
    """An activation by its ONNX name; alpha and beta where it has them."""
    kind = name.lower()
    a = _WITH_ALPHA.get(kind, _WITH_BOTH.get(kind, (1.0, 0.0))[0]) if alpha is None else alpha
    b = (
        (0.5 if kind == "hardsigmoid" else _WITH_BOTH.get(kind, (0, 0.0))[1])
        if beta is None
        else beta
    )
    functions: dict[str, _Function] = {
        "relu": torch.relu,
        "tanh": torch.tanh,
        "sigmoid": torch.sigmoid,
        "softsign": functional.softsign,
        "softplus": functional.softplus,
        "affine": lambda x: a * x + b,
        "leakyrelu": lambda x: functional.leaky_relu(x, a),
        "thresholdedrelu": lambda x: functional.threshold(x, a, 0.0),
        "scaledtanh": lambda x: a * torch.tanh(b * x),
        "hardsigmoid": lambda x: torch.clamp(a * x + b, 0, 1),
        "elu": lambda x: functional.elu(x, a),
    }
    if kind not in functions:
        raise ValueError(f"activation {name!r} is not known")
    return functions[kind]


@dataclass(frozen=True)
class _Form:
    """The attributes that the three share."""

    activations: Sequence[str]
    alphas: Sequence[float]
    betas: Sequence[float]
    clip: float | None
    direction: str
    layout: int

    def functions(self, direction: int, count: int) -> list[_Function]:
        """The activations of one direction; alphas and betas are listed in their order."""
        names = list(self.activations)[direction * count : (direction + 1) * count]
        made, start = [], direction * count
        for i, name in enumerate(names, start):
            alpha = self.alphas[i] if i < len(self.alphas) else None
            beta = self.betas[i] if i < len(self.betas) else None
            clipped = _activation(name, alpha, beta)
            made.append(self._clipping(clipped))
        return made

    def _clipping(self, function: _Function) -> _Function:
        if self.clip is None:
            return function
        limit = self.clip
        return lambda x: function(torch.clamp(x, -limit, limit))


def _run(
    x: Tensor,
    states: list[Tensor | None],
    hidden: int,
    lengths: Tensor | None,
    form: _Form,
    cells: Callable[[int, Tensor], tuple[Tensor, _Cell]],
) -> tuple[Tensor, ...]:
    """All directions over time: every step's first state, then the last states.

    Args:
        x: ``(time, batch, in)``, with ``layout`` 1 ``(batch, time, in)``.
        states: Where each state starts, ``(directions, batch, hidden)``; None for zeros.
        hidden: Size of a state.
        lengths: Steps that count of each sample; all without.
        form: Attributes.
        cells: For a direction: the products of all inputs with the weights, and the cell.
    """
    if form.layout:
        x = x.transpose(0, 1)
        states = [None if s is None else s.transpose(0, 1) for s in states]
    steps, batch = x.shape[:2]
    turns = {"forward": [False], "reverse": [True], "bidirectional": [False, True]}[form.direction]
    all_steps, last = [], []
    for direction, backwards in enumerate(turns):
        projected, cell = cells(direction, x)
        state = tuple(x.new_zeros(batch, hidden) if s is None else s[direction] for s in states)
        outputs: list[Tensor] = [state[0]] * steps
        for t in reversed(range(steps)) if backwards else range(steps):
            moved = cell(projected[t], state)
            if lengths is None:
                state, outputs[t] = moved, moved[0]
                continue
            alive = (lengths > t)[:, None]
            state = tuple(torch.where(alive, m, s) for m, s in zip(moved, state, strict=True))
            outputs[t] = torch.where(alive, moved[0], torch.zeros_like(moved[0]))
        all_steps.append(torch.stack(outputs) if outputs else x.new_zeros(0, batch, hidden))
        last.append(state)
    y = torch.stack(all_steps, 1)
    finals = tuple(torch.stack(each) for each in zip(*last, strict=True))
    if form.layout:
        return y.permute(2, 0, 1, 3), *(final.transpose(0, 1) for final in finals)
    return y, *finals


@op("RNN", 7, 14, 22)
def rnn(
    x: Tensor,
    w: Tensor,
    r: Tensor,
    b: Tensor | None = None,
    sequence_lens: Tensor | None = None,
    initial_h: Tensor | None = None,
    *,
    activation_alpha: Sequence[float] = (),
    activation_beta: Sequence[float] = (),
    activations: Sequence[str] = ("Tanh", "Tanh"),
    clip: float | None = None,
    direction: str = "forward",
    hidden_size: int | None = None,  # noqa: ARG001 - the weights say it
    layout: int = 0,
) -> tuple[Tensor, ...]:
    """RNN-22."""
    form = _Form(activations, activation_alpha, activation_beta, clip, direction, layout)
    hidden = r.shape[-1]

    def cells(d: int, x: Tensor) -> tuple[Tensor, _Cell]:
        (f,) = form.functions(d, 1)
        bias = None if b is None else b[d, :hidden] + b[d, hidden:]

        def cell(inputs: Tensor, state: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
            return (f(inputs + functional.linear(state[0], r[d])),)

        return functional.linear(x, w[d], bias), cell

    return _run(x, [initial_h], hidden, sequence_lens, form, cells)


@op("GRU", 7, 14, 22)
def gru(
    x: Tensor,
    w: Tensor,
    r: Tensor,
    b: Tensor | None = None,
    sequence_lens: Tensor | None = None,
    initial_h: Tensor | None = None,
    *,
    activation_alpha: Sequence[float] = (),
    activation_beta: Sequence[float] = (),
    activations: Sequence[str] = ("Sigmoid", "Tanh") * 2,
    clip: float | None = None,
    direction: str = "forward",
    hidden_size: int | None = None,  # noqa: ARG001 - the weights say it
    layout: int = 0,
    linear_before_reset: int = 0,
) -> tuple[Tensor, ...]:
    """GRU-22; gates in the order update, reset, hidden."""
    form = _Form(activations, activation_alpha, activation_beta, clip, direction, layout)
    hidden = r.shape[-1]

    def cells(d: int, x: Tensor) -> tuple[Tensor, _Cell]:
        f, g = form.functions(d, 2)
        bias_w, bias_r = (None, None) if b is None else torch.split(b[d], 3 * hidden)
        gates, new = torch.split(r[d], [2 * hidden, hidden])
        gates_b, new_b = (
            (None, None) if bias_r is None else torch.split(bias_r, [2 * hidden, hidden])
        )

        def cell(inputs: Tensor, state: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
            (h,) = state
            both = f(inputs[..., : 2 * hidden] + functional.linear(h, gates, gates_b))
            update, reset = torch.split(both, hidden, -1)
            if linear_before_reset:
                recurrent = reset * functional.linear(h, new, new_b)
            else:
                recurrent = functional.linear(reset * h, new, new_b)
            candidate = g(inputs[..., 2 * hidden :] + recurrent)
            return ((1 - update) * candidate + update * h,)

        return functional.linear(x, w[d], bias_w), cell

    return _run(x, [initial_h], hidden, sequence_lens, form, cells)


@op("LSTM", 7, 14, 22)
def lstm(
    x: Tensor,
    w: Tensor,
    r: Tensor,
    b: Tensor | None = None,
    sequence_lens: Tensor | None = None,
    initial_h: Tensor | None = None,
    initial_c: Tensor | None = None,
    p: Tensor | None = None,
    *,
    activation_alpha: Sequence[float] = (),
    activation_beta: Sequence[float] = (),
    activations: Sequence[str] = ("Sigmoid", "Tanh", "Tanh") * 2,
    clip: float | None = None,
    direction: str = "forward",
    hidden_size: int | None = None,  # noqa: ARG001 - the weights say it
    input_forget: int = 0,
    layout: int = 0,
) -> tuple[Tensor, ...]:
    """LSTM-22; gates in the order input, output, forget, cell; peepholes input, output, forget."""
    form = _Form(activations, activation_alpha, activation_beta, clip, direction, layout)
    hidden = r.shape[-1]

    def cells(d: int, x: Tensor) -> tuple[Tensor, _Cell]:
        f, g, h = form.functions(d, 3)
        bias = None if b is None else b[d, : 4 * hidden] + b[d, 4 * hidden :]
        peep_i, peep_o, peep_f = (0.0, 0.0, 0.0) if p is None else torch.split(p[d], hidden)

        def cell(inputs: Tensor, state: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
            gates = inputs + functional.linear(state[0], r[d])
            i, o, forget, c = torch.split(gates, hidden, -1)
            kept = state[1]
            i = f(i + peep_i * kept)
            forget = 1 - i if input_forget else f(forget + peep_f * kept)
            now = forget * kept + i * g(c)
            return f(o + peep_o * now) * h(now), now

        return functional.linear(x, w[d], bias), cell

    return _run(x, [initial_h, initial_c], hidden, sequence_lens, form, cells)
