"""Which points are wanted: keys, globs, ranges, ranks, several runs side by side."""

from __future__ import annotations

import math
from collections import defaultdict
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import holdfast
from holdfast.backend.wrap import WatchedBackend
from holdfast.errors import InvalidValue, MetricNotFound, RunNotFound
from holdfast.ops.metrics import metrics
from holdfast.selection import Selection, reduced
from holdfast.series import Series
from holdfast.together import Curve, align

Store = holdfast.ExperimentStore


def logged(store: Store, run_id: str, **metrics: list[float]) -> str:
    """A finished run with these values from step 0 on; `__` in a name stands for `/`."""
    with store.start_run("reading", run_id=run_id) as run:
        for name, values in metrics.items():
            for step, value in enumerate(values):
                run.log({name.replace("__", "/"): value}, step=step)
    return run_id


def test_a_key_a_glob_and_a_list(store: Store) -> None:
    run = logged(store, "r", train__loss=[3, 2], train__acc=[0, 1], val__loss=[9])
    one = store.metrics(run, "train/loss")
    assert isinstance(one, Series)
    assert one.values.tolist() == [3, 2]
    several = store.metrics(run, "train/*")
    assert isinstance(several, holdfast.SeriesMap)
    assert list(several) == ["train/acc", "train/loss"]
    assert list(store.metrics(run, "*loss")) == ["train/loss", "val/loss"]
    assert list(store.metrics(run)) == ["train/acc", "train/loss", "val/loss"]
    chosen = store.metrics(run, ["val/loss", "train/*", "val/loss"])
    assert list(chosen) == ["val/loss", "train/acc", "train/loss"]
    assert chosen["val/loss"].values.tolist() == [9]
    assert len(store.metrics(run, ["val/loss"])) == 1
    assert "val/loss: 1 points" in repr(chosen)


def test_an_exact_key_wins_over_a_glob(store: Store) -> None:
    run = store.start_run("odd", run_id="r")
    run.log({"a*": 1, "ab": 2, "a[b]": 3, "what?": 4})
    assert isinstance(store.metrics("r", "a*"), Series)
    assert store.metrics("r", "a[b]").values.tolist() == [3]
    assert store.metrics("r", "what?").values.tolist() == [4]
    assert list(store.metrics("r", "a?")) == ["a*", "ab"]
    run.finish()


def test_steps_last_and_max_points(store: Store) -> None:
    run = logged(store, "r", x=list(range(100)))
    for steps in (range(10, 13), slice(10, 13), (10, 13), [np.int64(10), np.uint64(13)]):
        assert store.metrics(run, "x", steps=steps).steps.tolist() == [10, 11, 12]
    assert store.metrics(run, "x", steps=(97, None)).steps.tolist() == [97, 98, 99]
    assert store.metrics(run, "x", steps=slice(2)).steps.tolist() == [0, 1]
    assert store.metrics(run, "x", steps=(98, 2**70)).steps.tolist() == [98, 99]
    assert len(store.metrics(run, "x", steps=range(50, 50))) == 0
    assert len(store.metrics(run, "x", steps=(1000, None))) == 0
    assert store.metrics(run, "x", last=2).steps.tolist() == [98, 99]
    assert len(store.metrics(run, "x", last=1000)) == 100
    assert store.metrics(run, "x", steps=(None, 50), last=2).steps.tolist() == [48, 49]
    assert len(store.metrics(run, "x", max_points=10)) <= 10
    assert len(store.metrics(run, "x", max_points=100)) == 100
    assert {len(one) for one in store.metrics(run, "*", last=3).values()} == {3}


def test_an_attempt_gives_the_run_as_it_stood(store: Store) -> None:
    run = logged(store, "r", x=[0, 1, 2, 3])
    with store.resume(run, step=2) as again:
        again.log({"x": 20}, step=2)
    assert store.metrics(run, "x").values.tolist() == [0, 1, 20]
    assert store.metrics(run, "x", attempt=1).values.tolist() == [0, 1, 2, 3]
    assert store.metrics(run, "x", attempt=2).values.tolist() == [0, 1, 20]
    with pytest.raises(InvalidValue, match="attempt=3 cannot be used: run r has attempts 1, 2"):
        store.metrics(run, "x", attempt=3)


