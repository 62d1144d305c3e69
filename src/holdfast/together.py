"""Several series together: by key as a mapping, or side by side over one x axis."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from holdfast.columnar import Batch, Column, Columnar, Kind, Label
from holdfast.downsample import edges, lows_and_highs, middles
from holdfast.series import EMPTY, Series

On = Literal["step", "time", "relative"]
_KINDS: dict[On, Kind] = {"step": "uint64", "time": "time", "relative": "float64"}

_TYPES: dict[On, Any] = {"step": np.uint64, "time": np.int64, "relative": np.float64}


class SeriesMap(Mapping[str, Series], Columnar):
    """The series of several metrics of one run, by key, in the order they were asked for.

    As a frame it has a row for each point: key, step, time, value, and rank when several processes
    wrote the run.
    """

    __slots__ = ("_series",)

    def __init__(self, series: Iterable[Series]) -> None:
        self._series = {one.key: one for one in series}

    def __getitem__(self, key: str) -> Series:
        return self._series[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._series)

    def __len__(self) -> int:
        return len(self._series)

    def __repr__(self) -> str:
        about = ", ".join(f"{one.key}: {len(one):,} points" for one in self._series.values())
        return f"<SeriesMap {about}>"

    def _batches(self) -> Iterable[Batch]:
        every = list(self._series.values()) or [EMPTY]
        words = tuple(one.key for one in every)
        ranked = any(one.ranks is not None for one in every)
        for code, one in enumerate(every):
            key = Column("key", "text", Label(words, code, len(one)))
            yield [key, *one.columns(ranked=ranked)]


@dataclass(frozen=True, slots=True)
class Curve:
    """One series to be aligned; its run began at `started_at` (ns since 1970)."""

    series: Series
    started_at: int

    def over(self, on: On) -> tuple[NDArray[Any], NDArray[np.float64]]:
        """(x, values), x ascending; equal x in the order they were logged."""
        if on == "step":
            return self.series.steps, self.series.values
        x: NDArray[Any] = self.series.timestamps
        if on == "relative":
            x = (x - np.int64(self.started_at)) / 1e9
        if (x[1:] >= x[:-1]).all():
            return x, self.series.values
        order = np.argsort(x, kind="stable")
        return x[order], self.series.values[order]


@dataclass(frozen=True, slots=True)
class Aligned(Columnar):
    """Series side by side over one ascending x axis.

    `x` is steps (uint64), times (int64, ns since 1970) or, for `relative`, seconds since each run
    started (float64). `columns[name]` is float64 of that length, NaN where a series has no point;
    `present[name]` tells those from points whose value is NaN.
    """

    on: On
    x: NDArray[Any]
    columns: Mapping[str, NDArray[np.float64]]
    present: Mapping[str, NDArray[np.bool_]]

    def __len__(self) -> int:
        return len(self.x)

    def __getitem__(self, name: str) -> NDArray[np.float64]:
        return self.columns[name]

    def _batches(self) -> Iterable[Batch]:
        columns = [
            Column(name, "float64", values, None if there.all() else there)
            for (name, values), there in zip(
                self.columns.items(), self.present.values(), strict=True
            )
        ]
        name: str = self.on
        while name in self.columns:  # a metric may be called "step"
            name += "_"
        yield [Column(name, _KINDS[self.on], self.x), *columns]


def align(curves: Mapping[str, Curve], on: On, most: int | None = None) -> Aligned:
    """The curves side by side.

    Without `most`, over the union of their x; of several points at one x the last one logged counts.
    With it, and more points than that: `most // 2` buckets that all curves share, and of each bucket
    two values, its lowest and its highest.
    """
    parts = {name: curve.over(on) for name, curve in curves.items()}
    if most is None or all(len(x) <= most for x, _ in parts.values()):
        exact = _over_union(parts, on)
        if most is None or len(exact) <= most:
            return exact
    return _over_grid(parts, on, most // 2)


Parts = Mapping[str, tuple[NDArray[Any], NDArray[np.float64]]]


def _over_union(parts: Parts, on: On) -> Aligned:
    empty: NDArray[Any] = np.empty(0, _TYPES[on])
    longest = max((x for x, _ in parts.values()), key=len, default=empty)
    others = [x for x, _ in parts.values() if not np.array_equal(x, longest)]
    union = np.unique(np.concatenate([empty, longest, *others]))
    columns, present = {}, {}
    for name, (x, values) in parts.items():
        # Runs of one script log at the same steps, more often than not.
        places = slice(None) if np.array_equal(union, x) else np.searchsorted(union, x)
        columns[name] = np.full(len(union), np.nan)
        columns[name][places] = values  # of several at one place the last remains
        present[name] = np.zeros(len(union), np.bool_)
        present[name][places] = True
    return Aligned(on, union, columns, present)


def _over_grid(parts: Parts, on: On, buckets: int) -> Aligned:
    filled = [x for x, _ in parts.values() if len(x)]
    first, last = min(x[0] for x in filled), max(x[-1] for x in filled)
    inner = edges(first, last, buckets - 1, max(map(len, filled)))
    begins = np.concatenate([np.array([first]), inner])
    columns, present = {}, {}
    for name, (x, values) in parts.items():
        bounds = np.concatenate([[0], np.searchsorted(x, inner), [len(x)]])
        columns[name], present[name] = lows_and_highs(values, bounds)
    # The two values of a bucket stand at its begin and its middle, the last one at the end of all.
    seconds = middles(begins, np.append(inner, last))
    seconds[-1] = last
    return Aligned(on, np.stack([begins, seconds], axis=1).reshape(-1), columns, present)
