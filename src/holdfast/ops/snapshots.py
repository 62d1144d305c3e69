"""Snapshots: one sha256 over everything a store holds, made while others write; and the store as it was.

Chains only ever grow, so two listings that agree prove that the store stood like that in between. See
docs/format/snapshot.md.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

from holdfast import verified_artifact
from holdfast.chain import Chain
from holdfast.condemned import Condemned
from holdfast.digest import Digest
from holdfast.errors import (
    ArtifactNotFound,
    Corrupt,
    HoldfastError,
    InvalidState,
    InvalidValue,
    SnapshotNotFound,
)
from holdfast.format import alias as names
from holdfast.format import layout
from holdfast.format import proof as proofs
from holdfast.format import snapshot as documents
from holdfast.format.alias import Target
from holdfast.format.manifest import State
from holdfast.format.snapshot import Document, Row
from holdfast.names import check_alias
from holdfast.ops import aliases, artifacts, references
from holdfast.ops.aliases import Alias
from holdfast.ops.ingest import Wanted
from holdfast.ops.lineage import Lineage
from holdfast.pinned import PinnedBackend
from holdfast.repository import Repository

_MOST_LISTINGS = 10
Listing = Mapping[str, list[int]]  # the numbers of the entries of each chain
KIND = "snapshot"  # of what the name of a snapshot names
_PLAIN = artifacts.How(Wanted("plain"), Lineage)  # so that sha256sum gives the id


@dataclass(frozen=True, slots=True)
class Taken:
    """A snapshot: its id, how many chains it has, and whether the store stood like that at one moment;
    if not, each chain did while it was made. `name` is None if it was only worked out."""

    digest: Digest
    chains: int
    is_exact: bool
    name: str | None = None

    def __str__(self) -> str:
        return str(self.digest)


def take(repository: Repository, name: str | None = None) -> Taken:
    """What the store holds now, as one digest; with a `name`, kept under that.

    Raises Corrupt when some chain cannot be read: then nobody can say what the store holds.
    """
    chain = None if name is None else chain_of(repository, name)
    log = _quiet(repository) if chain is not None else -1
    rows, is_exact = _rows(repository)
    document, listed = documents.encode(rows)
    taken = Taken(Digest.of(document), len(rows), is_exact, name)
    if chain is not None and name is not None:
        references.again(lambda: _keep(repository, chain, name, document, listed, log))
    return taken


def _quiet(repository: Repository) -> int:
    """The newest entry of the log of the collectors, between two collections: what a snapshot needs may be
    on its way out during one. Raises InvalidState."""
    condemned = Condemned.load(repository.backend)
    if not all(one.done for one in condemned.collections):
        raise InvalidState(
            "a collection is under way: take the snapshot when it is done (`holdfast gc` ends one that "
            "was left)"
        )
    return condemned.snapshot.number


def chain_of(repository: Repository, name: str) -> Chain:
    """The chain of a snapshot's name. Raises InvalidValue."""
    return Chain(repository.backend, layout.snapshot(check_alias("snapshot name", name)))


def _keep(
    repository: Repository, chain: Chain, name: str, document: bytes, listed: bytes, log: int
) -> None:
    """Store the documents and have the name name them, unless it does. Raises InvalidState when a collection
    has begun since entry `log` of the collectors: something that the snapshot needs may be gone."""
    to = Target(digest=str(Digest.of(document)), size_bytes=len(document), kind=KIND)
    at, seen = time.time_ns(), references.writable(repository)
    stored = [artifacts.store(seen, data, None, _PLAIN) for data in (listed, document)]

    def check(seen: Repository, state: State, change: State) -> None:
        if _quiet(repository) != log:
            raise InvalidState(
                "a collection took place while the snapshot was taken: take it again"
            )
        for about in stored:
            references.require_artifact(seen, about)

    references.commit(
        repository,
        chain.prefix,
        lambda state: names.moved(state, to, at),
        first=names.first(name, at),
        check=check,
    )


def _rows(repository: Repository) -> tuple[list[Row], bool]:
    """(a row for each chain, did the store stand like that at one moment). Raises Corrupt."""
    rows: dict[str, Row] = {}
    listing = _listing(repository)
    for _ in range(_MOST_LISTINGS):
        _read(repository, listing, rows)
        again = _listing(repository)
        if again == listing:
            return [rows[prefix] for prefix in listing], True
        listing = again
    _read(repository, listing, rows)
    return [rows[prefix] for prefix in listing], False


