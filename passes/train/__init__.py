"""Passes that train weights; torch is imported only when one of them runs."""

from graphopt.passes.train import distill, finetune, prune_iteratively, train_quantized

__all__ = ["distill", "finetune", "prune_iteratively", "train_quantized"]
