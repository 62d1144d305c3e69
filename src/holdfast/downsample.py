"""Few points that look like many: min-max-LTTB, and the buckets that charts share.

Points of a curve are chosen, never made up. First every bucket of the x axis gives its lowest and its
highest point; of these, largest-triangle-three-buckets keeps those that bend the curve most. What no
chart may lose is kept whatever the second step says: both ends, the lowest and the highest point of
all, and a mark in each gap of NaN or infinite values, the longest gaps first.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from holdfast.series import Series

_PRESELECTED = 4  # for each point shown
_GEOMETRIC = 4  # one bucket edge in so many is placed for a logarithmic x axis
Rows = NDArray[np.int64]


def downsample(series: Series, most: int) -> Series:
    """At most `most` points of the series (at least 4); the series itself when it has no more."""
    if len(series) <= most:
        return series
    return series.slice(shown(series.steps, series.values, most))


def shown(x: NDArray[Any], values: NDArray[np.float64], most: int) -> Rows:
    """The rows, in order, to draw `values` over an ascending `x` with at most `most` points."""
    if len(values) <= most:
        return np.arange(len(values))
    finite = np.isfinite(values)
    real = None if finite.all() else np.flatnonzero(finite)
    xs, ys = (x, values) if real is None else (x[real], values[real])
    ends = np.array([0, len(values) - 1])
    peaks = np.array([ys.argmin(), ys.argmax()]) if len(ys) else np.empty(0, np.int64)
    kept = np.union1d(ends, peaks if real is None else real[peaks])
    kept = np.union1d(kept, _gaps(values, real, min(most // 4, most - len(kept))))
    # Ends that are finite are LTTB's own ends as well, and take no place of their own.
    room = most - len(kept) + int(finite[0]) + int(finite[-1])
    if room < 3:
        return kept
    rows = _extremes(xs, ys, _PRESELECTED * most // 2)
    rows = rows[_lttb(xs[rows], ys[rows], room)]
    return np.union1d(kept, rows if real is None else real[rows])


def _gaps(values: NDArray[np.float64], real: Rows | None, most: int) -> Rows:
    """The first row of each stretch of NaN, of inf or of -inf; of the `most` longest."""
    if real is None or most <= 0:
        return np.empty(0, np.int64)
    missing = np.ones(len(values), np.bool_)
    missing[real] = False
    rows = np.flatnonzero(missing)
    kind = np.nan_to_num(values[rows], nan=0.0, posinf=1.0, neginf=-1.0)
    begins = np.ones(len(rows), np.bool_)
    begins[1:] = (rows[1:] != rows[:-1] + 1) | (kind[1:] != kind[:-1])
    first = np.flatnonzero(begins)
    longest = np.argsort(-np.diff(first, append=len(rows)), kind="stable")[:most]
    return rows[first[longest]]


def edges(first: Any, last: Any, count: int, points: int) -> NDArray[Any]:
    """At most `count` ascending bounds strictly between `first` and `last`, of their type.

    Most are spread evenly, the others by their logarithm, so that a logarithmic x axis has its
    share. `points` is how many there are, for the least distance that counts.
    """
    kind, low, high = np.asarray(first).dtype, first.item(), last.item()
    span = float(high - low)
    if span <= 0:
        return np.empty(0, kind)
    parts = count - count // _GEOMETRIC
    even = span * np.arange(1, parts) / parts
    least = float(low) if low > 0 else span / max(points, 1)
    spread = np.geomspace(least, max(float(high), least), count // _GEOMETRIC + 2)[1:-1] - low
    offsets = np.unique(np.concatenate([even, spread[(spread > 0) & (spread < span)]]))
    if kind.kind == "f":
        sums = first + offsets
        inner: NDArray[Any] = sums[(sums > first) & (sums < last)]
        return inner
    # Even, so that a bucket is wide enough for two places in it.
    whole = np.unique(np.minimum(offsets, span * (1 - 1e-9)).astype(np.uint64) & ~np.uint64(1))
    return _moved(first, whole[whole > 0])


def _moved(x: Any, offsets: NDArray[np.uint64]) -> NDArray[Any]:
    """`x + offsets` for whole numbers: unsigned sums wrap, so all of int64 and uint64 is served."""
    moved: NDArray[Any] = (np.asarray(x).astype(np.uint64) + offsets).astype(np.asarray(x).dtype)
    return moved


def middles(begins: NDArray[Any], ends: NDArray[Any]) -> NDArray[Any]:
    """Half way from each begin to its end."""
    if begins.dtype.kind == "f":
        half: NDArray[Any] = begins + (ends - begins) / 2
        return half
    return _moved(begins, (ends.astype(np.uint64) - begins.astype(np.uint64)) // np.uint64(2))


def _extremes(x: NDArray[Any], y: NDArray[np.float64], buckets: int) -> Rows:
    """The rows of the lowest and the highest point of each bucket, and both ends."""
    if len(y) <= 2 * buckets:
        return np.arange(len(y))
    inner = np.searchsorted(x, edges(x[0], x[-1], buckets, len(x)))
    bounds = np.unique(np.concatenate([[0], inner, [len(y)]])).tolist()
    found = [0, len(y) - 1]
    for begin, end in pairwise(bounds):
        part = y[begin:end]
        found += (begin + int(part.argmin()), begin + int(part.argmax()))
    return np.unique(found)


def _lttb(x: NDArray[Any], y: NDArray[np.float64], count: int) -> Rows:
    """The places of `count` points (at least 3): in each bucket the one that makes the largest
    triangle with the point chosen before it and the mean of the bucket after it."""
    if len(y) <= count:
        return np.arange(len(y))
    across, up = _scaled(x - x[0]), _scaled(y)
    bounds = 1 + np.arange(count - 1) * (len(y) - 2) // (count - 2)
    sizes = np.diff(bounds)
    mean_x = [*(np.add.reduceat(across[:-1], bounds[:-1]) / sizes).tolist(), float(across[-1])]
    mean_y = [*(np.add.reduceat(up[:-1], bounds[:-1]) / sizes).tolist(), float(up[-1])]
    xs, ys = across.tolist(), up.tolist()
    chosen = [0]
    for number, (begin, end) in enumerate(pairwise(bounds.tolist()), 1):
        ax, ay = xs[chosen[-1]], ys[chosen[-1]]
        width, height = mean_x[number] - ax, mean_y[number] - ay
        areas = [abs(width * (ys[i] - ay) - (xs[i] - ax) * height) for i in range(begin, end)]
        chosen.append(begin + areas.index(max(areas)))
    return np.array([*chosen, len(y) - 1])


def _scaled(values: NDArray[Any]) -> NDArray[np.float64]:
    """Within -1 and 1, so that no product overflows."""
    largest = float(np.abs(values).max()) or 1.0
    scaled: NDArray[np.float64] = values / largest
    return scaled


def lows_and_highs(
    values: NDArray[np.float64], bounds: NDArray[np.int64]
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """For each bucket `bounds[i]:bounds[i+1]` two values, its lowest and highest finite ones, in the
    order in which the curve goes; and whether there was any point.

    A bucket without a finite value gives its first value: NaN or an infinity stays to be seen. One
    without any point gives NaN.
    """
    pairs = np.full((len(bounds) - 1, 2), np.nan)
    filled = bounds[1:] > bounds[:-1]
    starts, ends = bounds[:-1][filled], bounds[1:][filled] - 1
    if len(starts):
        finite = np.isfinite(values)
        real = values if finite.all() else np.where(finite, values, np.nan)
        low, high = np.fmin.reduceat(real, starts), np.fmax.reduceat(real, starts)
        nothing = np.isnan(low)
        low, high = (np.where(nothing, values[starts], side) for side in (low, high))
        falls = real[ends] < real[starts]
        pairs[filled, 0], pairs[filled, 1] = np.where(falls, high, low), np.where(falls, low, high)
    return pairs.reshape(-1), np.repeat(filled, 2)
