"""Reading parts of a series: a range of steps, the last points, an attempt, a rank, an overview; held
against the whole series, and against what is read for it."""

from __future__ import annotations

import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from holdfast.backend.local import LocalBackend
from holdfast.backend.memory import MemoryBackend
from holdfast.backend.wrap import WatchedBackend
from holdfast.errors import Corrupt, InvalidValue
from holdfast.format import layout, overview, segment
from holdfast.format.segment import Axis
from holdfast.ops.runs import points
from holdfast.series import RunPoints, Series
from test_compact import RUN, fill, opened, seal, segments
from test_golden import opened as opened_segment


class Counting(WatchedBackend):
    """Counts requests and the bytes they bring."""

    def __init__(self, inner: Any) -> None:
        super().__init__(inner, lambda operation, name: self.calls.append((operation, name)))
        self.calls: list[tuple[str, str]] = []
        self.bytes = 0

    def get(self, name: str) -> bytes:
        data = super().get(name)
        self.bytes += len(data)
        return data

    def get_range(self, name: str, offset: int, length: int) -> bytes:
        data = super().get_range(name, offset, length)
        self.bytes += len(data)
        return data


def same(one: Series, other: Series) -> bool:
    pairs = [
        (one.steps, other.steps),
        (one.values, other.values),
        (one.timestamps, other.timestamps),
    ]
    if one.ranks is not None and other.ranks is not None:
        pairs.append((one.ranks, other.ranks))
    alike = (one.ranks is None) == (other.ranks is None)
    return alike and all(a.tobytes() == b.tobytes() for a, b in pairs)


def between(series: Series, first: int | None, stop: int | None) -> Series:
    keep = np.ones(len(series), bool)
    if first is not None:
        keep &= np.array([step >= first for step in series.steps.tolist()], bool)
    if stop is not None:
        keep &= np.array([step < stop for step in series.steps.tolist()], bool)
    return series.slice(keep)


bound = st.none() | st.integers(-3, 60) | st.just(2**64 - 1) | st.just(2**64)


@settings(max_examples=150)
@given(
    spools=st.lists(
        st.lists(st.integers(0, 50) | st.just(2**64 - 1), min_size=1, max_size=8), min_size=1, max_size=5
    ),
    sealed=st.integers(0, 5),
    resumed=st.none() | st.integers(0, 40),
    compacted=st.booleans(),
    steps=st.tuples(bound, bound),
    last=st.none() | st.integers(0, 30),
)  # fmt: skip
def test_a_part_of_a_series_is_that_part_of_the_whole(
    spools: list[list[int]],
    sealed: int,
    resumed: int | None,
    compacted: bool,
    steps: tuple[int | None, int | None],
    last: int | None,
) -> None:
    with opened(MemoryBackend()) as store:
        run = store.start_run("exp", run_id=RUN, capture=False)
        count = 0
        for number, rows in enumerate(spools):
            for step in rows:
                count += 1
                run.log({"a": count}, step=step)
            if number < sealed:
                seal(run)
        if resumed is not None:
            run.finish()
            run = store.resume(RUN, step=resumed)
            run.log({"a": -1.0}, step=resumed)
        if compacted:
            store.compact(RUN)
        read = points(store.repository, RUN)
        wanted = between(read.series("a"), *steps)
        if last is not None:
            wanted = wanted.slice(slice(max(0, len(wanted) - last), None))
        assert same(read.series("a", steps=steps, last=last), wanted)
        run.finish()


def test_negative_last_is_refused() -> None:
    with opened(MemoryBackend()) as store:
        fill(store, spools=1).finish()
        with pytest.raises(InvalidValue, match="last=-1"):
            points(store.repository, RUN).series("a", last=-1)


def test_the_last_points_may_lie_in_any_part() -> None:
    with opened(MemoryBackend()) as store:
        run = store.start_run("exp", run_id=RUN, capture=False)
        for value, steps in enumerate(([11], [10, 10, 11], [3, 10], [12, 2, 10])):
            for step in steps:
                run.log({"a": value}, step=step)
            seal(run)
        read = points(store.repository, RUN)
        whole = read.series("a")
        for last in range(len(whole) + 2):
            kept = whole.slice(slice(max(0, len(whole) - last), None))
            assert same(read.series("a", last=last), kept)
        for last in (1, 2, 3):
            assert (
                read.series("a", steps=(None, 12), last=last).values.tolist() == [3, 0, 1][-last:]
            )
        run.finish()


