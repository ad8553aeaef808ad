"""Let onnxslim clean a model up, and see what that changed and what it cost.

graphopt optimize model.onnx -p \
    'apply-function{function="docs/examples/slim.py:slim",lossless=true}'
"""

import onnx
import onnxslim


def slim(model: onnx.ModelProto) -> onnx.ModelProto:
    """The model as onnxslim leaves it."""
    return onnxslim.slim(model)
