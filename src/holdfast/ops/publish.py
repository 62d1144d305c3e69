"""Sending what waits on this machine to a remote store: artifacts, points, and changes of chains.

Blobs and recipes go first, then segments, then the entry that refers to them; then the local files go.
Whoever stops in between begins again, and nothing is done twice: blobs have their sha256 for a name,
points are recognised by writer and sequence, changes by the section `outbox` of the state. See
docs/format/outbox.md.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from holdfast import blobs
from holdfast.backend.local import LocalBackend
from holdfast.chain import EMPTY, Chain, Snapshot
from holdfast.digest import Digest
from holdfast.errors import Corrupt, HoldfastError, NameExists, NameRetired, Unavailable
from holdfast.format import layout, spool
from holdfast.format.manifest import State
from holdfast.format.outbox import APPLIED, Pending, joined, unapplied
from holdfast.ops import references
from holdfast.ops.forward import Forward
from holdfast.ops.ingest import Wanted, put
from holdfast.ops.seal import NO_CHANGE, seal
from holdfast.ops.sources import opened
from holdfast.ops.window import Window
from holdfast.outbox import Outbox, outboxes, taken
from holdfast.repository import Repository

Numbered = list[tuple[int, Pending]]


@dataclass(frozen=True, slots=True)
class Unsent:
    """What one process wrote to one run and the store does not have yet.

    `is_open` says that the process still lives, and will send it by itself. `problem` is why it
    cannot be sent, other than that the store does not answer.
    """

    run_id: str
    rank: int | None
    changes: int
    points: int
    artifact_bytes: int
    is_open: bool
    problem: str | None = None

    def __str__(self) -> str:
        parts = [
            f"{self.points:,} points" if self.points else "",
            f"{self.artifact_bytes:,} bytes of artifacts" if self.artifact_bytes else "",
            f"{self.changes} changes" if self.changes else "",
        ]
        why = f" ({self.problem})" if self.problem else ""
        return f"run {self.run_id}: {', '.join(filter(None, parts))}{why}"


def send(
    repository: Repository,
    outbox: Outbox,
    names: list[str],
    *,
    base: Snapshot | None = None,
    full: bool = False,
) -> Snapshot | None:
    """Send an outbox and the spools `names` of its writer; the writer's chain afterwards.

    `base` is the caller's idea of that chain, `full` as for `seal`. Raises InvalidState when the id of
    the run was taken, Corrupt when a file is damaged (after sending what is not), ReadOnly when the server
    does not keep writers apart, BackendError.
    """
    repository.ensure_apart()
    own = layout.chain(outbox.owner.run_id, outbox.owner.rank)
    for chain, changes in _by_chain(outbox.pending()[0]):
        after = _first(repository, outbox, chain, changes)
        base = after if chain == own and after else base
    # Only now, with its chain open, it looks at what the store has: see docs/format/gc.md.
    try:
        return _send(repository, outbox, names, base, full)
    except NameRetired:
        return references.again(lambda: _send(repository, outbox, names, base, full, anew=True))


def _send(
    repository: Repository,
    outbox: Outbox,
    names: list[str],
    base: Snapshot | None,
    full: bool,
    anew: bool = False,
) -> Snapshot | None:
    """All but the entries that begin. With `anew`, what an earlier try made ready was collected meanwhile."""
    pending, damage = outbox.pending()
    staged, own = outbox.staged(), layout.chain(outbox.owner.run_id, outbox.owner.rank)
    if anew:
        outbox.forget_ready()
    if staged or any(one.wishes for _, one in pending):
        repository.condemned.refresh(repository.backend)
    seen = references.writable(repository)
    _upload(seen, outbox.place, staged)
    pending, lost = _made_ready(seen, outbox, pending, base)
    damage = lost or damage
    for chain, changes in _by_chain(pending):
        if chain != own:
            _commit(repository, outbox, chain, changes)
    mine = [(number, one) for number, one in pending if one.chain == own]
    try:
        base = _seal(repository, outbox, names, mine, base, full)
    except Corrupt as error:
        damage = error
        base = _seal(repository, outbox, [], mine, base, full)
    outbox.forget((number for number, _ in pending), staged)
    if damage is not None:
        raise damage
    return base


def _made_ready(
    repository: Repository, outbox: Outbox, pending: Numbered, base: Snapshot | None
) -> tuple[Numbered, Corrupt | None]:
    """Send what the wishes make of originals: the changes as they shall be, and what is wrong with the
    original of the change after the last."""
    if not any(one.wishes for _, one in pending):
        return pending, None
    known = base if outbox.owner.rank is None else None
    work = Forward(repository, outbox)
    snapshot = known or repository.manifest(outbox.owner.run_id).load()
    pending, damage = work.ready(pending, snapshot.state)
    ready = [stat.name for stat in outbox.ready.walk("")]
    _upload_named(repository, outbox.ready, [name for name in ready if not _is_recipe(name)])
    for name in filter(_is_recipe, ready):
        with suppress(NameExists):  # an earlier try got this far
            repository.backend.create(name, outbox.ready.get(name))
    return pending, damage


def _by_chain(pending: Numbered) -> Iterator[tuple[str, Numbered]]:
    for chain in dict.fromkeys(one.chain for _, one in pending):
        yield chain, [(number, one) for number, one in pending if one.chain == chain]


def _first(
    repository: Repository, outbox: Outbox, prefix: str, pending: Numbered
) -> Snapshot | None:
    """Make the chain's first entry, if that is what its first change is for."""
    (number, one), chain = pending[0], Chain(repository.backend, prefix)
    if one.kind == "found":
        return chain.commit(chain.load(), lambda state: {} if state else one.change)
    if one.kind == "change":
        return None
    writer = outbox.owner.writer

    def decide(state: State) -> State:
        if state.get(APPLIED, {}).get(writer, -1) >= number:
            return {}
        if state:
            raise taken(outbox.owner.run_id)
        return joined(one.change, {APPLIED: {writer: number}})

    return chain.commit(EMPTY, decide)