def test_attempts_are_shown_as_they_stood() -> None:
    with opened(MemoryBackend()) as store:
        run = store.start_run("exp", run_id=RUN, capture=False)
        for step in range(10):
            run.log({"a": step}, step=step)
        run.finish()
        for start, value in ((6, 60.0), (3, 30.0)):
            run = store.resume(RUN, step=start)
            run.log({"a": value}, step=start)
            if value > 40:
                run.finish()
        read = points(store.repository, RUN)  # the last one is still open
        assert read.series("a", attempt=1).values.tolist() == list(range(10))
        assert read.series("a", attempt=2).values.tolist() == [0, 1, 2, 3, 4, 5, 60]
        assert read.series("a", attempt=3).values.tolist() == [0, 1, 2, 30]
        assert same(read.series("a"), read.series("a", attempt=3))
        run.finish()


def test_one_rank_of_several() -> None:
    with opened(MemoryBackend()) as store:
        run = fill(store, spools=2)
        with store.join_run(RUN, rank=3) as joined:
            joined.log({"a": -1.0}, step=4)
            read = points(store.repository, RUN)
            whole = read.series("a")
            assert whole.ranks is not None
            assert whole.ranks.tolist() == [3 if value == -1 else 0 for value in whole.values]
            for rank in (0, 3, 9):
                assert same(read.series("a", rank=rank), whole.slice(whole.ranks == rank))
        run.finish()


LONG = 200_000  # rows of four blocks


@pytest.fixture(scope="module")
def long_store() -> MemoryBackend:
    """A run of three segments of LONG rows, and one of noise beside it."""
    backend = MemoryBackend()
    with opened(backend) as store:
        run = store.start_run("exp", run_id=RUN, capture=False)
        chance = np.random.default_rng(1)
        for number in range(3):
            for step, value in enumerate(chance.random(LONG).tolist(), number * LONG):
                run.log({"a": value, "b": -value}, step=step, timestamp=step * 1_000)
            seal(run)
        run.finish(compact=False)
    return backend


def reading(backend: MemoryBackend) -> tuple[RunPoints, Counting]:
    counting = Counting(backend)
    found = RunPoints.load(counting, RUN, MemoryBackend())
    counting.calls.clear()
    counting.bytes = 0
    return found, counting


def test_a_range_of_steps_reads_the_blocks_that_hold_it(long_store: MemoryBackend) -> None:
    read, counting = reading(long_store)
    first = 2 * LONG - 1000
    series = read.series("a", steps=(first, first + 10))
    assert series.steps.tolist() == list(range(first, first + 10))
    assert {name for _, name in counting.calls} == {counting.calls[0][1]}  # one segment
    assert counting.bytes < 65_536 * 8  # the last of its blocks is short
    across = read.series("a", steps=(LONG - 5, LONG + 5))
    assert across.steps.tolist() == list(range(LONG - 5, LONG + 5))


def test_the_last_points_read_the_last_blocks(long_store: MemoryBackend) -> None:
    read, counting = reading(long_store)
    series = read.series("a", last=100)
    assert series.steps.tolist() == list(range(3 * LONG - 100, 3 * LONG))
    assert {name for _, name in counting.calls} == {counting.calls[0][1]}
    assert len(counting.calls) <= 4
    assert counting.bytes < 65_536 * 9
    assert same(read.series("a", last=LONG + 7), read.series("a").slice(slice(-LONG - 7, None)))


def test_compaction_holds_one_column_at_a_time(long_store: MemoryBackend, tmp_path: Path) -> None:
    local = LocalBackend(tmp_path)
    for stat in long_store.walk(""):
        local.put(stat.name, long_store.get(stat.name))
    with opened(local) as store:
        tracemalloc.start()
        try:
            store.compact(RUN)
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
        assert len(segments(store)) == 1
    # Rows in step order: one column of them, and one while the next is decoded; never the file.
    assert peak < 2 * 8 * 3 * LONG + 6_000_000


def test_a_chart_of_every_metric_costs_three_requests(long_store: MemoryBackend) -> None:
    with opened(long_store) as store:
        before = segments(store)
        store.compact(RUN)
        assert len(segments(store)) == 1
        counting = Counting(long_store)
        read = RunPoints.load(counting, RUN, MemoryBackend())
        found = read.overview()
        assert [operation for operation, _ in counting.calls] == ["walk", "get", "get_range"]
        assert counting.bytes < 60_000
        _check_overview(read, found)
        chain = store.repository.manifest(RUN)
        chain.commit(
            chain.load(),
            lambda state: {"segments": {**dict.fromkeys(state["segments"]), **before}},
        )
        found = points(store.repository, RUN).overview(["b"])
        assert found is not None and found.keys() == {"b"}
        assert len(found["b"]) <= overview.MOST_POINTS


