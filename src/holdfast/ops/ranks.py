"""Joining a run that another process has begun, as in distributed training: one more writer of it.

A rank writes points to spools of its own and says so in a chain of its own, so that however many of
them write, none waits for another. What is not points (artifacts, tags, the note) belongs to the run.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass

from holdfast import liveness, process
from holdfast.chain import Snapshot
from holdfast.errors import InvalidState, RunBusy, RunNotFound
from holdfast.format.manifest import State
from holdfast.ops.orphans import beat_of, orphans
from holdfast.ops.runs import attempt as newest_attempt
from holdfast.ops.runs import next_step, require
from holdfast.ops.seal import seal
from holdfast.records import RunStatus
from holdfast.repository import Repository

_FIRST_PAUSE_SECONDS = 0.02
_LONGEST_PAUSE_SECONDS = 1.0
_OPEN = {"closed": None, "status": None, "ended_at": None, "error": None}


@dataclass(frozen=True, slots=True)
class Joined:
    """A rank that may write: its chain, and the attempt of the run that it belongs to."""

    snapshot: Snapshot
    experiment_id: str
    attempt: int
    from_step: int | None
    next_step: int


def join(
    repository: Repository, run_id: str, rank: int, attempt: int | None, wait_seconds: float
) -> Joined:
    """Join a run that is open, in its newest attempt, once that is `attempt` or later.

    For up to `wait_seconds` it waits for the run to be begun or resumed, and for an earlier process
    with the same rank to end. Raises RunNotFound, InvalidState, and RunBusy with that process.
    """
    until = time.monotonic() + wait_seconds
    pause, nap = _FIRST_PAUSE_SECONDS, threading.Event()
    while True:
        try:
            return _join(repository, run_id, rank, attempt)
        except (RunNotFound, InvalidState):
            left = until - time.monotonic()
            if left <= 0:
                raise
        nap.wait(min(pause, left))
        pause = min(2 * pause, _LONGEST_PAUSE_SECONDS)


def _join(repository: Repository, run_id: str, rank: int, attempt: int | None) -> Joined:
    main = repository.manifest(run_id).load().state
    require(main, run_id)
    _require_open(repository, run_id, main, attempt)
    chain = repository.rank(run_id, rank)
    base = chain.load()
    _refuse_busy(repository, run_id, rank, base.state)
    base = seal(repository, run_id, orphans(repository, run_id, rank), base=base, rank=rank)
    number = newest_attempt(main)

    def decide(state: State) -> State:
        _refuse_busy(repository, run_id, rank, state)
        mine = {**process.identity(), "store": repository.store_id}
        return {"writer": {**mine, "attempt": number, **_OPEN}}

    after = chain.commit(base, decide)
    begun = main.get("attempts", {}).get(str(number), {}).get("from_step")
    step = max(begun or 0, next_step(after.state))
    return Joined(after, main["run"]["experiment_id"], number, begun, step)


def _require_open(repository: Repository, run_id: str, state: State, attempt: int | None) -> None:
    """Raises InvalidState unless a live process writes the run, at `attempt` or a later one."""
    writer, status = state.get("writer", {}), state["run"].get("status")
    newest = newest_attempt(state)
    if status != RunStatus.RUNNING.value or writer.get("closed"):
        reason = f"is not open ({status})"
    elif liveness.is_dead(writer, beat_of(repository, run_id)):
        reason = f"has crashed ({process.describe(writer)} ended without finishing it)"
    elif attempt is not None and newest < attempt:
        reason = f"is at attempt {newest}, not yet at {attempt}"
    else:
        return
    raise InvalidState(
        f"run {run_id} {reason}: store.resume({run_id!r}) opens it again, then others may join",
        run_id=run_id,
    )


def _refuse_busy(repository: Repository, run_id: str, rank: int, state: State) -> None:
    writer = state.get("writer", {})
    if not writer or writer.get("closed"):
        return
    if not liveness.is_dead(writer, beat_of(repository, run_id, rank)):
        raise RunBusy(
            f"rank {rank} of run {run_id} is being written by {process.describe(writer)}: "
            "finish it there first",
            run_id=run_id,
            rank=rank,
            writer=writer,
        )


def ending(state: State, status: RunStatus, error: Mapping[str, str] | None = None) -> State:
    """The change that ends a rank in its own chain, unless another process has taken it over."""
    mine = process.identity()
    if any(state.get("writer", {}).get(name) != value for name, value in mine.items()):
        return {}
    return ended(status, time.time_ns(), error)


def ended(status: RunStatus, at: int, error: Mapping[str, str] | None) -> State:
    """What the chain of a rank says of one that ended at `at` (ns since 1970)."""
    return {
        "writer": {
            "closed": True,
            "status": status.value,
            "ended_at": at,
            "error": dict(error) if error else None,
        }
    }
