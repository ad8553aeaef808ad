"""Write Log(Softmax(x)) as LogSoftmax(x), which does not underflow (a rule of onnxscript).

graphopt optimize model.onnx -p \
    'apply-function{function="docs/examples/log_softmax.py:log_softmax",lossless=true}'
"""

import onnx_ir as ir
from onnxscript.rewriter import pattern


def spelt_out(op, x, axis):
    """What is looked for."""
    return op.Log(op.Softmax(x, axis=axis))


def in_one(op, x, axis):
    """What takes its place."""
    return op.LogSoftmax(x, axis=axis)


def log_softmax(model: ir.Model) -> None:
    """Apply the rule wherever it matches."""
    pattern.RewriteRule(spelt_out, in_one).apply_to_model(model)
