"""Experiments and runs: begin, resume, finish, and the seed's records over the chains."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from holdfast import liveness, process
from holdfast.chain import Snapshot
from holdfast.errors import (
    Corrupt,
    InvalidState,
    NameNotFound,
    NameRetired,
    RunBusy,
    RunNotFound,
)
from holdfast.format import gc, layout, manifest, stats
from holdfast.format.manifest import State
from holdfast.ops import reach, references
from holdfast.ops.orphans import beat_of, by_writer, orphan_spools
from holdfast.ops.seal import difference, rank_states, recount, recount_ranks, seal
from holdfast.outbox import taken
from holdfast.records import ExperimentRecord, RunRecord, RunStatus
from holdfast.repository import Repository
from holdfast.series import RunPoints
from holdfast.summary import RunSummary
from holdfast.timestamp import Timestamp


def put_experiment(repository: Repository, record: ExperimentRecord) -> None:
    """Add the experiment, or replace what is known of it."""
    fields = {
        "experiment_id": record.experiment_id,
        "name": record.name,
        "created_at": record.created_at.ns,
        "config": record.config,
    }
    chain = repository.experiment(record.experiment_id)

    def decide(state: State) -> State:
        known = state.get("experiment", {})
        changed = {key: value for key, value in fields.items() if known.get(key) != value}
        return {"experiment": changed} if changed else {}

    chain.commit(chain.load(), decide)


def ensure_experiment(repository: Repository, experiment_id: str, name: str) -> None:
    """Add the experiment unless it is there."""
    chain = repository.experiment(experiment_id)
    fresh = new_experiment(experiment_id, name)
    chain.commit(chain.load(), lambda state: {} if state else fresh)


def new_experiment(experiment_id: str, name: str) -> State:
    """The state of an experiment that is new now."""
    now = time.time_ns()
    return {"experiment": {"experiment_id": experiment_id, "name": name, "created_at": now}}


def experiment_of(state: State) -> ExperimentRecord | None:
    """The record in the state of an experiment's chain."""
    known = state.get("experiment")
    if not known:
        return None
    return ExperimentRecord(
        known["experiment_id"],
        known["name"],
        created_at=Timestamp(known["created_at"]),
        config=known.get("config"),
    )


def put_run(repository: Repository, record: RunRecord) -> None:
    """Add the run, or replace what is known of it; nothing else of the run changes."""
    fields = {
        "run_id": record.run_id,
        "experiment_id": record.experiment_id,
        "status": record.status.value,
        "started_at": record.started_at.ns if record.started_at else None,
        "ended_at": record.ended_at.ns if record.ended_at else None,
        "renacer_span_id": record.renacer_span_id,
    }
    chain = repository.manifest(record.run_id)

    def decide(state: State) -> State:
        known = {"created_at": time.time_ns(), **state.get("run", {})}
        after = {**known, **fields}
        changed = {k: v for k, v in after.items() if v != state.get("run", {}).get(k)}
        return {"run": changed} if changed else {}

    chain.commit(chain.load(), decide)


def run_of(state: State) -> RunRecord | None:
    """The seed's record in a manifest; None when only points are known of that run."""
    known = state.get("run", {})
    if "experiment_id" not in known:
        return None
    started, ended = known.get("started_at"), known.get("ended_at")
    return RunRecord(
        known["run_id"],
        known["experiment_id"],
        status=RunStatus(known["status"]),
        started_at=None if started is None else Timestamp(started),
        ended_at=None if ended is None else Timestamp(ended),
        renacer_span_id=known.get("renacer_span_id"),
    )


def begin_run(repository: Repository, run_id: str, sections: State) -> Snapshot:
    """Create the run. Raises InvalidState when the id is taken."""
    first = first_state(run_id, sections, repository.store_id)

    def decide(state: State) -> State:
        if state:
            raise taken(run_id)
        return first

    chain = repository.manifest(run_id)
    return chain.commit(chain.load(), decide)


def first_state(run_id: str, sections: State, store_id: str) -> State:
    """The state of a run that begins now in this process, in that store."""
    now = time.time_ns()
    run = {
        "run_id": run_id,
        "status": RunStatus.RUNNING.value,
        "created_at": now,
        "started_at": now,
    }
    return {
        **sections,
        "run": {**run, **sections.get("run", {})},
        "writer": {**process.identity(), "store": store_id},
        "attempts": {"1": {"started_at": now}},
    }


def resume_run(repository: Repository, run_id: str, step: int | None) -> tuple[Snapshot, int, int]:
    """Open a run for one more attempt: (manifest, attempt, the step after its last one).

    Raises RunNotFound, and RunBusy when another process writes it.
    """
    chain = repository.manifest(run_id)
    base = chain.load()
    require(base.state, run_id)
    _refuse_busy(repository, run_id, base.state)
    left = by_writer(orphan_spools(repository, run_id))
    base = seal(repository, run_id, left.pop(None, []), base=base)
    for rank, names in left.items():
        seal(repository, run_id, names, rank=rank)
    everybody = {} if step is not None else rank_states(repository, run_id, base.state)
    now = time.time_ns()

    def decide(state: State) -> State:
        _refuse_busy(repository, run_id, state)
        begun: dict[str, Any] = {"started_at": now}
        if step is not None:
            begun["from_step"] = step
        change: State = {
            "run": {
                "status": RunStatus.RUNNING.value,
                "ended_at": None,
                "error": None,
                "started_at": state["run"].get("started_at", now),
            },
            "writer": {**process.identity(), "store": repository.store_id, "closed": None},
            "attempts": {str(attempt(state) + 1): begun},
        }
        if step is not None:
            after = recount(repository, run_id, manifest.apply(state, change))
            change["metrics"] = difference(state.get("metrics", {}), after)
        return change

    after = chain.commit(base, decide)
    recount_ranks(repository, run_id)
    return after, attempt(after.state), next_step(stats.with_ranks(after.state, everybody))


