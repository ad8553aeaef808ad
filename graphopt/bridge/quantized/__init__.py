"""Fake quantization: training that sees the integers which the file will hold."""

from graphopt.bridge.quantized.agreement import Agreement, agreement
from graphopt.bridge.quantized.find import Found, find
from graphopt.bridge.quantized.trainee import QuantizedTrainee, quantized_trainee

__all__ = ["Agreement", "Found", "QuantizedTrainee", "agreement", "find", "quantized_trainee"]
