"""Passes that train weights; torch is imported only when one of them runs."""

from graphopt.passes.train.distill import Distill
from graphopt.passes.train.finetune import Finetune
from graphopt.passes.train.prune_iteratively import PruneIteratively
from graphopt.passes.train.train_quantized import TrainQuantized

__all__ = ["Distill", "Finetune", "PruneIteratively", "TrainQuantized"]
