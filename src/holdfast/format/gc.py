"""What collectors and writers say to each other: names that go, fences, open chains, runs that are collected.

A document of names (kind 'G', version 1) holds the hexadecimal part of names as bytes, so that a million of
them take 32 MB and one is found by halving. See docs/format/gc.md.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from holdfast.digest import Digest
from holdfast.errors import Corrupt
from holdfast.format import frame, layout, packing
from holdfast.format.manifest import State

KIND, VERSION = b"G", 1
FEATURE = "gc"  # in `write` of store.json: who writes here knows these rules
COLLECTIONS, POLICY = "collections", "policy"  # sections of the log
FENCE, OPEN, SYNC, HOLDS, NEEDS = "gc", "open", "sync", "holds", "needs"  # sections of other chains

_HASHED = re.compile(r"(blobs|packs)/sha256/[0-9a-f]{2}/([0-9a-f]{64})\Z")
_RECIPE = re.compile(r"recipes/sha256/[0-9a-f]{2}/([0-9a-f]{64})\.([0-9a-f]{32})(\.files)?\Z")
_SEGMENT = re.compile(r"runs/([^/]+)/segments/([0-9a-f]{64})\.seg\Z")
_WIDTHS = {"blobs": 32, "packs": 32, "recipes": 48, "bundles": 48}
Kind = tuple[str, str]  # (a key of _WIDTHS, ""), ("segments", run id)


def document(number: int, digest: Digest) -> str:
    """The name of the document of names that entry `number` of the log names."""
    return f"{layout.LOG}names/{number:08d}.{digest.hex}"


def held(sync_id: str, digest: Digest) -> str:
    """The name of a document of what a sync holds."""
    return f"{layout.sync(sync_id)}names/{digest.hex}"


# Names.


@dataclass(frozen=True, slots=True)
class Names:
    """A set of names. `ids` are joined, ascending; `others` are those that hold no hash."""

    ids: Mapping[Kind, bytes] = field(default_factory=dict)
    others: frozenset[str] = frozenset()

    @classmethod
    def of(cls, names: Iterable[str]) -> Names:
        found: dict[Kind, set[bytes]] = {}
        others = set()
        for name in names:
            kind, raw = _parts(name)
            if kind is None:
                others.add(name)
            else:
                found.setdefault(kind, set()).add(raw)
        return cls({kind: b"".join(sorted(raw)) for kind, raw in found.items()}, frozenset(others))

    def has(self, name: str) -> bool:
        kind, raw = _parts(name)
        if kind is None:
            return name in self.others
        ids, width = self.ids.get(kind, b""), len(raw)
        place = bisect_left(
            range(len(ids) // width), raw, key=lambda n: ids[n * width : n * width + width]
        )
        return ids[place * width : place * width + width] == raw

    def __iter__(self) -> Iterator[str]:
        for kind, ids in self.ids.items():
            width = _WIDTHS.get(kind[0], 32)
            for at in range(0, len(ids), width):
                yield _name(kind, ids[at : at + width].hex())
        yield from sorted(self.others)

    def __len__(self) -> int:
        hashed = sum(len(ids) // _WIDTHS.get(kind[0], 32) for kind, ids in self.ids.items())
        return hashed + len(self.others)


def _parts(name: str) -> tuple[Kind | None, bytes]:
    if found := _HASHED.match(name):
        return (found[1], ""), bytes.fromhex(found[2])
    if found := _RECIPE.match(name):
        kind = "bundles" if found[3] else "recipes"
        return (kind, ""), bytes.fromhex(found[1] + found[2])
    if found := _SEGMENT.match(name):
        return ("segments", found[1]), bytes.fromhex(found[2])
    return None, b""


def _name(kind: Kind, digits: str) -> str:
    what, run_id = kind
    if what == "segments":
        return f"{layout.RUNS}{run_id}/segments/{digits}.seg"
    if what in ("recipes", "bundles"):
        ending = ".files" if what == "bundles" else ""
        return f"{layout.RECIPES}{digits[:2]}/{digits[:64]}.{digits[64:]}{ending}"
    return f"{what}/sha256/{digits[:2]}/{digits}"


def encode_names(names: Names) -> bytes:
    body: dict[str, Any] = {kind: ids for (kind, run_id), ids in names.ids.items() if not run_id}
    segments = {run_id: ids for (_, run_id), ids in names.ids.items() if run_id}
    body |= {"segments": segments} if segments else {}
    body |= {"others": sorted(names.others)} if names.others else {}
    return frame.wrap(KIND, VERSION, packing.pack(body))


def decode_names(data: bytes, *, place: str) -> Names:
    """Raises Corrupt or UnsupportedFormat, naming `place`."""
    _, body = frame.unwrap(KIND, data, place=place, max_version=VERSION)
    fields = packing.unpack(body, place=place)
    if not isinstance(fields, dict) or fields.keys() - {*_WIDTHS, "segments", "others"}:
        raise _damaged(place)
    segments, others = fields.get("segments", {}), fields.get("others", [])
    if not isinstance(segments, dict) or not isinstance(others, list):
        raise _damaged(place)
    ids: dict[Kind, bytes] = {(kind, ""): fields[kind] for kind in _WIDTHS if kind in fields}
    ids |= {("segments", run_id): raw for run_id, raw in segments.items()}
    sound = all(_is_ascending(raw, _WIDTHS.get(kind, 32)) for (kind, _), raw in ids.items())
    if not sound or not all(isinstance(name, str) for name in others):
        raise _damaged(place)
    return Names(ids, frozenset(others))


def _is_ascending(raw: Any, width: int) -> bool:
    if not isinstance(raw, bytes) or not raw or len(raw) % width:
        return False
    starts = range(width, len(raw), width)
    return all(raw[at - width : at] < raw[at : at + width] for at in starts)


def _damaged(place: str) -> Corrupt:
    return Corrupt(f"{place} is damaged: it is no document of names", place=place)


# Chains.


def is_open(state: State, store_id: str) -> bool:
    """May references be added to a chain with this state?"""
    if OPEN in state or (SYNC in state and not state[SYNC].get("closed")):
        return True
    writer = state.get("writer", {})
    return bool(writer) and not writer.get("closed") and writer.get("store", store_id) == store_id


def is_coming(state: State, store_id: str) -> bool:
    """Is the run that has this state, or none yet, written in another store and brought here by syncs?"""
    writer = state.get("writer", {})
    elsewhere = writer.get("store", store_id) != store_id and not writer.get("closed")
    return elsewhere or not state


def is_collected(state: State) -> bool:
    """Was the run that has this state removed for good?"""
    return "collected_at" in state.get("run", {})


def fence(state: State, collection: int, store_id: str) -> State:
    """The change that fences an open chain; {} if it has this fence already. That of another store, which a
    sync brought along, is none here."""
    name = f"{store_id}@{collection}"
    if state.get(FENCE, {}).get("fence") == name:
        return {}
    change: State = {FENCE: {"fence": name}}
    return {**change, OPEN: dict.fromkeys(state[OPEN])} if OPEN in state else change


_KEPT = (
    "run_id", "experiment_id", "name", "status", "created_at", "started_at", "ended_at", "deleted_at",
)  # fmt: skip


def collected(state: State, at: int) -> State:
    """What stays of a run that is collected at `at` (ns)."""
    run = state.get("run", {})
    return {"run": {**{key: run[key] for key in _KEPT if key in run}, "collected_at": at}}
