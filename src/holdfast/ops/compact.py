"""Compaction: many small segments of one writer become few, by one new generation of its chain.

Only segments that follow each other in every series are put together: those of one writer and one
attempt, whose spools were numbered without a gap. Every point is kept, superseded ones too. The new
file is written, read back and held against the old ones; then one entry removes the old records and adds
the new one, if the old ones are all still there. The old files stay until they are collected, since
older generations and running readers refer to them. A crash at any moment leaves at most a file that
nothing refers to.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from concurrent.futures import Executor
from contextlib import suppress
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from holdfast.chain import Chain
from holdfast.errors import BackendError, Corrupt, NameRetired
from holdfast.format import layout
from holdfast.format.manifest import State
from holdfast.ids import new_nonce
from holdfast.ops.merge import Records, merged
from holdfast.ops.references import again, commit, writable
from holdfast.records import RunStatus
from holdfast.repository import Repository
from holdfast.work import each

FAN_OUT = 8  # so many segments of about one size become one: each point is written about 3 times
MOST_ROWS = 1 << 24  # in one segment: bounds the memory that putting it together takes

Progress = Callable[[int, int], None]  # (bytes read, all)


@dataclass(frozen=True, slots=True)
class Compacted:
    """What compacting one writer of a run came to; with `dry_run`, what it would come to.

    `rank` is None for the main writer; `bytes_after` is 0 when nothing was written. `given_up` counts
    the segments that another process had replaced meanwhile.
    """

    run_id: str
    rank: int | None
    segments_before: int
    segments_after: int
    bytes_before: int = 0
    bytes_after: int = 0
    given_up: int = 0


def compact(
    repository: Repository,
    run_id: str | None = None,
    *,
    dry_run: bool = False,
    executor: str | Executor | None = None,
    progress: Progress = lambda done, total: None,
) -> list[Compacted]:
    """Compact one run, or every run, on the workers of `executor`; writers of which nothing can be put
    together are left out."""
    runs = [run_id] if run_id else repository.backend.folders(layout.RUNS)
    plans = [plan for _, some in each(repository, _plans, runs, executor) for plan in some]
    total = sum(plan.size_bytes for plan in plans)
    found, done = [], 0
    for plan, made in each(repository, _described if dry_run else _carried_out, plans, executor):
        found.append(made)
        done += plan.size_bytes
        progress(done, total)
    return sorted(found, key=lambda one: (one.run_id, -1 if one.rank is None else one.rank))


def tidy(
    repository: Repository, run_id: str, rank: int | None, state: State, wanted: bool | None
) -> None:
    """Compact what one writer that has just ended wrote: if it pays when nobody said (`wanted` None).

    Then a failure is no failure of the run, whose points are all there: it can be done at any time.
    """
    if wanted is False or (wanted is None and len(state.get("segments", {})) < FAN_OUT):
        return
    groups = planned(state, final=True)
    plan = Plan(run_id, rank, len(state.get("segments", {})), groups)
    with suppress(*() if wanted else (BackendError, Corrupt)):
        _carried_out(repository, plan)


def tidy_open(repository: Repository, run_id: str, rank: int | None, state: State) -> None:
    """Compact what can be while the run goes on: a remote store gets small segments all the time. A failure
    is none of the run's."""
    plan = Plan(run_id, rank, len(state.get("segments", {})), planned(state, final=False))
    with suppress(BackendError, Corrupt):
        _carried_out(repository, plan)


@dataclass(frozen=True, slots=True)
class Plan:
    """The groups of segments of one writer that become one segment each."""

    run_id: str
    rank: int | None
    segments: int
    groups: list[Records]

    @property
    def size_bytes(self) -> int:
        return sum(map(_bytes, self.groups))


def _plans(repository: Repository, run_id: str) -> list[Plan]:
    return list(_found(repository, run_id))


def _found(repository: Repository, run_id: str) -> Iterator[Plan]:
    main = repository.manifest(run_id).load().state
    ended = main.get("run", {}).get("status") != RunStatus.RUNNING.value
    for rank in (None, *repository.ranks(run_id)):
        state = main if rank is None else repository.rank(run_id, rank).load().state
        groups = planned(state, final=ended)
        if groups:
            yield Plan(run_id, rank, len(state["segments"]), groups)


