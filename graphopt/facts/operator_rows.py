"""Rows of ONNX's own operators, of every version up to opset 28."""

from __future__ import annotations

from graphopt.facts import axis_bodies as bodies
from graphopt.facts import axis_moves as moves
from graphopt.facts import axis_parts as parts
from graphopt.facts import axis_products as products
from graphopt.facts import axis_sums as sums
from graphopt.facts import flats
from graphopt.facts.axis_masks import per_head
from graphopt.facts.axis_pattern import either, pattern
from graphopt.facts.axis_rules import opaque
from graphopt.facts.operator import Operator, rows

__all__ = ["ROWS"]

_SEQUENCE = opaque("it is part of a sequence")
_TEXT = opaque("it is text")
_DRAWN = "its values are drawn"
_CONV = "batch (group in) *window, (group out) in *kernel"
_CELL = "direction (gates hidden) hidden"
_STATE = "direction batch hidden"


def _recurrent(gates: int, *, cell: bool) -> sums.AxisRule:
    """RNN, GRU and LSTM, in either layout."""
    more = f", {_STATE}, direction (3 hidden)" if cell else ""
    weights = f"direction (gates hidden) in, {_CELL}, direction (2 gates hidden), batch"
    first = f"time batch in, {weights}, {_STATE}{more}"
    text = f"{first} -> time direction batch hidden, {_STATE}, {_STATE}"
    turned = text.replace(_STATE, "batch direction hidden")
    turned = turned.replace("time batch in", "batch time in")
    turned = turned.replace("time direction batch", "batch time direction")
    return sums.by_attribute(
        "layout",
        [pattern(one, gates=gates, hidden="hidden_size") for one in (text, turned)],
    )


_ATTENTION = per_head(
    either(
        pattern(
            "batch (kv repeat) time width, batch kv keys width, batch kv keys value, -, "
            "batch kv past width, batch kv past value -> batch (kv repeat) time value, "
            "batch kv all width, batch kv all value, batch (kv repeat) time keys"
        ),
        pattern(
            "batch time (kv repeat width), batch keys (kv width), batch keys (kv value), -, "
            "batch kv past width, batch kv past value -> batch time (kv repeat value), "
            "batch kv all width, batch kv all value, batch (kv repeat) time keys",
            kv="kv_num_heads",
            kv__repeat="q_num_heads",
        ),
    ),
    3,
    "kv repeat",
)