def _listing(repository: Repository) -> dict[str, list[int]]:
    """Every chain, those that name others first: what is named by what was seen is then seen as well."""
    found: dict[str, list[int]] = {}
    for folder in (layout.ALIASES, layout.RUNS, layout.EXPERIMENTS):
        for stat in repository.backend.walk(folder):
            prefix, _, last = stat.name.rpartition("/")
            number = layout.entry_number(last)
            if number is not None and layout.is_chain(f"{prefix}/"):
                found.setdefault(f"{prefix}/", []).append(number)
    return found


def _read(repository: Repository, listing: Listing, rows: dict[str, Row]) -> None:
    """Bring `rows` up to a listing: what has no new entry since is known already."""
    behind = [
        (prefix, numbers)
        for prefix, numbers in listing.items()
        if prefix not in rows or rows[prefix].number != max(numbers)
    ]

    def one(chain: tuple[str, list[int]]) -> Row:
        prefix, numbers = chain
        found = Chain(repository.backend, prefix).load(numbers)
        return documents.row(prefix, found.number, found.tip or b"", found.state)

    with ThreadPoolExecutor(repository.backend.capabilities.parallel) as pool:
        rows.update((row.prefix, row) for row in pool.map(one, behind))


# Reading.


def find(repository: Repository, at: str) -> Digest:
    """The id of a snapshot: `at` itself, or what its name names now. Raises SnapshotNotFound."""
    if at.startswith("sha256:"):
        return Digest.parse(at)
    found = aliases.current(chain_of(repository, at), at)
    if found is None or found.target is None:
        raise SnapshotNotFound(
            f"there is no snapshot {at!r} in {repository.backend.url}: holdfast snapshot --list",
            name=at,
        )
    return Digest.parse(str(found.target.digest))


def everything(repository: Repository) -> tuple[list[Alias], list[HoldfastError]]:
    """The names of snapshots, and what is wrong with those that cannot be read."""
    return aliases.listed(repository, layout.SNAPSHOTS, layout.SNAPSHOTS)


def load(repository: Repository, digest: Digest) -> tuple[bytes, Document, list[Row]]:
    """(the file, what it says, its rows), all held against their sha256.

    Raises SnapshotNotFound, Corrupt.
    """
    place = layout.blob(digest)
    if verified_artifact.size_of(repository.backend, digest) is None:
        raise SnapshotNotFound(
            f"{repository.backend.url} has no snapshot {digest}: make it there, or in a store that "
            "holds the same, with `holdfast snapshot NAME`",
            digest=str(digest),
        )
    data = verified_artifact.read(repository.backend, digest)
    try:
        document = documents.decode(data, place=place)
    except Corrupt as error:  # its sha256 is right
        raise InvalidValue(f"{digest} is no snapshot", value=str(digest)) from error
    listed = verified_artifact.read(repository.backend, document.list)
    rows = documents.decode_list(listed, document, place=layout.blob(document.list))
    return data, document, rows


def prove(repository: Repository, artifact: Target) -> str:
    """The proof that the snapshot which `repository` shows holds an artifact of a run, as JSON text.

    Raises InvalidValue when it shows none. One that is named by its digest alone is looked for in every run.
    """
    if repository.as_of is None:
        raise InvalidValue("a proof is one from a snapshot: open the store with at=, or give --at")
    data, _, rows = load(repository, repository.as_of)
    for at, row in enumerate(rows):
        run_id = layout.run_of(row.prefix)
        if run_id is None or artifact.run_id not in (None, run_id):
            continue
        items = documents.items_of(Chain(repository.backend, row.prefix).load().state)
        for place, item in enumerate(items):
            if item[2] == artifact.digest and artifact.key in (None, item[1]):
                return proofs.make(data, rows, at, items, place)
    raise ArtifactNotFound(
        f"the snapshot {repository.as_of} has no artifact {artifact} by itself: of a file in a "
        "directory, prove the directory",
        digest=artifact.digest,
    )


def pinned(repository: Repository, at: str) -> Repository:
    """The store as it was: read-only, and nothing in it ever changes. Raises SnapshotNotFound, Corrupt."""
    digest = find(repository, at)
    _, _, rows = load(repository, digest)
    backend = PinnedBackend(repository.backend, digest, rows)
    return replace(repository, backend=backend, spools=backend, read_only=True, as_of=digest)
