from graphopt.contract.passes import Skip
from graphopt.report import charts
from graphopt.run.record import LayerRecord

LAYERS = [
    LayerRecord("a", "Conv", 400, 100, 2.0, 1.0, 30.0),
    LayerRecord("b", "Gemm", 800, 800, 1.0, 4.0, 300.0),
    LayerRecord("c", "MatMul", 0, 0, None, None, None),
]


def test_rankings_put_the_worst_first_and_leave_out_layers_without_the_figure() -> None:
    by_bytes, by_time, by_noise = charts.rankings(LAYERS)
    assert [bar.name for bar in by_bytes.top] == ["b", "a", "c"]
    assert [bar.before_share for bar in by_bytes.top] == [100.0, 50.0, 0.0]
    assert [bar.name for bar in by_time.top] == ["b", "a"]
    assert [bar.after_share for bar in by_time.top] == [100.0, 25.0]
    assert [bar.name for bar in by_noise.top] == ["a", "b"]
    assert [bar.before_share for bar in by_noise.top] == [None, None]


def test_exact_results_do_not_flatten_the_bars_of_the_others() -> None:
    _, _, by_noise = charts.rankings(LAYERS)
    assert [bar.after_share for bar in by_noise.top] == [37.5, 100.0]
    assert by_noise.top[1].after == 300.0


def test_a_ranking_folds_its_rest_and_counts_what_it_leaves_out() -> None:
    many = [LayerRecord(str(index), "Conv", index + 1, 1) for index in range(1000)]
    ranking, *others = charts.rankings(many)
    assert others == []
    assert ranking.top[0].name == "999"
    assert len(ranking.top) + len(ranking.rest) + ranking.left_out == 1000
    assert ranking.left_out > 0


def test_no_layers_give_no_charts() -> None:
    assert charts.rankings([]) == []
    assert charts.strips([]) == []


def test_strips_stand_on_the_bottom_and_reach_the_top_at_the_peak() -> None:
    strip = charts.strips(LAYERS)[0]
    assert strip.width == 3
    assert strip.peak == 800
    assert strip.names == ["a", "b", "c"]
    assert strip.before == "M0.08 100h0.84v-50.0h-0.84zM1.08 100h0.84v-100.0h-0.84z"
    assert strip.after.startswith("M0.25 100h0.5v-12.5h-0.5z")


def test_groups_keep_the_order_of_nodes_and_start_with_the_largest() -> None:
    skips = [Skip("a", "small"), Skip("b", "shared"), Skip("c", "shared")]
    assert charts.grouped(skips, "reason") == [
        charts.Group("shared", ["b", "c"]),
        charts.Group("small", ["a"]),
    ]