def _rest(pending: Numbered) -> Numbered:
    return [(number, one) for number, one in pending if one.kind == "change"]


def _commit(repository: Repository, outbox: Outbox, prefix: str, pending: Numbered) -> None:
    """Changes of a chain that the writer has no points in."""
    rest = _rest(pending)
    if rest:
        references.commit(
            repository, prefix, lambda state: unapplied(state, outbox.owner.writer, rest)
        )


def _seal(
    repository: Repository,
    outbox: Outbox,
    names: list[str],
    pending: Numbered,
    base: Snapshot | None,
    full: bool,
) -> Snapshot | None:
    rest, owner = _rest(pending), outbox.owner
    if not names and not rest:
        return base
    also = partial(_also, owner.writer, rest) if rest else NO_CHANGE
    return seal(repository, owner.run_id, names, base=base, also=also, rank=owner.rank, full=full)


def _also(writer: str, pending: Numbered, state: State) -> State:
    return unapplied(state, writer, pending)


def _upload(repository: Repository, place: LocalBackend, names: list[str]) -> None:
    """Blobs, several at once, then recipes: those of blobs that were there already are there, mostly."""
    new = _upload_named(repository, place, [name for name in names if not _is_recipe(name)])
    for name in filter(_is_recipe, names):
        _upload_recipe(repository, place, name, new)


def _is_recipe(name: str) -> bool:
    return name.startswith("recipes/")


def _upload_named(repository: Repository, place: LocalBackend, names: list[str]) -> set[str]:
    """Send files that have their digests for names; the digests (hex) of those that were not there."""
    if len(names) < 2:
        return {_upload_one(repository, place, name) for name in names}
    with ThreadPoolExecutor(min(len(names), repository.backend.capabilities.parallel)) as pool:
        return set(pool.map(partial(_upload_one, repository, place), names))


def _upload_one(repository: Repository, place: LocalBackend, name: str) -> str:
    digest, backend = Digest(name.rpartition("/")[2]), repository.backend
    if name.startswith("packs/"):
        return digest.hex if blobs.copy(place, backend, digest, layout.pack) else ""
    try:
        return digest.hex if blobs.copy(place, backend, digest, layout.blob) else ""
    except NameRetired:
        wanted = Wanted("packed", expect=digest)
        with opened(Path(place.root, name)) as source:
            put(backend, source, Window(backend), wanted)
        return ""


def _upload_recipe(repository: Repository, place: LocalBackend, name: str, new: set[str]) -> None:
    artifact = name.rpartition("/")[2].partition(".")[0]
    if artifact not in new:
        folder, prefix = name[: name.rindex("/") + 1], name[: name.rindex(".") + 1]
        if any(stat.name.startswith(prefix) for stat in repository.backend.walk(folder)):
            return
    with suppress(NameExists):  # an earlier try got this far
        repository.backend.create(name, place.get(name))


# What processes that are gone have left.


def spools_of(repository: Repository, outbox: Outbox) -> list[str]:
    """The names of the spools of an outbox's writer, in the order they were written."""
    found = repository.spools.walk(layout.spools(outbox.owner.run_id))
    return [stat.name for stat in found if stat.name.startswith(outbox.spool_prefix)]


def send_left(
    repository: Repository, run_id: str | None = None, *, wait: bool = True
) -> list[Unsent]:
    """Send what dead processes of this machine left, of one run or of all; what could not be sent.

    With `wait`, what another process is sending is waited for. Raises Unavailable when the store does
    not answer.
    """
    problems = []
    for outbox in outboxes(repository.state, run_id):
        if outbox.is_orphan():
            with outbox.locked(wait=wait) as is_ours:
                problem = _send_orphan(repository, outbox) if is_ours else None
                problems += [problem] if problem else []
    return problems


def _send_orphan(repository: Repository, outbox: Outbox) -> Unsent | None:
    try:
        send(repository, outbox, spools_of(repository, outbox))
    except Unavailable:
        raise
    except HoldfastError as error:
        return described(repository, outbox, error.message)
    outbox.remove()
    return None


def unsent(repository: Repository, run_id: str | None = None) -> list[Unsent]:
    """What waits on this machine, of one run or of all. Nothing is asked of the store."""
    found = (described(repository, outbox) for outbox in outboxes(repository.state, run_id))
    return [one for one in found if one.changes or one.points or one.artifact_bytes or one.problem]


def described(repository: Repository, outbox: Outbox, problem: str | None = None) -> Unsent:
    pending, damage = outbox.pending()
    points = 0
    for name in spools_of(repository, outbox):
        with suppress(HoldfastError):  # sealed meanwhile, or damaged: sending it says so
            tables = spool.scan(repository.spools.get(name), place=name).tables
            points += sum(len(table.rows) * len(table.keys) for table in tables)
    if problem is None and damage is not None:
        problem = damage.message
    owner, size = outbox.owner, outbox.size_bytes()
    is_open = not outbox.is_orphan()
    return Unsent(owner.run_id, owner.rank, len(pending), points, size, is_open, problem)
