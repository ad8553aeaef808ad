from __future__ import annotations

import numpy as np
import pytest

from graphopt.facts.propagation import propagates
from graphopt.facts.shapes import infer
from graphopt.graph import io
from graphopt.testing import MODELS, model_from_text

HEAD = '<ir_version: 8, opset_import: ["" : 17]>\n'


_MADE = (
    HEAD
    + """g (float[1] x) => (float[n] y) {{
    n = Constant <value = int64[1] {{ {} }}> ()
    made = ConstantOfShape (n)
    twice = Concat <axis = 0> (made, made)
    y = Add (x, twice)
}}"""
)


_CALLED = """<ir_version: 8, opset_import: ["" : 17, "own" : 1]>
g (float[1] x) => (float[n] y) {
    a = own.Eightfold (c0) b = own.Eightfold (a) c = own.Eightfold (b) d = own.Eightfold (c)
    e = own.Eightfold (d) f = own.Eightfold (e) h = own.Eightfold (f) i = own.Eightfold (h)
    y = Add (x, i)
}
<domain: "own", opset_import: ["" : 17]>
Eightfold (v) => (w) {
    t = Concat <axis = 0> (v, v) u = Concat <axis = 0> (t, t) w = Concat <axis = 0> (u, u)
}"""


def _doubling(steps: int, between: str = "") -> str:
    """A vector joined to itself again and again, with a node of another kind in between."""
    lines = []
    for step in range(steps):
        lines.append(f"d{step} = Concat <axis = 0> (c{step}, c{step})")
        lines.append(f"c{step + 1} = {between} (d{step})")
    if not between:
        lines = [f"c{step + 1} = Concat <axis = 0> (c{step}, c{step})" for step in range(steps)]
    return f"{HEAD}g (float[1] x) => (float[n] y) {{ {' '.join(lines)} y = Add (x, c{steps}) }}"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (_doubling(10), True),
        (_doubling(34), False),
        (_doubling(10, "Sin"), True),
        (_doubling(34, "Sin"), False),
        (_CALLED, False),
        (_MADE.format(1 << 12), True),
        (_MADE.format(1 << 40), False),
    ],
)
def test_what_would_grow_beyond_bounds_is_not_followed(text: str, expected: bool) -> None:
    model = model_from_text(text, {"c0": np.ones(4, np.float32)})
    assert propagates(model) is expected


def test_shapes_are_known_all_the_same() -> None:
    model = model_from_text(_doubling(34), {"c0": np.ones(4, np.float32)})
    assert infer(io.load(model)).static_shape("c34") == (4 << 34,)


def test_a_long_chain_of_calls_ends() -> None:
    functions = "".join(
        f"""<domain: "own", opset_import: ["" : 17, "own" : 1]>
        f{number} (v) => (w) {{ w = own.f{number + 1} (v) }}\n"""
        for number in range(800)
    )
    last = (
        '<domain: "own", opset_import: ["" : 17]>\nf800 (v) => (w) { w = Concat <axis = 0> (v, v) }'
    )
    head = '<ir_version: 8, opset_import: ["" : 17, "own" : 1]>'
    text = f"{head} g (float[4] x) => (float[n] y) {{ y = own.f0 (x) }}\n{functions}{last}"
    assert not propagates(model_from_text(text))


@pytest.mark.parametrize("name", sorted(MODELS))
def test_ordinary_models_are_followed(name: str) -> None:
    assert propagates(MODELS[name]())
