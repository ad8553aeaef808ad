from __future__ import annotations

import copy
import re
from collections.abc import Callable, Mapping

import numpy as np
import onnx
import pytest
import torch

from graphopt.bridge import GraphModule, Substitute, to_torch
from graphopt.bridge.tensors import to_tensor
from graphopt.data.synthetic import SyntheticSamples
from graphopt.errors import DataError, ModelError, UsageError
from graphopt.graph import io
from graphopt.graph.graph import Graph
from graphopt.graph.tensors import Array
from graphopt.testing import MODELS, model_from_text

Compare = Callable[[Graph, GraphModule, Mapping[str, Array]], None]
HEAD = '<ir_version: 8, opset_import: ["" : 17]>'
NORMED = model_from_text(
    f"""{HEAD} net (float[N,3,4,4] x) => (float[N,2,2,2] y) {{
      c = Conv (x, W)
      n = BatchNormalization (c, scale, shift, mean, variance)
      d = Dropout (n)
      y = Relu (d)
    }}""",
    {"W": (2, 3, 3, 3), **dict.fromkeys(("scale", "shift", "mean", "variance"), (2,))},
)
LAYERS = model_from_text(
    f"""{HEAD} net (float[N,4] x) => (float[N,2] y) {{
      h = MatMul (x, W1)
      r = Relu (h)
      y = MatMul (r, W2)
    }}""",
    {"W1": (4, 3), "W2": (3, 2)},
)

WITHOUT_WEIGHTS = ("function", "no-layers", "quantized")
NOT_RUN = {"bodies": ["W2", "B2"], "clutter": ["unread"]}
"""Weights of a branch that is not taken, and one that no output depends on."""


def random(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0))


def backward(module: GraphModule, feeds: Mapping[str, torch.Tensor]) -> None:
    losses = [value.float().square().mean() for value in module(feeds).values()]
    torch.autograd.backward(torch.stack([loss for loss in losses if loss.requires_grad]).sum())


@pytest.mark.parametrize("name", sorted(MODELS))
def test_tiny_models_are_the_same_and_every_weight_has_a_gradient(
    name: str, same_as_onnxruntime: Compare
) -> None:
    graph = io.load(MODELS[name]())
    module = to_torch(graph, batch_norm="frozen")  # one sample has no statistics of a batch
    feeds, _ = next(SyntheticSamples(graph, count=1).feeds())
    same_as_onnxruntime(graph, module, feeds)
    weights = dict(module.weights())
    assert bool(weights) is (name not in WITHOUT_WEIGHTS)
    if [*weights] != NOT_RUN.get(name, []):
        backward(module.train(), {key: to_tensor(value) for key, value in feeds.items()})
    assert [key for key, w in weights.items() if w.grad is None] == NOT_RUN.get(name, [])


def test_weights_and_statistics_go_by_their_onnx_names() -> None:
    module = to_torch(io.load(NORMED))
    assert [name for name, _ in module.weights()] == ["W", "scale", "shift"]
    assert [name for name, _ in module.statistics()] == ["mean", "variance"]
    assert len(list(module.parameters())) == 3
    assert module.get_parameter(module.attribute("W")).shape == (2, 3, 3, 3)
    with pytest.raises(UsageError, match="no trainable tensor 'c'"):
        module.attribute("c")


def test_batch_statistics_normalize_and_move_the_stored_ones() -> None:
    module = to_torch(io.load(NORMED))
    before = {name: tensor.clone() for name, tensor in module.statistics()}
    x = 3 * random(8, 3, 4, 4)
    module.eval()
    module({"x": x})
    assert all(torch.equal(before[name], tensor) for name, tensor in module.statistics())
    module.train()
    found = module({"x": x}, taps=["c", "n"])
    c = found["c"].transpose(0, 1).flatten(1)
    weights = dict(module.weights())
    expected = (c - c.mean(1, keepdim=True)) / (c.var(1, correction=0, keepdim=True) + 1e-5).sqrt()
    expected = expected * weights["scale"][:, None] + weights["shift"][:, None]
    torch.testing.assert_close(found["n"].transpose(0, 1).flatten(1), expected)
    moved = dict(module.statistics())
    torch.testing.assert_close(moved["mean"], 0.9 * before["mean"] + 0.1 * c.mean(1))
    torch.testing.assert_close(moved["variance"], 0.9 * before["variance"] + 0.1 * c.var(1))