def _check_overview(read: RunPoints, found: dict[str, Series] | None) -> None:
    assert found is not None and found.keys() == {"a", "b"}
    for key, few in found.items():
        whole = read.series(key)
        assert 1900 < len(few) <= overview.MOST_POINTS
        rows = np.searchsorted(whole.steps, few.steps)
        assert same(few, whole.slice(rows))  # real points, exactly
        assert {0, len(whole) - 1} <= set(rows.tolist())
        assert (few.values.min(), few.values.max()) == (whole.values.min(), whole.values.max())


def test_short_and_open_parts_need_no_overview() -> None:
    with opened(MemoryBackend()) as store:
        run = fill(store, spools=3)
        run.log({"a": 7.0}, step=90)
        read = points(store.repository, RUN)
        found = read.overview(["a", "b", "nothing"])
        assert found is not None and len(found["nothing"]) == 0
        assert same(found["a"], read.series("a"))
        run.finish()


def test_an_old_long_segment_has_no_overview(long_store: MemoryBackend) -> None:
    with opened(long_store) as store:
        read = points(store.repository, RUN)
        for about in read.snapshot.state["segments"].values():
            about.pop("overview_bytes")
        assert RunPoints(read.backend, RUN, read.snapshot, []).overview() is None


curve = st.lists(st.floats() | st.just(float("nan")), min_size=1, max_size=400)


@settings(max_examples=200)
@given(values=curve, most=st.integers(2, 20).map(lambda n: 2 * n))
def test_an_overview_keeps_the_ends_the_extremes_and_long_gaps(
    values: list[float], most: int
) -> None:
    column = np.array(values)
    rows = overview.pick(column, most)
    few = column[rows]
    assert len(rows) <= max(most, 1) and (np.diff(rows) > 0).all()
    assert {rows[0], rows[-1]} == {0, len(column) - 1}
    real = column[~np.isnan(column)]
    if len(real):
        assert np.nanmin(few) == real.min() and np.nanmax(few) == real.max()
    width = -(-(len(column) - 2) // ((most - 2) // 2)) if len(column) > most else 1
    for start in range(1, len(column) - 2 * width):
        if np.isnan(column[start : start + 2 * width]).all():
            assert np.isnan(few[(rows >= start) & (rows < start + 2 * width)]).any()


def test_long_columns_are_looked_at_piece_by_piece(monkeypatch: pytest.MonkeyPatch) -> None:
    column = np.random.default_rng(2).normal(size=100_003)
    column[40_000:60_000] = np.nan
    wanted = overview.pick(column, 500)
    monkeypatch.setattr(overview, "_AT_ONCE", 1000)
    assert (overview.pick(column, 500) == wanted).all()


def test_infinities_beside_nan_are_numbers() -> None:
    column = np.array([0.0, *[np.nan, np.inf, np.nan, -np.inf, np.nan] * 20, 1.0])
    few = column[overview.pick(column, 4)]
    assert few.tolist() == [0.0, np.inf, -np.inf, 1.0]
    column = np.array([0.0, *[np.nan, np.inf] * 20, 1.0])
    assert column[overview.pick(column, 4)].tolist() == [0.0, np.inf, 1.0]


def test_steps_that_are_not_in_order_are_refused() -> None:
    axis = Axis(np.array([3, 1, 2], np.uint64), np.arange(3), {"a": np.ones(3)})
    data, _ = segment.encode({}, [axis])
    footer, get = opened_segment(data)
    with pytest.raises(Corrupt, match="not in order"):
        footer.read("a", get)


def test_a_missing_segment_is_named(long_store: MemoryBackend) -> None:
    backend = MemoryBackend()
    for stat in long_store.walk(""):
        backend.put(stat.name, long_store.get(stat.name))
    with opened(backend) as store:
        name = next(iter(segments(store)))
        backend.delete(f"{layout.run(RUN)}segments/{name}.seg")
        for options in ({}, {"last": 3 * LONG}, {"steps": (0, None)}):
            with pytest.raises(Corrupt, match="missing"):
                points(store.repository, RUN).series("a", **options)  # type: ignore[arg-type]
