"""Signing snapshots, and holding a store against a snapshot that somebody vouches for.

The signature says who signed which snapshot; the snapshot says which entry each chain had reached; and an
entry names, link by link, everything before it, and by digests every byte that its run needs.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass

from holdfast.digest import Digest
from holdfast.errors import BadSignature, HoldfastError, NameExists, NameNotFound, NotFound
from holdfast.format import layout, signature
from holdfast.format.signature import Signature
from holdfast.format.snapshot import Row
from holdfast.keyfiles import PublicKey, Signer, fingerprint
from holdfast.ops import snapshots
from holdfast.ops.verify import Finding
from holdfast.repository import Repository
from holdfast.timestamp import Timestamp


@dataclass(frozen=True, slots=True)
class Signed:
    """A snapshot, who signed it and when that person says it was."""

    snapshot: Digest
    key: PublicKey
    at: Timestamp


def sign(repository: Repository, address: str, signer: Signer) -> Signed:
    """Sign a snapshot (`sha256:…` or its name) and keep the signature beside it; signing again changes
    nothing. Raises SnapshotNotFound, InvalidValue, Corrupt, BackendError."""
    digest = snapshots.find(repository, address)
    snapshots.load(repository, digest)
    at = time.time_ns()
    made = Signature(digest, at, signer.public, signer.sign(signature.statement(digest, at)))
    with suppress(NameExists):
        repository.backend.create(_place(digest, signer.public), signature.encode(made))
    return check(repository, digest, [PublicKey(signer.public, "this key")])


def check(repository: Repository, digest: Digest, keys: Sequence[PublicKey]) -> Signed:
    """Which of the `keys` signed the snapshot. Raises NotFound when none did, BadSignature, Corrupt."""
    for key in keys:
        place = _place(digest, key.raw)
        try:
            found = signature.decode(repository.backend.get(place), place=place)
        except NameNotFound:
            continue
        right = (found.document, found.key) == (digest, key.raw)
        if not right or not key.is_right(found.signature, found.statement):
            raise BadSignature(
                f"{place}: {key} did not sign {digest}", place=place, snapshot=str(digest)
            )
        return Signed(digest, key, Timestamp(found.at))
    signers = ", ".join(fingerprint(key) for key in _signers(repository, digest)) or "nobody"
    wanted = ", ".join(str(key) for key in keys)
    raise NotFound(f"{digest} is signed by {signers}, not by {wanted}", snapshot=str(digest))


def compare(repository: Repository, digest: Digest) -> list[Finding]:
    """Where the store is not what the snapshot says: entries that are missing or others. What came after
    the snapshot is no finding. Raises Corrupt, SnapshotNotFound."""
    _, _, rows = snapshots.load(repository, digest)
    found = (_compare(repository, row) for row in rows)
    return [one for one in found if one is not None]


def _compare(repository: Repository, row: Row) -> Finding | None:
    place = layout.entry(row.prefix, row.number)
    try:
        is_same = hashlib.sha256(repository.backend.get(place)).digest() == row.tip
        message = f"{place} is not the entry that the snapshot names"
    except NameNotFound:
        is_same, message = False, f"{place} is missing, and the snapshot names it"
    except HoldfastError as error:
        is_same, message = False, error.message
    return None if is_same else Finding("not_as_signed", place, message, row.prefix)


def _place(digest: Digest, key: bytes) -> str:
    return f"{layout.signatures(digest)}{key.hex()}"


def _signers(repository: Repository, digest: Digest) -> list[bytes]:
    names = repository.backend.names(layout.signatures(digest))
    return sorted(bytes.fromhex(name) for name in names if layout.is_key(name))
