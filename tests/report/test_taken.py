from graphopt.contract.taken import LayerRank, LayerZeros, Taken
from graphopt.report import taken
from graphopt.run.record import PassRecord


def record(name: str, what: Taken) -> PassRecord:
    return PassRecord(name, name, "done", "", 1.0, [], [], 100, 10, 20.0, taken=what)


def test_zeros_are_counted_over_all_layers_and_each() -> None:
    layers = [LayerZeros("a", 100, 10, 60), LayerZeros("b", 300, 0, 180)]
    found = taken.zero_lists([record("mask-weights", Taken(zeros=layers)), record("x", Taken())])
    (item,) = found
    assert item.told == "2.5% -> 60.0% of 400 weights in 2 layers are zero"
    first, second = item.top
    assert (first.name, first.note, first.before, first.after) == (
        *("a", "100 weights", "10.0%", "60.0%"),
    )
    assert (first.before_share, second.before_share, second.after_share) == (10.0, 0.0, 60.0)
    assert item.strip.peak == 1.0, "a full strip is a weight of zeros"
    assert item.strip.names == ["a: 10.0% -> 60.0%", "b: 0.0% -> 60.0%"]


def test_ranks_stand_against_the_most_of_their_form() -> None:
    layers = [
        LayerRank("a", "tucker", (64, 128), (16, 32)),
        LayerRank("b", "channel", (48,), (12,)),
    ]
    (item,) = taken.rank_lists([record("factorize-conv", Taken(ranks=layers))])
    assert item.told == "2 layers became products of thin ones"
    assert [(row.note, row.before, row.after) for row in item.top] == [
        ("tucker", "64, 128", "16, 32"),
        ("channel", "48", "12"),
    ]
    assert [(row.before_share, row.after_share) for row in item.top] == [(100, 25), (25, 6.2)]
    assert item.strip.peak == 192


def test_long_lists_are_folded_and_then_left_out() -> None:
    layers = [LayerZeros(str(index), 4, 0, 2) for index in range(400)]
    (item,) = taken.zero_lists([record("mask-weights", Taken(zeros=layers))])
    assert (len(item.top), len(item.rest), item.left_out) == (15, 300, 85)
