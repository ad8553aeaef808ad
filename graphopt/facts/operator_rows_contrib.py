"""Rows of onnxruntime's own operators that exporters and its tools write."""

from __future__ import annotations

from graphopt.facts import axis_moves as moves
from graphopt.facts import axis_parts as parts
from graphopt.facts import axis_products as products
from graphopt.facts import axis_sums as sums
from graphopt.facts.axis_masks import per_head
from graphopt.facts.axis_pattern import either, pattern
from graphopt.facts.axis_rules import opaque
from graphopt.facts.operator import Operator, rows

__all__ = ["ROWS"]

_CONV = "batch (group in) *window, (group out) in *kernel, (group out), batch (group out) *slide"
_SELF = "(heads width + heads width + heads width)"

_MULTI_HEAD = per_head(
    pattern(
        "batch time (heads width), batch keys (heads width), batch keys (heads value), "
        "(heads width + heads width + heads value), -, -, batch heads past width, "
        "batch heads past value -> batch time (heads value), batch heads all width, "
        "batch heads all value, batch heads time keys",
        heads="num_heads",
    ),
    5,
    "heads",
)
_GROUPED = per_head(
    pattern(
        "batch time (kv repeat width), batch keys (kv width), batch keys (kv width), "
        "batch kv past width, batch kv past width, batch "
        "-> batch time (kv repeat width), batch kv all width, batch kv all width",
        kv="kv_num_heads",
        kv__repeat="num_heads",
    ),
    10,
    "kv repeat",
    alone=11,
)
_PACKED = per_head(
    pattern(
        f"batch time in, in {_SELF}, {_SELF}, -, two0 batch heads past width "
        "-> batch time (heads width), two0 batch heads all width",
        heads="num_heads",
    ),
    5,
    "heads",
)
_BITS = either(
    *(
        pattern(f"*lead packed, out packed0 packed1, {blocks}, -, out -> *lead out", out="N")
        for blocks in ("out packed2, out packed3", "(out packed2), (out packed3)")
    )
)