BAD: list[tuple[dict[str, Any], str]] = [
    ({"key": "los"}, "run r has no metric 'los'; there is loss"),
    ({"key": "z/*"}, "run r has no metric that matches 'z/*'; there is"),
    ({"key": ["loss", "nothing"]}, "run r has no metric 'nothing'"),
    ({"key": []}, "key=[] cannot be used: pass a metric"),
    ({"key": [7]}, "key=7 cannot be used"),
    ({"key": None}, "key=None cannot be used"),
    ({"run": "nobody"}, "there is no run 'nobody'"),
    ({"run": ["r", "nobody"]}, "there is no run 'nobody'"),
    ({"run": []}, "the list of runs is empty"),
    ({"run": 7}, "run=7 cannot be used"),
    ({"run": ["r", "s"], "key": "los"}, "the 2 runs have no metric 'los'; there is loss"),
    ({"on": "epoch"}, "on='epoch' cannot be used: it is one of step, time, relative"),
    ({"steps": 5}, "steps=5 cannot be used: pass range(100, 200)"),
    ({"steps": range(0, 10, 2)}, "it takes no stride"),
    ({"steps": (-1, 5)}, "steps=-1 cannot be used"),
    ({"steps": (1.5, 5)}, "steps=1.5 cannot be used"),
    ({"steps": (1, 2, 3)}, "steps=(1, 2, 3) cannot be used"),
    ({"steps": (2**64, None)}, "the last step there can be is 2**64-1"),
    ({"last": 0}, "last=0 cannot be used: pass the number of points"),
    ({"last": True}, "last=True cannot be used"),
    ({"last": "5"}, "last='5' cannot be used"),
    ({"max_points": 3}, "max_points=3 cannot be used: a curve takes 4 or more"),
    ({"max_points": 10.0}, "max_points=10.0 cannot be used"),
    ({"attempt": -1}, "attempt=-1 cannot be used"),
    ({"rank": "first"}, "rank='first' cannot be used"),
    (
        {"reduce": "median"},
        "reduce='median' cannot be used: it is one of mean, min, max, sum, last",
    ),
]


@pytest.mark.parametrize(("wish", "sentence"), BAD, ids=[str(wish) for wish, _ in BAD])
def test_a_mistake_is_one_clear_sentence(wish: dict[str, Any], sentence: str) -> None:
    with holdfast.open() as store:
        logged(store, "r", loss=[1], acc=[2])
        logged(store, "s", loss=[1])
        wish = {"run": "r", "key": "loss", **wish}
        with pytest.raises((InvalidValue, MetricNotFound, RunNotFound)) as error:
            store.metrics(wish.pop("run"), wish.pop("key"), **wish)
    assert sentence in error.value.message
    assert "\n" not in error.value.message


def test_several_runs_side_by_side(store: Store) -> None:
    logged(store, "a", loss=[1, math.nan, 3], acc=[5])
    logged(store, "b", loss=[4])
    logged(store, "c", acc=[6])
    found = store.metrics(["a", "b", "c"], "loss")
    assert isinstance(found, holdfast.Aligned)
    assert found.x.dtype == np.uint64
    assert found.x.tolist() == [0, 1, 2]
    assert list(found.columns) == ["a", "b", "c"]
    assert found["b"].tolist()[0] == 4
    assert np.isnan(found["a"]).tolist() == [False, True, False]
    assert found.present["a"].tolist() == [True, True, True]
    assert found.present["b"].tolist() == [True, False, False]
    assert not found.present["c"].any()
    assert list(store.metrics(["a", "b", "c"], "*").columns) == [
        "a:acc", "a:loss", "b:loss", "c:acc",
    ]  # fmt: skip
    assert list(store.metrics("a", ["loss", "acc"], on="step").columns) == ["loss", "acc"]
    by_summary = store.metrics(store.runs("metrics.loss.count > 0", order_by="run_id"), "loss")
    assert list(by_summary.columns) == ["a", "b"]


