"""Carrying out a collection, or finishing one that another collector left: condemn, fence, decide, delete.

Any number may do this at once, and each may be stopped anywhere. What a step must not do twice is an entry of
the log, which only one creates. See docs/format/gc.md, whose numbers the functions follow.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial

from holdfast.ahead import in_order
from holdfast.chain import Chain, Decide, Snapshot
from holdfast.condemned import Collection
from holdfast.digest import Digest
from holdfast.errors import BackendError, NameExists
from holdfast.format import gc, layout
from holdfast.format.gc import Names
from holdfast.format.manifest import State
from holdfast.ops.mark import unneeded
from holdfast.ops.roots import Progress, Reader, Roots
from holdfast.repository import Repository

_ORDER = ("others", "segments", "recipes", "bundles", "packs", "blobs")  # what refers goes first


@dataclass(frozen=True, slots=True)
class Freed:
    """What a collection removed; names that were gone already count."""

    files: int = 0
    spared: int = 0


class _Overtaken(Exception):
    """Another collector was quicker: the log says what is next."""


def condemn(repository: Repository, names: Iterable[str], size_bytes: int) -> bool:
    """1. Begin a collection; False if another one began, or one is open: finish that first."""
    repository.condemned.refresh(repository.backend)
    if open_collection(repository) is not None:
        return False
    found = Names.of(names)
    base = repository.condemned.snapshot
    digits = _document(repository, base.number + 1, found)
    row = {"names": digits, "count": len(found), "size_bytes": size_bytes}
    with suppress(_Overtaken):
        _append(repository, base, {gc.COLLECTIONS: {str(base.number + 1): row}})
        return True
    return False


def finish(
    repository: Repository, reader: Reader | None = None, progress: Progress | None = None
) -> Freed:
    """2. to 6. Finish the collection that is open, if there is one. Raises Corrupt, BackendError."""
    freed = Freed()
    reader = reader or Reader(repository)
    while True:
        repository.condemned.refresh(repository.backend)
        collection = open_collection(repository)
        if collection is None:
            return freed
        base = repository.condemned.snapshot
        with suppress(_Overtaken):
            if collection.spared is None:
                _decide(repository, collection, base, reader)
            else:
                freed = _delete(repository, collection, progress)
                _change(repository, base, collection.number, {"done": True})


def open_collection(repository: Repository) -> Collection | None:
    """The one that is not done, as the log was read last."""
    return next((one for one in repository.condemned.collections if not one.done), None)


# 2. to 4.


def _decide(repository: Repository, collection: Collection, base: Snapshot, reader: Reader) -> None:
    roots = reader.read(partial(_fenced, repository, collection))
    gone = unneeded(repository, roots)
    spared = Names.of(name for name in collection.names if name not in gone)
    digits = _document(repository, base.number + 1, spared) if spared else ""
    about = {"spared": digits, "spared_by": base.number + 1}
    _change(repository, base, collection.number, about)


def _fenced(
    repository: Repository, collection: Collection, roots: Roots, chain: Chain, found: Snapshot
) -> Snapshot:
    """A chain after the fence, if it is open; after the entry that collects it, if that is its lot."""

    def decide(state: State) -> State:
        if gc.is_open(state, repository.store_id):
            return gc.fence(state, collection.number, repository.store_id)
        return {}

    run_id = chain.prefix.split("/")[1]
    first = layout.entry(chain.prefix, 0)
    if run_id not in roots.pinned and collection.names.has(first):
        found = _collected(chain, found)
    return chain.commit(found, decide)


def _collected(chain: Chain, found: Snapshot) -> Snapshot:
    """The chain of a deleted run after its last entry; as it is when somebody has added to it."""
    at = time.time_ns()
    newest = found.number

    def decide(state: State) -> State:
        if gc.is_collected(state) or "deleted_at" not in state.get("run", {}):
            return {}
        return gc.collected(state, at)

    with suppress(_Overtaken):
        return chain.commit(found, _once(decide), anew=True)
    after = chain.load()
    return after if after.number > newest else found


# 5.


def _delete(repository: Repository, collection: Collection, progress: Progress | None) -> Freed:
    spared, backend = collection.spared or Names(), repository.backend
    names = [name for name in _ordered(collection.names) if not spared.has(name)]

    def delete(name: str) -> None:
        backend.delete(name)
        chain, number = name[:-8], layout.entry_number(name)
        if number is not None and "/ranks/" in chain:  # of a run that is collected
            with suppress(BackendError):
                backend.delete(layout.head(chain, number))

    parallel = 1 if backend.capabilities.append else backend.capabilities.parallel
    # The entries of one chain go in order: what is left of it begins later, and ends where it ended.
    done = map(delete, names) if parallel == 1 else in_order(delete, names, workers=parallel)
    for number, _ in enumerate(done):
        if progress:
            progress(number, len(names))
    return Freed(len(names), len(spared))


def _ordered(names: Names) -> Iterable[str]:
    kinds = sorted(names.ids, key=lambda kind: (_ORDER.index(kind[0]), kind[1]))
    yield from sorted(names.others)
    for kind in kinds:
        yield from Names({kind: names.ids[kind]})


# The log.


def _document(repository: Repository, number: int, names: Names) -> str:
    """Store a document for entry `number` of the log; its 64 digits."""
    data = gc.encode_names(names)
    digest = Digest.of(data)
    with suppress(NameExists):
        repository.backend.create(gc.document(number, digest), data)
    return digest.hex


def _change(
    repository: Repository, base: Snapshot, collection: int, about: dict[str, object]
) -> None:
    row = base.state[gc.COLLECTIONS][str(collection)]
    _append(repository, base, {gc.COLLECTIONS: {str(collection): {**row, **about}}})


def _append(repository: Repository, base: Snapshot, change: State) -> None:
    """The entry after `base`, and no other. Raises _Overtaken."""
    Chain(repository.backend, layout.LOG).commit(base, _once(lambda state: change))


def _once(decide: Decide) -> Decide:
    """`decide`, which is not asked again when another was quicker: then it raises _Overtaken."""
    asked: list[bool] = []

    def once(state: State) -> State:
        if asked:
            raise _Overtaken("another collector was quicker")
        asked.append(True)
        return decide(state)

    return once
