"""After a crash: seal what dead processes left in their spools, and say that their runs crashed."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass

from holdfast import liveness, process
from holdfast.errors import Corrupt, InvalidState, NameExists, UnsupportedFormat
from holdfast.format import gc, layout, spool
from holdfast.format import salvage as salvaging
from holdfast.format.manifest import State
from holdfast.ops import ranks
from holdfast.ops.orphans import beat_of, newest_beat, orphan_spools
from holdfast.ops.publish import send_left, unsent
from holdfast.ops.seal import recount_ranks, seal
from holdfast.records import RunStatus
from holdfast.repository import Repository
from holdfast.series import LiveSpool


@dataclass(frozen=True, slots=True)
class Recovered:
    """What recovering a run came to: the points its spools held; the bytes of records that salvaging
    them could not keep; why it could not be recovered, if it could not. `ranks` are those that joined
    the run and ended without a word; `marked_crashed` is about the run itself."""

    run_id: str
    points: int = 0
    marked_crashed: bool = False
    lost_bytes: int = 0
    problem: str | None = None
    ranks: tuple[int, ...] = ()


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
    found: list[Recovered | None] = list(_sent(repository)) if repository.is_remote else []
    names = repository.backend.folders(layout.RUNS)
    for number, run_id in enumerate(names):
        progress(number, len(names))
        found.append(_try(repository, run_id, salvage))
    return _by_run(item for item in found if item)


def _sent(repository: Repository) -> Iterator[Recovered]:
    """Send what dead processes of this machine left for a remote store. Raises Unavailable."""
    left = [one for one in unsent(repository) if not one.is_open]
    problems = {one.run_id: one.problem for one in send_left(repository)}
    for one in left:
        yield Recovered(one.run_id, one.points, problem=problems.get(one.run_id))


def _by_run(found: Iterable[Recovered]) -> list[Recovered]:
    """One for each run: what was sent of it, and what was sealed."""
    runs: dict[str, Recovered] = {}
    for one in found:
        before = runs.get(one.run_id, Recovered(one.run_id))
        runs[one.run_id] = Recovered(
            one.run_id,
            before.points + one.points,
            before.marked_crashed or one.marked_crashed,
            before.lost_bytes + one.lost_bytes,
            one.problem or before.problem,
            before.ranks + one.ranks,
        )
    return list(runs.values())


def _try(repository: Repository, run_id: str, salvage: bool) -> Recovered | None:
    try:
        return recover_run(repository, run_id, salvage=salvage)
    except (Corrupt, UnsupportedFormat) as error:
        return Recovered(run_id, problem=error.message)
    except InvalidState:
        if gc.is_collected(repository.manifest(run_id).load().state):
            return None  # somebody removed it for good; its spools go with the next collection
        raise


def recover_run(repository: Repository, run_id: str, *, salvage: bool = False) -> Recovered | None:
    """Recover one run; None if there was nothing to do. Raises Corrupt, naming what is damaged."""
    scan = salvaging.scan if salvage else spool.scan
    left = orphan_spools(repository, run_id, scan)
    lost = sum(_quarantine(repository, live) for live in left if live.scan.lost_bytes)
    main = [live for live in left if live.rank is None]
    points, crashed = _recover_main(repository, run_id, main, scan)
    joined = {live.rank for live in left if live.rank is not None}
    gone = []
    for rank in sorted(joined.union(repository.ranks(run_id))):
        own = [live for live in left if live.rank == rank]
        found = _recover_rank(repository, run_id, rank, own, scan)
        if found is not None:
            points += found
            gone.append(rank)
    recount_ranks(repository, run_id)
    if not left and not crashed and not gone:
        return None
    return Recovered(run_id, points, crashed, lost, ranks=tuple(gone))


Scanner = Callable[..., spool.Scan]


def _recover_main(
    repository: Repository, run_id: str, left: list[LiveSpool], scan: Scanner
) -> tuple[int, bool]:
    """(points sealed, whether the run was marked as crashed) of the main writer."""
    base = repository.manifest(run_id).load()
    here = not _is_elsewhere(repository, base.state)
    crashed = here and _crashed(base.state, beat_of(repository, run_id))
    if not left and not crashed:
        return 0, False
    before = _points(base.state)
    ended = _last_sign(left, newest_beat(repository, run_id)) if crashed else 0

    def also(state: State) -> State:
        return _crash(state, ended) if crashed and _running(state) else {}

    names = [live.name for live in left]
    after = seal(repository, run_id, names, base=base, also=also, scan=scan, full=crashed)
    return _points(after.state) - before, crashed


def _recover_rank(
    repository: Repository, run_id: str, rank: int, left: list[LiveSpool], scan: Scanner
) -> int | None:
    """The points sealed for a rank; None when its writer ended in order, or lives."""
    base = repository.rank(run_id, rank).load()
    beat = beat_of(repository, run_id, rank)
    if not left and (_is_elsewhere(repository, base.state) or not _gone(base.state, beat)):
        return None
    before = _points(base.state)
    ended = _last_sign(left, beat())

    def also(state: State) -> State:
        return ranks.ended(RunStatus.FAILED, ended, _vanished(state)) if _gone(state, beat) else {}

    names = [live.name for live in left]
    after = seal(repository, run_id, names, base=base, also=also, scan=scan, rank=rank)
    return _points(after.state) - before


def _is_elsewhere(repository: Repository, state: State) -> bool:
    """Is it the copy of a run that goes on in another store? What became of it is said there."""
    return bool(state.get("writer", {}).get("store", repository.store_id) != repository.store_id)


def _gone(state: State, beat: Callable[[], int | None]) -> bool:
    """True for a rank whose process ended without a word."""
    writer = state.get("writer", {})
    return bool(writer) and not writer.get("closed") and liveness.is_dead(writer, beat)


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


def _vanished(state: State) -> dict[str, str]:
    message = f"{process.describe(state['writer'])} ended without finishing the run"
    return {"type": "Crashed", "message": message}


def _crash(state: State, ended: int) -> State:
    return {
        "run": {
            "status": RunStatus.FAILED.value,
            "ended_at": ended,
            "error": _vanished(state),
        },
        "writer": {"closed": True},
    }
