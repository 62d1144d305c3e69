"""Garbage collection: what could be freed, as a plan that can be shown, and carrying it out.

    plan = gc.plan(repository, doomed)      reads; `doomed` are the runs that rules for keeping leave out
    gc.execute(repository, plan)            deletes them, and frees what is in the plan and still unneeded

A collection that another process left open is finished first. See docs/format/gc.md.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from holdfast import liveness, process
from holdfast.chain import Chain
from holdfast.digest import Digest
from holdfast.errors import Corrupt, HoldfastError, InvalidState, NotFound, UnsupportedFormat
from holdfast.format import gc, layout, storefile
from holdfast.ops import collect, reach
from holdfast.ops.mark import unneeded
from holdfast.ops.orphans import beat_of
from holdfast.ops.roots import Needs, Progress, Reader, Roots
from holdfast.repository import Repository
from holdfast.verified_artifact import check

_KNOWN: set[str] = set()  # the features in `gc` of store.json that this version understands
_TEMPORARY_SECONDS = (
    86_400.0  # a file on its way in for longer belongs to nobody; if it does, its writer is told
)


@dataclass(frozen=True, slots=True)
class Removal:
    """A run that goes. `size_bytes` are its own files, `artifacts` what goes with each of them, by key; what
    several removed runs share counts with the first."""

    run_id: str
    experiment_id: str
    reason: str
    size_bytes: int
    artifacts: Mapping[str, int]

    @property
    def freed_bytes(self) -> int:
        return self.size_bytes + sum(self.artifacts.values())


@dataclass(frozen=True, slots=True)
class GcPlan:
    """What a collection would free: `names` are all files, with their sizes; `removals` the runs among it.

    `kept` are deleted runs that an alias or a snapshot needs, with its name; `open_syncs` what may still go
    on, and `unfinished` says that another collection comes first."""

    removals: list[Removal]
    names: Mapping[str, int]
    kept: Mapping[str, str]
    open_syncs: list[str]
    unfinished: bool
    doomed: Mapping[str, int] = field(default_factory=dict)
    reader: Reader | None = field(default=None, repr=False, compare=False)

    @property
    def size_bytes(self) -> int:
        return sum(self.names.values())

    @property
    def other_bytes(self) -> int:
        """What goes and belonged to no run that is removed."""
        return self.size_bytes - sum(one.freed_bytes for one in self.removals)


@dataclass(frozen=True, slots=True)
class Collected:
    """What came of it. `spared` are files of the plan that somebody needed after all."""

    runs: list[str]
    files: int
    size_bytes: int
    spared: int


def plan(
    repository: Repository,
    doomed: Mapping[str, tuple[int, str]] | None = None,
    progress: Progress | None = None,
) -> GcPlan:
    """What nothing needs now. `doomed` are runs to be removed: {run id: (generation, why)}.

    Raises Corrupt for a root that cannot be read, UnsupportedFormat, BackendError."""
    _check_features(repository)
    while True:
        repository.condemned.refresh(repository.backend)
        number = repository.condemned.snapshot.number
        try:
            return _planned(repository, doomed or {}, progress)
        except Corrupt:
            repository.condemned.refresh(repository.backend)
            if repository.condemned.snapshot.number == number:
                raise
            # Else another collector has removed meanwhile what was looked at: look at what there is now.


def _planned(
    repository: Repository, doomed: Mapping[str, tuple[int, str]], progress: Progress | None
) -> GcPlan:
    reader = Reader(repository, progress)
    try:
        roots = reader.read()
    except Corrupt as error:
        raise Corrupt(
            f"{error.message}: nothing is collected while it is not known what it needs; "
            "repair it, or restore it from a copy",
            place=error.details.get("place", ""),
        ) from error
    gone = {
        run_id: "deleted" if needs.is_deleted else doomed[run_id][1]
        for run_id, needs in roots.runs.items()
        if _goes(run_id, needs, roots, doomed)
    }
    whole = _every(repository, gone, roots)
    names = unneeded(
        repository,
        roots,
        lambda run_id, needs: run_id not in gone,
        lambda d: _intact(repository, d),
    )
    names |= whole
    kept = {
        run_id: roots.pinned[run_id]
        for run_id, needs in roots.runs.items()
        if run_id in roots.pinned and (needs.is_deleted or run_id in doomed)
    }
    removals = list(_removals(repository, gone, names))
    numbers = {run_id: doomed[run_id][0] for run_id in gone if run_id in doomed}
    unfinished = collect.open_collection(repository) is not None
    open_syncs = sorted(roots.open_syncs)
    return GcPlan(removals, names, kept, open_syncs, unfinished, numbers, reader)


def _goes(run_id: str, needs: Needs, roots: Roots, doomed: Mapping[str, tuple[int, str]]) -> bool:
    wanted = needs.is_deleted or (run_id in doomed and not needs.is_open)
    return wanted and run_id not in roots.pinned and not needs.is_collected


def _every(repository: Repository, gone: Iterable[str], roots: Roots) -> dict[str, int]:
    """All files of runs that are to go."""
    found: dict[str, int] = {}
    for run_id in gone:
        for stat in repository.backend.walk(layout.run(run_id)):
            found[stat.name] = stat.size_bytes
    return found


def _intact(repository: Repository, digest: Digest) -> bool:
    """Can the artifact be read in every form it has? Before one of them goes, all are read."""
    try:
        check(repository.backend, digest)
    except HoldfastError:
        return False
    return True


def _removals(
    repository: Repository, gone: Mapping[str, str], names: Mapping[str, int]
) -> Iterator[Removal]:
    if not gone:
        return
    left, own = dict(names), dict.fromkeys(gone, 0)
    for name, size in names.items():
        if name.startswith(layout.RUNS) and (run_id := name.split("/", 2)[1]) in own:
            own[run_id] += size
    homes = reach.Homes(repository.backend)
    for run_id, reason in gone.items():
        state = repository.manifest(run_id).load().state
        sizes = {}
        for key, about in state.get("artifacts", {}).items():
            lost = {
                n for digest in reach.of_artifact(repository, about) for n in homes.files(digest)
            }
            sizes[key] = sum(left.pop(name, 0) for name in lost)
        experiment_id = state.get("run", {}).get("experiment_id", "")
        yield Removal(run_id, experiment_id, reason, own[run_id], sizes)


# Carrying it out.


def execute(repository: Repository, plan: GcPlan, progress: Progress | None = None) -> Collected:
    """Free what is in the plan and is still unneeded. Raises InvalidState, Corrupt, BackendError."""
    _declare(repository)
    collect.finish(repository)
    _tidy(repository)
    names, runs = dict(plan.names), []
    for one in plan.removals:
        tombstone = _tombstone(repository, one, plan.doomed)
        if tombstone is not None:
            runs.append(one.run_id)
            names.setdefault(tombstone, 0)
    if not names or not collect.condemn(repository, names, plan.size_bytes):
        return Collected([], 0, 0, 0)
    freed = collect.finish(repository, plan.reader, progress)
    gone = [one for one in runs if gc.is_collected(repository.manifest(one).load().state)]
    size = sum(size for name, size in names.items() if repository.condemned.is_retired(name))
    return Collected(gone, freed.files, size, freed.spared)


def _tombstone(repository: Repository, removal: Removal, doomed: Mapping[str, int]) -> str | None:
    """The newest entry of a run that goes, with a tombstone if the rules leave it out; None if it has changed
    since they were asked."""
    chain, at = repository.manifest(removal.run_id), time.time_ns()
    base = chain.load()
    if removal.run_id in doomed:
        if base.number != doomed[removal.run_id]:
            return None
        base = chain.commit(
            base, lambda state: {} if state != base.state else {"run": {"deleted_at": at}}
        )
    return layout.entry(chain.prefix, base.number)


def end_sync(repository: Repository, sync_id: str) -> None:
    """Say that a sync is over: its process is gone, as the caller knows. Raises NotFound."""
    chain = Chain(repository.backend, layout.sync(sync_id))
    base = chain.load()
    if base.number < 0:
        raise NotFound(f"there is no sync {sync_id!r} into this store", sync_id=sync_id)
    chain.commit(
        base, lambda state: {} if state[gc.SYNC].get("closed") else {gc.SYNC: {"closed": True}}
    )


def _check_features(repository: Repository) -> dict[str, Any]:
    """store.json. Raises UnsupportedFormat when this version must not collect here."""
    about = storefile.decode(repository.backend.get(layout.STORE), place=layout.STORE)
    if unknown := sorted(set(about["features"].get("gc", [])) - _KNOWN):
        raise UnsupportedFormat(
            f"{repository.backend.url} needs {', '.join(unknown)} to collect garbage, which this Holdfast "
            "does not know: upgrade holdfast",
            place=layout.STORE,
            features=unknown,
        )
    return about


def _declare(repository: Repository) -> None:
    """Say in store.json that writers must know of collections. Raises InvalidState while one does not."""
    about = _check_features(repository)
    if gc.FEATURE in about["features"]["write"]:
        return
    for run_id in repository.backend.folders(layout.RUNS):
        writer = repository.manifest(run_id).load().state.get("writer", {})
        older = writer and not writer.get("closed") and "store" not in writer
        if older and not liveness.is_dead(writer, beat_of(repository, run_id)):
            raise InvalidState(
                f"run {run_id} is being written by an older Holdfast ({process.describe(writer)}), which "
                "knows nothing of collections: finish it first",
                run_id=run_id,
            )
    write = sorted({*about["features"]["write"], gc.FEATURE})
    about = {**about, "features": {**about["features"], "write": write}}
    repository.backend.put(layout.STORE, storefile.encode(about))


def _tidy(repository: Repository) -> None:
    """Close syncs whose process is known to be gone; remove documents that no entry names, and what writers
    that are gone had on its way in."""
    backend = repository.backend
    for sync_id in backend.folders(layout.SYNCS):
        if repository.condemned.has(layout.entry(layout.sync(sync_id), 0)):
            continue
        state = Chain(backend, layout.sync(sync_id)).load().state.get(gc.SYNC, {})
        if not state.get("closed") and process.is_alive(state.get("identity") or {}) is False:
            end_sync(repository, sync_id)
    known = repository.condemned.documents()
    for stat in list(backend.walk(f"{layout.LOG}names/")):
        number = stat.name.rpartition("/")[2][:8]
        if stat.name not in known and int(number) <= repository.condemned.snapshot.number:
            backend.delete(stat.name)
    remove = getattr(backend, "remove_temporaries", None)  # those on a disk have it
    if remove is not None:
        remove(_TEMPORARY_SECONDS)
