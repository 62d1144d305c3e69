"""What waits on this machine for a remote store: whose it is, and the changes of chains, one a file.

Kind letters 'O' (owner) and 'Q' (a change in the queue), one canonical msgpack map each. See
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
_WISHING = 2  # the version of a change with wishes
_LAYOUTS = {"auto", "packed"}
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
class Wish:
    """How an artifact shall be stored whose original waits in the outbox: as `Run.log_artifact` was told."""

    layout: str
    base: str | None = None
    compact: bool = False


@dataclass(frozen=True, slots=True)
class Pending:
    """A change of a chain that is not in the store yet.

    `kind` is `found` (only if the chain is empty), `begin` (the chain must be empty) or `change`.
    Where the state has not the values in `only`, it is left alone. `wishes` has the keys of those of its
    artifacts that are made of originals.
    """

    chain: str
    change: State
    kind: str = "change"
    only: State = field(default_factory=dict)
    wishes: dict[str, Wish] = field(default_factory=dict)


def encode_owner(owner: Owner) -> bytes:
    return frame.wrap(OWNER, VERSION, packing.pack(asdict(owner)))


def decode_owner(data: bytes, *, place: str) -> Owner:
    """Raises Corrupt or UnsupportedFormat, naming `place`."""
    _, body = frame.unwrap(OWNER, data, place=place, max_version=VERSION)
    fields = _fields(body, ("run_id", "writer", "rank", "identity"), place)
    owner = Owner(**fields)
    texts = isinstance(owner.run_id, str) and isinstance(owner.writer, str)
    if not texts or type(owner.rank) not in (int, type(None)) or type(owner.identity) is not dict:
        raise _damaged(place)
    return owner


def encode_pending(pending: Pending) -> bytes:
    fields = asdict(pending)
    if not pending.wishes:
        del fields["wishes"]
    return frame.wrap(PENDING, _WISHING if pending.wishes else VERSION, packing.pack(fields))


def decode_pending(data: bytes, *, place: str) -> Pending:
    """Raises Corrupt or UnsupportedFormat, naming `place`."""
    version, body = frame.unwrap(PENDING, data, place=place, max_version=_WISHING)
    names = ("chain", "kind", "only", "change")
    fields = _fields(body, names if version == VERSION else (*names, "wishes"), place)
    wishes = fields.pop("wishes", {})
    pending = Pending(**fields, wishes=_wishes(wishes, fields["change"], place))
    texts = isinstance(pending.chain, str) and isinstance(pending.kind, str)
    if not texts or pending.kind not in _KINDS:
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


def _wishes(found: Any, change: Any, place: str) -> dict[str, Wish]:
    """By keys of artifacts of the change."""
    try:
        wishes = {key: Wish(**fields) for key, fields in found.items()}
        artifacts = change["artifacts"] if wishes else {}
        right = all(map(_is_wish, wishes.values())) and all(artifacts[key] for key in wishes)
    except (AttributeError, KeyError, TypeError) as error:
        raise _damaged(place) from error
    if not right:
        raise _damaged(place)
    return wishes


def _is_wish(wish: Wish) -> bool:
    named = wish.base is None or isinstance(wish.base, str)
    return wish.layout in _LAYOUTS and named and isinstance(wish.compact, bool)


def _fields(body: bytes | memoryview, names: tuple[str, ...], place: str) -> dict[str, Any]:
    fields = packing.unpack(body, place=place)
    if not isinstance(fields, dict) or fields.keys() != set(names):
        raise _damaged(place)
    return fields


def _damaged(place: str) -> Corrupt:
    return Corrupt(f"{place} is damaged: a field is not as defined", place=place)
