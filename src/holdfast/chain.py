"""Chains: names that change, made of entries that never do.

Entry n+1 is created only if absent, so of two writers one learns that it must look again: that is
compare-and-swap. Each entry carries the sha256 of the one before it. See docs/format/chain.md.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

from holdfast.backend.base import Backend
from holdfast.errors import BackendError, Corrupt, NameExists, NameNotFound
from holdfast.format import entry as entries
from holdfast.format import layout, manifest
from holdfast.format.entry import Entry
from holdfast.format.manifest import State
from holdfast.ids import new_nonce

_MOST_CONFLICTS = 1000


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The state after entry `number` (-1: the chain is empty), whose file has sha256 `tip`."""

    state: State
    number: int
    tip: bytes | None


EMPTY = Snapshot({}, -1, None)
Decide = Callable[[State], State]  # the change to make to a state; an empty one means none


class Chain:
    """One chain, for example `runs/<run_id>/manifest/`."""

    def __init__(self, backend: Backend, prefix: str) -> None:
        self.backend = backend
        self.prefix = prefix

    def load(self) -> Snapshot:
        """The newest state; EMPTY when there is no entry.

        Raises Corrupt when a needed entry is damaged or missing: an older state is never passed
        off as the newest.
        """
        newest = self._newest()
        if newest < 0:
            return EMPTY
        snapshot = EMPTY
        for number in range(newest - newest % layout.FULL_EVERY, newest + 1):
            snapshot = self._follow(snapshot, number)
        return snapshot

    def after(self, before: Snapshot) -> Snapshot | None:
        """The state one entry later; None while there is none. Raises Corrupt."""
        try:
            self.backend.stat(layout.entry(self.prefix, before.number + 1))
        except NameNotFound:
            return None
        return self._follow(before, before.number + 1)

    def _newest(self) -> int:
        numbers = [layout.entry_number(stat.name) for stat in self.backend.walk(self.prefix)]
        present = [number for number in numbers if number is not None]
        if present and len(present) != max(present) + 1:
            missing = next(n for n in range(max(present)) if n not in set(present))
            place = layout.entry(self.prefix, missing)
            raise Corrupt(f"{place} is missing, although later entries are there", place=place)
        return max(present, default=-1)

    def check(self) -> None:
        """Read every entry from the first on. Raises Corrupt, naming the first bad one."""
        before: bytes | None = None
        for number in range(self._newest() + 1):
            entry, tip = self.read(number)
            if entry.prev != before:
                place = layout.entry(self.prefix, number)
                raise Corrupt(f"{place} does not continue the entry before it", place=place)
            before = tip

    def read(self, number: int) -> tuple[Entry, bytes]:
        """(entry, sha256 of its file). Raises Corrupt, naming the file."""
        place = layout.entry(self.prefix, number)
        entry, tip = self._read_once(place)
        if entry.number != number:
            raise Corrupt(f"{place} is damaged: it says it is entry {entry.number}", place=place)
        return entry, tip

    def _read_once(self, place: str) -> tuple[Entry, bytes]:
        try:
            data = self.backend.get(place)
        except NameNotFound as error:
            raise Corrupt(f"{place} is missing", place=place) from error
        return entries.decode(data, place=place), hashlib.sha256(data).digest()

    def _follow(self, before: Snapshot, number: int) -> Snapshot:
        place = layout.entry(self.prefix, number)
        entry, tip = self.read(number)
        linked = before.number < 0 or entry.prev == before.tip
        if not linked or entry.full != (number % layout.FULL_EVERY == 0):
            raise Corrupt(f"{place} does not continue the entry before it", place=place)
        body = manifest.check_state(entry.body, place=place)
        state = body if entry.full else manifest.apply(before.state, body)
        return Snapshot(state, number, tip)

    def commit(self, base: Snapshot, decide: Decide) -> Snapshot:
        """Append what `decide` makes of the newest state; `base` is the caller's idea of it.

        `decide` is asked again each time another writer was quicker, and may raise to give up.
        Raises BackendError; then the entry is not there or was never acknowledged to anybody.
        """
        for _ in range(_MOST_CONFLICTS):
            change = decide(base.state)
            if not change:
                return base
            try:
                return self._append(base, change)
            except NameExists:
                base = self.load()
        raise BackendError(
            f"{self.prefix}: {_MOST_CONFLICTS} other writers were quicker; try again later",
            name=self.prefix,
        )

    def _append(self, base: Snapshot, change: State) -> Snapshot:
        number = base.number + 1
        full = number % layout.FULL_EVERY == 0
        state = manifest.apply(base.state, change)
        entry = Entry(
            number, base.tip, new_nonce(), time.time_ns(), full, state if full else change
        )
        data = entries.encode(entry)
        # The hint goes first: it may run ahead of the chain but never fall behind it.
        self.beat(number)
        self._create(layout.entry(self.prefix, number), data, entry.nonce)
        if base.number >= 0:
            with suppress(BackendError):
                self.backend.delete(layout.head(self.prefix, base.number))
        return Snapshot(state, number, hashlib.sha256(data).digest())

    def _create(self, place: str, data: bytes, nonce: bytes) -> None:
        try:
            self.backend.create(place, data)
        except BackendError:
            # An answer can be lost on its way back: an entry with our nonce is ours.
            if not self._is_ours(place, nonce):
                raise

    def _is_ours(self, place: str, nonce: bytes) -> bool:
        try:
            return entries.decode(self.backend.get(place), place=place).nonce == nonce
        except (BackendError, Corrupt):
            return False

    def beat(self, number: int) -> None:
        """Write the head hint of entry `number` again: its time is the writer's heartbeat."""
        self.backend.put(layout.head(self.prefix, number), b"holdfast head\n")
