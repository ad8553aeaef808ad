"""Which pruned forms are trained within a limit, how, and what is told of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import onnx
import pytest

from graphopt.contract.curves import TrainingCurves
from graphopt.contract.settings import Limits, Machine
from graphopt.contract.spec import parse_passes
from graphopt.data.synthetic import SyntheticSamples
from graphopt.deadline import Deadline
from graphopt.errors import ModelError
from graphopt.graph import io
from graphopt.run.means import Means
from graphopt.run.quality import Quality
from graphopt.run.record import PassRecord
from graphopt.run.sequence import run_passes
from graphopt.runtime.latency import Ratio
from graphopt.search import trained
from graphopt.search.candidate import Candidate, Kind
from graphopt.search.proposals import Proposal
from graphopt.search.trained import trained_forms, training_spec
from graphopt.testing import MODELS, staged

STAGE, MEANS = staged(io.load(MODELS["cnn"]()), limits=Limits(min_sqnr_db=10.0))
MEANS = replace(MEANS, training=MEANS.calibration)


def form(kind: Kind, name: str, spec: str = "", ratio: float = 1.0) -> Candidate:
    passes = parse_passes(spec) if spec else []
    return Candidate(
        kind, name, passes, STAGE, [], 1000, Ratio(ratio, 0.01), Quality({"y": 20.0}), limited=True
    )


BASE = form("float", "float, cleaned")
STATIC = form("static", "int8 static", "quantize-static,correct-bias", 0.5)
PRUNED = [form("pruned", "channels at 70% of the MACs", "mask-weights")]


def record(status: str, reason: str = "") -> PassRecord:
    losses = [(0, 2.0), (250, 0.5)]
    curves = TrainingCurves(250, 95, 5, "", [(250, 0.4)], losses, best_step=250, seconds=12.3)
    record = PassRecord("distill", "distill", status, reason, 12.3, [], [], 1000, None, None)
    return replace(record, curves=curves)


@pytest.fixture
def trials(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of what is tried; training always does something."""
    seen: list[str] = []

    def alone(removal: str, lifted: Candidate, tried: object, means: Means) -> Candidate:
        share = float(removal.removeprefix("prune-channels{latency=").split(",")[0])
        return replace(PRUNED[0], name=f"channels at {share:.0%} of the MACs")

    def train(start: Candidate, means: Means, name: str, rate: float) -> Candidate:
        assert means.deadline.seconds is None or means.deadline.seconds < 1e6
        seen.append(name)
        return replace(start, name=name, records=[record("done")])

    def attempt(start: Candidate, means: Means, proposal: Proposal) -> Candidate:
        assert not means.limits.any
        seen.append(proposal.name)
        return replace(start, kind=proposal.kind, name=proposal.name)

    monkeypatch.setattr(trained, "torch_is_there", lambda: True)
    monkeypatch.setattr(trained, "pruned_alone", alone)
    monkeypatch.setattr(trained, "_trained", train)
    monkeypatch.setattr(trained, "attempt", attempt)
    return seen


