"""Reading metrics: the points of one metric of one run, in step order, from segments and spools.

A run that was resumed has attempts. Points that an earlier attempt logged at or after the step where
a later one began stay in history and are superseded in the series, so that no curve runs zigzag. A
run that several processes write has ranks, each with a chain of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from holdfast.backend.base import Backend
from holdfast.chain import Chain, Snapshot
from holdfast.columnar import Batch, Column, Columnar
from holdfast.errors import Corrupt, InvalidValue, NameNotFound
from holdfast.format import layout, overview, segment, spool, stats
from holdfast.format.blocks import Getter
from holdfast.format.manifest import State
from holdfast.format.segment import Axis, Footer
from holdfast.series_parts import (
    CHUNK_ROWS,
    Bounds,
    LiveRows,
    Part,
    Rows,
    SealedRows,
    SegmentFile,
    Slice,
    at_once,
)

_HELD = 64  # segments whose index, or small ones that whole, stay in memory for the next metric
_MUCH_ROWS = 1 << 16  # of one metric; fewer are decoded before other threads have begun


@dataclass(frozen=True, slots=True)
class Series(Columnar):
    """All points of one metric of one run, by step; equal steps in the order they were logged.

    `steps` uint64, `values` float64 (NaN and infinities exact), `timestamps` int64 in ns since 1970;
    `ranks` int32, the writer of each point, None when one process alone wrote the run. As a frame its
    columns are step, time, value, and rank when there are ranks.
    """

    key: str
    steps: NDArray[np.uint64]
    values: NDArray[np.float64]
    timestamps: NDArray[np.int64]
    ranks: NDArray[np.int32] | None = None

    def __len__(self) -> int:
        return len(self.steps)

    def __iter__(self) -> Iterator[tuple[int, float]]:
        """(step, value) pairs."""
        return iter(zip(self.steps.tolist(), self.values.tolist(), strict=True))

    def slice(self, which: Any) -> Series:
        """Some of its points, an index or a slice of numpy."""
        ranks = None if self.ranks is None else self.ranks[which]
        steps, values = self.steps[which], self.values[which]
        return Series(self.key, steps, values, self.timestamps[which], ranks)

    def columns(self, *, ranked: bool) -> Batch:
        """Those of a frame; with `ranked`, the points of a lone writer have rank 0."""
        found = [
            Column("step", "uint64", self.steps),
            Column("time", "time", self.timestamps),
            Column("value", "float64", self.values),
        ]
        if ranked:
            none = np.zeros(len(self), np.int32) if self.ranks is None else self.ranks
            found.append(Column("rank", "int32", none))
        return found

    def _batches(self) -> list[Batch]:
        return [self.columns(ranked=self.ranks is not None)]


EMPTY = Series("", np.empty(0, np.uint64), np.empty(0, np.float64), np.empty(0, np.int64))


@dataclass(frozen=True, slots=True)
class LiveSpool:
    """A spool that lay in the store, and what it held when it was read."""

    name: str
    run_id: str
    writer: str
    sequence: int
    scan: spool.Scan

    @property
    def about(self) -> dict[str, Any]:
        return self.scan.about

    @property
    def rank(self) -> int | None:
        """Whose points it holds: None for the main writer of the run."""
        return self.scan.about.get("rank")


class RunPoints:
    """Everything logged to one run at one moment: the segments of all its writers and its spools."""

    def __init__(
        self, backend: Backend, run_id: str, snapshot: Snapshot, spools: list[LiveSpool]
    ) -> None:
        self.backend = backend
        self.run_id = run_id
        self.snapshot = snapshot
        state = snapshot.state
        self.spools = [live for live in spools if not is_sealed(state, live.writer, live.sequence)]
        self.cuts = cuts(state, self.spools)
        self._opened = lru_cache(maxsize=_HELD)(_opened)
        self._far = not backend.capabilities.append
        self._warm = False  # were the indices read?
        self._several = "ranks" in state or any(live.rank is not None for live in spools)
        self._parts = sorted(
            [*map(self._sealed, state.get("segments", {}).items()), *map(_live, self.spools)],
            key=lambda part: part.order,
        )

    @classmethod
    def load(cls, backend: Backend, run_id: str, spools: Backend) -> RunPoints:
        """Everything there is now; `spools` is where the open spools lie."""
        # Spools first: one that is sealed in the meantime is then found in the newer manifest.
        live = list(live_spools(spools, run_id))
        return cls(backend, run_id, _load_state(backend, run_id), live)

    @classmethod
    def of_state(
        cls, backend: Backend, run_id: str, state: State, *, without: Collection[str]
    ) -> RunPoints:
        """The points of the segments of `state`, except those named in `without`."""
        kept = {k: v for k, v in state.get("segments", {}).items() if k not in without}
        return cls(backend, run_id, Snapshot({**state, "segments": kept}, 0, None), [])

    def keys(self) -> list[str]:
        """Every metric that has points, sorted."""
        live = {key for item in self.spools for table in item.scan.tables for key in table.keys}
        return sorted(live | self.snapshot.state.get("metrics", {}).keys())

    def point_count(self) -> int:
        """Every point ever logged, superseded ones included."""
        sealed = sum(item["points"] for item in self.snapshot.state.get("segments", {}).values())
        tables = [table for item in self.spools for table in item.scan.tables]
        return int(sealed + sum(len(table.keys) * len(table.rows) for table in tables))

    def series(
        self,
        key: str,
        *,
        steps: Bounds = (None, None),
        last: int | None = None,
        attempt: int | None = None,
        rank: int | None = None,
    ) -> Series:
        """The series of `key`; empty when it was never logged. Raises Corrupt, naming the file.

        `steps` are the first one and the one before which to stop, None for an open end; of what is
        left, `last` keeps that many points at the end. `attempt` gives the series as the run stood at
        the end of that attempt, `rank` the points of that writer alone. Only the blocks that hold
        such points are read.
        """
        limits = self.cuts if attempt is None else cuts(self.snapshot.state, self.spools, attempt)
        wanted = [
            (part, _within(steps, limits.get(part.attempt)))
            for part in self._parts
            if (attempt is None or part.attempt <= attempt) and rank in (None, part.rank)
        ]
        if last is None:
            cold = self._far and not self._warm
            found = at_once(
                [partial(part.slice, key, bounds) for part, bounds in wanted], pays=cold
            )
            self._warm = True
            return self._filled(key, [piece for piece in found if piece])
        if last < 0:
            raise InvalidValue(f"last={last}: give the number of points, 0 or more", value=last)
        series = self._filled(key, _tails(key, wanted, last) if last else [])
        return series.slice(slice(max(0, len(series) - last), None))

    def overview(self, keys: Iterable[str] | None = None) -> dict[str, Series] | None:
        """The shape of each of these metrics, or of all: at most 2,000 of its points, the greatest and
        the least of each stretch. Of long segments only the end is read, once for all metrics; None
        if one of them has no overview."""
        names = self.keys() if keys is None else list(keys)
        parts = [part for part in self._parts if part.reaches((None, self.cuts.get(part.attempt)))]
        found = at_once([partial(part.overview, names) for part in parts], pays=self._far)
        axes: dict[str, list[tuple[int, Axis]]] = {key: [] for key in names}
        for part, some in zip(parts, found, strict=True):
            if some is None:
                return None
            for key, axis in some.items():
                if kept := cut(axis, self.cuts.get(part.attempt)):
                    axes[key].append((part.rank, kept))
        return {key: _few(self._joined(key, pieces)) for key, pieces in axes.items()}

    def _sealed(self, item: tuple[str, dict[str, Any]]) -> Part:
        name, about = item
        file = SegmentFile(self.backend, self.run_id, name, about)
        attempt, rank = about["attempt"], about.get("rank")
        return Part(
            attempt,
            rank or 0,
            (_place(rank), attempt, about["opened_at"], about["writer"], about["sequence"]),
            partial(self._find, file),
            file.overview,
            about.get("first_step"),
            about.get("last_step"),
        )

    def _find(self, file: SegmentFile, key: str) -> tuple[int, Rows] | None:
        footer, get, held = self._opened(file)
        rows = footer.rows_of(key)
        if not rows:
            return None
        return rows, SealedRows(footer.columns_of(key), get, footer.columns[key][0], held)

    def _filled(self, key: str, pieces: list[Slice]) -> Series:
        """The rows of all pieces in one series."""
        count = sum(map(len, pieces))
        steps, times = np.empty(count, np.uint64), np.empty(count, np.int64)
        values, tasks, at = np.empty(count, np.float64), [], 0
        for piece in pieces:
            for first in range(piece.first, piece.stop, CHUNK_ROWS):
                stop = min(first + CHUNK_ROWS, piece.stop)
                here = slice(at, at := at + stop - first)
                out = (steps[here], times[here], values[here])
                tasks.append(partial(piece.rows.fill, first, stop, out))
        at_once(tasks, pays=self._far or count >= _MUCH_ROWS)
        return self._ordered(
            key, Axis(steps, times, {key: values}), [(p.rank, len(p)) for p in pieces]
        )

    def _joined(self, key: str, pieces: list[tuple[int, Axis]]) -> Series:
        if not pieces:
            return self._filled(key, [])
        axes = [axis for _, axis in pieces]
        steps = np.concatenate([axis.steps for axis in axes])
        times = np.concatenate([axis.times for axis in axes])
        values = np.concatenate([axis.columns[key] for axis in axes])
        whole = Axis(steps, times, {key: values})
        return self._ordered(key, whole, [(rank, len(axis.steps)) for rank, axis in pieces])

    def _ordered(self, key: str, axis: Axis, counts: list[tuple[int, int]]) -> Series:
        """Parts of (rank, rows), each in step order, one behind the other: all in step order."""
        ranks = None
        if self._several:
            numbers, lengths = [rank for rank, _ in counts], [rows for _, rows in counts]
            ranks = np.repeat(np.array(numbers, np.int32), lengths)
        series = Series(key, axis.steps, axis.columns[key], axis.times, ranks)
        ends = np.cumsum([rows for _, rows in counts[:-1]], dtype=np.intp)
        if (axis.steps[ends] < axis.steps[ends - 1]).any():
            return series.slice(np.argsort(axis.steps, kind="stable"))
        return series


def _load_state(backend: Backend, run_id: str) -> Snapshot:
    """The manifest, with the segments and the metrics of every rank that joined the run; one listing."""
    listed: dict[str, list[int]] = {}
    for stat in backend.walk(layout.run(run_id)):
        number = layout.entry_number(stat.name)
        if number is not None:
            listed.setdefault(stat.name.rpartition("/")[0] + "/", []).append(number)
    main, ranks = layout.manifest(run_id), layout.ranks(run_id)
    snapshot = Chain(backend, main).load(listed.pop(main, []))
    states = {
        number: Chain(backend, prefix).load(numbers).state
        for prefix, numbers in listed.items()
        if (number := layout.rank_number(prefix.removeprefix(ranks).rstrip("/"))) is not None
    }
    if not states:
        return snapshot
    merged = stats.with_ranks(snapshot.state, states)
    segments = dict(merged.get("segments", {}))
    for number, state in states.items():
        for name, about in state.get("segments", {}).items():
            segments[name] = {**about, "rank": number}
    return replace(snapshot, state={**merged, "segments": segments})


def _opened(file: SegmentFile) -> tuple[Footer, Getter, dict[int, Axis]]:
    """The index of a segment, how to read the rest, and room for axes that several metrics share."""
    return (*file.open(), {})


def _live(live: LiveSpool) -> Part:
    about = live.about
    held = lru_cache(maxsize=None)(partial(live_axis, live))

    def find(key: str) -> tuple[int, Rows] | None:
        axis = held(key)
        return (len(axis.steps), LiveRows(axis, axis.columns[key])) if axis else None

    def few(keys: list[str]) -> dict[str, Axis]:
        axes = {key: axis for key in keys if (axis := held(key))}
        most = overview.MOST_POINTS
        return {k: axis.rows(overview.pick(axis.columns[k], most), k) for k, axis in axes.items()}

    attempt = about["attempt"]
    order = (_place(live.rank), attempt, about["opened_at"], live.writer, live.sequence)
    return Part(attempt, live.rank or 0, order, find, few)


def _place(rank: int | None) -> int:
    """The main writer comes before every rank."""
    return -1 if rank is None else rank


def _few(series: Series) -> Series:
    """At most as many points as an overview has."""
    return series.slice(overview.pick(series.values, overview.MOST_POINTS))


def _within(steps: Bounds, limit: int | None) -> Bounds:
    """The bounds `steps`, and not beyond the step where a later attempt began."""
    first, stop = steps
    return first, min((end for end in (stop, limit) if end is not None), default=None)


def _tails(key: str, wanted: list[tuple[Part, Bounds]], count: int) -> list[Slice]:
    """Slices that hold the last `count` rows by step; parts that cannot hold any are not opened."""
    chosen: dict[int, Slice] = {}
    floor: int | None = None  # no chosen row lies before this step
    for number, part, bounds in sorted(_numbered(wanted), key=_end, reverse=True):
        enough = sum(map(len, chosen.values())) >= count
        if enough and floor is not None and _end((number, part, bounds)) < (floor, min(chosen)):
            continue
        if piece := part.slice(key, bounds):
            piece = chosen[number] = piece.last(count)
            least = piece.rows.floor(piece.first)
            floor = least if floor is None else min(floor, least)
    return [chosen[number] for number in sorted(chosen)]


def _numbered(wanted: list[tuple[Part, Bounds]]) -> Iterator[tuple[int, Part, Bounds]]:
    return ((number, part, bounds) for number, (part, bounds) in enumerate(wanted))


def _end(item: tuple[int, Part, Bounds]) -> tuple[int, int]:
    """(a step that no point of the part lies behind, its place among the parts)."""
    number, part, (_, stop) = item
    ends = (part.last_step, None if stop is None else stop - 1)
    return min((end for end in ends if end is not None), default=1 << 64), number


def live_axis(live: LiveSpool, key: str) -> Axis | None:
    tables = [table for table in live.scan.tables if key in table.keys]
    for axis in segment.axes(tables):
        if key in axis.columns:
            return Axis(axis.steps, axis.times, {key: axis.columns[key]})
    return None


def live_spools(
    backend: Backend,
    run_id: str,
    scan: Callable[..., spool.Scan] = spool.scan,
    *,
    without: Collection[str] = (),
) -> Iterator[LiveSpool]:
    """The spools of a run that are in the store now, as `scan` reads them, all but those named."""
    for stat in backend.walk(layout.spools(run_id)):
        if stat.name in without:
            continue
        _, writer, sequence = layout.spool_parts(stat.name)
        try:
            held = _settled(backend, stat.name, scan)
        except NameNotFound:
            continue  # sealed since the listing
        if held is None:
            continue
        spool.check_owner(held.about, run_id, writer, sequence, place=stat.name)
        yield LiveSpool(stat.name, run_id, writer, sequence, held)


def _settled(backend: Backend, name: str, scan: Callable[..., spool.Scan]) -> spool.Scan | None:
    """`scan` of a spool that may be growing. A record that came after its place was read, and before
    the place of the next one was, leaves what looks like damage: but real damage stays where it is.
    None for a spool of which a power cut left only the name."""
    damage = -1
    while True:
        try:
            data = backend.get(name)
            return None if spool.is_blank(data) else scan(data, place=name)
        except Corrupt as error:
            if getattr(error, "offset", damage) == damage:
                raise
            damage = error.offset


def is_sealed(state: State, writer: str, sequence: int) -> bool:
    """True if the points of that spool are in the manifest's segments already."""
    return any(
        about["writer"] == writer and about["sequence"] <= sequence <= about["last_sequence"]
        for about in state.get("segments", {}).values()
    )