def next_step(state: State) -> int:
    """The step after the last one that was sealed."""
    last = [about["last_step"] for about in state.get("metrics", {}).values()]
    return max(last, default=-1) + 1


def attempt(state: State) -> int:
    """The newest attempt at a run."""
    return max((int(number) for number in state.get("attempts", {})), default=0)


def require(state: State, run_id: str) -> None:
    """Raises RunNotFound when a manifest knows no run, or nothing but points of it."""
    if "experiment_id" not in state.get("run", {}):
        raise RunNotFound(f"there is no run {run_id!r} in the store", run_id=run_id)


def _refuse_busy(repository: Repository, run_id: str, state: State) -> None:
    writer = state.get("writer", {})
    if state["run"].get("status") != RunStatus.RUNNING.value or writer.get("closed"):
        return
    if writer and not liveness.is_dead(writer, beat_of(repository, run_id)):
        raise RunBusy(
            f"run {run_id} is being written by {process.describe(writer)}: finish it there first",
            run_id=run_id,
            writer=writer,
        )


def ending(status: RunStatus, error: Mapping[str, str] | None = None) -> State:
    """The change that ends a run."""
    return {
        "run": {
            "status": status.value,
            "ended_at": time.time_ns(),
            "error": dict(error) if error else None,
        },
        "writer": {"closed": True},
    }


def busy_here(run_id: str) -> RunBusy:
    """The error for resuming a run that this very process has open."""
    me = process.identity()
    return RunBusy(
        f"run {run_id} is open in this process already ({process.describe(me)}): finish it first",
        run_id=run_id,
        writer=me,
    )


def mark_deleted(repository: Repository, run_id: str, deleted: bool) -> None:
    """Put a tombstone on a run, or take it off."""
    chain = repository.manifest(run_id)
    at = time.time_ns() if deleted else None

    def decide(state: State) -> State:
        require(state, run_id)
        if gc.is_collected(state):
            raise InvalidState(f"run {run_id} was removed and collected: it cannot come back")
        is_deleted = "deleted_at" in state["run"]
        return {} if is_deleted == deleted else {"run": {"deleted_at": at}}

    if deleted:
        chain.commit(chain.load(), decide)
    else:
        references.commit(repository, chain.prefix, decide, check=_is_all_there)


def _is_all_there(repository: Repository, state: State, change: State) -> None:
    """To take the tombstone off is to refer to everything again. Raises InvalidState."""
    run_id = state["run"]["run_id"]
    problem = InvalidState(f"run {run_id} is being collected: it cannot come back")
    try:
        found = reach.of_run(repository, run_id)
    except (Corrupt, NameNotFound) as error:
        raise problem from error
    first = layout.entry(layout.manifest(run_id), 0)
    if any(map(repository.condemned.has, [first, *found.segments])):
        raise problem
    try:
        for about in state.get("artifacts", {}).values():
            references.require_artifact(repository, about)
    except NameRetired as error:
        raise problem from error


def experiments(repository: Repository) -> list[ExperimentRecord]:
    """Every experiment, oldest first."""
    chains = map(repository.experiment, repository.backend.folders(layout.EXPERIMENTS))
    found = [record for chain in chains if (record := experiment_of(chain.load().state))]
    return sorted(found, key=lambda record: (record.created_at, record.experiment_id))


def summary(repository: Repository, run_id: str) -> RunSummary:
    """One run as its manifest and its ranks say. Raises RunNotFound, Corrupt."""
    snapshot = repository.manifest(run_id).load()
    state = snapshot.state
    require(state, run_id)
    experiment_id = state["run"]["experiment_id"]
    known = experiment_of(repository.experiment(experiment_id).load().state)
    running = state["run"].get("status") == RunStatus.RUNNING.value
    running = running and repository.as_of is None  # as it was, it was running
    crashed = running and liveness.is_dead(state.get("writer"), beat_of(repository, run_id))
    return RunSummary.from_state(
        stats.with_ranks(state, rank_states(repository, run_id, state)),
        run_id=run_id,
        generation=snapshot.number,
        experiment_name=known.name if known else experiment_id,
        crashed=crashed,
    )


def points(repository: Repository, run_id: str) -> RunPoints:
    """Everything logged to a run so far."""
    return RunPoints.load(repository.backend, run_id, repository.spools)


def point_count(repository: Repository) -> int:
    """Every point ever logged to any run."""
    runs = repository.backend.folders(layout.RUNS)
    return sum(points(repository, run_id).point_count() for run_id in runs)
