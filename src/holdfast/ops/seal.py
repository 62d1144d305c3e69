"""Sealing: the points of spools become segments, and one new generation of the manifest says so.

Order is the protocol: segments first, then the manifest, then the spools go. A crash in between
leaves spools whose points the manifest has already (readers skip them) or has not (readers read
them); sealing again finishes the work.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from holdfast.chain import Snapshot
from holdfast.digest import Digest
from holdfast.errors import BackendError, NameExists, NameNotFound
from holdfast.format import layout, manifest, segment, spool, stats
from holdfast.format.manifest import State
from holdfast.format.segment import Axis
from holdfast.repository import Repository
from holdfast.series import RunPoints, cut, cuts, is_sealed

NO_CHANGE: Callable[[State], State] = lambda state: {}  # noqa: E731


@dataclass(frozen=True, slots=True)
class Sealed:
    """One spool on its way into the manifest; `axes` is empty when it held no row."""

    name: str
    digest: Digest | None
    about: dict[str, Any]
    axes: list[Axis]


def seal(
    repository: Repository,
    run_id: str,
    names: Iterable[str],
    *,
    base: Snapshot | None = None,
    also: Callable[[State], State] = NO_CHANGE,
    scan: Callable[..., spool.Scan] = spool.scan,
    full: bool = False,
) -> Snapshot:
    """Publish the spools `names` of a run, together with the change that `also` decides on.

    `full` is for the last entry of a run: see `Chain.commit`.
    """
    found = (_segment(repository, run_id, name, scan) for name in names)
    parts = [part for part in found if part]
    chain = repository.manifest(run_id)
    base = base or chain.load()
    if base.number < 0:  # generation 0 holds no references
        base = chain.commit(base, lambda state: {} if state else {"run": {"run_id": run_id}})

    def decide(state: State) -> State:
        change = _change(repository, run_id, state, parts)
        return _joined(change, also(manifest.apply(state, change)))

    after = chain.commit(base, decide, full=full)
    for part in parts:
        with suppress(BackendError):  # it stays, is recognised as sealed, and goes next time
            repository.spools.delete(part.name)
    return after


def _joined(a: State, b: State) -> State:
    return {
        section: {**a.get(section, {}), **b.get(section, {})} for section in a.keys() | b.keys()
    }


def _segment(
    repository: Repository, run_id: str, name: str, scan: Callable[..., spool.Scan]
) -> Sealed | None:
    """Write the segment of one spool; None if the spool is gone."""
    try:
        data = repository.spools.get(name)
    except NameNotFound:
        return None
    # A thread that only computes still keeps others from running: let them, now and then.
    held = scan(data, place=name, breathe=lambda: time.sleep(0))
    axes = segment.axes(held.tables)
    _, writer, sequence = layout.spool_parts(name)
    spool.check_owner(held.about, run_id, writer, sequence, place=name)
    about = {
        "writer": writer,
        "sequence": sequence,
        "last_sequence": sequence,
        "attempt": held.about["attempt"],
        "opened_at": held.about["opened_at"],
        "from_step": held.about.get("from_step"),
    }
    if not axes:
        return Sealed(name, None, about, [])
    file, sizes = segment.encode({"run_id": run_id, **about}, axes)
    digest = Digest.of(file)
    with suppress(NameExists):  # an earlier try got this far: the same bytes are there
        repository.backend.create(layout.segment(run_id, digest), file)
    about |= {
        **sizes,
        "first_step": min(int(axis.steps[0]) for axis in axes),
        "last_step": max(int(axis.steps[-1]) for axis in axes),
        "rows": held.row_count,
        "points": sum(len(axis.steps) * len(axis.columns) for axis in axes),
    }
    return Sealed(name, digest, about, axes)


def _change(repository: Repository, run_id: str, state: State, parts: list[Sealed]) -> State:
    """The change that adds the segments, their statistics and where their attempts began."""
    new = [
        part
        for part in parts
        if part.digest and not is_sealed(state, part.about["writer"], part.about["sequence"])
    ]
    if not new:
        return {}
    attempts = _begun(state, new)
    segments = {part.digest.hex: _record(part) for part in new if part.digest}
    after = manifest.apply(state, {"attempts": attempts, "segments": segments})
    limits = cuts(after, [])
    rewound = attempts and cuts(state, []) != limits
    fresh = {part.digest.hex for part in new if part.digest}
    known = state.get("metrics", {})
    if rewound:
        known = recount(repository, run_id, after, without=fresh)
    metrics = stats.merge_all(
        known,
        [
            stats.of(axis)
            for part in new
            for whole in part.axes
            if (axis := cut(whole, limits.get(part.about["attempt"])))
        ],
    )
    return {
        "attempts": attempts,
        "segments": segments,
        "metrics": metrics_change(state.get("metrics", {}), metrics),
    }


def metrics_change(old: dict[str, stats.Stats], new: dict[str, stats.Stats]) -> dict[str, Any]:
    """What turns the statistics `old` into `new`."""
    changed = {key: value for key, value in new.items() if old.get(key) != value}
    return {**changed, **{key: None for key in old if key not in new}}


def _record(part: Sealed) -> dict[str, Any]:
    return {key: value for key, value in part.about.items() if key != "from_step"}


def _begun(state: State, parts: list[Sealed]) -> dict[str, Any]:
    """The attempts whose first step becomes known with these parts."""
    begun = {}
    for part in parts:
        number, step = str(part.about["attempt"]), part.about["from_step"]
        known = state.get("attempts", {}).get(number, {})
        if step is not None and known.get("from_step") is None:
            begun[number] = {**known, "from_step": step}
    return begun


def recount(
    repository: Repository, run_id: str, state: State, *, without: Collection[str] = ()
) -> dict[str, stats.Stats]:
    """The statistics of the segments of `state`, read anew: some of their points are superseded."""
    points = RunPoints.of_state(repository.backend, run_id, state, without=without)
    found = {}
    for key in state.get("metrics", {}):
        series = points.series(key)
        if len(series):
            axis = Axis(series.steps, series.timestamps, {key: series.values})
            found.update(stats.of(axis))
    return found
