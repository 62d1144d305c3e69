"""The records of a run as they are logged: from its spools while they grow, else from new segments."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Sequence
from fnmatch import fnmatchcase
from functools import cache
from typing import Self

from holdfast import liveness
from holdfast.errors import InvalidValue, NameNotFound
from holdfast.format import layout
from holdfast.format.manifest import State
from holdfast.ops.look import Looks, TailRecord
from holdfast.ops.orphans import newest_beat
from holdfast.records import RunStatus
from holdfast.repository import Repository

HERE_SECONDS = 0.1  # between two looks where the spools are
AWAY_SECONDS = 2.0  # and where only segments are to be seen


class Tail:
    """An iterator over the records of a run as they are logged; see `ExperimentStore.tail`.

    `poll()` gives what is there now, without waiting; `state` is the run's manifest as last seen.
    After an error of the store it can be used on: nothing is lost or given twice.
    """

    def __init__(
        self,
        repository: Repository,
        run_id: str,
        *,
        keys: Sequence[str] | str | None = None,
        follow: bool = True,
        from_start: bool = False,
        last: int = 0,
        unsealed: bool = False,
        poll_seconds: float | None = None,
        timeout_seconds: float | None = None,
    ) -> None:
        _check(last, poll_seconds, timeout_seconds)
        here = repository.spools is repository.backend
        self.run_id = run_id
        usual = HERE_SECONDS if here else AWAY_SECONDS
        self.poll_seconds = usual if poll_seconds is None else poll_seconds
        self._repository = repository
        self._follow = follow
        self._timeout_seconds = timeout_seconds
        self._looks = Looks(repository, run_id, _filter(keys))
        self._ready: deque[TailRecord] = deque()
        self._begin(from_start, last, unsealed)

    def _begin(self, from_start: bool, last: int, unsealed: bool) -> None:
        """Pass by what is there already, all but the `last` records and what is `unsealed`."""
        looks = self._looks
        names = looks.listed()
        looks.advance()
        if from_start:
            return
        sealed, looks.pending = looks.pending, deque()
        found = [record for batch in looks.read_spools(names) for record in batch]
        while sealed and len(found) < last:
            found = looks.records(sealed.pop()) + found
        passed = 0 if unsealed else max(0, len(found) - last)
        self._ready.extend(found[passed:])

    # What a caller uses.

    @property
    def state(self) -> State:
        """The state of the run's manifest, as the last look found it."""
        return self._looks.chains[None][1].state

    @property
    def ended(self) -> bool:
        """True when, at the last look, nobody would log any more: the run has its final status or
        its process is gone, and no further rank of it is alive here."""
        status = RunStatus(self.state.get("run", {}).get("status", RunStatus.PENDING.value))
        running = status is RunStatus.RUNNING and self._is_alive(None)
        if running or status is RunStatus.PENDING:
            return False
        others = [n for n in self._looks.chains if n is not None]
        return not any(self._is_alive(rank) for rank in others)

    @property
    def heard_at(self) -> int | None:
        """When the run's writer last gave a sign of life, in ns since 1970; None if that is unknown."""
        return self._beat(None)

    def wants(self, key: str) -> bool:
        """True if metric `key` is among those that are followed."""
        return self._looks.wanted(key)

    def poll(self, most: int = 100_000) -> list[TailRecord]:
        """What was logged since the last look, without waiting.

        Of much at once it gives about `most` records, and the next call goes on there: a writer may
        be faster than we are. Raises Corrupt, naming the file, and BackendError.
        """
        for batch in self._looks.new():
            self._ready.extend(batch)
            if len(self._ready) >= most:
                break
        found = list(self._ready)
        self._ready.clear()
        return found

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> TailRecord:
        began = time.monotonic()
        while not self._ready:
            ended = self.ended  # asked before the look, which then finds what was logged last
            self._ready.extend(next(filter(None, self._looks.new()), ()))
            if not self._ready:
                if (ended and self.ended) or not self._follow or self._is_late(began):
                    raise StopIteration
                time.sleep(self.poll_seconds)
        return self._ready.popleft()

    def _is_late(self, began: float) -> bool:
        most = self._timeout_seconds
        return most is not None and time.monotonic() - began >= most

    def _is_alive(self, rank: int | None) -> bool:
        """True while the writer of that chain may log."""
        writer = self._looks.chains[rank][1].state.get("writer", {})
        closed = not writer or writer.get("closed")
        return not closed and not liveness.is_dead(writer, lambda: self._beat(rank))

    def _beat(self, rank: int | None) -> int | None:
        """When the writer of that chain was last heard of, in ns since 1970."""
        chain, snapshot = self._looks.chains[rank]
        try:
            beat = chain.backend.stat(layout.head(chain.prefix, snapshot.number))
            return liveness.heard(chain.backend, beat)
        except NameNotFound:  # it has moved on, or somebody took the hint away
            return newest_beat(self._repository, self.run_id, rank)


def _check(last: int, *seconds: float | None) -> None:
    if type(last) is not int or last < 0:
        raise InvalidValue(f"last is how many records to begin with, 0 or more, not {last!r}")
    for number in seconds:
        if number is not None and not number >= 0:
            raise InvalidValue(f"seconds are 0 or more, not {number!r}")


def _filter(keys: Sequence[str] | str | None) -> Callable[[str], bool]:
    """Does a key match one of `keys`, names or patterns such as `train/*`? All do when it is None."""
    if keys is None:
        return lambda key: True
    patterns = [keys] if isinstance(keys, str) else list(keys)
    for pattern in patterns:
        if not isinstance(pattern, str):
            raise InvalidValue(f"a metric is named by text, not by {type(pattern).__name__}")
    # A key may itself look like a pattern.
    return cache(lambda key: any(key == p or fnmatchcase(key, p) for p in patterns))
