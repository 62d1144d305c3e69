"""Few points that look like many: what must be seen is seen, whatever the series is."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from holdfast.downsample import _extremes, downsample, edges, lows_and_highs, middles, shown
from holdfast.series import Series

Floats = NDArray[np.float64]
number = st.one_of(
    st.floats(-1e3, 1e3),
    st.floats(),
    st.sampled_from([math.nan, math.inf, -math.inf, 0.0, -0.0, 5e-324, 1.7e308, -1.7e308]),
)
values = st.lists(number, max_size=400).map(lambda v: np.array(v, np.float64))
most = st.integers(4, 60)


def series_of(y: Floats, x: NDArray[np.uint64] | None = None) -> Series:
    steps = np.arange(len(y), dtype=np.uint64) if x is None else x
    return Series("x", steps, y, np.arange(len(y), dtype=np.int64))


@st.composite
def curves(draw: st.DrawFn) -> Series:
    """Steps that repeat, jump and reach the largest; values of every kind."""
    y = draw(values)
    jump = st.one_of(st.integers(0, 3), st.integers(0, 2**64 - 1))
    steps = draw(st.lists(jump, min_size=len(y), max_size=len(y)))
    return series_of(y, np.sort(np.array(steps, np.uint64)))


@given(curves(), most)
def test_the_points_are_points_of_the_series_in_order_and_not_too_many(
    series: Series, count: int
) -> None:
    rows = shown(series.steps, series.values, count)
    assert (np.diff(rows) > 0).all()
    assert len(rows) <= count
    if len(series) <= count:
        assert rows.tolist() == list(range(len(series)))


@given(curves(), most)
def test_both_ends_and_both_extremes_are_always_shown(series: Series, count: int) -> None:
    seen = downsample(series, count)
    if not len(series):
        return
    assert (seen.steps[0], seen.steps[-1]) == (series.steps[0], series.steps[-1])
    assert seen.values[[0, -1]].tobytes() == series.values[[0, -1]].tobytes()
    real = series.values[np.isfinite(series.values)]
    if len(real):
        shown_real = seen.values[np.isfinite(seen.values)]
        assert (shown_real.min(), shown_real.max()) == (real.min(), real.max())


@given(curves(), st.integers(20, 60))
def test_gaps_and_infinities_stay_to_be_seen(series: Series, count: int) -> None:
    seen = downsample(series, count).values
    for is_kind in (np.isnan, np.isposinf, np.isneginf):
        stretches = np.flatnonzero(np.diff(is_kind(series.values), prepend=False))
        if 0 < len(stretches) <= 2:  # one gap of this kind; others may be many and longer
            others = ~np.isfinite(series.values) & ~is_kind(series.values)
            if not others.any():
                assert is_kind(seen).any()


def test_the_highest_point_is_shown_where_it_hardly_bends_the_curve() -> None:
    y = np.concatenate([[10, 10.001], np.linspace(9, 0, 500)])
    y[250] = -50
    assert shown(np.arange(502), y, 4).tolist() == [0, 1, 250, 501]


def test_the_scale_of_the_values_changes_nothing() -> None:
    y = np.random.default_rng(5).normal(0, 1, 5000)
    rows = shown(np.arange(5000), y, 50).tolist()
    assert shown(np.arange(5000), y * 2.0**1021, 50).tolist() == rows
    assert shown(np.arange(5000), y * 2.0**-900, 50).tolist() == rows


def test_a_gap_in_the_middle_keeps_its_place_and_the_longest_gaps_come_first() -> None:
    y = np.sin(np.arange(10_000) / 300)
    y[4000:6000] = np.nan
    y[100:8000:200] = np.nan
    seen = downsample(series_of(y), 100)
    assert np.isnan(seen.values[seen.steps == 4000]).tolist() == [True]
    assert not ((seen.steps > 4000) & (seen.steps < 6000) & np.isfinite(seen.values)).any()
    assert len(seen) <= 100


@given(curves(), st.integers(2, 60))
def test_the_lowest_and_highest_of_every_bucket_survive_the_first_step(
    series: Series, buckets: int
) -> None:
    y = np.nan_to_num(series.values)
    if not len(y):
        return
    x = series.steps
    rows = _extremes(x, y, buckets)
    inner = np.searchsorted(x, edges(x[0], x[-1], buckets, len(x)))
    bounds = np.unique([0, *inner, len(y)])
    assert len(bounds) <= buckets + 1
    for begin, end in pairwise(bounds):
        kept = y[rows[(rows >= begin) & (rows < end)]]
        assert (kept.min(), kept.max()) == (y[begin:end].min(), y[begin:end].max())


def test_single_spikes_are_kept_where_a_stride_would_lose_them() -> None:
    rng = np.random.default_rng(3)
    y = rng.normal(0, 0.01, 1_000_000)
    spikes = np.arange(20_000, 1_000_000, 49_999)
    y[spikes] = 5.0
    seen = downsample(series_of(y), 1000)
    assert set(spikes.tolist()) <= set(seen.steps.tolist())


def test_a_logarithmic_axis_has_points_in_every_decade() -> None:
    y = np.random.default_rng(4).normal(0, 1, 1_000_000)
    seen = downsample(series_of(y), 2000).steps
    for decade in range(1, 6):
        share = ((seen >= 10**decade) & (seen < 10 ** (decade + 1))).sum()
        assert share >= min(20, 9 * 10**decade), f"decade {decade}"


def test_a_curve_keeps_its_shape() -> None:
    """Straight lines between the points shown stay near a smooth curve."""
    x = np.arange(100_000)
    y = np.exp(-x / 2e4) * np.sin(x / 3e3)
    seen = downsample(series_of(y), 400)
    drawn = np.interp(x, seen.steps.astype(np.float64), seen.values)
    assert np.abs(drawn - y).max() < 0.01


@pytest.mark.parametrize(
    "series",
    [
        series_of(np.full(1000, np.nan)),
        series_of(np.full(1000, np.inf)),
        series_of(np.zeros(1000)),
        series_of(np.tile([np.nan, 1.0], 500)),
        series_of(np.arange(1000.0), np.full(1000, 7, np.uint64)),
        series_of(np.arange(1000.0), np.full(1000, 2**64 - 1, np.uint64)),
        series_of(np.tile([1.7e308, -1.7e308], 500)),
        series_of(np.full(1000, 5e-324)),
    ],
    ids=["nan", "inf", "flat", "every other", "one step", "last step", "huge", "tiny"],
)
@pytest.mark.parametrize("count", [4, 5, 50])
def test_odd_series(series: Series, count: int) -> None:
    seen = downsample(series, count)
    assert 2 <= len(seen) <= count
    assert seen.timestamps[0] == 0
    assert seen.timestamps[-1] == 999


@pytest.mark.parametrize("kind", [np.uint64, np.int64])
def test_bounds_reach_over_the_whole_range_of_a_type(kind: type) -> None:
    least, largest = kind(np.iinfo(kind).min), kind(np.iinfo(kind).max)
    inner = edges(least, largest, 20, 1000)
    assert inner.dtype == kind
    assert (inner > least).all()
    assert (inner < largest).all()
    assert (np.diff(inner.astype(object)) > 0).all()
    assert len(inner) >= 14
    half = middles(inner[:-1], inner[1:])
    assert (half >= inner[:-1]).all()
    assert (half <= inner[1:]).all()


@given(values, st.lists(st.integers(0, 400), max_size=20))
def test_a_bucket_gives_its_finite_extremes(y: Floats, cuts: list[int]) -> None:
    bounds = np.array([0, *sorted(min(cut, len(y)) for cut in cuts), len(y)])
    pairs, there = lows_and_highs(y, bounds)
    for number, (begin, end) in enumerate(pairwise(bounds)):
        part, pair = y[begin:end], pairs[2 * number : 2 * number + 2]
        real = part[np.isfinite(part)]
        assert there[2 * number : 2 * number + 2].tolist() == [len(part) > 0] * 2
        if len(real):
            assert sorted(pair) == [real.min(), real.max()]
        elif len(part):
            assert pair.tobytes() == part[[0, 0]].tobytes()
        else:
            assert np.isnan(pair).all()