ROWS: list[Operator] = [
    *rows("FusedConv", "convolution", pattern(f"{_CONV} -> batch (group out) *slide", group=("group", 1)), weights=(1, 2), factors=(0, 1)),
    *rows("FusedGemm", "product", products.gemm(), weights=(0, 1, 2), factors=(0, 1), data=(0, 1)),
    *rows("FusedMatMul TransposeMatMul", "product", products.matmul(), weights=(0, 1), factors=(0, 1), data=(0, 1)),
    *rows("Gelu QuickGelu", "elementwise", sums.broadcast),
    *rows("FastGelu BiasGelu", "elementwise", sums.broadcast, weights=(1,)),
    *rows("BiasAdd", "elementwise", sums.broadcast),
    *rows("BiasSplitGelu", "elementwise", opaque("its halves are multiplied")),
    *rows("BiasSoftmax BiasDropout BitmaskDropout", "softmax", opaque("a softmax or a draw goes over it")),
    *rows("LayerNormalization SimplifiedLayerNormalization", "normalize", sums.layer_norm, weights=(1, 2), scales=(1, 2)),
    *rows("SkipLayerNormalization", "normalize", pattern("*lead normal, *lead normal, normal, normal, normal -> *lead normal, -, -, *lead normal"), data=(0, 1), weights=(2, 3, 4), skips=(0, 1), scales=(2, 3)),
    *rows("SkipSimplifiedLayerNormalization", "normalize", pattern("*lead normal, *lead normal, normal, normal -> *lead normal, -, -, *lead normal"), data=(0, 1), weights=(2, 3), scales=(2,)),
    *rows("EmbedLayerNormalization", "normalize", pattern("batch time, batch time, picked1 normal, picked2 normal, picked3 normal, normal, normal -> batch time normal, batch, batch time normal"), data=(), weights=(2, 3, 4, 5, 6)),
    *rows("GroupNorm SkipGroupNorm", "normalize", opaque("it is normalized over")),
    *rows("Attention", "attention", _PACKED, weights=(1, 2)),
    *rows("MultiHeadAttention", "attention", _MULTI_HEAD, data=(0, 1, 2), weights=(3,)),
    *rows("DecoderMaskedMultiHeadAttention", "attention", _MULTI_HEAD, data=(0, 1, 2), weights=(3,), uncounted=True),
    *rows("GroupQueryAttention", "attention", _GROUPED, data=(0, 1, 2), uncounted=True),
    *rows("PackedAttention PackedMultiHeadAttention DecoderAttention LongformerAttention SparseAttention PagedAttention DecoderMaskedSelfAttention", "attention", opaque("attention goes over it"), uncounted=True),
    *rows("RotaryEmbedding", "attention", either(
        pattern("batch heads time width, -, -, - -> batch heads time width"),
        pattern("batch time (heads width), -, -, - -> batch time (heads width)", heads="num_heads"),
    )),
    *rows("RelativePositionBias", "attention", opaque("attention goes over it")),
    *rows("GatedRelativePositionBias", "attention", opaque("attention goes over it"), uncounted=True),
    *rows("Pad", "select", parts.pad),
    *rows("GatherND", "select", opaque("it is looked up by an index")),
    *rows("GatherBlockQuantized", "integer", opaque("its values are packed in blocks"), codes=(0,), coded=(0, 0, -1), zeros=((0, 3),), packed=0, looks_up=True, weights_only=True),
    *rows("ExpandDims", "view", moves.reshape),
    *rows("Inverse", "reduce", opaque("it is inverted")),
    *rows("Trilu", "select", sums.last(2, "Trilu counts along it")),
    *rows("NhwcMaxPool", "integer", opaque("a window slides over it")),
    *rows("NhwcFusedConv", "convolution", opaque("its layout is onnxruntime's"), weights=(1, 2), factors=(0, 1)),
    *rows("Rfft Irfft ComplexMul ComplexMulConj", "signal", opaque("it is transformed")),
    *rows("QuantizeLinear", "quantize", sums.quantize, codes=(0,)),
    *rows("DequantizeLinear", "quantize", sums.quantize, codes=(0,), zeros=((0, 2),)),
    *rows("QGemm", "integer", products.gemm(left=0, right=3, bias=6), factors=(0, 3), codes=(0, 3, 6), data=(0,), coded=(3, 1, 0)),
    *rows("DynamicQuantizeMatMul", "integer", products.matmul(bias=4), factors=(0, 1), codes=(0, 1, 4), coded=(1, -1, -2)),
    *rows("MatMulIntegerToFloat", "integer", products.matmul(bias=6), factors=(0, 1), codes=(0, 1, 6), coded=(1, -1, -2)),
    *rows("MatMulNBits", "integer", _BITS, factors=(0, 1), codes=(0, 1, 5), coded=(1, 0, -1), packed=1, weights_only=True),
    *rows("MatMulBnb4 MatMulFpQ4", "integer", opaque("its values are packed in blocks"), weights_only=True, uncounted=True),
    *rows("DynamicQuantizeLSTM", "integer", opaque("it is carried over time"), factors=(0, 1), codes=(0, 1, 2, 3, 5, 6, 7), zeros=((1, 9), (2, 11)), coded=(1, 2, 1), recurrent=True),
    *rows("QAttention", "integer", pattern(f"batch time in, in {_SELF}, {_SELF} -> batch time (heads width), -", heads="num_heads"), weights=(1, 2), coded=(1, 1, 0)),
    *rows("QOrderedGelu QOrderedLayerNormalization", "integer", opaque("its values are packed in blocks")),
    *rows("QOrderedMatMul QOrderedAttention QOrderedLongformerAttention QMoE", "integer", opaque("its values are packed in blocks"), uncounted=True),
    *rows("MoE", "product", opaque("a router chooses among experts"), uncounted=True),
    *rows("QLinearAdd QLinearMul", "integer", sums.pair(0, 3), data=(0, 3)),
    *rows("QLinearSigmoid QLinearLeakyRelu", "integer", sums.first),
    *rows("QLinearSoftmax", "integer", sums.along()),
    *rows("QLinearAveragePool QLinearGlobalAveragePool", "integer", opaque("a window slides over it")),
    *rows("QLinearReduceMean QLinearConcat QLinearWhere", "integer", opaque("codes of several scales are joined"), data=None),
    *rows("QEmbedLayerNormalization", "integer", opaque("it is normalized over")),
]  # fmt: skip
