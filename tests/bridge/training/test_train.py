"""Whole trainings of small nets."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest
import torch

from graphopt.bridge import GraphModule, to_torch
from graphopt.bridge.tensors import from_torch
from graphopt.bridge.training import checkpoint
from graphopt.bridge.training.criterion import Criterion
from graphopt.bridge.training.hooks import Hook
from graphopt.bridge.training.train import train
from graphopt.contract.curves import TrainingCurves
from graphopt.contract.training import LossOptions, Training, TrainOptions
from graphopt.data import open_data
from graphopt.deadline import Deadline
from graphopt.errors import DataError, ModelError, PassError, SystemFailure, UsageError
from graphopt.graph import io
from graphopt.graph.graph import Graph
from graphopt.graph.tensors import Array
from graphopt.testing import model_from_text

HEAD = '<ir_version: 8, opset_import: ["" : 17]>'
Options = Callable[..., TrainOptions]
Weights = dict[str, Array]


def run(
    student: Graph,
    teacher: Graph,
    source: Any,
    options: TrainOptions,
    *,
    losses: LossOptions | None = None,
    hooks: Any = (),
    **setting: Any,
) -> tuple[GraphModule, TrainingCurves]:
    module = to_torch(student, batch_norm=options.batch_norm, dropout=options.dropout)  # type: ignore[arg-type]
    training = Training(open_data(source, student), teacher, **{"threads": 1, **setting})
    history = train(module, student, training, losses or LossOptions(), options, hooks)
    return module, history


def held(module: GraphModule) -> Weights:
    return {n: from_torch(t) for n, t in [*module.weights(), *module.statistics()]}


def assert_same(first: Weights, second: Weights) -> None:
    for name, values in first.items():
        assert values.tobytes() == second[name].tobytes(), name


def test_the_student_comes_near_its_teacher(convnet: Any, pictures: Any, options: Options) -> None:
    module, history = run(convnet(1), convnet(0), {"x": pictures(64)}, options(steps=60, lr=0.03))
    assert history.samples == 48
    assert history.held_out == 16
    assert history.metric == "R2"
    assert [step for step, _ in history.held_out_loss] == [0, 15, 30, 45, 60]
    assert [step for step, _ in history.loss] == [15, 30, 45, 60]
    losses = dict(history.held_out_loss)
    assert losses[history.best_step] == min(losses.values()) < 0.2 * losses[0]
    assert history.loss[-1][1] < history.loss[0][1]
    assert not module.training


def test_the_best_weights_are_kept_and_not_the_last(
    convnet: Any, pictures: Any, options: Options
) -> None:
    class Noting(Hook):
        """Lets weights up to step 20 count, and keeps them all."""

        def __init__(self) -> None:
            self.found: dict[int, Weights] = {}

        def after_update(self, step: int) -> None:
            self.found[step + 1] = held(module)

        def complete(self, step: int) -> bool:
            return step <= 20

    student, noting = convnet(1), Noting()
    module = to_torch(student)
    samples = open_data({"x": pictures(32)}, student)
    given, training = options(steps=40, evaluations=20), Training(samples, convnet(0), threads=1)
    history = train(module, student, training, LossOptions(), given, [noting])
    losses = {step: loss for step, loss in history.held_out_loss if step <= 20}
    assert history.held_out_loss[-1][0] == 40
    assert losses[history.best_step] == min(losses.values())
    assert history.best_step > 0
    assert_same(held(module), noting.found[history.best_step])


def test_an_untrained_model_that_is_best_stays(
    convnet: Any, pictures: Any, options: Options
) -> None:
    module, history = run(convnet(0), convnet(0), {"x": pictures(32)}, options(batch_norm="frozen"))
    assert history.best_step == 0
    assert_same(held(module), held(to_torch(convnet(0))))


def test_without_a_held_out_part_the_last_weights_count(
    convnet: Any, pictures: Any, options: Options
) -> None:
    _, history = run(convnet(1), convnet(0), {"x": pictures(32)}, options(held_out=0.0))
    assert (history.best_step, history.held_out_loss, history.scores) == (12, [], [])


def test_it_ends_where_nothing_is_gained_any_more(
    convnet: Any, pictures: Any, options: Options
) -> None:
    given = options(steps=50, lr=1e-9, evaluations=50, patience=3, batch_norm="frozen")
    _, history = run(convnet(0), convnet(0), {"x": pictures(32)}, given)
    assert history.best_step == 0
    assert history.held_out_loss[-1][0] == 3
    assert history.stopped == "no gain on the held-out part in 3 evaluations"


@pytest.mark.parametrize("held_out", [0.25, 0.0])
def test_a_loss_that_is_no_number_ends_it_with_the_best_kept(
    held_out: float, convnet: Any, pictures: Any, options: Options
) -> None:
    given = options(lr=1e30, held_out=held_out, batch_norm="frozen")
    module, history = run(convnet(1), convnet(0), {"x": pictures(32)}, given)
    assert history.diverged
    assert history.best_step == 0
    assert "the loss is not finite at step 2 of 12; give a lower lr than 1e+30" in history.stopped
    assert_same(held(module), held(to_torch(convnet(1))))


def test_weights_that_only_the_last_step_spoils_are_not_kept(
    convnet: Any, pictures: Any, options: Options
) -> None:
    class Spoiling(Hook):
        def after_update(self, step: int) -> None:
            if step == 11:
                next(weight for _, weight in module.weights()).data.fill_(float("nan"))

    student = convnet(1)
    module = to_torch(student)
    samples = open_data({"x": pictures(32)}, student)
    training = Training(samples, convnet(0), threads=1)
    given = options(held_out=0.0)
    history = train(module, student, training, LossOptions(), given, [Spoiling()])
    assert history.best_step == 9
    assert all(np.isfinite(values).all() for values in held(module).values())


def test_pieces_of_a_batch_add_up_to_it(convnet: Any, pictures: Any, options: Options) -> None:
    source = {"x": pictures(40)}
    for losses in (LossOptions(), LossOptions(soft="mse"), LossOptions(gamma=1.0, features=("r",))):
        found = []
        for parts in (1, 3):
            given = options(accumulate=parts, batch_norm="frozen", optimizer="sgd", evaluations=1)
            module, history = run(convnet(1), convnet(0), source, given, losses=losses)
            assert history.best_step == 12
            found.append(held(module))
        for name, values in found[0].items():
            assert values == pytest.approx(found[1][name], rel=1e-4, abs=1e-6)


FORMS: dict[str, Any] = {
    "adam": {},
    "sgd": {"optimizer": "sgd", "lr": 0.02, "weight_decay": 1e-3, "clip_norm": 1.0},
    "average": {"ema": 0.9, "accumulate": 2},
    "pictures": {"flip": True, "shift": 2, "batch_norm": "frozen"},
    "half": {"precision": "bfloat16"},
    "epochs": {"steps": None, "epochs": 4.0},
}


@pytest.mark.parametrize("form", FORMS)
def test_the_same_seed_gives_the_same_bits_and_another_others(
    form: str, convnet: Any, pictures: Any, options: Options
) -> None:
    source = {"x": pictures(40)}
    found = [
        run(convnet(1), convnet(0), source, options(**FORMS[form]), seed=seed) for seed in (0, 0, 1)
    ]
    for name in ("loss", "held_out_loss", "scores", "best_step"):
        assert getattr(found[0][1], name) == getattr(found[1][1], name)
    assert_same(held(found[0][0]), held(found[1][0]))
    assert found[0][1].loss != found[2][1].loss


class Interrupted:
    """Progress that presses Ctrl-C after some steps."""

    def __init__(self, after: int) -> None:
        self.after = after

    def __call__(self, what: str, done: int, total: int, detail: str = "", /) -> None:
        if done == self.after:
            raise KeyboardInterrupt


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("saves_all", [True, False])
def test_a_run_taken_up_again_ends_as_one_without_a_break(
    form: str,
    saves_all: bool,
    convnet: Any,
    pictures: Any,
    options: Options,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if saves_all:  # as after a minute each
        monkeypatch.setattr("graphopt.bridge.training.loop._SAVE_SECONDS", 0.0)
    student = convnet(1)
    constant = student.main.constant("W")
    assert constant is not None
    constant.set(np.where(abs(constant.values) < 0.1, 0, constant.values))
    source = {"x": pictures(40)}
    given = options(**FORMS[form])
    whole, expected = run(student, convnet(0), source, given)
    folder = tmp_path / "states"
    for after in (5, 8, 11):
        with pytest.raises(KeyboardInterrupt):
            run(student, convnet(0), source, given, checkpoints=folder, progress=Interrupted(after))
    module, history = run(student, convnet(0), source, given, checkpoints=folder)
    assert history.resumed == (10 if saves_all else 9)
    for name in ("loss", "held_out_loss", "scores", "best_step", "stopped", "samples"):
        assert getattr(history, name) == getattr(expected, name), name
    assert_same(held(module), held(whole))
    assert len(list(folder.iterdir())) == 1


def test_a_run_that_is_over_is_not_run_again(
    convnet: Any, pictures: Any, options: Options, tmp_path: Path
) -> None:
    given = options(steps=50, evaluations=50, patience=2, lr=1e-9, batch_norm="frozen")
    ends = [
        run(convnet(1), convnet(1), {"x": pictures(32)}, given, checkpoints=tmp_path)
        for _ in range(2)
    ]
    assert ends[1][1].resumed == 2
    assert ends[1][1].held_out_loss == ends[0][1].held_out_loss
    assert ends[1][1].stopped == ends[0][1].stopped != ""


def test_another_run_has_a_state_of_its_own(
    convnet: Any, pictures: Any, options: Options, tmp_path: Path
) -> None:
    x = pictures(32)
    runs: list[dict[str, Any]] = [
        {},
        {"options": options(lr=0.02)},
        {"seed": 1},
        {"student": convnet(2)},
        {"teacher": convnet(3)},
        {"source": {"x": x + 1}},
        {"losses": LossOptions(temperature=2.0)},
    ]
    for number, changed in enumerate(runs, 1):
        plain = {
            "student": convnet(1),
            "teacher": convnet(0),
            "source": {"x": x},
            "options": options(),
        }
        _, history = run(**{**plain, "checkpoints": tmp_path, **changed})
        assert history.resumed == 0
        assert len(list(tmp_path.iterdir())) == number


def test_a_state_that_does_not_fit_is_refused(
    convnet: Any, pictures: Any, options: Options, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = {"x": pictures(32)}
    run(convnet(1), convnet(0), source, options(), checkpoints=tmp_path)
    load = checkpoint.load

    def other(path: Path, fingerprint: str) -> Any:
        found = load(path, fingerprint)
        assert found is not None
        found.tensors["now/weight_0"] = torch.zeros(3)
        return found

    monkeypatch.setattr(checkpoint, "load", other)
    with pytest.raises(
        UsageError, match=r"^checkpoint .*npz: does not fit the model: .*delete it$"
    ):
        run(convnet(1), convnet(0), source, options(), checkpoints=tmp_path)


def test_a_disk_that_fills_up_ends_the_run_and_keeps_the_last_state(
    convnet: Any, pictures: Any, options: Options, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, savez, calls = {"x": pictures(32)}, np.savez, []

    def filling(*given: Any, **arrays: Any) -> None:
        calls.append(1)
        if len(calls) == 3:
            raise OSError(28, "No space left on device")
        savez(*given, **arrays)

    monkeypatch.setattr(np, "savez", filling)
    with pytest.raises(SystemFailure, match="No space left on device; the last is kept"):
        run(convnet(1), convnet(0), source, options(), checkpoints=tmp_path)
    _, history = run(convnet(1), convnet(0), source, options(), checkpoints=tmp_path)
    assert history.resumed == 6


def test_a_folder_that_cannot_be_is_refused_before_the_first_step(
    convnet: Any, pictures: Any, options: Options, tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(SystemFailure, match=r"^checkpoints .*file: "):
        run(
            convnet(1),
            convnet(0),
            {"x": pictures(32)},
            options(),
            checkpoints=tmp_path / "file",
            progress=Interrupted(1),
        )


def test_labels_alone_train_too(convnet: Any, pictures: Any, options: Options) -> None:
    x = pictures(64)
    labels = (x.mean((1, 2, 3)) > 0).astype(np.uint8)
    source = {"x": x, "labels": labels}
    losses = LossOptions(alpha=1.0, beta=0.0)
    _, history = run(convnet(1), convnet(0), source, options(steps=80, lr=0.05), losses=losses)
    assert history.metric == "accuracy %"
    assert dict(history.scores)[history.best_step] > 80


def test_labels_of_pairs_do_not_matter_without_a_loss_on_them(
    convnet: Any, pictures: Any, options: Options
) -> None:
    source = {"x": pictures(32), "labels": np.zeros(16)}
    assert run(convnet(1), convnet(0), source, options())[1].steps == 12
    message = "the training data has 16 labels for 32 samples; training needs one each"
    with pytest.raises(DataError, match=message):
        run(convnet(1), convnet(0), source, options(), losses=LossOptions(alpha=1.0))


def vectors(count: int = 32, width: int = 3, seed: int = 0) -> Array:
    return np.random.default_rng(seed).normal(size=(count, width)).astype(np.float32)


def graph_of(inputs: str, outputs: str, nodes: str, seed: int = 0, **weights: Any) -> Graph:
    text = f"{HEAD} net ({inputs}) => ({outputs}) {{ {nodes} }}"
    return io.load(model_from_text(text, weights, seed=seed))


def pair(inputs: str, outputs: str, nodes: str, **weights: Any) -> tuple[Graph, Graph]:
    first, second = (graph_of(inputs, outputs, nodes, seed, **weights) for seed in (1, 0))
    return first, second


def gains(history: TrainingCurves) -> bool:
    return (
        history.best_step > 0
        and min(dict(history.held_out_loss).values()) < history.held_out_loss[0][1]
    )


@pytest.mark.parametrize(
    ("batch", "nodes"),
    [
        ("1", "y = Gemm (x, W)"),
        ("4", "y = Gemm (x, W)"),
        ("N", "s = Constant <value_ints = [1, 3]> () h = Reshape (x, s) y = Gemm (h, W)"),
    ],
)
def test_models_of_a_fixed_batch(batch: str, nodes: str, options: Options) -> None:
    models = pair(f"float[{batch},3] x", "float[M,4] y", nodes, W=(3, 4))
    _, history = run(*models, {"x": vectors(34)}, options(steps=40))
    assert (history.samples, history.held_out) == ((24, 8) if batch == "4" else (26, 8))
    assert gains(history)


def test_samples_that_go_one_by_one_leave_statistics_alone(
    options: Options, caplog: pytest.LogCaptureFixture
) -> None:
    nodes = """s = Constant <value_ints = [1, 2, 3]> () h = Reshape (x, s)
      n = BatchNormalization (h, g, b, m, v) f = Flatten (n) y = Gemm (f, W)"""
    shapes = {**dict.fromkeys("gbmv", (2,)), "W": (6, 4)}
    models = pair("float[N,6] x", "float[M,4] y", nodes, **shapes)
    caplog.set_level(logging.INFO)
    module, history = run(*models, {"x": vectors(width=6)}, options())
    assert "samples go one by one; statistics are frozen" in caplog.text
    before = held(to_torch(models[0]))
    assert all(np.array_equal(before[name], held(module)[name]) for name in "mv")
    assert gains(history)


def test_too_few_samples_for_a_fixed_batch(options: Options) -> None:
    models = pair("float[4,3] x", "float[4,4] y", "y = Gemm (x, W)", W=(3, 4))
    with pytest.raises(DataError, match="takes batches of 4 and there are 3 samples"):
        run(*models, {"x": vectors(3)}, options())


def test_several_inputs_of_several_types(options: Options) -> None:
    nodes = """e = Gather (T, ids) k = Cast <to = 1> (mask) u = Unsqueeze (k, last)
      h = Mul (e, u) p = ReduceMean <axes = [1], keepdims = 0> (h) q = Add (p, x)
      r = Mul (q, t) y = Gemm (r, W)"""
    last = np.array([2], np.int64)
    inputs = "int64[N,S] ids, bool[N,S] mask, float[N,3] x, float t"
    models = pair(inputs, "float[N,4] y", nodes, T=(7, 3), W=(3, 4), last=last)

    def source() -> Any:
        rng = np.random.default_rng(0)
        for number in range(40):
            length = 4 + number % 2
            yield {
                "ids": rng.integers(0, 7, (1, length)),
                "mask": rng.random((1, length)) < 0.8,
                "x": rng.normal(size=(1, 3)).astype(np.float32),
                "t": np.float32(2),
            }

    assert gains(run(*models, source, options(steps=40))[1])


def test_several_outputs_of_which_labels_judge_one(options: Options) -> None:
    nodes = "h = Gemm (x, W) z = Gemm (h, Z) y = Gemm (h, V)"
    shapes = {"W": (3, 4), "Z": (4, 2), "V": (4, 3)}
    models = pair("float[N,3] x", "float[N,2] z, float[N,3] y", nodes, **shapes)
    source = {"x": vectors(), "labels": np.arange(32) % 3}
    losses = LossOptions(alpha=1.0, beta=0.0)
    before = held(to_torch(models[0]))
    for classes, judged, other in ((3, "V", "Z"), (2, "Z", "V")):
        source = {"x": vectors(), "labels": np.arange(32) % classes}
        after = held(run(*models, source, options(), losses=losses)[0])
        assert np.array_equal(after[other], before[other])  # no gradient arrives there
        assert not np.array_equal(after[judged], before[judged])


MODELS: Mapping[str, tuple[str, dict[str, Any]]] = {
    "one weight read twice": (
        "h = MatMul (x, W) r = Relu (h) t = Transpose (W) o = MatMul (r, t) y = MatMul (o, V)",
        {"W": (3, 5), "V": (3, 4)},
    ),
    "a weight in a Constant node": (
        "C = Constant <value = float[3,2] {0.1, 0.2, -0.3, 0.4, 0.5, -0.6}> () "
        "h = MatMul (x, C) y = MatMul (h, V)",
        {"V": (2, 4)},
    ),
    "a branch by the data": (
        """o = Reshape (x, one) m = ReduceMax <keepdims = 0> (o) c = Greater (m, k)
        h = If (c) <then_branch = a () => (float[N,4] p) { p = MatMul (o, A) },
                    else_branch = b () => (float[N,4] q) { q = MatMul (o, B) }>
        y = MatMul (h, V)""",
        {
            "A": (3, 4),
            "B": (3, 4),
            "V": (4, 4),
            "k": np.array(0.8, np.float32),
            "one": np.array([1, 3]),
        },
    ),
    "a recurrent layer": (
        """u = Unsqueeze (x, first) h, last = LSTM <hidden_size = 4> (u, L, R)
        s = Squeeze (last, first) y = MatMul (s, V)""",
        {"L": (1, 16, 3), "R": (1, 16, 4), "V": (4, 4), "first": np.array([0], np.int64)},
    ),
    "dropout": ("d = Dropout (x) h = MatMul (d, W) y = Relu (h)", {"W": (3, 4)}),
    "double": (
        "d = Cast <to = 11> (x) h = MatMul (d, W) y = Cast <to = 1> (h)",
        {"W": np.random.default_rng(0).normal(size=(3, 4))},
    ),
}


@pytest.mark.parametrize("name", MODELS)
def test_odd_models_train_the_same_way_twice(name: str, options: Options, tmp_path: Path) -> None:
    nodes, weights = MODELS[name]
    student = graph_of("float[N,3] x", "float[N,4] y", nodes, 1, **weights)
    shifted = {
        n: w * w if isinstance(w, np.ndarray) and w.dtype == np.float64 else w
        for n, w in weights.items()
    }
    teacher = graph_of("float[N,3] x", "float[N,4] y", nodes, 0, **shifted)
    if "Constant" in name:
        teacher = graph_of(
            "float[N,3] x", "float[N,4] y", nodes.replace("0.1", "0.9"), 0, **weights
        )
    found = []
    for folder in (None, tmp_path):
        given = options(steps=24, dropout=True, evaluations=8)
        if folder is not None:
            with pytest.raises(KeyboardInterrupt):
                run(
                    student,
                    teacher,
                    {"x": vectors()},
                    given,
                    checkpoints=folder,
                    progress=Interrupted(13),
                )
        found.append(run(student, teacher, {"x": vectors()}, given, checkpoints=folder))
    assert gains(found[0][1])
    assert found[1][1].resumed == 12
    assert found[0][1].loss == found[1][1].loss
    assert_same(held(found[0][0]), held(found[1][0]))


def test_dropout_drops_only_where_it_is_let(options: Options) -> None:
    models = pair("float[N,3] x", "float[N,4] y", "d = Dropout (x) y = MatMul (d, W)", W=(3, 4))
    losses = [run(*models, {"x": vectors()}, options(dropout=each))[1] for each in (True, False)]
    assert losses[0].loss[0] != losses[1].loss[0]
    assert losses[0].held_out_loss[0] == losses[1].held_out_loss[0]


def test_products_in_bfloat16_are_near(convnet: Any, pictures: Any, options: Options) -> None:
    source = {"x": pictures(40)}
    found = [
        run(convnet(1), convnet(0), source, options(precision=kind))[1].loss
        for kind in ("float32", "bfloat16", "auto")
    ]
    assert found[0] == found[2]
    assert found[0] != found[1]
    for (_, full), (_, half) in zip(found[0], found[1], strict=True):
        assert half == pytest.approx(full, rel=0.05, abs=0.01)


@pytest.mark.parametrize("kind", [np.float16, ml_dtypes.bfloat16])
def test_weights_of_half_precision_are_refused(kind: Any, options: Options) -> None:
    model = graph_of(
        "float[N,3] x",
        "float[N,4] y",
        "h = CastLike (x, W) m = MatMul (h, W) y = Cast <to = 1> (m)",
        W=np.ones((3, 4), kind),
    )
    name = np.dtype(kind).name
    with pytest.raises(PassError, match=f"weight 'W' is of {name}, in which small gradients are"):
        run(model, model, {"x": vectors()}, options())


def test_a_model_without_weights(options: Options) -> None:
    model = graph_of("float[N,3] x", "float[N,3] y", "y = Relu (x)")
    with pytest.raises(PassError, match="no weights that could be trained"):
        run(model, model, {"x": vectors()}, options())


def test_a_loss_that_no_weight_has_a_part_in(options: Options) -> None:
    nodes = "h = Gemm (x, W) best = ArgMin (h) y = Cast <to = 1> (best)"
    model = graph_of("float[N,3] x", "float[N,1] y", nodes, W=(3, 4))
    with pytest.raises(PassError, match="the loss depends on none of the weights"):
        run(model, model, {"x": vectors()}, options())


def test_a_teacher_of_another_size_is_refused(options: Options) -> None:
    student = graph_of("float[N,3] x", "float[N,M] y", "y = Gemm (x, W)", W=(3, 4))
    teacher = graph_of("float[N,3] x", "float[N,M] y", "y = Gemm (x, W)", W=(3, 5))
    with pytest.raises(ModelError, match=r"'y' has shape \[24, 5\] in the teacher and \[24, 4\]"):
        run(student, teacher, {"x": vectors()}, options(batch=32))


def test_pictures_are_needed_to_move_pictures(options: Options) -> None:
    models = pair("float[N,3] x", "float[N,4] y", "y = Gemm (x, W)", W=(3, 4))
    with pytest.raises(PassError, match="no input has four axes"):
        run(*models, {"x": vectors()}, options(flip=True))


def test_zeros_stay_zeros_only_where_that_is_asked(options: Options) -> None:
    weight = vectors(3, 4, seed=3)
    weight[0, 1] = weight[2, 2] = 0
    student = graph_of(
        "float[N,3] x", "float[N,4] y", "y = Gemm (x, W, b)", W=weight, b=np.zeros(4, np.float32)
    )
    teacher = graph_of("float[N,3] x", "float[N,4] y", "y = Gemm (x, W, b)", W=(3, 4), b=(4,))
    for keep in (True, False):
        given = options(steps=30, keep_zeros=keep, ema=0.5, weight_decay=0.1)
        after = held(run(student, teacher, {"x": vectors()}, given)[0])
        assert bool((after["W"][weight == 0] == 0).all()) is keep
        assert after["b"].all()


def test_the_verdict_of_the_criterion_decides_what_is_kept(
    convnet: Any, pictures: Any, options: Options, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Criterion, "verdict", lambda *given: -Criterion.loss(*given))
    _, history = run(convnet(1), convnet(0), {"x": pictures(64)}, options(steps=60, lr=0.03))
    losses = dict(history.held_out_loss)
    assert losses[history.best_step] == max(losses.values())


def test_what_labels_say_is_kept_although_others_lose_less(options: Options) -> None:
    student = graph_of(
        "float[N,1] x", "float[N,1] y", "y = Gemm (x, W)", W=np.ones((1, 1), np.float32)
    )
    x = np.linspace(-0.1, 0.1, 80, dtype=np.float32)[:, None]
    labels = (x[:, 0] > 0).astype(np.int64)
    x[::10], labels[::10] = -20, 1  # few that cost most, against all others
    losses = LossOptions(alpha=1.0, beta=0.0, hard="binary-cross-entropy")
    _, history = run(
        student,
        student,
        {"x": x, "labels": labels},
        options(steps=120, lr=0.1, evaluations=12),
        losses=losses,
    )
    scores, distances = dict(history.scores), dict(history.held_out_loss)
    assert history.kept_by == history.metric == "accuracy %"
    least = min(distances, key=lambda step: distances[step])
    assert scores[least] < scores[0] <= scores[history.best_step]
    assert distances[least] < distances[history.best_step] <= distances[0]


def test_towards_a_teacher_the_loss_decides(convnet: Any, pictures: Any, options: Options) -> None:
    _, history = run(convnet(1), convnet(0), {"x": pictures(32)}, options())
    assert (history.kept_by, history.metric) == ("loss", "R2")


ENDS = {
    "ArgMax": ("int64[N] y", "y = ArgMax <axis = 1, keepdims = 0> (p)"),
    "ArgMax as floats": (
        "float[N,1] y",
        "best = ArgMax <axis = 1, keepdims = 0> (p) b = Cast <to = 1> (best) "
        "s = Constant <value_ints = [-1, 1]> () y = Reshape (b, s)",
    ),
    "TopK": (
        "float[N,2] most, int64[N,2] y",
        "k = Constant <value_ints = [2]> () most, y = TopK (p, k)",
    ),
}


@pytest.mark.parametrize("end", ENDS)
def test_a_model_that_gives_only_the_best_class_is_trained_on_the_scores_in_front(
    end: str, options: Options
) -> None:
    outputs, last = ENDS[end]
    student = graph_of("float[N,3] x", outputs, f"h = Gemm (x, W) p = Softmax (h) {last}", W=(3, 4))
    x = vectors(200)
    labels = (x @ vectors(3, 4, seed=8)).argmax(1)
    losses = LossOptions(alpha=1.0, beta=0.0)
    module, history = run(
        student, student, {"x": x, "labels": labels}, options(steps=150, lr=0.05), losses=losses
    )
    assert (history.metric, history.kept_by) == ("accuracy %", "accuracy %")
    assert dict(history.scores)[history.best_step] > 85
    assert "W" in held(module)


@pytest.mark.parametrize(
    ("outputs", "metric"), [("bool[N,4] y", "F1 %"), ("bool[N,1] y", "accuracy %")]
)
def test_a_model_that_gives_only_yes_or_no_is_trained_on_the_scores_in_front(
    outputs: str, metric: str, options: Options
) -> None:
    width = 4 if "4" in outputs else 1
    nodes = (
        "h = Gemm (x, W) p = Sigmoid (h) half = Constant <value_float = 0.5> () "
        "y = Greater (p, half)"
    )
    student = graph_of("float[N,3] x", outputs, nodes, W=(3, width))
    x = vectors(200)
    labels = x @ vectors(3, width, seed=8) > 0
    _, history = run(
        student,
        student,
        {"x": x, "labels": labels},
        options(steps=150, lr=0.05),
        losses=LossOptions(alpha=1.0, beta=0.0),
    )
    assert history.metric == metric
    assert dict(history.scores)[history.best_step] > 85


def test_a_student_that_gives_only_the_best_class_learns_from_the_scores_of_its_teacher(
    options: Options,
) -> None:
    models = pair(
        "float[N,3] x", "int64[N] y", "h = Gemm (x, W) y = ArgMax <axis = 1, keepdims = 0> (h)",
        W=(3, 4),
    )  # fmt: skip
    _, history = run(*models, {"x": vectors(100)}, options(steps=100, lr=0.05))
    assert history.metric == "agreement %"
    assert dict(history.scores)[history.best_step] > dict(history.scores)[0]
    assert gains(history)


def test_what_hangs_on_no_floats_is_refused(options: Options) -> None:
    student = graph_of(
        "float[N,3] x", "bool[N,4] y", "h = Gemm (x, W) z = Constant <value_float = 1.0> () "
        "y = Greater (h, z)", W=(3, 4),
    )  # fmt: skip
    labels = np.zeros(32, np.int64)
    for losses in (LossOptions(alpha=1.0, beta=0.0), LossOptions()):
        with pytest.raises(ModelError, match="no output of floats, nor one that its main"):
            run(student, student, {"x": vectors(), "labels": labels}, options(), losses=losses)


def test_labels_that_do_not_fit_the_scores_in_front_are_told_which(options: Options) -> None:
    outputs, last = ENDS["ArgMax"]
    student = graph_of("float[N,3] x", outputs, f"h = Gemm (x, W) p = Softmax (h) {last}", W=(3, 4))
    losses = LossOptions(alpha=1.0, beta=0.0)
    with pytest.raises(DataError, match=r"'h' takes class numbers 0 to 3 .*'h': output 'y' gives"):
        run(student, student, {"x": vectors(), "labels": np.arange(32)}, options(), losses=losses)


def test_the_rate_has_fallen_when_the_time_is_over(
    convnet: Any, pictures: Any, options: Options, monkeypatch: pytest.MonkeyPatch
) -> None:
    rates = list[float]()
    step = torch.optim.AdamW.step

    def noted(self: torch.optim.AdamW, *args: Any) -> Any:
        rates.append(self.param_groups[0]["lr"])  # and a second goes by with each step
        return step(self, *args)

    monkeypatch.setattr(torch.optim.AdamW, "step", noted)
    monkeypatch.setattr("time.perf_counter", lambda: float(len(rates)))
    x, given = {"x": pictures(32)}, options(steps=40, lr=1.0, warmup=0.0)
    _, history = run(convnet(1), convnet(0), x, given, deadline=Deadline(10.0, 0.0))
    assert history.stopped.startswith("step 10 of 40 was the last")
    falling = [0.5 * (1 + math.cos(math.pi * done / 10)) for done in range(10)]
    assert rates == pytest.approx(falling)


def test_when_the_time_is_over_the_best_so_far_is_kept(
    convnet: Any, pictures: Any, options: Options
) -> None:
    x, given = {"x": pictures(32)}, options(steps=40, lr=0.05)
    _, history = run(convnet(1), convnet(0), x, given, deadline=Deadline(0.0))
    assert history.stopped == "step 1 of 40 was the last; the time limit of 0 s was over"
    assert [step for step, _ in history.held_out_loss] == [0, 1]
    assert history.best_step in (0, 1)
    _, history = run(convnet(1), convnet(0), x, given, deadline=Deadline(1e6))
    assert (history.stopped, history.held_out_loss[-1][0]) == ("", 40)
