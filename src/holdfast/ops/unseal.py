"""Segments back into records, without those that were read while they lay in a spool.

A segment keeps each metric by step, equal steps as they were logged. So what was read of its spool,
always a beginning, is of each metric the first so many points of each step: counting is enough.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from holdfast.backend.base import Backend
from holdfast.digest import Digest
from holdfast.format import layout, segment
from holdfast.format.segment import Axis
from holdfast.verified import read_file

Seen = dict[str, list[int]]  # key -> the steps of its points that were read already
Line = tuple[int, int, dict[str, float]]  # time (ns), step, values


def read(
    backend: Backend,
    run_id: str,
    digest: Digest,
    about: dict[str, Any],
    wanted: Callable[[str], bool],
    seen: Seen,
) -> list[Line]:
    """The records of a segment by time, then step, as far as `wanted` and not `seen`.

    Values that were logged with the same step and time are one record. Raises Corrupt.
    """
    place, size = layout.segment(run_id, digest), about["size_bytes"]
    whole = read_file(backend, place, digest, size)

    def get(offset: int, length: int) -> bytes:
        return whole[offset : offset + length]

    footer = segment.footer(whole, size, get, place=place)
    axes = footer.read_together(filter(wanted, footer.columns), get)
    return records([part for axis in axes for part in _unseen(axis, seen)])


def _unseen(axis: Axis, seen: Seen) -> Iterator[Axis]:
    """The rows of an axis that were not read: the columns of which nothing was, and each other one."""
    new = {key: values for key, values in axis.columns.items() if not seen.get(key)}
    if new:
        yield Axis(axis.steps, axis.times, new)
    for key in axis.columns.keys() - new.keys():
        yield _rest(axis, key, seen)


def _rest(axis: Axis, key: str, seen: Seen) -> Axis:
    """The rows of one column that are not among the first of their step."""
    steps, read = axis.steps, np.sort(np.array(seen[key], np.uint64))
    place = np.arange(len(steps)) - np.searchsorted(steps, steps)
    left = place >= np.searchsorted(read, steps, "right") - np.searchsorted(read, steps)
    return axis.rows(left, key)


def records(axes: Iterable[Axis]) -> list[Line]:
    """The axes' rows put together: of each (time, step) the first with the first, and so on."""
    groups: dict[bytes, Axis] = {}
    for axis in axes:
        same = axis.steps.tobytes() + axis.times.tobytes()
        if len(axis.steps):
            groups.setdefault(same, Axis(axis.steps, axis.times)).columns.update(axis.columns)
    found: dict[tuple[int, int, int], dict[str, float]] = {}
    for axis in groups.values():
        for place, values in zip(_places(axis), _rows(axis.columns), strict=True):
            found.setdefault(place, {}).update(values)
    return [(time, step, found[time, step, nth]) for time, step, nth in sorted(found)]


def _places(axis: Axis) -> list[tuple[int, int, int]]:
    """(time, step, how many rows before have the same) of every row."""
    count: dict[tuple[int, int], int] = {}
    places = []
    for at in zip(axis.times.tolist(), axis.steps.tolist(), strict=True):
        nth = count[at] = count.get(at, -1) + 1
        places.append((*at, nth))
    return places


def _rows(columns: dict[str, NDArray[np.float64]]) -> Iterable[dict[str, float]]:
    values = zip(*(column.tolist() for column in columns.values()), strict=True)
    return (dict(zip(columns, row, strict=True)) for row in values)
