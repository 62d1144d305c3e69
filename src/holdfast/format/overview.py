"""Which points of a long series show its shape: the least and the greatest of each stretch of rows.

The points are real ones, with their own steps and times. A stretch that is all NaN gives its first
and its last row, so that a gap in the curve stays a gap; a NaN among numbers is not shown.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

MOST_POINTS = 2000
LEAST_ROWS = 8192  # a segment whose axes are all shorter is read whole as quickly
_ROWS_A_POINT = 32  # so that an overview costs a small part of what it shows
_AT_ONCE = 1 << 19  # rows that are looked at together: bounds the memory this takes


def sizes(rows: Sequence[int]) -> list[int]:
    """How many points the overviews of axes of so many rows have; 0, for each, when none pays."""
    if max(rows, default=0) < LEAST_ROWS:
        return [0] * len(rows)
    least = LEAST_ROWS // _ROWS_A_POINT
    return [min(count, max(least, count // _ROWS_A_POINT), MOST_POINTS) for count in rows]


def pick(values: NDArray[np.float64], most: int) -> NDArray[np.intp]:
    """The rows of at most `most` points (4 or more), in order: the first, the last, and two of each
    of (most - 2) / 2 stretches of equal length between them."""
    rows = len(values)
    if rows <= most:
        return np.arange(rows)
    width = -(-(rows - 2) // ((most - 2) // 2))
    found = [np.array([0, rows - 1])]
    together = max(1, _AT_ONCE // width) * width
    for start in range(1, rows - 1, together):
        found += [
            np.minimum(ends + start, rows - 2)
            for ends in _ends(values[start : min(start + together, rows - 1)], width)
        ]
    places: NDArray[np.intp] = np.sort(np.concatenate(found))
    # As np.unique does, which would import a part of numpy in the middle of somebody's training.
    is_first: NDArray[np.bool_] = np.concatenate([[True], places[1:] != places[:-1]])
    return places[is_first]


def _ends(values: NDArray[np.float64], width: int) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """The places of the least and of the greatest number of each stretch of `width` values."""
    short = -len(values) % width
    if short:
        values = np.concatenate([values, np.full(short, np.nan)])
    stretches = values.reshape(-1, width)
    starts = np.arange(len(stretches)) * width
    nan = np.isnan(stretches)
    if not nan.any():
        return starts + stretches.argmin(axis=1), starts + stretches.argmax(axis=1)
    first, empty = (~nan).argmax(axis=1), nan.all(axis=1)
    low = np.where(nan, np.inf, stretches).argmin(axis=1)
    high = np.where(nan, -np.inf, stretches).argmax(axis=1)
    row = np.arange(len(stretches))
    # Among infinities a NaN may have come out: then every number there is that infinity.
    low, high = np.where(nan[row, low], first, low), np.where(nan[row, high], first, high)
    return starts + np.where(empty, 0, low), starts + np.where(empty, width - 1, high)
