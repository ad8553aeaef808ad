"""Passes that replace a layer by a product of cheaper ones."""

from graphopt.passes.factorize.factorize_conv import FactorizeConv
from graphopt.passes.factorize.factorize_matmul import FactorizeMatmul

__all__ = ["FactorizeConv", "FactorizeMatmul"]
