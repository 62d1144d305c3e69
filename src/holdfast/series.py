"""Reading metrics: the points of one metric of one run, in step order, from segments and spools.

A run that was resumed has attempts. Points that an earlier attempt logged at or after the step where
a later one began stay in history and are superseded in the series, so that no curve runs zigzag.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from holdfast.backend.base import Backend
from holdfast.chain import Chain, Snapshot
from holdfast.digest import Digest
from holdfast.errors import Corrupt, NameNotFound
from holdfast.format import layout, segment, spool
from holdfast.format.manifest import State
from holdfast.format.segment import Axis
from holdfast.verified import again, read_file

_SAME = ("writer", "sequence", "attempt", "opened_at")  # in the footer and in the manifest
_WHOLE_BYTES = 262_144  # a segment up to this size is read whole and held against its sha256


@dataclass(frozen=True, slots=True)
class Series:
    """All points of one metric of one run, by step; equal steps in the order they were logged.

    `steps` uint64, `values` float64 (NaN and infinities exact), `timestamps` int64 in ns since 1970;
    `ranks` int32, the writer of each point, None when one process alone wrote the run.
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


@dataclass(frozen=True, slots=True)
class _Part:
    """Points that were logged in one piece; `order` sorts parts as they were logged."""

    attempt: int
    order: tuple[Any, ...]
    read: Callable[[str], Axis | None]


class RunPoints:
    """Everything logged to one run at one moment: its manifest's segments and its spools."""

    def __init__(
        self, backend: Backend, run_id: str, snapshot: Snapshot, spools: list[LiveSpool]
    ) -> None:
        self.backend = backend
        self.run_id = run_id
        self.snapshot = snapshot
        state = snapshot.state
        self.spools = [live for live in spools if not is_sealed(state, live.writer, live.sequence)]
        self.cuts = cuts(state, self.spools)
        self._parts = sorted(
            [*map(self._sealed, state.get("segments", {}).items()), *map(self._live, self.spools)],
            key=lambda part: part.order,
        )

    @classmethod
    def load(cls, backend: Backend, run_id: str, spools: Backend) -> RunPoints:
        """Everything there is now; `spools` is where the open spools lie."""
        # Spools first: one that is sealed in the meantime is then found in the newer manifest.
        live = list(live_spools(spools, run_id))
        return cls(backend, run_id, Chain(backend, layout.manifest(run_id)).load(), live)

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

    def series(self, key: str) -> Series:
        """The series of `key`; empty when it was never logged. Raises Corrupt, naming the file."""
        found = [cut(part.read(key), self.cuts.get(part.attempt)) for part in self._parts]
        axes = [axis for axis in found if axis is not None]
        if not axes:
            return _empty(key)
        steps = np.concatenate([axis.steps for axis in axes])
        values = np.concatenate([axis.columns[key] for axis in axes])
        times = np.concatenate([axis.times for axis in axes])
        if (steps[1:] < steps[:-1]).any():
            order = np.argsort(steps, kind="stable")
            steps, values, times = steps[order], values[order], times[order]
        return Series(key, steps, values, times)

    def _sealed(self, item: tuple[str, dict[str, Any]]) -> _Part:
        name, about = item
        order = (about["attempt"], about["opened_at"], about["writer"], about["sequence"])
        return _Part(about["attempt"], order, lambda key: self._read(Digest(name), about, key))

    def _live(self, live: LiveSpool) -> _Part:
        about = live.about
        order = (about["attempt"], about["opened_at"], live.writer, live.sequence)
        return _Part(about["attempt"], order, lambda key: live_axis(live, key))

    def _read(self, digest: Digest, about: dict[str, Any], key: str) -> Axis | None:
        place = layout.segment(self.run_id, digest)
        size, index = about["size_bytes"], about["index_bytes"]

        def get(offset: int, length: int) -> bytes:
            return self.backend.get_range(place, offset, length)

        def read() -> Axis | None:
            try:
                if size <= _WHOLE_BYTES:
                    whole = read_file(self.backend, place, digest, size)
                    return _column(segment.footer(whole, size, get, place=place), key, _in(whole))
                tail = min(size, index + segment.TRAILER_BYTES)
                found = segment.footer(get(size - tail, tail), size, get, place=place)
                # Read in part, its sha256 is not checked: at least it must be the right segment.
                if any(found.about.get(name) != about[name] for name in _SAME):
                    raise Corrupt(f"{place} is another segment than the manifest says", place=place)
                return _column(found, key, get)
            except NameNotFound as error:
                raise Corrupt(f"{place} is missing from the store", place=place) from error

        return again(read)


def _in(data: bytes) -> segment.Getter:
    return lambda offset, length: data[offset : offset + length]


def _column(footer: segment.Footer, key: str, get: segment.Getter) -> Axis | None:
    return footer.read(key, get) if key in footer.columns else None


def _empty(key: str) -> Series:
    return Series(key, np.empty(0, np.uint64), np.empty(0, np.float64), np.empty(0, np.int64))


def live_axis(live: LiveSpool, key: str) -> Axis | None:
    tables = [table for table in live.scan.tables if key in table.keys]
    for axis in segment.axes(tables):
        if key in axis.columns:
            return Axis(axis.steps, axis.times, {key: axis.columns[key]})
    return None


def live_spools(
    backend: Backend, run_id: str, scan: Callable[..., spool.Scan] = spool.scan
) -> Iterator[LiveSpool]:
    """The spools of a run that are in the store now, as `scan` reads them."""
    for stat in backend.walk(layout.spools(run_id)):
        _, writer, sequence = layout.spool_parts(stat.name)
        try:
            held = _settled(backend, stat.name, scan)
        except NameNotFound:
            continue  # sealed since the listing
        spool.check_owner(held.about, run_id, writer, sequence, place=stat.name)
        yield LiveSpool(stat.name, run_id, writer, sequence, held)


def _settled(backend: Backend, name: str, scan: Callable[..., spool.Scan]) -> spool.Scan:
    """`scan` of a spool that may be growing. A record that came after its place was read, and before
    the place of the next one was, leaves what looks like damage: but real damage stays where it is."""
    damage = -1
    while True:
        try:
            return scan(backend.get(name), place=name)
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


def cuts(state: State, spools: list[LiveSpool]) -> dict[int, int]:
    """For each attempt the first step that a later attempt supersedes."""
    starts = {int(n): about.get("from_step") for n, about in state.get("attempts", {}).items()}
    for live in spools:
        starts.setdefault(live.about["attempt"], None)
        if starts[live.about["attempt"]] is None:
            starts[live.about["attempt"]] = live.about.get("from_step")
    found: dict[int, int] = {}
    least: int | None = None
    for attempt in sorted(starts, reverse=True):
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
