"""The ways in which a damaged or missing file can be mended, the best first.

A way says in words what it does, and does it, or raises: then the next one is tried. None takes anything
on trust: bytes are held against the digest in the name, or against the entries before and behind.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import partial

from holdfast import bundles, verified_artifact
from holdfast.backend.base import Backend
from holdfast.digest import Digest
from holdfast.errors import Corrupt, HoldfastError, NameNotFound
from holdfast.format import entry as entries
from holdfast.format import kinds, layout, pack_mend, signature, spool, storefile
from holdfast.ops import rebuild
from holdfast.ops.findings import Finding
from holdfast.ops.fsck_data import load
from holdfast.ops.recover import recover_run
from holdfast.ops.setting_aside import put_right, read, resembles, set_aside
from holdfast.repository import Repository

FILE_CODES = {"digest_mismatch", "corrupt", "missing", "gap", "size", "unsupported", "unreadable"}


@dataclass(frozen=True, slots=True)
class Way:
    """One way to mend one finding; `do` raises a HoldfastError if it is none after all."""

    words: str
    do: Callable[[], None]


def ways(
    repository: Repository, source: Repository | None, finding: Finding, *, spools: bool = True
) -> Iterator[Way]:
    """The ways that seem open, by a look at the names."""
    kind = kinds.kind_of(finding.place)
    code = finding.code
    if code in ("head", "head_damaged"):
        yield Way("write the head again", partial(_head, repository.backend, finding.place))
    elif kind == kinds.SPOOL and code in FILE_CODES | {"torn", "spool"}:
        yield from _spool(repository, source, finding, spools)
    elif kind == kinds.RECIPE and code in FILE_CODES | {"mismatch"}:
        yield from _recipe(repository, source, finding)
    elif code in FILE_CODES and kind in _FILES:
        yield from _FILES[kind](repository, source, finding)


def _head(backend: Backend, name: str) -> None:
    backend.put(name, kinds.HEAD_BYTES)


def _has(source: Repository | None, name: str) -> bool:
    if source is None:
        return False
    with suppress(NameNotFound):
        source.backend.stat(name)
        return True
    return False


def _copied(
    repository: Repository,
    source: Repository | None,
    name: str,
    check: Callable[[bytes | None, bytes], None],
) -> Iterator[Way]:
    """Take the file of the same name from the source, if `check(ours, theirs)` does not raise."""
    if source is None or not _has(source, name):
        return

    def do() -> None:
        theirs = source.backend.get(name)
        ours = read(repository.backend, name)
        check(ours, theirs)
        if ours != theirs:
            put_right(repository.backend, name, [theirs])

    yield Way(f"copy it from {source.backend.url}", do)


# Files whose names are their digests.


def _hashed(repository: Repository, source: Repository | None, finding: Finding) -> Iterator[Way]:
    name, backend = finding.place, repository.backend
    digest = kinds.digest_of(name)
    if digest is None:
        return
    if source is not None and _has(source, name):
        theirs = source.backend

        def copy() -> None:
            put_right(backend, name, theirs.chunks(name), digest)

        yield Way(f"copy it from {theirs.url}", copy)
    if kinds.kind_of(name) == kinds.BLOB:
        yield from _blob(repository, source, digest)
    if kinds.kind_of(name) == kinds.PACK:
        if _has(repository, name):
            yield Way(
                "put it together from its own chunks", partial(_from_itself, backend, name, digest)
            )
        if finding.needed:
            words = "store the artifacts that need it as plain files, and set it aside"
            yield Way(words, partial(rebuild.without_pack, repository, source, digest))
    if not finding.needed and _has(repository, name):
        yield Way("set it aside: nothing needs it", partial(set_aside, backend, name))


def _blob(repository: Repository, source: Repository | None, digest: Digest) -> Iterator[Way]:
    """From another form of the same artifact, here or there."""
    for where, words in ((repository, "of this store"), (source, "of the source")):
        if where is not None and _is_packed(where.backend, digest):
            do = partial(rebuild.put_blob, repository.backend, where.backend, digest)
            yield Way(f"put it together from packs {words}", do)


def _is_packed(backend: Backend, digest: Digest) -> bool:
    found, _ = verified_artifact.recipes(backend, digest)
    packed = any(not verified_artifact.is_own(made_of) for made_of in found)
    return packed or bundles.find(backend, digest) is not None


def _from_itself(backend: Backend, name: str, digest: Digest) -> None:
    get, size = partial(backend.get_range, name), backend.stat(name).size_bytes
    for pieces in pack_mend.attempts(get, size, place=name):
        with suppress(Corrupt):
            put_right(backend, name, pieces, digest)
            return
    raise Corrupt(f"chunks of {name} are damaged themselves", place=name)


# Files that only their contents tell from others.


def _recipe(repository: Repository, source: Repository | None, finding: Finding) -> Iterator[Way]:
    """The random part of its name makes it the same file everywhere."""
    name, backend = finding.place, repository.backend

    def check(ours: bytes | None, theirs: bytes) -> None:
        if source is not None:
            load(source.backend, name)
        if ours == theirs and finding.code == "mismatch":
            raise Corrupt(f"{name} is the same there", place=name)

    yield from _copied(repository, source, name, check)
    words = "store its artifact as a plain file, and set the recipe aside"
    yield Way(words, partial(rebuild.without_recipe, repository, source, name))
    if not finding.needed:
        yield Way("set it aside: nothing needs it", partial(set_aside, backend, name))


def _entry(repository: Repository, source: Repository | None, finding: Finding) -> Iterator[Way]:
    name, backend = finding.place, repository.backend

    def check(ours: bytes | None, theirs: bytes) -> None:
        entry = entries.decode(theirs, place=name)
        number = layout.entry_number(name)
        chain = name.rpartition("/")[0] + "/"
        before = read(backend, layout.entry(chain, entry.number - 1)) if number else None
        after = read(backend, layout.entry(chain, entry.number + 1))
        proofs = [hashlib.sha256(before).digest() == entry.prev] if before is not None else []
        with suppress(HoldfastError):
            if after is not None:
                next_ = entries.decode(after, place=layout.entry(chain, entry.number + 1))
                proofs.append(next_.prev == hashlib.sha256(theirs).digest())
        if (
            entry.number != number
            or not all(proofs)
            or (not proofs and not resembles(ours, theirs))
        ):
            raise Corrupt(f"{name} is of another history there", place=name)

    yield from _copied(repository, source, name, check)


def _signature(
    repository: Repository, source: Repository | None, finding: Finding
) -> Iterator[Way]:
    """Its name holds the document and the key; that it is good is for who has the key to say."""
    name = finding.place

    def check(ours: bytes | None, theirs: bytes) -> None:
        about = signature.decode(theirs, place=name)
        if layout.signatures(about.document) + about.key.hex() != name:
            raise Corrupt(f"{name} is a signature of something else there", place=name)

    yield from _copied(repository, source, name, check)


def _store(repository: Repository, source: Repository | None, finding: Finding) -> Iterator[Way]:
    def check(ours: bytes | None, theirs: bytes) -> None:
        storefile.decode(theirs, place=layout.STORE)
        if not ours or not resembles(ours, theirs):
            raise Corrupt(
                "it is not known whether that is a copy of this store", place=layout.STORE
            )

    yield from _copied(repository, source, layout.STORE, check)


def _spool(
    repository: Repository, source: Repository | None, finding: Finding, spools: bool
) -> Iterator[Way]:
    name = finding.place
    run_id, writer, sequence = layout.spool_parts(name)

    def check(ours: bytes | None, theirs: bytes) -> None:
        held = spool.scan(theirs, place=name)
        spool.check_owner(held.about, run_id, writer, sequence, place=name)
        if held.torn_bytes or not resembles(ours, theirs):
            raise Corrupt(f"{name} is no better there", place=name)

    if finding.code != "spool" and not repository.is_remote:
        yield from _copied(repository, source, name, check)
    if spools:
        damaged = finding.code not in ("torn", "spool")
        words = (
            "seal its points" if not damaged else "seal the points that are whole, and set it aside"
        )

        def do() -> None:
            if recover_run(repository, run_id, salvage=damaged) is None:
                raise Corrupt(f"{name} belongs to a process that may live", place=name)

        yield Way(words, do)


_FILES = {
    kinds.BLOB: _hashed,
    kinds.PACK: _hashed,
    kinds.SEGMENT: _hashed,
    kinds.ENTRY: _entry,
    kinds.SIGNATURE: _signature,
    kinds.STORE: _store,
}
