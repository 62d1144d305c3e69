"""How a chain in the source stands to the one in the target, and how its entries get there.

Entries carry the sha256 of the one before, so two chains with one equal entry are equal up to it. See
docs/format/sync.md.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from holdfast import process
from holdfast.backend.base import Backend
from holdfast.chain import Chain
from holdfast.errors import BackendError, Corrupt, NameExists, NameNotFound
from holdfast.format import entry as entries
from holdfast.format import layout, manifest
from holdfast.format.entry import Entry
from holdfast.format.manifest import State
from holdfast.ops.sync_listing import Tip

_MOST_TOLD = 20  # entries of a history that a report shows


@dataclass(frozen=True, slots=True)
class Event:
    """One entry of a history: its number, when it was written (ns), by whom, and what it changed."""

    number: int
    at: int
    writer: str
    changed: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Divergence:
    """Both sides appended to one chain after entry `common` (-1: they have none in common). `ours` and
    `theirs` are the entries behind it in the source and in the target, the oldest first, at most 20."""

    chain: str
    common: int
    ours: tuple[Event, ...]
    theirs: tuple[Event, ...]
    fork: str | None = None

    @property
    def message(self) -> str:
        """One sentence, for people."""
        since = f"after entry {self.common}" if self.common >= 0 else "from the first entry on"
        return f"{self.chain} was changed on both sides {since}"


@dataclass(frozen=True, slots=True)
class ChainPlan:
    """A chain of the source: entries `have`+1 to `newest` are to be created in the target."""

    prefix: str
    have: int
    newest: int

    @property
    def count(self) -> int:
        return max(0, self.newest - self.have)


def common(source: Backend, target: Backend, prefix: str, ours: Tip, theirs: Tip) -> int:
    """The number of the last entry that is the same on both sides; -1 if there is none. By bisection."""
    low, high = -1, min(ours.number, theirs.number)
    probe = high  # mostly they are equal
    while low < high:
        if _is_same(source, target, layout.entry(prefix, probe)):
            low = probe
        else:
            high = probe - 1
        probe = (low + high + 1) // 2
    return low


def _is_same(source: Backend, target: Backend, name: str) -> bool:
    try:
        return source.get(name) == target.get(name)
    except NameNotFound as error:
        raise Corrupt(f"{name} is missing, although it was listed", place=name) from error


def diverged(
    source: Backend, target: Backend, prefix: str, number: int, ours: Tip, theirs: Tip
) -> Divergence:
    """What both sides did after entry `number`. Raises Corrupt."""
    return Divergence(
        prefix,
        number,
        _history(source, prefix, number + 1, ours.number),
        _history(target, prefix, number + 1, theirs.number),
    )


def _history(backend: Backend, prefix: str, first: int, newest: int) -> tuple[Event, ...]:
    chain = Chain(backend, prefix)
    wanted = range(max(first, newest - _MOST_TOLD + 1), newest + 1)
    found = [chain.read(number)[0] for number in wanted]
    return tuple(_event(entry) for entry in found)


def _event(entry: Entry) -> Event:
    who = entry.body.get("writer") or {}
    named = process.describe(who) if "pid" in who else ""
    return Event(entry.number, entry.at, named, tuple(sorted(entry.body)))


def read(backend: Backend, prefix: str, first: int, newest: int) -> list[tuple[Entry, bytes]]:
    """(entry, its file) of each, held against the entry before it. Raises Corrupt, naming the first
    that is damaged or missing."""
    found: list[tuple[Entry, bytes]] = []
    before: bytes | None = None
    for number in range(first, newest + 1):
        place = layout.entry(prefix, number)
        data = _get(backend, place)
        entry = entries.decode(data, place=place)
        if entry.number != number:
            raise Corrupt(f"{place} is damaged: it says it is entry {entry.number}", place=place)
        if number > first and entry.prev != before:
            raise Corrupt(f"{place} does not continue the entry before it", place=place)
        manifest.check_state(entry.body, place=place)
        found.append((entry, data))
        before = hashlib.sha256(data).digest()
    return found


def _get(backend: Backend, place: str) -> bytes:
    try:
        return backend.get(place)
    except NameNotFound as error:
        raise Corrupt(
            f"{place} is missing, although later entries are there", place=place
        ) from error


def folded(backend: Backend, prefix: str, new: Sequence[tuple[Entry, bytes]]) -> State:
    """The state after the last of these entries, which follow each other. Raises Corrupt."""
    full = max((k for k, (entry, _) in enumerate(new) if entry.full), default=-1)
    state = new[full][0].body if full >= 0 else _before(backend, prefix, new[0][0])
    for entry, _ in new[full + 1 :]:
        state = manifest.apply(state, entry.body)
    return state


def _before(backend: Backend, prefix: str, entry: Entry) -> State:
    return Chain(backend, prefix).load_hinted(entry.number - 1).state


def publish(target: Backend, plan: ChainPlan, source: Backend) -> int:
    """Create the entries that the target lacks, in order; returns how many bytes they have.

    Entries that another sync has created meanwhile are left alone. Raises Corrupt (nothing behind the damaged
    entry is created) and Diverged."""
    new = read(source, plan.prefix, plan.have + 1, plan.newest)
    if not new:
        return 0
    if plan.have >= 0 and not _follows(target, plan, new[0][0]):
        raise Diverged(f"{plan.prefix} was changed in the target", place=plan.prefix)
    if plan.have < 0:  # without it there is no run, so no head may tell of one
        _create(target, layout.entry(plan.prefix, 0), new[0][1])
    target.put(layout.head(plan.prefix, plan.newest), b"holdfast head\n")
    for entry, data in new:
        if entry.number:
            _create(target, layout.entry(plan.prefix, entry.number), data)
    if plan.have >= 0:
        with suppress(BackendError):
            target.delete(layout.head(plan.prefix, plan.have))
    return sum(len(data) for _, data in new)


def _follows(target: Backend, plan: ChainPlan, first: Entry) -> bool:
    before = _get(target, layout.entry(plan.prefix, plan.have))
    return hashlib.sha256(before).digest() == first.prev


class Diverged(Corrupt):
    """Another writer appended to the target's chain while the sync went on."""

    code = "diverged"


def _create(target: Backend, place: str, data: bytes) -> None:
    try:
        target.create(place, data)
    except BackendError as error:
        # It may be there: by another sync, or because the answer was lost on its way back.
        if _there(target, place) == data:
            return
        if isinstance(error, NameExists):
            raise Diverged(f"{place} was created by another writer", place=place) from error
        raise


def _there(target: Backend, place: str) -> bytes | None:
    try:
        return target.get(place)
    except BackendError:
        return None


_TIMES = ("created_at", "moved_at", "generation")  # of an alias, how often it was moved


def means_the_same(one: State, other: State) -> bool:
    """Do two states of an experiment or an alias differ in nothing but when it was created or moved?"""
    return bool(_without_times(one) == _without_times(other))


def _without_times(state: Mapping[str, Mapping[str, Any]]) -> Any:
    kept = {s: {k: v for k, v in keys.items() if k not in _TIMES} for s, keys in state.items()}
    return {section: keys for section, keys in kept.items() if keys and section != "writer"}
