"""Bugs on purpose, each of a kind that was, or could be, made: the simulator must find every one.

A mutant returns what to put where: (object, attribute, new value).
`python -m tests.faults --mutant NAME` plays histories with it until one fails.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable
from contextlib import suppress
from importlib import import_module
from importlib.util import find_spec
from typing import Any

from holdfast import liveness, series, verified
from holdfast.backend.memory import MemoryBackend
from holdfast.chain import Chain
from holdfast.errors import BackendError, Corrupt, NameExists
from holdfast.ops import compact, recover, runs, seal
from holdfast.ops import publish as publishing
from holdfast.outbox import Outbox
from holdfast.run import Run
from holdfast.writer import RunWriter

Change = tuple[Any, str, Any]
MUTANTS: dict[str, Callable[[], list[Change]]] = {}


def mutant(make: Callable[[], list[Change]]) -> Callable[[], list[Change]]:
    MUTANTS[make.__name__] = make
    return make


@mutant
def nonce_is_not_read_back() -> list[Change]:
    """A lost answer is taken for a failure."""
    return [(Chain, "_is_ours", lambda self, place, nonce: False)]


@mutant
def name_exists_is_ignored() -> list[Change]:
    """Another writer's entry is taken for ours."""

    def create(self: Chain, place: str, data: bytes, nonce: bytes) -> None:
        with suppress(NameExists):
            self.backend.create(place, data)

    return [(Chain, "_create", create)]


@mutant
def create_is_not_exclusive() -> list[Change]:
    """The storage lets the second of two writers win as well."""
    return [(MemoryBackend, "create", MemoryBackend.put)]


@mutant
def manifest_before_blob() -> list[Change]:
    """The manifest speaks of an artifact whose bytes are not there yet."""
    store = Run.log_artifact

    def log_artifact(self: Run, source: Any, key: str, **how: Any) -> Any:
        digest = f"sha256:{hashlib.sha256(source).hexdigest()}"
        about = {"digest": digest, "size_bytes": len(source), "kind": "bytes", "created_at": 1}
        self._writer.commit({"artifacts": {key: about}})
        return store(self, source, key, **how)

    return [(Run, "log_artifact", log_artifact)]


@mutant
def head_after_entry() -> list[Change]:
    """A crash in between leaves an entry that no hint leads to."""
    append, beat = Chain._append, Chain.beat

    def late(self: Chain, base: Any, change: Any, full: bool) -> Any:
        self.beat = lambda number: None  # type: ignore[method-assign]
        after = append(self, base, change, full)
        beat(self, after.number)
        return after

    return [(Chain, "_append", late)]


@mutant
def spool_goes_before_the_manifest() -> list[Change]:
    """Sealing takes the spool away before the manifest has its points."""
    make = seal._segment

    def segment(repository: Any, run_id: str, name: str, scan: Any) -> Any:
        made = make(repository, run_id, name, scan)
        if made is not None:
            repository.spools.delete(name)
        return made

    return [(seal, "_segment", segment)]


@mutant
def spool_goes_before_the_segment() -> list[Change]:
    """Sealing takes the spool away before anything holds its points."""
    make = seal._segment

    def segment(repository: Any, run_id: str, name: str, scan: Any) -> Any:
        data = repository.spools.get(name)
        repository.spools.delete(name)
        try:
            return make(_Having(repository, name, data), run_id, name, scan)
        except BackendError:
            return None

    return [(seal, "_segment", segment)]


class _Having:
    """A repository that still reads a spool that is gone."""

    def __init__(self, repository: Any, name: str, data: bytes) -> None:
        self.backend, self._spools, self._name, self._data = (
            repository.backend,
            repository.spools,
            name,
            data,
        )

    @property
    def spools(self) -> Any:
        return self

    def get(self, name: str) -> bytes:
        return self._data if name == self._name else bytes(self._spools.get(name))


@mutant
def points_are_sealed_twice() -> list[Change]:
    """Nobody looks whether a spool is in the manifest already."""
    known = series.is_sealed
    return [
        (place, "is_sealed", lambda state, writer, sequence: False)
        for place in (series, seal)
        if getattr(place, "is_sealed", None) is known
    ]


@mutant
def the_living_are_taken_for_dead() -> list[Change]:
    """Recovering ends runs that are being written."""
    return [(liveness, "is_dead", lambda identity, beat: True)]


@mutant
def bytes_are_not_checked() -> list[Change]:
    """Damaged bytes are handed out."""
    return [(verified, "_check", lambda *about: None)]


