"""A model written otherwise computes the same."""

from __future__ import annotations

import numpy as np
import pytest

from graphopt.graph import check, io
from graphopt.testing import MODELS, run_model
from graphopt.testing.forms import FORMS


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("form", [form for form in FORMS if form != "fixed batch"])
def test_the_answers_are_the_same(form: str, model: str) -> None:
    made, other = MODELS[model](), MODELS[model]()
    FORMS[form](other)
    assert set(check.problems(io.load(other))) <= set(check.problems(io.load(made)))
    answers, expected = run_model(other), run_model(made)
    assert answers.keys() == expected.keys()
    for name, value in expected.items():
        np.testing.assert_allclose(answers[name], value, rtol=1e-5, atol=1e-5)


def test_what_the_forms_look_like() -> None:
    models = {form: MODELS["mlp"]() for form in FORMS}
    for form, model in models.items():
        FORMS[form](model)
    names = [tensor.name for tensor in MODELS["mlp"]().graph.initializer]
    listed = [value.name for value in models["listed initializers"].graph.input]
    assert listed == ["x", *names]
    nodes = [node.op_type for node in models["constant nodes"].graph.node]
    assert nodes[:4] == ["Constant", "Identity"] * 2
    assert not models["constant nodes"].graph.initializer
    assert [node.op_type for node in models["in a body"].graph.node] == ["Size", "Cast", "If"]
    for value in (*models["fixed batch"].graph.input, *models["fixed batch"].graph.output):
        assert value.type.tensor_type.shape.dim[0].dim_value == 2