def test_frozen_statistics_stay() -> None:
    module = to_torch(io.load(NORMED), batch_norm="frozen")
    before = {name: tensor.clone() for name, tensor in module.statistics()}
    x = random(8, 3, 4, 4)
    expected = module({"x": x})["y"]
    torch.testing.assert_close(module.train()({"x": x})["y"], expected)
    assert all(torch.equal(before[name], tensor) for name, tensor in module.statistics())


def test_dropout_drops_only_while_training_and_if_asked() -> None:
    x = random(8, 3, 4, 4)
    for wanted in (False, True):
        module = to_torch(io.load(NORMED), batch_norm="frozen", dropout=wanted)
        kept = module({"x": x}, taps=["n", "d"])
        assert torch.equal(kept["n"], kept["d"])
        dropped = module.train()({"x": x}, taps=["n", "d"])
        assert torch.equal(dropped["n"], dropped["d"]) is not wanted


def test_taps_come_beside_the_outputs() -> None:
    module = to_torch(io.load(LAYERS))
    x = random(5, 4)
    found = module({"x": x}, taps=["r", "W2", "x"])
    assert list(found) == ["y", "r", "W2", "x"]
    torch.testing.assert_close(found["r"] @ found["W2"], found["y"])
    with pytest.raises(UsageError, match="no tensor 'z' to tap"):
        module({"x": x}, taps=["z"])
    with pytest.raises(DataError, match="input 'x' is missing"):
        module({})


def test_what_follows_from_shapes_is_computed_once_for_each_shape() -> None:
    graph = io.load(
        model_from_text(
            f"""{HEAD} net (float[N,M] x) => (float[K] y, int64[2] s) {{
              s = Shape (x)
              n = ReduceProd <keepdims = 1> (s)
              y = Reshape (x, n)
            }}"""
        )
    )
    module = to_torch(graph)
    for shape in ((2, 3), (4, 5), (2, 3)):
        x = random(*shape)
        found = module({"x": x})
        assert torch.equal(found["y"], x.reshape(-1))
        assert found["s"].tolist() == list(shape)
    program = module._program(())
    assert (len(program._cold), len(program._warm), len(program._kept)) == (3, 1, 2)


def test_inference_mode_does_not_spoil_training() -> None:
    module = to_torch(io.load(NORMED))
    feeds = {"x": random(2, 3, 4, 4)}
    with torch.inference_mode():
        module(feeds)
    backward(module.train(), feeds)


IF = model_from_text(
    f"""{HEAD} net (float[N,4] x, bool c) => (float[N,2] y) {{
      y = If (c) <
        then_branch = t () => (float[N,2] a) {{ a = MatMul (x, W) }},
        else_branch = e () => (float[N,2] b) {{
          two = Constant <value = float[1] {{2.0}}> ()
          m = MatMul (x, V)
          b = Mul (m, two)
        }}
      >
    }}""",
    {"W": (4, 2), "V": (4, 2)},
)


@pytest.mark.parametrize("condition", [True, False])
def test_if_runs_the_branch_that_is_chosen(condition: bool, same_as_onnxruntime: Compare) -> None:
    graph = io.load(IF)
    feeds = {"x": random(3, 4).numpy(), "c": np.array(condition)}
    module = to_torch(graph)
    same_as_onnxruntime(graph, module, feeds)
    backward(module, {name: to_tensor(value) for name, value in feeds.items()})
    assert {name for name, w in module.weights() if w.grad is not None} == {
        "W" if condition else "V"
    }
    constant = onnx.ModelProto()
    constant.CopyFrom(IF)
    del constant.graph.input[1]
    constant.graph.initializer.append(onnx.numpy_helper.from_array(np.array(condition), "c"))
    graph = io.load(constant)
    module = to_torch(graph)
    same_as_onnxruntime(graph, module, {"x": feeds["x"]})
    assert [name for name, _ in module.weights()] == ["W" if condition else "V"]


def test_weights_inside_bodies_have_the_owner_in_front() -> None:
    model = model_from_text(
        f"""{HEAD} net (float[2,2] x, bool c) => (float[2,2] y) {{
          [choice] y = If (c) <
            then_branch = t () => (float[2,2] a) {{
              W = Constant <value = float[2,2] {{1.0, 2.0, 3.0, 4.0}}> ()
              a = MatMul (x, W)
            }},
            else_branch = e () => (float[2,2] b) {{ b = Neg (x) }}
          >
        }}"""
    )
    module = to_torch(io.load(model))
    assert [name for name, _ in module.weights()] == ["choice.then_branch/W"]


