"""Chains: names that change, made of entries that never do.

Entry n+1 is created only if absent, so of two writers one learns that it must look again: that is
compare-and-swap. Each entry carries the sha256 of the one before it. See docs/format/chain.md.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace

from holdfast.backend.base import Backend
from holdfast.errors import BackendError, Corrupt, InvalidState, NameExists, NameNotFound
from holdfast.format import entry as entries
from holdfast.format import gc, layout, manifest
from holdfast.format.entry import Entry
from holdfast.format.manifest import State
from holdfast.ids import new_nonce

_MOST_CONFLICTS = 1000
_SMALL_BYTES = 4096  # of an entry: the block that a disk writes for the smallest change as well
_SMALL_KEYS = 200  # a state of more keys is not packed only to see whether it is small


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

    def load(self, listed: Iterable[int] | None = None) -> Snapshot:
        """The newest state; EMPTY when there is no entry.

        `listed` are the numbers of all its entries, when the caller has listed them already. Raises
        Corrupt when a needed entry is damaged or missing: an older state is never passed off as the
        newest.
        """
        newest, missing = _newest(self._numbers() if listed is None else listed)
        if newest < 0:
            return EMPTY
        if missing is not None:
            return self._collected(newest, missing)
        return self._state_at(newest)

    def after(self, before: Snapshot) -> Snapshot | None:
        """The state one entry later; None while there is none. Raises Corrupt."""
        try:
            self.backend.stat(layout.entry(self.prefix, before.number + 1))
        except NameNotFound:
            return None
        entry, tip = self.read(before.number + 1)
        if entry.prev != before.tip:
            raise self._unlinked(entry.number)
        body = self._body(entry)
        state = body if entry.full else manifest.apply(before.state, body)
        return Snapshot(state, entry.number, tip)

    def load_hinted(self, number: int) -> Snapshot:
        """The state after entry `number`, which a head names as the newest; no listing, mostly one GET.

        For caches only: where a head was lost, a newer entry may be there. When entry `number` is
        not there, its writer has yet to create it or never will, and the listing tells which is the
        newest. Raises Corrupt as `load` does.
        """
        try:
            return self._state_at(number)
        except Corrupt as error:
            if not isinstance(error.__cause__, NameNotFound):
                raise
        return self.load()

    def _numbers(self) -> list[int]:
        found = (
            layout.own_number(self.prefix, stat.name) for stat in self.backend.walk(self.prefix)
        )
        return [number for number in found if number is not None]

    def _collected(self, newest: int, missing: int) -> Snapshot:
        """The state of a run that is collected: its last entry is all that must be there of its chain."""
        entry, tip = self.read(newest)
        if not entry.full or not gc.is_collected(self._body(entry)):
            place = layout.entry(self.prefix, missing)
            raise Corrupt(f"{place} is missing, although later entries are there", place=place)
        return Snapshot(self._body(entry), newest, tip)

    def _state_at(self, newest: int) -> Snapshot:
        """Go back from entry `newest` to the nearest full one, then forward again, change by change."""
        found = self._backwards(newest)
        entry, tip = next(found)
        changes = []
        while not entry.full:
            changes.append(self._body(entry))
            before, before_tip = next(found)
            if before_tip != entry.prev:
                raise self._unlinked(entry.number)
            entry = before
        state = self._body(entry)
        for change in reversed(changes):
            state = manifest.apply(state, change)
        return Snapshot(state, newest, tip)

    def _backwards(self, newest: int) -> Iterator[tuple[Entry, bytes]]:
        """(entry, sha256 of its file) from `newest` on. Where each is a request, the further back it goes
        the more are asked for together."""
        last, count = newest // layout.FULL_EVERY * layout.FULL_EVERY, 1
        number = newest
        while number >= last:
            numbers = range(number, max(number - count, last - 1), -1)
            places = [layout.entry(self.prefix, one) for one in numbers]
            try:
                files = self.backend.get_many(places) if len(places) > 1 else [None]
            except NameNotFound:
                files = [None] * len(places)  # one by one: the error names the one
            for one, data in zip(numbers, files, strict=True):
                yield self.read(one) if data is None else self._decoded(one, data)
            number -= len(numbers)
            count = count if self.backend.capabilities.append else 2 * count

    def _body(self, entry: Entry) -> State:
        return manifest.check_state(entry.body, place=layout.entry(self.prefix, entry.number))

    def _unlinked(self, number: int) -> Corrupt:
        place = layout.entry(self.prefix, number)
        return Corrupt(f"{place} does not continue the entry before it", place=place)

    def check(self) -> None:
        """Read every entry from the first on. Raises Corrupt, naming the first bad one."""
        before: bytes | None = None
        newest, missing = _newest(self._numbers())
        if missing is not None:
            self._collected(newest, missing)
            return
        for number in range(newest + 1):
            entry, tip = self.read(number)
            if entry.prev != before:
                raise self._unlinked(number)
            before = tip

    def read(self, number: int) -> tuple[Entry, bytes]:
        """(entry, sha256 of its file). Raises Corrupt, naming the file."""
        place = layout.entry(self.prefix, number)
        try:
            return self._decoded(number, self.backend.get(place))
        except NameNotFound as error:
            raise Corrupt(f"{place} is missing", place=place) from error

    def _decoded(self, number: int, data: bytes) -> tuple[Entry, bytes]:
        place = layout.entry(self.prefix, number)
        entry = entries.decode(data, place=place)
        if entry.number != number:
            raise Corrupt(f"{place} is damaged: it says it is entry {entry.number}", place=place)
        return entry, hashlib.sha256(data).digest()

    def commit(
        self, base: Snapshot, decide: Decide, *, full: bool = False, anew: bool = False
    ) -> Snapshot:
        """Append what `decide` makes of the newest state; `base` is the caller's idea of it.

        With `full` the new entry holds the whole state, so that one GET reads it: for a state that
        many will read and few will change, such as the one that ends a run. With `anew`, what `decide`
        returns is the whole new state.
        `decide` is asked again each time another writer was quicker, and may raise to give up.
        Raises BackendError; then the entry is not there or was never acknowledged to anybody. Raises
        InvalidState for a run that is collected.
        """
        for _ in range(_MOST_CONFLICTS):
            change = decide(base.state)
            if not change:
                return base
            if gc.is_collected(base.state):
                raise InvalidState(
                    f"{self.prefix.rstrip('/')} was removed and collected: nothing can be added to it"
                )
            try:
                return self._append(base, change, full or anew, anew)
            except NameExists:
                base = self.load()
        raise BackendError(
            f"{self.prefix}: {_MOST_CONFLICTS} other writers were quicker; try again later",
            name=self.prefix,
        )

    def _append(self, base: Snapshot, change: State, full: bool, anew: bool) -> Snapshot:
        number = base.number + 1
        state = change if anew else manifest.apply(base.state, change)
        entry = Entry(number, base.tip, new_nonce(), time.time_ns(), True, state)
        data = _encoded(entry, change, full or entries.must_be_full(number))
        # The hint goes first: it may run ahead of the chain but never fall behind it.
        self.beat(number)
        self._create(layout.entry(self.prefix, number), data, entry.nonce)
        if base.number >= 0 and layout.has_head(self.prefix):
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
        if layout.has_head(self.prefix):
            self.backend.put(layout.head(self.prefix, number), b"holdfast head\n")


def _newest(numbers: Iterable[int]) -> tuple[int, int | None]:
    """(the greatest number, -1 for none; the first below it that is missing)."""
    present = set(numbers)
    newest = max(present, default=-1)
    if len(present) == newest + 1:
        return newest, None
    return newest, next(n for n in range(newest) if n not in present)


def _encoded(entry: Entry, change: State, full: bool) -> bytes:
    """The file of the full `entry`; of the change alone, if that may be and saves something."""
    if full:
        return entries.encode(entry)
    if sum(map(len, entry.body.values())) <= _SMALL_KEYS:
        data = entries.encode(entry)
        if len(data) <= _SMALL_BYTES:
            return data
    return entries.encode(replace(entry, full=False, body=change))
