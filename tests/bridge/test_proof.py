"""What a result is measured on where nothing but samples to train on was given."""

import numpy as np

import graphopt
from graphopt.passes.prune.mask_weights import MaskWeights
from graphopt.passes.train.distill import Distill
from graphopt.testing.models import MODELS


def test_without_other_samples_the_proof_is_taken_on_those_that_are_trained_on() -> None:
    model = MODELS["mlp"]()
    (name,) = (value.name for value in model.graph.input)
    width = model.graph.input[0].type.tensor_type.shape.dim[-1].dim_value
    samples = {name: np.random.default_rng(0).standard_normal((7, width)).astype(np.float32)}
    passes = [MaskWeights(sparsity=0.5), Distill(steps=1, held_out=0.3)]
    quality = graphopt.optimize(model, passes, training=samples).report.quality
    assert quality is not None
    assert (quality.samples, quality.source) == (7, "train")
    assert quality.note.startswith("measured on samples that were trained on")