def planned(state: State, *, final: bool) -> list[Records]:
    """The groups of segments in a chain's state to put together now: all that can be when its run has
    ended (`final`), else `FAN_OUT` of about one size at a time."""
    return [
        group
        for row in _rows(state)
        for group in (_by_rows(row) if final else _by_size(row))
        if len(group) > 1
    ]


def _rows(state: State) -> list[Records]:
    """The segments in the order of the series, cut wherever two may not be put together."""
    order = ("attempt", "opened_at", "writer", "sequence")
    records = sorted(
        state.get("segments", {}).items(), key=lambda item: tuple(item[1][name] for name in order)
    )
    rows: list[Records] = [records[:1]]
    for (_, before), record in pairwise(records):
        about = record[1]
        same = all(before[name] == about[name] for name in ("attempt", "writer"))
        if same and before["last_sequence"] + 1 == about["sequence"]:
            rows[-1].append(record)
        else:
            rows.append([record])
    return rows


def _by_rows(row: Records) -> Iterator[Records]:
    """Groups that are as large as memory allows."""
    group: Records = []
    for record in row:
        if group and sum(about["rows"] for _, about in [*group, record]) > MOST_ROWS:
            yield group
            group = []
        group.append(record)
    yield group


def _by_size(row: Records) -> Iterator[Records]:
    """The first `FAN_OUT` neighbours of one level, for each level."""
    run: Records = []
    for record in row:
        if run and _level(run[-1]) != _level(record):
            run = []
        run.append(record)
        if len(run) == FAN_OUT:
            yield from _by_rows(run)
            run = []


def _level(record: tuple[str, dict[str, Any]]) -> int:
    """How often the points of a segment were put together: by the number of spools in it."""
    about = record[1]
    return int(math.log(about["last_sequence"] - about["sequence"] + 1.5, FAN_OUT))


def _bytes(group: Records) -> int:
    return sum(about["size_bytes"] for _, about in group)


def _described(repository: Repository, plan: Plan) -> Compacted:
    left = plan.segments - sum(len(group) - 1 for group in plan.groups)
    before = plan.size_bytes
    return Compacted(plan.run_id, plan.rank, plan.segments, left, before)


def _carried_out(repository: Repository, plan: Plan) -> Compacted:
    chain = Chain(repository.backend, layout.chain(plan.run_id, plan.rank))
    after, written, given_up = plan.segments, 0, 0
    for group in plan.groups:
        about = _replaced(repository, chain, plan.run_id, group)
        if about is None:
            given_up += len(group)
        else:
            after -= len(group) - 1
            written += about["size_bytes"]
    before = plan.size_bytes
    return Compacted(plan.run_id, plan.rank, plan.segments, after, before, written, given_up)


def _replaced(
    repository: Repository, chain: Chain, run_id: str, group: Records
) -> dict[str, Any] | None:
    """Put one group together and publish it: its record; None when another process was quicker."""
    try:
        return _published(repository, chain, run_id, group)
    except NameRetired:  # an earlier try left a file that was collected
        return again(lambda: _published(repository, chain, run_id, group, new_nonce()))


def _published(
    repository: Repository, chain: Chain, run_id: str, group: Records, salt: bytes | None = None
) -> dict[str, Any] | None:
    try:
        name, about = merged(writable(repository).backend, run_id, group, salt)
    except Corrupt:
        if _all_there(chain.load().state, group):
            raise
        return None  # they were replaced, and then collected
    change = {"segments": {**dict.fromkeys((old for old, _ in group), None), name: about}}

    def decide(state: State) -> State:
        return change if _all_there(state, group) else {}

    # What is read often and changes no more is read with one request when its entry is full.
    after = commit(repository, chain.prefix, decide, full=True)
    return about if name in after.state.get("segments", {}) else None


def _all_there(state: State, group: Records) -> bool:
    present = state.get("segments", {})
    return all(name in present for name, _ in group)
