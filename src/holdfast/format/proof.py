"""A proof that a snapshot holds an artifact, as JSON that is checked without the store.

From the artifact over the items of its run, and the row of the run, to the root in the snapshot, whose
sha256 is the id. See docs/format/snapshot.md.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from holdfast.digest import Digest
from holdfast.errors import Corrupt, InvalidValue
from holdfast.format import layout, merkle, packing, snapshot
from holdfast.format.snapshot import Item, Row

VERSION = 1


@dataclass(frozen=True, slots=True)
class Proven:
    """What a proof that holds says: that snapshot has that artifact under that key of that run."""

    snapshot: Digest
    run_id: str
    key: str
    digest: Digest
    size_bytes: int
    kind: str


def make(document: bytes, rows: Sequence[Row], row_at: int, items: Sequence[Item], at: int) -> str:
    """The proof, as JSON text, of item `at` among the items of the run in row `row_at`."""
    row = rows[row_at]
    leaves = [merkle.leaf(one.pack()) for one in rows]
    fields = {
        "holdfast_proof": VERSION,
        "snapshot": str(Digest.of(document)),
        "document": document.hex(),
        "row": [row.prefix, row.number, row.tip.hex(), row.items.hex()],
        "row_at": row_at,
        "row_path": [step.hex() for step in merkle.path(leaves, row_at)],
        "item": items[at],
        "item_at": at,
        "items": len(items),
        "item_path": [step.hex() for step in merkle.path(snapshot.leaves_of(items), at)],
    }
    return json.dumps(fields, ensure_ascii=False, indent=2) + "\n"


def check(text: str | bytes, *, place: str = "the proof") -> Proven:
    """What a proof says, if it holds. Raises Corrupt, saying where it breaks, and InvalidValue for what is
    no proof."""
    fields = _fields(text, place)
    try:
        return _checked(fields)
    except (ValueError, TypeError, KeyError, IndexError, Corrupt) as error:
        reason = getattr(error, "message", None) or str(error)
        raise Corrupt(f"{place} does not hold: {reason}", place=place) from error


def _fields(text: str | bytes, place: str) -> dict[str, Any]:
    try:
        fields = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InvalidValue(f"{place} is not JSON: {error}") from error
    if not isinstance(fields, dict) or fields.get("holdfast_proof") != VERSION:
        raise InvalidValue(f"{place} is no proof of holdfast, or one of a newer version")
    return fields


def _checked(fields: dict[str, Any]) -> Proven:
    data, claimed = bytes.fromhex(fields["document"]), Digest.parse(fields["snapshot"])
    if Digest.of(data) != claimed:
        raise ValueError(f"its document has the digest {Digest.of(data)} and not {claimed}")
    document = snapshot.decode(data, place="its document")
    prefix, number, tip, items = fields["row"]
    row = Row(prefix, number, bytes.fromhex(tip), bytes.fromhex(items))
    root = _climb(row.pack(), fields["row_at"], document.chains, fields["row_path"])
    if root != document.root:
        raise ValueError(f"the row of {prefix} does not lead to the root of the snapshot")
    if _climb(_packed(fields["item"]), fields["item_at"], fields["items"], fields["item_path"]) != (
        row.items
    ):
        raise ValueError("the artifact does not lead to the root over what the run holds")
    kind, key, digest, size_bytes, form = fields["item"]
    run_id = layout.run_of(prefix)
    if kind != "artifact" or run_id is None:
        raise ValueError("what it proves is no artifact of a run")
    return Proven(claimed, run_id, key, Digest.parse(digest), size_bytes, form)


def _packed(item: Any) -> bytes:
    if not isinstance(item, list):
        raise TypeError("its item is no array")
    return packing.pack(item)


def _climb(leaf: bytes, at: Any, count: Any, path: Any) -> bytes:
    if type(at) is not int or type(count) is not int:
        raise TypeError("a place in it is no whole number")
    return merkle.climb(merkle.leaf(leaf), at, count, [bytes.fromhex(step) for step in path])