def test_time_and_relative_time(store: Store) -> None:
    for name, values in (("a", [1, 2, 3]), ("b", [4, 5])):
        with store.start_run("clock", run_id=name) as run:
            begun = store.run(name).started_at
            assert begun is not None
            for place, value in enumerate(values):
                # The clock of `a` goes backwards once.
                ahead = {1: 5_000_000_000, 2: 2_000_000_000}.get(place, 0)
                run.log({"x": value}, step=place, timestamp=begun.ns + ahead)
    relative = store.metrics(["a", "b"], "x", on="relative")
    assert relative.x.tolist() == [0.0, 2.0, 5.0]
    assert relative["a"].tolist() == [1, 3, 2]
    assert relative["b"].tolist()[::2] == [4, 5]
    by_time = store.metrics(["a", "b"], "x", on="time")
    assert by_time.x.dtype == np.int64
    assert (np.diff(by_time.x) > 0).all()
    assert sorted(by_time["a"][by_time.present["a"]]) == [1, 2, 3]


point = st.tuples(
    st.integers(0, 12), st.integers(0, 3), st.sampled_from([1.0, 2.5, -3.0, math.nan])
)


def ranked(points: list[tuple[int, int, float]]) -> Series:
    """In step order; equal steps rank by rank, as a store gives them. The list is in order of time."""
    kept = sorted(range(len(points)), key=lambda i: points[i][:2])
    steps = np.array([points[i][0] for i in kept], np.uint64)
    ranks = np.array([points[i][1] for i in kept], np.int32)
    return Series("x", steps, np.array([points[i][2] for i in kept]), np.array(kept), ranks)


@given(st.lists(point, max_size=40), st.sampled_from(["mean", "min", "max", "sum", "last"]))
def test_ranks_merge_as_a_plain_model_says(points: list[tuple[int, int, float]], how: str) -> None:
    model: dict[int, dict[int, tuple[int, float]]] = defaultdict(dict)
    for at, (step, rank, value) in enumerate(points):
        model[step][rank] = (at, value)
    merged = {
        "mean": lambda v: sum(v) / len(v),
        "sum": sum,
        "min": lambda v: math.nan if any(map(math.isnan, v)) else min(v),
        "max": lambda v: math.nan if any(map(math.isnan, v)) else max(v),
    }
    found = reduced(ranked(points), how)
    assert found.steps.tolist() == sorted(model)
    assert found.ranks is None
    for step, value, at in zip(found.steps.tolist(), found.values, found.timestamps, strict=True):
        of_ranks = model[step].values()
        expected = max(of_ranks)[1] if how == "last" else merged[how]([v for _, v in of_ranks])
        assert value == pytest.approx(expected, nan_ok=True)
        assert at == max(of_ranks)[0]


@given(st.lists(st.lists(point, max_size=20), min_size=1, max_size=4))
def test_alignment_is_a_join_over_the_union_of_steps(lists: list[list[Any]]) -> None:
    curves = {str(n): Curve(ranked(points), 0) for n, points in enumerate(lists)}
    found = align(curves, "step")
    assert found.x.tolist() == sorted({step for points in lists for step, _, _ in points})
    for name, points in zip(curves, lists, strict=True):
        last = {step: value for step, _, value in sorted(points, key=lambda p: p[:2])}
        for step, value, there in zip(
            found.x.tolist(), found[name], found.present[name], strict=True
        ):
            assert there == (step in last)
            assert value == pytest.approx(last.get(step, math.nan), nan_ok=True)


def random_walks(count: int, points: int) -> dict[str, Curve]:
    rng = np.random.default_rng(count)
    made = {}
    for number in range(count):
        steps = np.sort(rng.choice(points * 3, points, replace=False)).astype(np.uint64)
        times = steps.astype(np.int64) * 1_000_000_000
        series = Series("x", steps, rng.normal(0, 1, points).cumsum(), times)
        made[str(number)] = Curve(series, 0)
    return made


@pytest.mark.parametrize("on", ["step", "time", "relative"])
def test_charts_share_one_grid_and_keep_every_peak(on: Any) -> None:
    curves = random_walks(5, 10_000)
    found = align(curves, on, 500)
    assert 300 < len(found) <= 500
    assert (np.diff(found.x.astype(object)) > 0).all()
    for name, curve in curves.items():
        x, values = curve.over(on)
        assert (np.nanmin(found[name]), np.nanmax(found[name])) == (values.min(), values.max())
        assert found.x[0] <= x[0]
        assert found.x[-1] >= x[-1]
        assert set(found[name][found.present[name]]) <= set(values)