def test_loop_accumulates_and_is_differentiable(same_as_onnxruntime: Compare) -> None:
    graph = io.load(
        model_from_text(
            f"""{HEAD} net (float[2,2] x, int64 n) => (float[2,2] y, float[K,2,2] all) {{
              go = Constant <value = bool {{1}}> ()
              y, all = Loop (n, go, x) <
                body = b (int64 i, bool in, float[2,2] s)
                  => (bool out, float[2,2] t, float[2,2] u) {{
                  out = Identity (in)
                  t = MatMul (s, W)
                  u = Neg (t)
                }}
              >
            }}""",
            {"W": (2, 2)},
        )
    )
    module = to_torch(graph)
    feeds = {"x": random(2, 2).numpy(), "n": np.array(3)}
    same_as_onnxruntime(graph, module, feeds)
    backward(module, {name: to_tensor(value) for name, value in feeds.items()})
    assert [name for name, weight in module.weights() if weight.grad is not None] == ["W"]


@pytest.mark.parametrize("direction", ["forward", "reverse", "bidirectional"])
def test_lstm_with_lengths_and_states(direction: str, same_as_onnxruntime: Compare) -> None:
    d = 2 if direction == "bidirectional" else 1
    graph = io.load(
        model_from_text(
            f"""{HEAD} net (float[5,3,2] x, int32[3] lens) => (float y, float h, float c) {{
              y, h, c = LSTM <direction = "{direction}", hidden_size = 4>
                (x, W, R, B, lens, H, C, P)
            }}""",
            {
                "W": (d, 16, 2),
                "R": (d, 16, 4),
                "B": (d, 32),
                **dict.fromkeys("HC", (d, 3, 4)),
                "P": (d, 12),
            },
        )
    )
    module = to_torch(graph)
    feeds = {"x": random(5, 3, 2).numpy(), "lens": np.array([5, 2, 4], np.int32)}
    same_as_onnxruntime(graph, module, feeds)
    assert [name for name, _ in module.weights()] == ["W", "R", "B", "P"]


def test_local_functions_are_run_as_their_nodes(same_as_onnxruntime: Compare) -> None:
    model = onnx.parser.parse_model(
        """<ir_version: 8, opset_import: ["" : 17, "own" : 1]>
        net (float[2,2] x) => (float[2,2] y) <float[2,2] W = {1.0, 2.0, 3.0, 4.0}> {
          y = own.layer (x, W)
        }
        <opset_import: ["" : 17], domain: "own">
        layer (a, b) => (c) { m = MatMul (a, b)  c = Relu (m) }"""
    )
    graph = io.load(model)
    module = to_torch(graph)
    assert [name for name, _ in module.weights()] == ["W"]
    assert len(graph.header.functions) == 1
    same_as_onnxruntime(graph, module, {"x": random(2, 2).numpy()})


UNKNOWN = model_from_text(
    f"""{HEAD} net (float[N,4] x) => (float[N,2] y) {{
      h = MatMul (x, W1)
      [strange] s = StringNormalizer (t)
      l = SequenceConstruct (h, h)
      [pick] k = SequenceAt (l, zero)
      y = MatMul (k, W2)
    }}""",
    {"W1": (4, 3), "W2": (3, 2), "zero": np.array(0), "t": np.array(["a"])},
)


def test_a_missing_operator_is_named_and_can_be_frozen(same_as_onnxruntime: Compare) -> None:
    graph = io.load(UNKNOWN)
    with pytest.raises(ModelError, match=r"node strange: operator StringNormalizer \(version 10\)"):
        to_torch(graph)
    module = to_torch(graph, frozen=["k"])
    assert [name for name, _ in module.weights()] == ["W2"]
    same_as_onnxruntime(graph, module, {"x": random(3, 4).numpy()})
    backward(module, {"x": random(3, 4)})
    same_as_onnxruntime(graph, copy.deepcopy(module), {"x": random(3, 4).numpy()})
    with pytest.raises(UsageError, match="no node of the main graph computes 'x'"):
        to_torch(graph, frozen=["x"])


