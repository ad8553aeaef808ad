"""Who is trained on, who is held out, and who goes with whom."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from itertools import chain
from typing import Any

import numpy as np
import onnx.parser
import pytest

from graphopt.bridge.training.batches import Batch, Batches
from graphopt.data.staged import StagedSamples
from graphopt.errors import PassError
from graphopt.graph.graph import Graph

Stage = Callable[..., StagedSamples]
X = frozenset(["x"])


def graph_of(inputs: str) -> Graph:
    text = f"""<ir_version: 8, opset_import: ["" : 17]>
    g ({inputs}) => (float[1] out) {{ out = Constant<value_floats: floats = [1.0]>() }}"""
    return Graph(onnx.parser.parse_model(text))


@pytest.fixture
def vectors(stage: Stage) -> Callable[[int], StagedSamples]:
    """So many vectors, each holding its own number, with ten times that as label."""

    def make(count: int) -> StagedSamples:
        numbers = np.arange(count)
        values = np.repeat(numbers[:, None], 3, 1).astype(np.float32)
        return stage(graph_of("float[N,3] x"), {"x": values, "labels": numbers * 10})

    return make


def make(samples: StagedSamples, **changed: Any) -> Batches:
    plain: dict[str, Any] = {"size": 4, "held_out": 0.0, "seed": 0, "joined": X}
    return Batches(samples, **{**plain, **changed})


def epoch(batches: Batches, number: int = 0) -> list[list[Batch]]:
    return [batches.at(number * batches.per_epoch + step) for step in range(batches.per_epoch)]


def numbers(pieces: list[Batch]) -> list[int]:
    return [int(number) for piece in pieces for number in piece.numbers]


def test_an_epoch_takes_every_sample_once_but_for_a_rest(vectors: Any) -> None:
    batches = make(vectors(23))
    assert batches.count == 23
    assert batches.per_epoch == 5
    seen = [numbers(pieces) for pieces in epoch(batches)]
    assert [len(step) for step in seen] == [4] * 5
    assert max(Counter(chain(*seen)).values()) == 1


def test_each_epoch_has_its_own_order_and_leaves_out_others(vectors: Any) -> None:
    batches = make(vectors(23))
    orders = [tuple(chain(*map(numbers, epoch(batches, n)))) for n in range(8)]
    assert len(set(orders)) == 8
    assert set(chain(*orders)) == set(range(23))


def test_feeds_and_labels_belong_to_the_numbers(vectors: Any) -> None:
    for pieces in epoch(make(vectors(16), parts=2)):
        for piece in pieces:
            assert piece.feeds["x"][:, 0].tolist() == piece.numbers.tolist()
            assert piece.labels is not None
            assert piece.labels.tolist() == (piece.numbers * 10).tolist()


def test_what_is_held_out_is_never_trained_on(vectors: Any) -> None:
    batches = make(vectors(40), held_out=0.25)
    held = [n for _, piece in batches.held_out() for n in piece.numbers.tolist()]
    trained = {
        n for number in range(3) for pieces in epoch(batches, number) for n in numbers(pieces)
    }
    assert batches.held_out_count == len(held) == len(set(held)) == 10
    assert batches.count == 30
    assert trained == set(range(40)) - set(held)


def test_everything_follows_from_the_seed_and_the_step(vectors: Any) -> None:
    first, again = (make(vectors(40), held_out=0.25, seed=3) for _ in range(2))
    wanted = [numbers(first.at(step)) for step in range(30)]
    backwards = [numbers(again.at(step)) for step in reversed(range(30))]
    assert wanted == backwards[::-1]
    other = make(vectors(40), held_out=0.25, seed=4)
    assert wanted != [numbers(other.at(step)) for step in range(30)]


def test_groups_are_not_mixed_and_small_ones_are_not_lost(stage: Stage) -> None:
    def source() -> Iterator[Mapping[str, Any]]:
        for number in range(21):
            yield {"x": np.full((1, 2 if number % 7 else 5), number, np.float32)}

    batches = make(stage(graph_of("float[N,S] x"), source))
    steps = epoch(batches)
    shapes = Counter(piece.feeds["x"].shape for pieces in steps for piece in pieces)
    assert shapes == {(4, 2): 4, (3, 5): 1}
    for pieces in steps:
        assert numbers(pieces) == [int(n) for p in pieces for n in p.feeds["x"][:, 0]]


@pytest.mark.parametrize("world", [2, 3, 5])
@pytest.mark.parametrize("parts", [1, 2])
def test_processes_share_each_step_without_overlap(vectors: Any, world: int, parts: int) -> None:
    alone = make(vectors(20), size=6)
    shares = [make(vectors(20), size=6, parts=parts, share=(rank, world)) for rank in range(world)]
    for step in range(7):
        pieces = [piece for share in shares for piece in share.at(step) if piece.weight]
        assert sorted(numbers(pieces)) == sorted(numbers(alone.at(step)))
        assert {share.per_epoch for share in shares} == {alone.per_epoch}
        for piece in pieces:  # so that the mean over processes is the mean over samples
            assert piece.weight == pytest.approx(len(piece.numbers) * world / 6)


def test_a_process_without_samples_takes_part_with_no_weight(vectors: Any) -> None:
    shares = [make(vectors(3), size=8, share=(rank, 5)) for rank in range(5)]
    pieces = [share.at(0) for share in shares]
    assert [len(each) for each in pieces] == [1] * 5
    assert [each[0].weight for each in pieces] == pytest.approx([5 / 3] * 3 + [0, 0])


@pytest.mark.parametrize(("count", "groups"), [(6, 3), (40, 10), (200, 15)])
def test_what_is_held_out_falls_into_groups_of_like_size(
    vectors: Any, count: int, groups: int
) -> None:
    batches = make(vectors(count), held_out=0.5, size=64)
    sizes = Counter[int]()
    for group, piece in batches.held_out():
        sizes[group] += len(piece.numbers)
    assert len(sizes) == batches.held_out_groups == groups
    assert max(sizes.values()) - min(sizes.values()) <= 1
    shares = [make(vectors(count), held_out=0.5, size=64, share=(rank, 3)) for rank in range(3)]
    apart = Counter[int]()
    for share in shares:
        for group, piece in share.held_out():
            apart[group] += len(piece.numbers)
    assert apart == sizes


def test_processes_share_what_is_held_out(vectors: Any) -> None:
    alone = make(vectors(40), held_out=0.5)
    shares = [make(vectors(40), held_out=0.5, share=(rank, 3)) for rank in range(3)]
    parts = [piece.numbers.tolist() for share in shares for _, piece in share.held_out()]
    assert sorted(parts) == sorted(piece.numbers.tolist() for _, piece in alone.held_out())


def test_a_step_is_cut_into_pieces_of_like_size(vectors: Any) -> None:
    (pieces, *_) = epoch(make(vectors(20), size=10, parts=4))
    assert sorted(len(piece.numbers) for piece in pieces) == [2, 2, 3, 3]
    assert sum(piece.weight for piece in pieces) == pytest.approx(1)
    (single, *_) = epoch(make(vectors(20), size=2, parts=8))
    assert [len(piece.numbers) for piece in single] == [1, 1]


def test_feeds_of_a_fixed_batch_are_pieces(stage: Stage) -> None:
    values = np.repeat(np.arange(24)[:, None], 3, 1).astype(np.float32)
    samples = stage(graph_of("float[4,3] x"), {"x": values, "labels": np.arange(24)})
    batches = make(samples, size=8, joined=None)
    assert batches.count == 24
    steps = epoch(batches)
    assert [len(pieces) for pieces in steps] == [2, 2, 2]
    for piece in steps[0]:
        assert piece.feeds["x"][:, 0].tolist() == piece.numbers.tolist()
        assert piece.weight == 0.5
    assert len(batches.example().numbers) == 4


def test_shared_inputs_are_handed_over_once(stage: Stage) -> None:
    graph = graph_of("float[N,3] x, float t")
    samples = stage(graph, {"x": np.ones((8, 3), np.float32), "t": np.float32(2)})
    (piece,) = make(samples).at(0)
    assert piece.feeds["x"].shape == (4, 3)
    assert piece.feeds["t"].shape == ()
    assert piece.labels is None


def test_the_example_is_the_same_in_all_processes(vectors: Any) -> None:
    found = [make(vectors(20), parts=2, share=(rank, 3)).example().numbers for rank in range(3)]
    assert all(np.array_equal(found[0], each) for each in found)


@pytest.mark.parametrize("count", [1, 9])
def test_too_few_samples_to_hold_some_out(vectors: Any, count: int) -> None:
    with pytest.raises(PassError, match=rf"{count} samples are too few to hold out 5% of them"):
        make(vectors(count), held_out=0.05)
    assert make(vectors(count)).count == count


@pytest.mark.parametrize("seed", range(5))
def test_of_every_class_some_are_held_out(vectors: Any, seed: int) -> None:
    classes = np.array([0] * 60 + [1] * 30 + [2] * 8 + [3] * 2)
    batches = make(vectors(100), held_out=0.1, seed=seed, strata=classes)
    held = [n for _, piece in batches.held_out() for n in piece.numbers]
    assert Counter(classes[held].tolist()) == {0: 5, 1: 3, 2: 1, 3: 1}
    others = make(vectors(100), held_out=0.1, seed=seed + 100, strata=classes)
    assert held != [n for _, piece in others.held_out() for n in piece.numbers]


@pytest.mark.parametrize(
    ("classes", "share", "expected"),
    [
        ([0] * 18 + [1, 2], 0.5, {0: 10}),  # what there is one of is trained on
        (list(range(20)), 0.25, None),
        ([n // 2 for n in range(20)], 0.1, None),  # more classes than places
        ([0] * 10 + [1] * 8 + [-100] * 2, 0.1, {0: 1, 1: 1}),
    ],
)
def test_as_many_as_asked_are_held_out_whatever_the_classes(
    vectors: Any, classes: list[int], share: float, expected: Any
) -> None:
    batches = make(vectors(20), held_out=share, strata=np.array(classes))
    held = [classes[n] for _, piece in batches.held_out() for n in piece.numbers]
    assert len(held) == batches.held_out_count == round(20 * share)
    if expected is None:
        assert len(set(held)) == len(held)
    else:
        assert Counter(held) == expected