def holding(least: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """From that share of the MACs on limits are held."""

    def weigh(base: Candidate, new: Sequence[Candidate], means: Means) -> None:
        for item in new:
            share = int(item.name.split("%")[0].split()[-1]) / 100
            item.problem = "" if share >= least else "too far"

    monkeypatch.setattr(trained, "weigh", weigh)


@pytest.mark.parametrize(
    ("untrained", "least", "shares"),
    [
        (0.95, 0.2, [70, 55, 40]),
        (0.95, 0.5, [70, 55, 40]),
        (0.95, 0.6, [70, 55, 62]),
        (0.95, 0.8, [70, 85]),
        (0.8, 0.75, [70]),  # what trains to 85 % is no faster than what needs no training
        (0.7, 0.2, [55, 40]),
        (0.4, 0.1, []),
    ],
)
def test_shares_below_what_holds_untrained(
    untrained: float,
    least: float,
    shares: list[int],
    trials: list[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    holding(least, monkeypatch)
    pruned = [replace(PRUNED[0], ratio=Ratio(untrained, 0.01))]
    found, told = trained_forms(BASE, BASE, [BASE], pruned, MEANS)
    names = [f"channels at {share}% of the MACs, trained" for share in shares]
    assert [item.name for item in found] == names
    words = "250 steps on 95 samples in 12 s; loss of the 5 held out 2 -> 0.5"
    assert told == [f"{name}: {words}" for name in names]


def test_the_best_form_so_far_stands_behind(
    trials: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    holding(0.65, monkeypatch)
    found, _ = trained_forms(BASE, BASE, [STATIC], PRUNED, MEANS)
    names = [item.name for item in found]
    assert names == [
        "channels at 70% of the MACs, trained",
        "channels at 70% of the MACs, trained, int8 static",
        "channels at 55% of the MACs, trained",
        "channels at 55% of the MACs, trained, int8 static",
        "channels at 62% of the MACs, trained",
        "channels at 62% of the MACs, trained, int8 static",
    ]
    assert {item.kind for item in found} == {"pruned"}
    assert trials[:2] == ["channels at 70% of the MACs, trained", "int8 static"]


def test_nothing_pruned_nothing_trained(trials: list[str]) -> None:
    assert trained_forms(BASE, BASE, [STATIC], [], MEANS) == ([], [])
    words = ["nothing was trained: to remove channels takes calibration samples"]
    lacking = replace(MEANS, calibration=None, training=MEANS.calibration)
    assert trained_forms(BASE, BASE, [], [], lacking) == ([], words)
    assert trials == []


def test_few_samples_that_were_not_given_to_train_on_are_not(
    trials: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    holding(0.9, monkeypatch)
    few = replace(MEANS, training=None)
    found, told = trained_forms(BASE, BASE, [STATIC], PRUNED, few)
    assert (found, trials) == ([], [])
    assert len(told) == 1
    assert (
        "of so few samples (2) the repair has made what there is to make; with 2,000 or" in told[0]
    )
    many = replace(few, calibration=SyntheticSamples(STAGE.graph, count=2000, seed=0))
    assert trained_forms(BASE, BASE, [STATIC], PRUNED, many)[0]


def test_without_torch_a_line_says_so(trials: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trained, "torch_is_there", lambda: False)
    words = "no form with fewer channels was trained: PyTorch is not installed"
    assert trained_forms(BASE, BASE, [STATIC], PRUNED, MEANS) == ([], [words])
    assert trials == []


def test_when_the_time_is_over_it_is_told(trials: list[str]) -> None:
    late = replace(MEANS, deadline=Deadline(0.0))
    words = ["not trained: channels at 70% of the time; the time limit of 0 s was over"]
    assert trained_forms(BASE, BASE, [STATIC], PRUNED, late) == ([], words)


def test_what_training_did_not_help_is_told(
    trials: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    why = "no step was better on the held-out samples; kept untrained"
    idle = [record("nothing to do", why)]
    monkeypatch.setattr(trained, "_trained", lambda start, *_: replace(start, records=idle))
    words = [f"channels at 70% of the MACs: not trained: {why}"]
    assert trained_forms(BASE, BASE, [STATIC], PRUNED, MEANS) == ([], words)


def test_what_goes_astray_is_trained_at_a_lower_rate(
    trials: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    holding(0.9, monkeypatch)
    rates = list[float]()

    def train(start: Candidate, means: Means, name: str, rate: float) -> Candidate:
        rates.append(rate)
        status = "nothing to do" if rate > 5e-4 else "done"
        return replace(start, name=name, records=[record(status)])

    monkeypatch.setattr(trained, "_trained", train)
    found, _ = trained_forms(BASE, BASE, [BASE], PRUNED, MEANS)
    assert rates == [1e-3, 2e-4] * 2
    assert [item.name.split()[2] for item in found] == ["70%", "85%"]


def test_what_cannot_be_trained_is_told(trials: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> Candidate:
        raise ModelError("torch has no such operator")

    monkeypatch.setattr(trained, "_trained", refuse)
    words = ["no form with fewer channels was trained: torch has no such operator"]
    assert trained_forms(BASE, BASE, [STATIC], PRUNED, MEANS) == ([], words)


def test_the_memory_limit_does_not_hold_for_a_training(
    trials: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    holding(0.9, monkeypatch)
    tight = replace(MEANS, machine=Machine(threads=1, memory_limit=1 << 30))
    _, told = trained_forms(BASE, BASE, [STATIC], PRUNED, tight)
    assert told[0].startswith("the memory limit does not hold for distill")


def test_few_samples_are_gone_through_many_times() -> None:
    spec = "distill{steps=250,batch=1,lr=0.001,evaluations=4,flip=true,shift=1}"
    assert training_spec(STAGE, MEANS, 1e-3) == spec


def test_normalizations_that_were_folded_come_back() -> None:
    stage, _ = run_passes(STAGE, MEANS, parse_passes("fuse-batchnorm"))
    assert "batch_norm=insert" in training_spec(stage, MEANS, 2e-4)


@pytest.mark.parametrize(
    ("shape", "views"),
    [("3,16,24", ",flip=true,shift=2"), ("16,24,3", ""), ("8,16,16", ""), ("12", "")],
)
def test_pictures_that_are_seen_often_are_moved_and_mirrored(shape: str, views: str) -> None:
    model = onnx.parser.parse_model(f"""<ir_version: 8, opset_import: ["" : 17]>
        g (float[N,{shape}] x) => (float[N,{shape}] y) {{ y = Relu(x) }}""")
    for count, steps, more in ((40_000, 625, ""), (400, 250, views)):
        samples = SyntheticSamples(io.load(model), count=count, seed=0)
        stage, means = staged(model, samples=samples, judged=False)
        spec = f"distill{{steps={steps},batch=64,lr=0.0002,evaluations=4{more}}}"
        assert training_spec(stage, means, 2e-4) == spec


def test_a_form_is_trained_towards_the_model_as_it_came(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pytest.importorskip("torch")
    monkeypatch.setattr(trained, "_LEAST_STEPS", 40)
    stage, means = staged(MODELS["cnn"](), count=40)
    passes = parse_passes("fuse-batchnorm,mask-weights{sparsity=0.9,criterion=magnitude}")
    stage, records = run_passes(stage, means, passes)
    start = replace(PRUNED[0], stage=stage, passes=passes, records=records, problem="too far")
    assert means.judge is not None
    before = means.judge.compare(stage.answers).sqnr_db["y"]
    made = trained._trained(start, means, "trained", 1e-2)
    assert made.records[-1].status == "done"
    assert [item.name for item in made.passes] == [*(item.name for item in passes), "distill"]
    assert (made.problem, made.ratio) == ("", None)  # to be weighed anew
    assert made.bytes == io.size(made.stage.graph)
    assert made.quality is not None
    after = made.quality.sqnr_db["y"]
    assert before is not None
    assert after is not None
    assert after > before + 1
    assert trained._told(made).startswith("trained: 40 steps on 38 samples in ")


def test_too_few_samples_to_hold_some_out_are_told() -> None:
    curves = TrainingCurves(250, 8, 0, "", [(250, 0.4)], best_step=250, seconds=1.0)
    made = replace(PRUNED[0], records=[replace(record("done"), curves=curves)])
    words = "250 steps on 8 samples in 1 s; too few to hold some out"
    assert trained._told(made) == f"{PRUNED[0].name}: {words}"
