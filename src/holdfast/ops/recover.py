"""After a crash: seal what dead processes left in their spools, and say that their runs crashed."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

from holdfast import liveness, process
from holdfast.errors import Corrupt, NameExists, UnsupportedFormat
from holdfast.format import layout, spool
from holdfast.format import salvage as salvaging
from holdfast.format.manifest import State
from holdfast.ops.runs import beat_of, newest_beat, orphan_spools
from holdfast.ops.seal import seal
from holdfast.records import RunStatus
from holdfast.repository import Repository
from holdfast.series import LiveSpool


@dataclass(frozen=True, slots=True)
class Recovered:
    """What recovering a run came to: the points its spools held; the bytes of records that salvaging
    them could not keep; why it could not be recovered, if it could not."""

    run_id: str
    points: int = 0
    marked_crashed: bool = False
    lost_bytes: int = 0
    problem: str | None = None


def recover(
    repository: Repository,
    *,
    salvage: bool = False,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> list[Recovered]:
    """Recover every run whose writer is gone; runs that are being written are left alone.

    A spool that is damaged before its end is a problem of its run, and no other run waits for it;
    with `salvage` the file goes to quarantine as it is and its intact records are kept.
    """
    names = repository.backend.folders(layout.RUNS)
    found = []
    for number, run_id in enumerate(names):
        progress(number, len(names))
        found.append(_try(repository, run_id, salvage))
    return [item for item in found if item]


def _try(repository: Repository, run_id: str, salvage: bool) -> Recovered | None:
    try:
        return recover_run(repository, run_id, salvage=salvage)
    except (Corrupt, UnsupportedFormat) as error:
        return Recovered(run_id, problem=error.message)


def recover_run(repository: Repository, run_id: str, *, salvage: bool = False) -> Recovered | None:
    """Recover one run; None if there was nothing to do. Raises Corrupt, naming what is damaged."""
    scan = salvaging.scan if salvage else spool.scan
    left = orphan_spools(repository, run_id, scan)
    chain = repository.manifest(run_id)
    base = chain.load()
    crashed = _crashed(base.state, beat_of(repository, run_id))
    if not left and not crashed:
        return None
    before = _points(base.state)
    ended = _last_sign(left, newest_beat(repository, run_id)) if crashed else 0
    lost = sum(_quarantine(repository, live) for live in left if live.scan.lost_bytes)

    def also(state: State) -> State:
        return _crash(state, ended) if crashed and _running(state) else {}

    names = [live.name for live in left]
    after = seal(repository, run_id, names, base=base, also=also, scan=scan, full=crashed)
    return Recovered(run_id, _points(after.state) - before, crashed, lost)


def _quarantine(repository: Repository, live: LiveSpool) -> int:
    """Keep the damaged file as it is, out of the way; returns the bytes that are lost."""
    with suppress(NameExists):  # an earlier try got this far
        name = layout.quarantined(live.name)
        repository.backend.create(name, repository.spools.get(live.name))
    return live.scan.lost_bytes


def _points(state: State) -> int:
    return sum(about["points"] for about in state.get("segments", {}).values())


def _running(state: State) -> bool:
    return state.get("run", {}).get("status") == RunStatus.RUNNING.value


def _crashed(state: State, beat: Callable[[], int | None]) -> bool:
    writer = state.get("writer")
    return bool(writer) and _running(state) and liveness.is_dead(writer, beat)


def _last_sign(left: list[LiveSpool], beat: int | None) -> int:
    """When the writer was last heard of, in ns since 1970: by its heartbeat or its last points."""
    tables = [table for live in left for table in live.scan.tables]
    return max([beat or 0, *(int(table.rows["time"].max()) for table in tables)]) or time.time_ns()


def _crash(state: State, ended: int) -> State:
    message = f"{process.describe(state['writer'])} ended without finishing the run"
    return {
        "run": {
            "status": RunStatus.FAILED.value,
            "ended_at": ended,
            "error": {"type": "Crashed", "message": message},
        },
        "writer": {"closed": True},
    }
