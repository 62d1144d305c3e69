"""The parts that a series is put together from: sealed segments, read in pieces, and open spools.

A part gives a `Slice`, some rows of one metric, whose numbers are filled into arrays that the reader of
the series has made: nothing is joined afterwards, and several threads can fill at once.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from holdfast import absent
from holdfast.backend.base import Backend
from holdfast.digest import Digest
from holdfast.errors import Corrupt, NameNotFound
from holdfast.format import layout, segment
from holdfast.format.blocks import Column, Getter, Pieces
from holdfast.format.segment import Axis, Footer
from holdfast.verified import again, read_file

_SAME = ("writer", "sequence", "attempt", "opened_at")  # in the footer and in the manifest
WHOLE_BYTES = 262_144  # a segment up to this size is read whole and held against its sha256
_TAIL_BYTES = 1 << 20  # overviews up to this size are read together with the index
CHUNK_ROWS = 1 << 20  # what one thread fills at a time
_SHORT_ROWS = 4096  # an axis of up to so many is kept while its file is open
_MOST_AXES = 16  # so many of one file
_PAGE_BYTES = 1 << 18  # what many small reads of one file are put together to
_MOST_PAGES = 8  # that are kept of one file
_FEW_READS = 8  # so many small reads of a file do not make it one that is read all over
_THREADS = 4

T = TypeVar("T")
Bounds = tuple[int | None, int | None]  # steps, from the first to before the second
Arrays = tuple[NDArray[np.uint64], NDArray[np.int64], NDArray[np.float64]]  # steps, times, values


class Rows(Protocol):
    """All rows of one metric in one part, in step order."""

    def row_of(self, step: int) -> int:
        """How many of them lie before `step`."""

    def floor(self, row: int) -> int:
        """A step that no row from `row` on lies before."""

    def fill(self, first: int, stop: int, out: Arrays) -> None:
        """Read the rows from `first` to before `stop` into arrays of that length. Raises Corrupt."""


@dataclass(frozen=True, slots=True)
class Slice:
    """The rows from `first` to before `stop` of one metric in one part, which `rank` wrote."""

    rank: int
    first: int
    stop: int
    rows: Rows

    def __len__(self) -> int:
        return self.stop - self.first

    def last(self, count: int) -> Slice:
        """At most `count` rows, from the end."""
        return replace(self, first=max(self.first, self.stop - count))


@dataclass(frozen=True, slots=True)
class Part:
    """Points that were logged in one piece; `order` sorts parts as they were logged.

    `first_step` and `last_step` bound its points, None when nobody knows without reading.
    """

    attempt: int
    rank: int
    order: tuple[Any, ...]
    find: Callable[[str], tuple[int, Rows] | None]  # (rows, how to read them) of a metric
    overview: Callable[[list[str]], dict[str, Axis] | None]
    first_step: int | None = None
    last_step: int | None = None

    def slice(self, key: str, bounds: Bounds) -> Slice | None:
        """The rows of `key` in these steps; None when there are none."""
        if not self.reaches(bounds) or (found := self.find(key)) is None:
            return None
        count, rows = found
        first, stop = again(lambda: _between(count, rows, bounds))
        return Slice(self.rank, first, stop, rows) if first < stop else None

    def reaches(self, bounds: Bounds) -> bool:
        """False if no point of this part lies in these steps."""
        first, stop = bounds
        below = first is not None and self.last_step is not None and self.last_step < first
        above = stop is not None and self.first_step is not None and self.first_step >= stop
        return not (below or above)


def _between(count: int, rows: Rows, bounds: Bounds) -> tuple[int, int]:
    first, stop = bounds
    return (
        0 if first is None else rows.row_of(first),
        count if stop is None else rows.row_of(stop),
    )


@dataclass(frozen=True, slots=True)
class LiveRows:
    """Points of an open spool."""

    axis: Axis
    values: NDArray[np.float64]

    def row_of(self, step: int) -> int:
        return _row_of(self.axis, step)

    def floor(self, row: int) -> int:
        return int(self.axis.steps[row])

    def fill(self, first: int, stop: int, out: Arrays) -> None:
        columns = (self.axis.steps, self.axis.times, self.values)
        for column, target in zip(columns, out, strict=True):
            target[:] = column[first:stop]


@dataclass(frozen=True, slots=True)
class SealedRows:
    """Points in a segment; only the blocks that hold wanted rows are read."""

    columns: tuple[Column, Column, Column]
    get: Getter
    axis: int
    held: dict[int, Axis]  # short axes that were read, by number: other metrics lie on them too

    def row_of(self, step: int) -> int:
        axis = self.held.get(self.axis)
        return self.columns[0].row_of(step, self.get) if axis is None else _row_of(axis, step)

    def floor(self, row: int) -> int:
        return self.columns[0].floor(row)

    def fill(self, first: int, stop: int, out: Arrays) -> None:
        again(lambda: self._fill(first, stop, out))

    def _fill(self, first: int, stop: int, out: Arrays) -> None:
        axis, rows = self.held.get(self.axis), self.columns[0].ends[-1]
        short = axis is None and rows <= _SHORT_ROWS
        spans = [self.columns[2].span(first, stop)]
        if axis is None:
            part = (0, rows) if short else (first, stop)
            spans += [column.span(*part) for column in self.columns[:2]]
        pieces = Pieces(spans, self.get)
        if short:
            axis = self._hold(rows, pieces)
        if axis is not None:
            out[0][:], out[1][:] = axis.steps[first:stop], axis.times[first:stop]
        begin = 0 if axis is None else 2
        for column, target in zip(self.columns[begin:], out[begin:], strict=True):
            column.read(first, stop, pieces, target)

    def _hold(self, rows: int, pieces: Pieces) -> Axis:
        axis = Axis(np.empty(rows, np.uint64), np.empty(rows, np.int64))
        self.columns[0].read(0, rows, pieces, axis.steps)
        self.columns[1].read(0, rows, pieces, axis.times)
        if len(self.held) >= _MOST_AXES:
            self.held.clear()
        self.held[self.axis] = axis
        return axis


def _row_of(axis: Axis, step: int) -> int:
    if step < 0:
        return 0
    return len(axis.steps) if step >> 64 else int(np.searchsorted(axis.steps, np.uint64(step)))


class SegmentFile:
    """One segment of a run in its backend, as the manifest describes it. Raises Corrupt, naming it, and
    NotSynced where it was left out on purpose."""

    def __init__(self, backend: Backend, run_id: str, name: str, about: dict[str, Any]) -> None:
        self.backend = backend
        self.run_id = run_id
        self.digest = Digest(name)
        self.place = layout.segment(run_id, self.digest)
        self.about = about
        self.size_bytes: int = about["size_bytes"]

    def open(self, extra_bytes: int = 0, *, pages: int = _MOST_PAGES) -> tuple[Footer, Getter]:
        """The index, and how to read the rest. A small file is read whole, of a large one the end,
        with `extra_bytes` in front of the index; at most `pages` of 256 KiB of the rest are kept."""
        try:
            return again(lambda: self._open(extra_bytes, pages))
        except Corrupt as error:
            if isinstance(error.__cause__, NameNotFound):
                absent.refuse(self.backend, self.digest, self.run_id)
            raise

    def _open(self, extra_bytes: int, pages: int) -> tuple[Footer, Getter]:
        size = self.size_bytes
        if size <= WHOLE_BYTES:
            get = _in(read_file(self.backend, self.place, self.digest, size), 0, self._get)
            return segment.footer(get(0, size), size, get, place=self.place), get
        length = min(size, extra_bytes + self.about["index_bytes"] + segment.TRAILER_BYTES)
        tail = self._get(size - length, length)
        get = _in(tail, size - length, ReadAhead(self._get, pages))
        found = segment.footer(tail, size, get, place=self.place)
        # Read in part, its sha256 is not checked: at least it must be the right segment.
        if any(found.about.get(name) != self.about[name] for name in _SAME):
            raise Corrupt(
                f"{self.place} is another segment than the manifest says", place=self.place
            )
        return found, get

    def _get(self, offset: int, length: int) -> bytes:
        try:
            return self.backend.get_range(self.place, offset, length)
        except NameNotFound as error:
            raise Corrupt(f"{self.place} is missing from the store", place=self.place) from error

    def overview(self, keys: list[str]) -> dict[str, Axis] | None:
        """Few points of each of these metrics; all of them in a small file; None if there are none."""
        return again(lambda: self._overview(keys))

    def _overview(self, keys: list[str]) -> dict[str, Axis] | None:
        overview_bytes = self.about.get("overview_bytes", 0)
        if not overview_bytes and self.size_bytes > WHOLE_BYTES:
            return None
        index, get = self.open(overview_bytes if overview_bytes <= _TAIL_BYTES else 0)
        read = index.read_overview if index.overviews else index.read
        return {key: read(key, get) for key in keys if key in index.columns}


class ReadAhead:
    """Reads a file by `get`; one of which many small pieces are wanted in larger pieces, of which some
    are kept. A piece that is asked for again is read again: the first answer may have been damaged."""

    def __init__(self, get: Getter, pages: int) -> None:
        self._get = get
        self._asked: set[int] = set()
        self._page = lru_cache(maxsize=pages)(self._read_page)

    def __call__(self, offset: int, length: int) -> bytes:
        number, at = divmod(offset, _PAGE_BYTES)
        if offset in self._asked:
            self._page.cache_clear()
            return self._get(offset, length)
        self._asked.add(offset)
        if at + length > _PAGE_BYTES or len(self._asked) <= _FEW_READS:
            return self._get(offset, length)
        return self._page(number)[at : at + length]

    def _read_page(self, number: int) -> bytes:
        return self._get(number * _PAGE_BYTES, _PAGE_BYTES)


def _in(data: bytes, start: int, get: Getter) -> Getter:
    """Read from `data`, which are the bytes from `start` on, and what lies before them by `get`."""

    def read(offset: int, length: int) -> bytes:
        at = offset - start
        return data[at : at + length] if at >= 0 else get(offset, length)

    return read


def at_once(tasks: Sequence[Callable[[], T]], *, pays: bool = True) -> list[T]:
    """The results of all tasks, run on a few threads where that `pays`: far storage waits, and decoders
    of much let go of the interpreter. Raises the first error."""
    if not pays or len(tasks) < 2:
        return [task() for task in tasks]
    waiting = list(enumerate(tasks))
    results: dict[int, T] = {}
    errors: list[BaseException] = []
    count = min(_THREADS, len(waiting))
    waiting.reverse()

    def work() -> None:
        while not errors:
            try:
                number, task = waiting.pop()
            except IndexError:
                return
            try:
                results[number] = task()
            except BaseException as error:  # noqa: BLE001 - raised by the caller's thread below
                errors.append(error)

    threads = [threading.Thread(target=work, daemon=True) for _ in range(count - 1)]
    for thread in threads:
        thread.start()
    work()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]
    return [results[number] for number in range(len(results))]