class Doubled(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.factor = torch.nn.Parameter(torch.tensor(2.0))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.factor * x


def test_a_substitute_stands_for_a_tensor() -> None:
    graph = io.load(LAYERS)
    module = to_torch(graph, substitutes={"r": Substitute(Doubled(), ("h",))})
    assert len(list(module.parameters())) == 3
    x = random(5, 4)
    found = module({"x": x}, taps=["h", "r"])
    torch.testing.assert_close(found["r"], 2 * found["h"])
    torch.testing.assert_close(found["y"], found["r"] @ dict(module.weights())["W2"])
    with pytest.raises(UsageError, match="no tensor 'q' to be replaced"):
        to_torch(graph, substitutes={"q": Substitute(Doubled(), ("x",))})


def test_trainable_may_be_chosen() -> None:
    module = to_torch(io.load(LAYERS), trainable=["W2"])
    assert [name for name, _ in module.weights()] == ["W2"]
    with pytest.raises(UsageError, match="no constant 'W3' to be trained"):
        to_torch(io.load(LAYERS), trainable=["W3"])


@pytest.mark.parametrize("name", sorted(set(MODELS) - {"bodies"}))
def test_constants_and_shapes_follow_the_data_to_its_device(name: str) -> None:
    """The device without values shows it: it refuses tensors from elsewhere, as a GPU does."""
    graph = io.load(MODELS[name]())
    module = to_torch(graph).to("meta")
    feeds, _ = next(SyntheticSamples(graph, count=1).feeds())
    given = {key: to_tensor(value).to("meta") for key, value in feeds.items()}
    for found in (module(given), module(given)):
        assert {value.device.type for value in found.values()} == {"meta"}


def test_a_query_that_may_look_nowhere_has_finite_gradients() -> None:
    model = model_from_text(
        """<ir_version: 10, opset_import: ["" : 23]>
        net (float[1,1,2,4] x, bool[2,2] m) => (float[1,1,2,4] y) {
          q = MatMul (x, W)
          y = Attention (q, x, x, m)
        }""",
        {"W": (4, 4)},
    )
    module = to_torch(io.load(model))
    mask = torch.tensor([[True, False], [False, False]])
    found = module({"x": random(1, 1, 2, 4), "m": mask})["y"]
    assert not found[0, 0, 1].any()
    torch.autograd.backward(found.sum())
    assert all(
        weight.grad is not None and weight.grad.isfinite().all() for weight in module.parameters()
    )


def test_a_node_that_refuses_its_inputs_is_named() -> None:
    with pytest.raises(ModelError, match=r"node MatMul\(h\) cannot be computed in torch: "):
        to_torch(io.load(LAYERS))({"x": random(5, 3)})


def test_an_attribute_without_meaning_is_refused() -> None:
    text = f"{HEAD} net (float[2] x) => (float[2] y) {{ y = Relu <strange = 1> (x) }}"
    with pytest.raises(ModelError, match=re.escape("attribute 'strange' of Relu")):
        to_torch(Graph(model_from_text(text)))


def test_copies_are_independent() -> None:
    module = to_torch(io.load(NORMED)).train()
    twin = copy.deepcopy(module)
    twin.eval()
    assert module._settings.training
    with torch.no_grad():
        next(twin.parameters()).zero_()
    assert all(weight.any() for _, weight in module.weights())
    x = random(4, 3, 4, 4)
    assert not torch.equal(module({"x": x}, ["n"])["n"], twin({"x": x}, ["n"])["n"])


def test_channels_last_gives_the_same() -> None:
    module = to_torch(io.load(NORMED))
    x = random(4, 3, 4, 4)
    expected = module({"x": x})["y"]
    for parameter in module.parameters():
        if parameter.dim() == 4:
            parameter.data = parameter.data.contiguous(memory_format=torch.channels_last)
    found = module({"x": x.to(memory_format=torch.channels_last)})["y"]
    torch.testing.assert_close(found, expected)


def test_frozen_statistics_stay_in_training_too() -> None:
    module = to_torch(io.load(NORMED)).train()
    before = {name: values.clone() for name, values in module.statistics()}
    assert module.freeze_statistics()
    assert not module.freeze_statistics()
    module({"x": random(2, 3, 4, 4)})
    assert all(torch.equal(values, before[name]) for name, values in module.statistics())
    assert not to_torch(io.load(LAYERS)).freeze_statistics()
