"""After a crash: seal what dead processes left in their spools, and say that their runs crashed."""

from __future__ import annotations

import time
from dataclasses import dataclass

from holdfast import liveness, process
from holdfast.format import layout
from holdfast.format.manifest import State
from holdfast.ops.runs import newest_beat, orphans
from holdfast.ops.seal import seal
from holdfast.records import RunStatus
from holdfast.repository import Repository


@dataclass(frozen=True, slots=True)
class Recovered:
    """A run that was recovered, and how many points its spools held."""

    run_id: str
    points: int
    marked_crashed: bool


def recover(repository: Repository) -> list[Recovered]:
    """Recover every run whose writer is gone; runs that are being written are left alone.

    Raises Corrupt, naming the spool, when one is damaged before its end.
    """
    found = (recover_run(repository, run_id) for run_id in repository.backend.folders(layout.RUNS))
    return [item for item in found if item]


def recover_run(repository: Repository, run_id: str) -> Recovered | None:
    """Recover one run; None if there was nothing to do."""
    names = orphans(repository, run_id)
    chain = repository.manifest(run_id)
    base = chain.load()
    crashed = _crashed(base.state, newest_beat(repository, run_id))
    if not names and not crashed:
        return None
    before = _points(base.state)

    def also(state: State) -> State:
        return _crash(state) if crashed and _running(state) else {}

    after = seal(repository, run_id, names, base=base, also=also)
    return Recovered(run_id, _points(after.state) - before, crashed)


def _points(state: State) -> int:
    return sum(about["points"] for about in state.get("segments", {}).values())


def _running(state: State) -> bool:
    return state.get("run", {}).get("status") == RunStatus.RUNNING.value


def _crashed(state: State, beat: int | None) -> bool:
    writer = state.get("writer")
    return bool(writer) and _running(state) and liveness.is_dead(writer, beat)


def _crash(state: State) -> State:
    message = f"{process.describe(state['writer'])} ended without finishing the run"
    return {
        "run": {
            "status": RunStatus.FAILED.value,
            "ended_at": time.time_ns(),
            "error": {"type": "Crashed", "message": message},
        },
        "writer": {"closed": True},
    }
