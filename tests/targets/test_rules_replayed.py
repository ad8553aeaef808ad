"""What XNNPACK's provider and TensorRT's parser accept, replayed on files written for them.

The rules are written anew from their sources, and share nothing with the tables of the targets:

- XNNPACK: microsoft/onnxruntime, providers/xnnpack/nn/conv_base.cc (``GetConvCompType``,
  ``IsOnnxNodeSupported``) and detail/utils.cc (``GetTensorQuantType``);
- TensorRT: NVIDIA's Working with Quantized Types (signed int8, symmetric), onnx-tensorrt issue 850
  (DequantizeLinear of int32 is refused) and its Explicit Quantization (Q and DQ of one scale on
  activations, of one for each output channel on weights).
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import NodeProto, TensorProto

from graphopt.graph import io
from graphopt.graph.graph import Graph
from graphopt.graph.node import attribute
from graphopt.passes.quantize import CorrectBias, QuantizeStatic
from graphopt.testing import apply_pass, model_from_text

ROOT = Path(__file__).resolve().parents[2]


class Reading:
    """A model as a parser sees it: nodes by what they make, readers, constants, shapes."""

    def __init__(self, graph: Graph) -> None:
        self.model = onnx.shape_inference.infer_shapes(graph.to_model())
        self.made = {name: node for node in self.model.graph.node for name in node.output}
        self.constants = {
            each.name: onnx.numpy_helper.to_array(each) for each in self.model.graph.initializer
        }
        values = (*self.model.graph.input, *self.model.graph.value_info, *self.model.graph.output)
        self.shapes = {each.name: each.type.tensor_type.shape.dim for each in values}

    def convolutions(self) -> list[NodeProto]:
        return [node for node in self.model.graph.node if node.op_type == "Conv"]

    def readers(self, name: str) -> list[NodeProto]:
        return [node for node in self.model.graph.node if name in node.input]

    def parameters(self, node: NodeProto) -> tuple[NDArray[Any], NDArray[Any] | None]:
        """Scale and zero point of a Q or DQ."""
        zero = self.constants[node.input[2]] if len(node.input) > 2 else None
        return self.constants[node.input[1]], zero

    def behind(self, node: NodeProto) -> NodeProto | None:
        """The Q that alone reads a result, behind a Relu or Clip that it makes superfluous."""
        reader = self.reader(node)
        if reader is None or reader.op_type not in ("Relu", "Clip"):
            return reader if reader is not None and reader.op_type == "QuantizeLinear" else None
        after = self.reader(reader)
        if after is None or after.op_type != "QuantizeLinear":
            return None
        scale, zero = self.parameters(after)
        assert zero is not None
        limits = np.iinfo(zero.dtype.name)
        low = float(scale) * (int(limits.min) - int(zero))
        high = float(scale) * (int(limits.max) - int(zero))
        ceiling = np.inf
        if reader.op_type == "Clip" and len(reader.input) > 2:
            ceiling = float(self.constants[reader.input[2]])
        return after if low >= 0 and high <= ceiling * (1 + 1e-6) else None

    def reader(self, node: NodeProto) -> NodeProto | None:
        """The one node that reads what a node gives; None where there are others or none."""
        found = self.readers(node.output[0])
        return found[0] if len(found) == 1 else None


def xnnpack_takes(read: Reading, conv: NodeProto) -> bool:
    data, weight = (read.made.get(name) for name in conv.input[:2])
    after = read.behind(conv)
    if data is None or weight is None or after is None:
        return False
    if {data.op_type, weight.op_type} != {"DequantizeLinear"}:
        return False
    codes = read.constants.get(weight.input[0])
    kinds = [read.parameters(node)[1] for node in (data, after)]
    if codes is None or any(zero is None for zero in kinds):
        return False
    scales, zeros = read.parameters(weight)
    activations = {zero.dtype for zero in kinds if zero is not None}
    if codes.dtype == np.int8:
        per_channel = scales.size == codes.shape[0]
        same = zeros is None or (zeros.size == scales.size and not zeros.any())
        fits = activations == {np.dtype(np.int8)} and same and (scales.size == 1 or per_channel)
    else:
        fits = codes.dtype == np.uint8 and activations == {np.dtype(np.uint8)} and scales.size == 1
    dims = read.shapes.get(data.output[0], [])
    known = len(dims) == codes.ndim == 4 and all(dim.HasField("dim_value") for dim in dims[1:])
    bias = read.made.get(conv.input[2]) if len(conv.input) > 2 else None
    added = len(conv.input) < 3 or (
        bias is not None
        and bias.op_type == "DequantizeLinear"
        and read.constants[bias.input[0]].dtype == np.int32
    )
    return fits and known and added and read.model.opset_import[0].version >= 11


def tensorrt_parses(read: Reading) -> list[str]:
    """The nodes that the parser refuses, with why."""
    faults = []
    for node in read.model.graph.node:
        if node.op_type not in ("QuantizeLinear", "DequantizeLinear"):
            continue
        scale, zero = read.parameters(node)
        codes = read.constants.get(node.input[0])
        if zero is not None and (zero.dtype != np.int8 or zero.any()):
            faults.append(f"{node.name}: zero point is not an int8 of 0")
        if codes is not None and codes.dtype != np.int8:
            faults.append(f"{node.name}: codes of {codes.dtype}")
        if codes is None and scale.size != 1:
            faults.append(f"{node.name}: an activation with {scale.size} scales")
        if node.op_type == "QuantizeLinear" and zero is None:
            faults.append(f"{node.name}: gives uint8")
    return faults


def tensorrt_takes(read: Reading, conv: NodeProto) -> bool:
    data, weight = (read.made.get(name) for name in conv.input[:2])
    if data is None or weight is None:
        return False
    both = data.op_type == weight.op_type == "DequantizeLinear"
    floats = len(conv.input) < 3 or (
        conv.input[2] in read.constants and read.constants[conv.input[2]].dtype == np.float32
    )
    return both and floats and read.parameters(weight)[0].size in (1, conv_channels(read, weight))


def conv_channels(read: Reading, weight: NodeProto) -> int:
    return int(read.constants[weight.input[0]].shape[0])


def mobile() -> onnx.ModelProto:
    """Dense, depthwise and pointwise Convs with Relu and Relu6, and a residual."""
    text = """<ir_version: 8, opset_import: ["" : 13]>
        g (float[N, 3, 16, 16] x) => (float[N, 10] y)
        <float zero = {0.0}, float six = {6.0}> {
            a = Conv<strides = [2, 2], pads = [1, 1, 1, 1]>(x, w0, b0)  r0 = Clip(a, zero, six)
            b = Conv<group = 8, pads = [1, 1, 1, 1]>(r0, w1, b1)  r1 = Relu(b)
            c = Conv(r1, w2, b2)  s = Add(c, r0)
            d = Conv(s, w3)  r3 = Clip(d, zero, six)
            e = Conv<group = 16, pads = [1, 1, 1, 1]>(r3, w4, b4)  r4 = Clip(e, zero, six)
            p = GlobalAveragePool(r4)  f = Flatten(p)  y = Gemm(f, u, v)
        }"""
    shapes = {
        "w0": (8, 3, 3, 3), "b0": (8,), "w1": (8, 1, 3, 3), "b1": (8,), "w2": (8, 8, 1, 1),
        "b2": (8,), "w3": (16, 8, 1, 1), "w4": (16, 1, 3, 3), "b4": (16,), "u": (16, 10),
        "v": (10,),
    }  # fmt: skip
    return model_from_text(text, shapes)


def digits() -> onnx.ModelProto:
    return onnx.load(ROOT / "models" / "digits-cnn.onnx")


def written(make: Callable[[], onnx.ModelProto], target: str) -> Graph:
    """A model quantized for a target, with its biases corrected, as presets do."""
    model = make()
    shape = [dim.dim_value or 8 for dim in model.graph.input[0].type.tensor_type.shape.dim]
    values = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    samples = {model.graph.input[0].name: values}
    graph, record = apply_pass(QuantizeStatic(), model, target=target, samples=samples, judge=False)
    assert record.status == "done"
    return graph


MODELS = pytest.mark.parametrize("make", [mobile, digits])


@MODELS
def test_xnnpack_takes_every_dense_and_depthwise_convolution(
    make: Callable[[], onnx.ModelProto],
) -> None:
    read = Reading(written(make, "xnnpack"))
    assert len(read.convolutions()) >= 5
    assert [node.name for node in read.convolutions() if not xnnpack_takes(read, node)] == []
    usual = Reading(written(make, "x86-vnni"))
    assert not any(xnnpack_takes(usual, node) for node in usual.convolutions())


@MODELS
def test_tensorrt_parses_the_file_and_takes_every_convolution(
    make: Callable[[], onnx.ModelProto],
) -> None:
    read = Reading(written(make, "tensorrt"))
    assert tensorrt_parses(read) == []
    assert len(read.convolutions()) >= 5
    assert [node.name for node in read.convolutions() if not tensorrt_takes(read, node)] == []
    usual = Reading(written(make, "x86-vnni"))
    assert tensorrt_parses(usual)


def most_of_a_pair(read: Reading, conv: NodeProto) -> int:
    """The largest sum of two neighbouring products in size, over all codes that may come.

    Without VNNI, x86 adds the products of unsigned and signed codes two by two in 16 bits
    (VPMADDUBSW), along a kernel that is walked channel fastest; a depthwise one is not.
    """
    weight = read.made[conv.input[1]]
    codes = read.constants[weight.input[0]].astype(np.int64)
    walked = np.moveaxis(codes, 1, -1).reshape(len(codes), -1)
    walked = np.pad(walked, ((0, 0), (0, walked.shape[1] % 2))) * 255
    sums = [
        clip.reshape(len(codes), -1, 2).sum(-1)
        for clip in (walked.clip(min=0), -walked.clip(max=0))
    ]
    return int(max(each.max() for each in sums))


@MODELS
def test_no_pair_of_products_overflows_16_bits_without_vnni(
    make: Callable[[], onnx.ModelProto],
) -> None:
    for target, overflows in (("x86-avx2", False), ("x86-vnni", True)):
        read = Reading(written(make, target))
        dense = [node for node in read.convolutions() if attribute(node, "group", 1) == 1]
        found = [most_of_a_pair(read, node) > 2**15 - 1 for node in dense]
        assert any(found) is overflows


def test_a_corrected_bias_stays_in_floats_for_tensorrt(tmp_path: Path) -> None:
    graph = written(mobile, "tensorrt")
    samples = {"x": np.random.default_rng(1).normal(size=(8, 3, 16, 16)).astype(np.float32)}
    corrected, record = apply_pass(
        CorrectBias(samples=8), graph.to_model(), target="tensorrt", samples=samples, judge=False
    )
    io.save(corrected, tmp_path / "net.onnx")
    assert record.status in ("done", "nothing to do")
    read = Reading(corrected)
    assert tensorrt_parses(read) == []
    kinds = {each.data_type for each in read.model.graph.initializer}
    assert TensorProto.INT32 not in kinds