ROWS: list[Operator] = [
    # sums of products
    *rows("Gemm", "product", products.gemm(), weights=(0, 1, 2), factors=(0, 1), data=(0, 1)),
    *rows("MatMul", "product", products.matmul(), weights=(0, 1), factors=(0, 1), data=(0, 1), exact=True),
    *rows("Einsum", "product", products.einsum, data=None),
    *rows("Conv", "convolution", pattern(f"{_CONV}, (group out) -> batch (group out) *slide", group=("group", 1)), weights=(1, 2), factors=(0, 1)),
    *rows("ConvTranspose", "convolution", pattern("batch (group in) *window, (group in) out *kernel, (group out) -> batch (group out) *slide", group=("group", 1)), weights=(1, 2), factors=(0, 1)),
    *rows("DeformConv", "convolution", pattern(f"{_CONV}, batch unknown *slide, (group out), batch unknown0 *slide -> batch (group out) *slide", group=("group", 1)), weights=(1, 3), uncounted=True),
    *rows("CausalConvWithState", "convolution", pattern("batch channel time, channel 1 kernel, channel, batch channel state -> batch channel time, batch channel state"), weights=(1, 2), uncounted=True),
    *rows("RNN", "recurrent", _recurrent(1, cell=False), weights=(1, 2, 3), factors=(0, 1), recurrent=True),
    *rows("GRU", "recurrent", _recurrent(3, cell=False), weights=(1, 2, 3), factors=(0, 1), recurrent=True),
    *rows("LSTM", "recurrent", _recurrent(4, cell=True), weights=(1, 2, 3, 7), factors=(0, 1), recurrent=True),
    *rows("Attention", "attention", _ATTENTION, data=(0, 1, 2)),
    *rows("LinearAttention", "attention", opaque("a state is carried over it"), data=(0, 1, 2), uncounted=True),
    *rows("RotaryEmbedding", "attention", either(
        pattern("batch heads time width, -, -, - -> batch heads time width"),
        pattern("batch time (heads width), -, -, - -> batch time (heads width)", heads="num_heads"),
    )),
    # elementwise
    *rows("Relu", "elementwise", sums.broadcast, exact=True, homogeneous=True, flat=flats.below(0), fuses=True),
    *rows("LeakyRelu", "elementwise", sums.broadcast, exact=True, homogeneous=True, fuses=True),
    *rows("Clip", "elementwise", sums.broadcast, exact=True, flat=flats.beyond_bounds, fuses=True),
    *rows("Add", "elementwise", sums.broadcast, data=(0, 1), exact=True, adds=True, fuses=True),
    *rows("Mul", "elementwise", sums.broadcast, data=(0, 1), exact=True, fuses=True),
    *rows("Sum", "elementwise", sums.broadcast, data=None, exact=True, adds=True),
    *rows("HardSigmoid", "elementwise", sums.broadcast, flat=flats.beyond_ramp),
    *rows("HardSwish", "elementwise", sums.broadcast, flat=flats.below(-3)),
    *rows("ThresholdedRelu", "elementwise", sums.broadcast, flat=flats.below_threshold),
    *rows("And BitwiseAnd BitwiseOr BitwiseXor Div Equal Greater GreaterOrEqual Less LessOrEqual Max Mean Min Mod Or Pow Sub Xor", "elementwise", sums.broadcast, data=None, exact=True),
    *rows("Abs BitwiseNot Ceil Cos Erf Exp Floor IsInf IsNaN Log Neg Not Reciprocal Round Sigmoid Sign Sin Softplus Sqrt Tanh", "elementwise", sums.broadcast, exact=True),
    *rows("Acos Acosh Asin Asinh Atan Atanh Celu Cosh Elu Gelu Mish Selu Shrink Sinh Softsign Swish Tan", "elementwise", sums.broadcast),
    *rows("BitShift SwiGLU", "elementwise", sums.broadcast, data=(0, 1)),
    *rows("PRelu", "elementwise", sums.broadcast, weights=(1,), homogeneous=True),
    *rows("Dropout", "elementwise", sums.broadcast),
    *rows("Cast CastLike", "cast", sums.first, exact=True),
    *rows("BitCast", "cast", sums.first),
    # elements moved
    *rows("Identity", "view", sums.first, exact=True, homogeneous=True),
    *rows("Flatten Reshape Squeeze Unsqueeze", "view", moves.reshape, exact=True, homogeneous=True),
    *rows("Transpose", "permute", moves.transpose, exact=True),
    *rows("DepthToSpace", "permute", sums.by_attribute("mode", {
        "DCR": pattern("batch (block block0 channel) high wide -> batch channel (high block) (wide block0)", block="blocksize", block0="blocksize"),
        "CRD": pattern("batch (channel block block0) high wide -> batch channel (high block) (wide block0)", block="blocksize", block0="blocksize"),
    }, "DCR"), exact=True),
    *rows("SpaceToDepth", "permute", pattern("batch channel (high block) (wide block0) -> batch (block block0 channel) high wide", block="blocksize", block0="blocksize"), exact=True),
    *rows("Expand", "repeat", moves.expand, exact=True),
    *rows("Tile", "repeat", moves.tile, exact=True),
    *rows("Gather", "select", parts.gather, weights=(0,), exact=True),
    *rows("GatherElements", "select", parts.gather_elements, exact=True),
    *rows("GatherND", "select", opaque("it is looked up by an index"), exact=True),
    *rows("Compress", "select", opaque("a mask selects from it"), exact=True, sized_by_values=True),
    *rows("Slice", "select", parts.slice_, exact=True),
    *rows("Split", "select", parts.split, exact=True),
    *rows("Pad", "select", parts.pad, exact=True),
    *rows("Trilu", "select", sums.last(2, "Trilu counts along it"), exact=True),
    *rows("CenterCropPad", "select", opaque("it is cropped or padded")),
    *rows("ReverseSequence", "select", opaque("it is reversed")),
    *rows("Concat", "join", parts.concat, data=None, exact=True),
    *rows("Where", "join", sums.broadcast, data=(1, 2), exact=True),
    *rows("ScatterElements ScatterND", "join", opaque("elements are put in by an index"), data=(0, 2), exact=True),
    *rows("Scatter", "join", opaque("elements are put in by an index"), data=(0, 2)),
    *rows("TensorScatter", "join", opaque("elements are put in by an index"), data=(0, 1)),
    # along an axis
    *rows("BatchNormalization", "normalize", pattern("batch channel *place, channel, channel, channel, channel -> batch channel *place, channel, channel, channel, channel"), weights=(1, 2), fuses=True),
    *rows("InstanceNormalization", "normalize", pattern("batch channel *normal, channel, channel -> batch channel *normal"), weights=(1, 2)),
    *rows("GroupNormalization", "normalize", sums.by_version(21, (
        pattern("batch (group member) *normal, group, group -> batch (group member) *normal", group="num_groups"),
        pattern("batch (group member) *normal, (group member), (group member) -> batch (group member) *normal", group="num_groups"),
    )), weights=(1, 2)),
    *rows("LayerNormalization", "normalize", sums.layer_norm, weights=(1, 2), scales=(1, 2)),
    *rows("RMSNormalization SimplifiedLayerNormalization", "normalize", sums.layer_norm, weights=(1,), scales=(1,)),
    *rows("LpNormalization", "normalize", sums.along()),
    *rows("MeanVarianceNormalization", "normalize", sums.along(default=(0, 2, 3))),
    *rows("LRN", "normalize", sums.along(1)),
    *rows("Softmax LogSoftmax Hardmax", "softmax", sums.along(to_end=True)),
    *rows("ReduceMean", "reduce", sums.reduce(summed=False), averages=True, exact=True),
    *rows("ReduceSum ReduceL1 ReduceL2 ReduceSumSquare ReduceLogSum", "reduce", sums.reduce(summed=True), exact=True),
    *rows("ReduceMax ReduceMin", "reduce", sums.reduce(summed=False), exact=True, same_name=True),
    *rows("ReduceProd ReduceLogSumExp ArgMax ArgMin", "reduce", sums.reduce(summed=False), exact=True),
    *rows("Det", "reduce", opaque("its determinant is taken")),
    *rows("CumSum", "order", sums.along(0, index=1), exact=True),
    *rows("CumProd", "order", sums.along(0, index=1)),
    *rows("TopK", "order", sums.along()),
    *rows("Unique", "order", opaque("its elements are sorted"), sized_by_values=True),
    # pictures and signals
    *rows("AveragePool", "pool", sums.window_axes(), averages=True),
    *rows("LpPool", "pool", sums.window_axes()),
    *rows("MaxPool", "pool", sums.window_axes(), same_name=True),
    *rows("GlobalAveragePool", "pool", sums.window_axes(), averages=True),
    *rows("GlobalMaxPool GlobalLpPool", "pool", sums.window_axes()),
    *rows("MaxUnpool", "pool", opaque("its elements are put in by an index"), data=(0,)),
    *rows("MaxRoiPool RoiAlign", "pool", pattern("picked channel *window, region packed, region -> region channel *slide")),
    *rows("Resize Upsample", "resize", moves.resize),
    *rows("GridSample", "resize", pattern("batch channel *window, batch *unknown -> batch channel *slide")),
    *rows("AffineGrid Col2Im", "signal", opaque("a window slides over it")),
    *rows("DFT STFT", "signal", opaque("it is transformed")),
    *rows("MelWeightMatrix BlackmanWindow HammingWindow HannWindow", "make", moves.made(why="it is a window of a signal"), data=()),
    # codes
    *rows("QuantizeLinear", "quantize", sums.quantize, codes=(0,)),
    *rows("DequantizeLinear", "quantize", sums.quantize, codes=(0,), zeros=((0, 2),)),
    *rows("DynamicQuantizeLinear", "quantize", sums.quantize),
    *rows("QLinearConv", "integer", pattern("batch (group in) *window, -, -, (group out) in *kernel, @(group out), @(group out), -, -, (group out) -> batch (group out) *slide", group=("group", 1)), factors=(0, 3), codes=(0, 3, 8), zeros=((3, 5),), coded=(3, 0, 1)),
    *rows("QLinearMatMul", "integer", products.matmul(left=0, right=3), data=(0, 3), factors=(0, 3), codes=(0, 3), zeros=((3, 5),), coded=(3, -1, -2)),
    *rows("ConvInteger", "integer", pattern(f"{_CONV}, -, @(group out) -> batch (group out) *slide", group=("group", 1)), factors=(0, 1), codes=(0, 1), zeros=((1, 3),), coded=(1, 0, 1)),
    *rows("MatMulInteger", "integer", products.matmul(), data=(0, 1), factors=(0, 1), codes=(0, 1), zeros=((1, 3),), coded=(1, -1, -2)),
    # made
    *rows("Constant", "make", moves.made(), data=()),
    *rows("ConstantOfShape", "make", moves.made(0), data=(), exact=True),
    *rows("EyeLike OneHot Range", "make", moves.made(why="its values count along it"), data=(), exact=True),
    *rows("NonZero", "make", moves.made(why="its values count along it"), data=(), exact=True, sized_by_values=True),
    *rows("RandomNormal RandomNormalLike RandomUniform RandomUniformLike Multinomial Bernoulli", "make", moves.made(why=_DRAWN), data=(), random=True),
    *rows("Shape Size", "measure", moves.made(why="it holds sizes")),
    *rows("NonMaxSuppression", "order", opaque("its elements are sorted"), sized_by_values=True),
    *rows("NegativeLogLikelihoodLoss SoftmaxCrossEntropyLoss", "loss", opaque("a loss counts it")),
    # bodies, sequences, text
    *rows("If", "control", bodies.branches, data=()),
    *rows("Loop", "control", bodies.loop, data=None),
    *rows("Scan", "control", bodies.scan, data=None),
    *rows("ConcatFromSequence Optional OptionalGetElement OptionalHasElement SequenceAt SequenceConstruct SequenceErase SequenceInsert SequenceLength SequenceMap SplitToSequence", "sequence", _SEQUENCE),
    *rows("SequenceEmpty", "sequence", _SEQUENCE, data=()),
    *rows("RegexFullMatch StringConcat StringNormalizer StringSplit TfIdfVectorizer", "text", _TEXT),
    *rows("ImageDecoder", "make", moves.made(why="it is decoded from a file"), data=()),
]  # fmt: skip
