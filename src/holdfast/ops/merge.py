"""Several segments of one writer as one file: column after column, so that memory stays bounded.

What is held at a time is one column of all points (8 bytes for each row), and for rows that are not in
step order yet twice as much; never the file.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from blake3 import blake3
from numpy.typing import NDArray

from holdfast.backend.base import Backend
from holdfast.digest import Digest
from holdfast.errors import Corrupt
from holdfast.format import layout, overview, segment
from holdfast.format.blocks import Column, Getter
from holdfast.format.segment import Axis
from holdfast.series_parts import SegmentFile

_FIRST = ("writer", "sequence", "attempt", "opened_at")  # as of the first of them
_KEPT = ("from_step", "rank")  # likewise, in the file alone
_PIECE_ROWS = 1 << 18

Records = list[tuple[str, dict[str, Any]]]  # (name, what the chain says of it), in order
Seals = dict[str, list[bytes]]  # for each metric the blake3 of its steps, times and values


@dataclass(frozen=True, slots=True)
class _Source:
    """The rows of one axis of one of the segments."""

    footer: segment.Footer
    get: Getter
    axis: int


@dataclass(slots=True)
class _Merge:
    """One axis of the new segment: the metrics that lie together in each of the old ones."""

    keys: list[str]
    sources: list[_Source]
    order: NDArray[np.uint32] | None = None  # of the rows, where the sources overlap
    ends: tuple[int, int] = (0, 0)  # the first and the last step
    few: dict[str, tuple[NDArray[np.intp], NDArray[np.float64]]] = field(default_factory=dict)

    @property
    def rows(self) -> int:
        return int(sum(source.footer.axes[source.axis][0] for source in self.sources))

    def steps(self) -> NDArray[np.uint64]:
        return self._ordered(self._column(lambda of: of.footer.axes[of.axis][1], np.uint64))

    def times(self) -> NDArray[np.int64]:
        return self._ordered(self._column(lambda of: of.footer.axes[of.axis][2], np.int64))

    def values(self, key: str) -> NDArray[np.float64]:
        return self._ordered(self._column(lambda of: of.footer.columns[key][1], np.float64))

    def _column(self, blocks: Callable[[_Source], list[Any]], dtype: Any) -> NDArray[Any]:
        whole, at = np.empty(self.rows, dtype), 0
        for source in self.sources:
            for part in Column(source.footer.place, blocks(source), dtype).parts(source.get):
                whole[at : at + len(part)] = part
                at += len(part)
        return whole

    def _ordered(self, whole: NDArray[Any]) -> NDArray[Any]:
        if self.order is None:
            return whole
        found = np.empty_like(whole)
        for at in range(0, len(whole), _PIECE_ROWS):
            found[at : at + _PIECE_ROWS] = whole[self.order[at : at + _PIECE_ROWS]]
        return found


def merged(
    backend: Backend, run_id: str, group: Records, salt: bytes | None = None
) -> tuple[str, dict[str, Any]]:
    """(name, record) of a new segment with all points of the segments in `group`, in their order. It
    is stored, and was read back; nothing refers to it yet. A `salt` makes its name a new one. Raises
    Corrupt, BackendError, NameRetired."""
    # Each file is read from its beginning to its end, and many are open: one page of each will do.
    opened = [SegmentFile(backend, run_id, name, about).open(pages=1) for name, about in group]
    first = opened[0][0].about
    whose = {name: group[0][1][name] for name in _FIRST}
    whose["last_sequence"] = group[-1][1]["last_sequence"]
    about = {"run_id": run_id, **whose} | {k: first[k] for k in _KEPT if k in first}
    about |= {"nonce": salt} if salt else {}
    merges = _merges(opened)
    digest, sizes, seals = _written(backend, run_id, about, merges)
    record = {**whose, **sizes, **_counts(group, merges)}
    _read_back(SegmentFile(backend, run_id, digest.hex, record), seals)
    return digest.hex, record


def _merges(opened: list[tuple[segment.Footer, Getter]]) -> list[_Merge]:
    where: dict[str, list[tuple[int, int]]] = {}
    for number, (footer, _) in enumerate(opened):
        for key, (axis, _) in footer.columns.items():
            where.setdefault(key, []).append((number, axis))
    together: dict[tuple[tuple[int, int], ...], list[str]] = {}
    for key, places in where.items():
        together.setdefault(tuple(places), []).append(key)
    return [
        _Merge(keys, [_Source(*opened[number], axis) for number, axis in places])
        for places, keys in together.items()
    ]


def _counts(group: Records, merges: list[_Merge]) -> dict[str, int]:
    return {
        "rows": sum(about["rows"] for _, about in group),
        "points": sum(about["points"] for _, about in group),
        "first_step": min(merge.ends[0] for merge in merges),
        "last_step": max(merge.ends[1] for merge in merges),
    }


def _written(
    backend: Backend, run_id: str, about: dict[str, Any], merges: list[_Merge]
) -> tuple[Digest, dict[str, int], Seals]:
    """Store the file: (its digest, its sizes, what its columns must be)."""
    staged, sha = backend.stage(), hashlib.sha256()

    def write(data: bytes) -> None:
        staged.write(data)
        sha.update(data)

    try:
        seals: Seals = {}
        writer = segment.Writer(write)
        points = overview.sizes([merge.rows for merge in merges])
        for merge, most in zip(merges, points, strict=True):
            seals |= _write_axis(writer, merge, most)
        for merge in merges:
            _write_overviews(writer, merge)
        sizes = writer.finish(about)
        digest = Digest(sha.hexdigest())
        staged.commit(layout.segment(run_id, digest))  # taken: an earlier try got this far
    finally:
        staged.abort()
    return digest, sizes, seals


def _write_axis(writer: segment.Writer, merge: _Merge, most: int) -> Seals:
    """Write the columns of an axis, and pick `most` points of each; returns their seals."""
    steps = merge.steps()
    if (steps[1:] < steps[:-1]).any():
        merge.order = np.argsort(steps, kind="stable").astype(np.uint32)
        del steps
        steps = merge.steps()
    merge.ends = (int(steps[0]), int(steps[-1]))
    writer.axis(steps)
    shared = [blake3(_bytes(steps)).digest()]
    del steps
    times = merge.times()
    writer.times(times)
    shared.append(blake3(_bytes(times)).digest())
    del times
    seals: Seals = {}
    for key in merge.keys:
        values = merge.values(key)
        writer.column(key, values)
        seals[key] = [*shared, blake3(_bytes(values)).digest()]
        if most:
            rows = overview.pick(values, most)
            merge.few[key] = (rows, values[rows])
    return seals


def _bytes(column: NDArray[Any]) -> memoryview:
    return memoryview(column).cast("B")  # type: ignore[arg-type]


def _write_overviews(writer: segment.Writer, merge: _Merge) -> None:
    if not merge.few:
        return
    steps = merge.steps()
    few_steps = {key: steps[rows] for key, (rows, _) in merge.few.items()}
    del steps
    times = merge.times()
    for key, (rows, values) in merge.few.items():
        writer.overview(key, Axis(few_steps[key], times[rows], {key: values}))


def _read_back(file: SegmentFile, seals: Seals) -> None:
    """Hold what is stored now against what was meant to be. Raises Corrupt."""
    footer, get = file.open()
    good, shared = footer.columns.keys() == seals.keys(), (-1, [b""])
    for key, wanted in seals.items() if good else ():
        (axis, _), columns = footer.columns[key], footer.columns_of(key)
        if shared[0] != axis:  # the metrics of one axis come one behind the other
            shared = axis, [_seal(column, get) for column in columns[:2]]
        good = good and [*shared[1], _seal(columns[2], get)] == wanted
    if not good:
        raise Corrupt(
            f"{file.place} was not stored as it was written: nothing refers to it, and the segments "
            "that it was made of stay",
            place=file.place,
        )


def _seal(column: Column, get: Getter) -> bytes:
    found = blake3()
    for part in column.parts(get):
        found.update(_bytes(part))
    return found.digest()
