"""What waits on this machine for a remote store: whose it is, and the changes of chains, one a file.

Kind letters 'O' (owner) and 'Q' (a change in the queue), version 1, one canonical msgpack map each. See
docs/format/outbox.md.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from typing import Any

from holdfast.errors import Corrupt
from holdfast.format import frame, manifest, packing
from holdfast.format.manifest import State

OWNER, PENDING = b"O", b"Q"
VERSION = 1
FOLDER = "outbox/"
APPLIED = "outbox"  # the section of a state that says which changes it has: {writer: newest number}
_KINDS = {"found", "begin", "change"}


@dataclass(frozen=True, slots=True)
class Owner:
    """The process whose outbox it is: `rank` is None for the main writer of the run."""

    run_id: str
    writer: str
    rank: int | None
    identity: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Pending:
    """A change of a chain that is not in the store yet.

    `kind` is `found` (only if the chain is empty), `begin` (the chain must be empty) or `change`.
    Where the state has not the values in `only`, it is left alone.
    """

    chain: str
    change: State
    kind: str = "change"
    only: State = field(default_factory=dict)


def encode_owner(owner: Owner) -> bytes:
    return frame.wrap(OWNER, VERSION, packing.pack(asdict(owner)))


def decode_owner(data: bytes, *, place: str) -> Owner:
    """Raises Corrupt or UnsupportedFormat, naming `place`."""
    fields = _fields(OWNER, data, ("run_id", "writer", "rank", "identity"), place)
    owner = Owner(**fields)
    texts = isinstance(owner.run_id, str) and isinstance(owner.writer, str)
    if not texts or type(owner.rank) not in (int, type(None)) or type(owner.identity) is not dict:
        raise _damaged(place)
    return owner


def encode_pending(pending: Pending) -> bytes:
    return frame.wrap(PENDING, VERSION, packing.pack(asdict(pending)))


def decode_pending(data: bytes, *, place: str) -> Pending:
    """Raises Corrupt or UnsupportedFormat, naming `place`."""
    fields = _fields(PENDING, data, ("chain", "kind", "only", "change"), place)
    pending = Pending(**fields)
    if not isinstance(pending.chain, str) or pending.kind not in _KINDS:
        raise _damaged(place)
    manifest.check_state(pending.change, place=place)
    manifest.check_state(pending.only, place=place)
    return pending


def unapplied(state: State, writer: str, pending: Iterable[tuple[int, Pending]]) -> State:
    """One change for all of (number, pending) that `state` does not have yet; {} if it has them all."""
    applied = state.get(APPLIED, {}).get(writer, -1)
    change: State = {}
    newest = applied
    for number, one in pending:
        if number > applied:
            newest = max(newest, number)
            change = joined(change, one.change) if _fits(state, one.only) else change
    return joined(change, {APPLIED: {writer: newest}}) if newest > applied else {}


def joined(first: State, then: State) -> State:
    """One change that does what two do, one after the other."""
    return {
        section: {**first.get(section, {}), **then.get(section, {})}
        for section in first.keys() | then.keys()
    }


def _fits(state: State, only: State) -> bool:
    return all(
        state.get(section, {}).get(key) == value
        for section, keys in only.items()
        for key, value in keys.items()
    )


def _fields(kind: bytes, data: bytes, names: tuple[str, ...], place: str) -> dict[str, Any]:
    _, body = frame.unwrap(kind, data, place=place, max_version=VERSION)
    fields = packing.unpack(body, place=place)
    if not isinstance(fields, dict) or fields.keys() != set(names):
        raise _damaged(place)
    return fields


def _damaged(place: str) -> Corrupt:
    return Corrupt(f"{place} is damaged: a field is not as defined", place=place)
