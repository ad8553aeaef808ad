"""Formulas on numpy arrays: grids, ranges, saturation, low rank, scores. They know no ONNX."""