def cuts(state: State, spools: list[LiveSpool], upto: int | None = None) -> dict[int, int]:
    """For each attempt the first step that a later attempt supersedes; with `upto`, as it was at the
    end of that attempt."""
    starts = {int(n): about.get("from_step") for n, about in state.get("attempts", {}).items()}
    for live in spools:
        if live.rank is not None:
            continue  # a further writer begins no attempt
        starts.setdefault(live.about["attempt"], None)
        if starts[live.about["attempt"]] is None:
            starts[live.about["attempt"]] = live.about.get("from_step")
    found: dict[int, int] = {}
    least: int | None = None
    for attempt in sorted(starts, reverse=True):
        if upto is not None and attempt > upto:
            continue
        if least is not None and attempt:
            found[attempt] = least
        step = starts[attempt]
        if step is not None and (least is None or step < least):
            least = step
    return found


def cut(axis: Axis | None, first: int | None) -> Axis | None:
    """The rows of an axis in step order before step `first`; None when none is left."""
    if axis is None or first is None or first > int(axis.steps[-1]):
        return axis
    rows = int(np.searchsorted(axis.steps, np.uint64(first)))
    if not rows:
        return None
    columns = {key: values[:rows] for key, values in axis.columns.items()}
    return Axis(axis.steps[:rows], axis.times[:rows], columns)
