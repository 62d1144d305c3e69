"""Runs that are odd in one way: very many metrics, none at all, a week long, clocks that go backwards."""

from __future__ import annotations

from collections.abc import Iterator
from unittest.mock import patch

import pytest

import holdfast
from holdfast.errors import InvalidValue
from holdfast.format import layout

Store = holdfast.ExperimentStore
WEEK_SECONDS = 7 * 86_400
NOON = 1_736_942_400_000_000_000  # 2025-01-15T12:00:00Z in ns


def test_steps_with_gaps_duplicates_zeros_and_giants_in_any_order(store: Store) -> None:
    steps = [5, 0, 2**64 - 1, 0, 5, 2**63, 1_000_000, 0, 2**53 + 1, 2**64 - 1]
    with store.start_run("odd") as run, store.join_run(run.id, rank=1) as joined:
        for place, step in enumerate(steps):
            run.log({"x": place}, step=step)
            joined.log({"y": place}, step=step)
            if place == 4:
                run._writer.seal(go_on=True)
                joined._writer.seal(go_on=True)
    by_step = sorted(range(len(steps)), key=lambda place: steps[place])  # a stable sort
    for key in ("x", "y"):
        series = store.metrics(run.id, key)
        assert series.steps.tolist() == [steps[place] for place in by_step]
        assert series.values.tolist() == by_step
        stats = store.run(run.id).metrics[key]
        assert (stats.first, stats.last) == (by_step[0], by_step[-1])
        assert (stats.first_step, stats.last_step) == (0, 2**64 - 1)


def test_after_the_greatest_step_the_next_one_must_be_given(store: Store) -> None:
    with store.start_run("end") as run:
        run.log({"x": 1.0}, step=2**64 - 1)
        with pytest.raises(InvalidValue, match="whole number from 0"):
            run.log({"x": 2.0})
        run.log({"x": 3.0}, step=7)
    assert store.metrics(run.id, "x").values.tolist() == [3.0, 1.0]


def test_a_run_and_a_rank_without_points(store: Store) -> None:
    with store.start_run("nothing") as run, store.join_run(run.id, rank=1):
        pass
    assert store.metric_keys(run.id) == []
    assert store.run(run.id).metrics == {}
    assert store.run(run.id).ranks == (1,)
    with store.resume(run.id, step=5), store.join_run(run.id, rank=1):
        pass
    assert list(store.repository.backend.walk(layout.spools(run.id))) == []
    assert list(store.repository.backend.walk(f"runs/{run.id}/segments/")) == []
    assert store.verify() == []


def test_ten_thousand_metrics_logged_over_and_over(store: Store) -> None:
    keys = [f"layer/{n // 100}/unit/{n % 100}" for n in range(10_000)]
    with store.start_run("wide") as run:
        for step in range(2):
            run.log({key: step + n for n, key in enumerate(keys)}, step=step)
            run._writer.seal(go_on=True)
        run.log({"once": 1.0}, step=1)
    metrics = store.run(run.id).metrics
    assert len(metrics) == 10_001
    assert (metrics[keys[77]].count, metrics[keys[77]].last) == (2, 78.0)
    assert metrics["once"].count == 1
    assert store.metrics(run.id, keys[-1]).values.tolist() == [9999.0, 10_000.0]


class Clock:
    """Time as the test wants it, in ns since 1970."""

    def __init__(self) -> None:
        self.now = NOON

    def __call__(self) -> int:
        return self.now


@pytest.fixture
def clock() -> Iterator[Clock]:
    found = Clock()
    with patch("time.time_ns", found), patch("holdfast.writer._now", found):
        yield found


def test_a_run_that_is_open_for_a_week(store: Store, clock: Clock) -> None:
    run = store.start_run("week")
    joined = store.join_run(run.id, rank=1)
    for hour in range(0, WEEK_SECONDS // 3600, 12):
        clock.now = NOON + hour * 3600 * 10**9
        for one in (run, joined):
            one.log({"x": hour}, step=hour)
            one._writer.seal(go_on=True)
            one._writer.beat()
    assert store.run(run.id).state == "Running"
    assert store.recover() == []
    joined.finish()
    run.finish()
    summary = store.run(run.id)
    assert summary.duration_seconds == WEEK_SECONDS - 12 * 3600
    series = store.metrics(run.id, "x")
    assert series.steps.tolist() == [hour for hour in range(0, 168, 12) for _ in range(2)]
    assert summary.metrics["x"].count == 28
    assert len(list(store.repository.backend.walk("heads/"))) == 3  # of the run, rank, experiment
    assert store.verify() == []


def test_a_clock_that_goes_backwards_loses_and_moves_nothing(store: Store, clock: Clock) -> None:
    """Also between spools and attempts: the order of points is by step, and by attempt."""
    run = store.start_run("back")
    joined = store.join_run(run.id, rank=1)
    for step in range(6):
        clock.now -= 3600 * 10**9
        for one in (run, joined):
            one.log({"x": step}, step=step)
            one._writer.seal(go_on=True)
    joined.finish()
    run.finish()
    assert store.run(run.id).duration_seconds is not None
    clock.now -= 86_400 * 10**9
    with store.resume(run.id, step=3) as run, store.join_run(run.id, rank=1) as joined:
        for one in (run, joined):
            one.log({"x": 10.0}, step=3)
    series = store.metrics(run.id, "x")
    assert series.steps.tolist() == [0, 0, 1, 1, 2, 2, 3, 3]
    assert series.values.tolist() == [0, 0, 1, 1, 2, 2, 10, 10]
    assert (series.timestamps[2:] < series.timestamps[:-2]).all()
    assert store.run(run.id).metrics["x"].count == 8
    assert store.verify() == []