@mutant
def an_unreadable_entry_is_stepped_over() -> list[Change]:
    """A damaged newest entry is answered with the one before it."""
    whole = Chain._state_at

    def state_at(self: Chain, newest: int) -> Any:
        while True:
            try:
                return whole(self, newest)
            except Corrupt:
                if not newest:
                    raise
                newest -= 1

    return [(Chain, "_state_at", state_at)]


@mutant
def recovering_forgets_spools() -> list[Change]:
    """Recovering removes what it did not seal."""
    find = recover.orphan_spools

    def orphans(repository: Any, run_id: str, *how: Any, **more: Any) -> Any:
        found = find(repository, run_id, *how, **more)
        for live in found[1:]:
            repository.spools.delete(live.name)
        return found[:1]

    return [(recover, "orphan_spools", orphans)]


@mutant
def compacting_forgets_a_segment() -> list[Change]:
    """One of those that are put together is left out."""
    merge = compact.merged
    return [(compact, "merged", lambda backend, run_id, group: merge(backend, run_id, group[1:]))]


@mutant
def resuming_supersedes_nothing() -> list[Change]:
    """The zigzag: points after the resumed step stay in the series."""
    return [
        (place, "cuts", lambda state, spools, upto=None: {})
        for place in (series, seal)
        if hasattr(place, "cuts")
    ]


@mutant
def resuming_takes_over_from_the_living() -> list[Change]:
    """Nobody is told that another process writes the run, and its spools are taken."""
    return [
        (runs, "_refuse_busy", lambda *about: None),
        (liveness, "is_dead", lambda identity, beat: True),
    ]


@mutant
def what_waits_is_forgotten_before_it_is_sent() -> list[Change]:
    """The outbox is emptied before the store has answered."""
    upload = publishing._upload

    def hasty(repository: Any, outbox: Outbox, names: list[str]) -> None:
        pending, _ = outbox.pending()
        upload(repository, outbox, names)
        outbox.forget((number for number, _ in pending), names)

    return [(publishing, "_upload", hasty)]


@mutant
def blobs_are_sent_after_the_manifest() -> list[Change]:
    """The publisher sends what refers to a blob before the blob."""
    send, upload = publishing.send, publishing._upload

    def late(repository: Any, outbox: Outbox, names: list[str], **how: Any) -> Any:
        staged, forget = outbox.staged(), outbox.forget
        outbox.forget = lambda *about: None  # type: ignore[method-assign]
        after = send(repository, outbox, names, **how)
        upload(repository, outbox, staged)
        forget((number for number, _ in outbox.pending()[0]), staged)
        return after

    from holdfast import remote_writer

    return [
        (publishing, "send", late),
        (remote_writer, "send", late),
        (publishing, "_upload", lambda *about: None),
    ]


@mutant
def log_answers_before_it_writes() -> list[Change]:
    """`log` keeps records in this process, and writes them with the next one."""
    write = RunWriter._append

    def append(self: RunWriter, record: bytes) -> None:
        held, self.held = getattr(self, "held", b""), record  # type: ignore[attr-defined]
        if held:
            write(self, held)

    return [(RunWriter, "_append", append)]


COLLECTING = find_spec("holdfast.ops.collect") is not None


def mutant_of_collecting(make: Callable[[], list[Change]]) -> Callable[[], list[Change]]:
    return mutant(make) if COLLECTING else make


@mutant_of_collecting
def collectors_fence_nobody() -> list[Change]:
    """A writer that has looked at the log before the collection goes on without another look."""
    collect = import_module("holdfast.ops.collect")
    return [(collect.gc, "fence", lambda state, number: {})]


@mutant_of_collecting
def collectors_do_not_mark_again() -> list[Change]:
    """What was condemned goes, whether somebody has come to need it or not."""
    collect = import_module("holdfast.ops.collect")
    return [(collect, "unneeded", lambda repository, roots: _Everything())]


@mutant_of_collecting
def writers_rely_on_what_is_condemned() -> list[Change]:
    """Nobody asks the log of collections before it refers to what is there already."""
    condemned = import_module("holdfast.condemned")
    return [(condemned.Condemned, "has", lambda self, name: False)]


class _Everything:
    def __contains__(self, name: object) -> bool:
        return True


def hunt(name: str, most: int, play: Callable[[int], str | None]) -> tuple[int, str | None, float]:
    """Play histories with a mutant until one fails: (how many, what it said, seconds)."""
    changes = [(place, at, getattr(place, at), new) for place, at, new in MUTANTS[name]()]
    began = time.monotonic()
    for place, at, _, new in changes:
        setattr(place, at, new)
    try:
        for number in range(most):
            problem = play(number)
            if problem:
                return number + 1, problem, time.monotonic() - began
    finally:
        for place, at, old, _ in changes:
            setattr(place, at, old)
    return most, None, time.monotonic() - began