def test_a_short_comparison_is_exact() -> None:
    curves = random_walks(3, 40)
    assert align(curves, "step", 1000).x.tolist() == align(curves, "step").x.tolist()


def test_a_gap_as_wide_as_a_bucket_is_seen_in_the_grid() -> None:
    curves = random_walks(2, 10_000)
    curves["0"].series.values[3000:4000] = np.nan
    found = align(curves, "step", 200)
    assert np.isnan(found["0"][found.present["0"]]).any()
    assert not np.isnan(found["1"][found.present["1"]]).any()


def test_nothing_at_all_can_be_aligned() -> None:
    empty = ranked([(1, 0, 1.0)]).slice(slice(0))
    assert len(align({"a": Curve(empty, 0)}, "relative", 10)) == 0
    assert len(align({}, "time")) == 0


def test_ranges_come_before_the_stored_overview() -> None:
    assert not Selection.of(max_points=10).ranged
    for wish in ({"steps": (1, None)}, {"last": 3}, {"attempt": 1}, {"rank": 0}, {"reduce": "max"}):
        assert Selection.of(**wish).ranged


def test_ranks_are_a_column_a_choice_or_merged(store: Store) -> None:
    with store.start_run("ranks", run_id="r") as run:
        others = [store.join_run("r", rank=number) for number in (1, 2)]
        for step in range(4):
            run.log({"loss": step}, step=step)
            for number, other in enumerate(others, 1):
                if not (number == 2 and step == 3):
                    other.log({"loss": step + 10 * number}, step=step)
        for other in others:
            other.finish()
    every = store.metrics("r", "loss")
    assert every.ranks is not None
    assert every.ranks.tolist() == [0, 1, 2] * 3 + [0, 1]
    assert every.to_pandas().groupby("rank")["value"].max().tolist() == [3, 13, 22]
    assert store.metrics("r", "loss", rank=1).values.tolist() == [10, 11, 12, 13]
    mean = store.metrics("r", "loss", reduce="mean")
    assert mean.steps.tolist() == [0, 1, 2, 3]
    assert mean.values.tolist() == [10, 11, 12, 8]
    assert store.metrics("r", "loss", reduce="sum", last=2).values.tolist() == [36, 16]
    assert store.metrics("r", "*", reduce="max")["loss"].values.tolist() == [20, 21, 22, 13]
    assert store.metrics(["r"], "loss", reduce="min")["r"].tolist() == [0, 1, 2, 3]


def test_a_chart_of_a_long_run_reads_no_block() -> None:
    """Only the overview at the end of the segment, in one range; a range of steps reads its blocks."""
    with holdfast.open() as store:
        with store.start_run("long", run_id="r") as run:
            for step, value in enumerate(np.random.default_rng(1).normal(0, 1, 100_000)):
                run.log({"a": value, "b": -value}, step=step)
        read: list[tuple[str, str]] = []
        watched = WatchedBackend(store.repository.backend, lambda *call: read.append(call))
        repository = replace(store.repository, backend=watched)

        def requests(key: str, **wish: Any) -> tuple[Any, list[str]]:
            read.clear()
            found = metrics(repository, "r", key, None, Selection.of(**wish))
            return found, [what for what, name in read if name.endswith(".seg")]

        curves, seen = requests("*", max_points=1000)
        assert seen == ["get_range"]
        for key, curve in curves.items():
            whole = store.metrics("r", key)
            assert 900 <= len(curve) <= 1000
            assert (curve.values.min(), curve.values.max()) == (
                whole.values.min(),
                whole.values.max(),
            )
            assert curve.steps[[0, -1]].tolist() == [0, 99_999]
        near, seen = requests("a", max_points=1000, steps=(500, 40_000))
        assert len(seen) > 1
        assert near.steps[[0, -1]].tolist() == [500, 39_999]
        finer, seen = requests("a", max_points=5000)
        assert len(seen) > 1
        assert 4000 < len(finer) <= 5000
