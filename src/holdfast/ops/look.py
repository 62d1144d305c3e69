"""One look at a run: what was logged since the one before, from its spools and its new segments.

Nothing is given twice and nothing is missed, however the sealing falls between two looks. One look
is: list the spools; follow the chains entry by entry, and give what is sealed and was not read
before; then read the spools that are left, each from where reading it stopped. A spool that went
away in the meantime is in the chain by the next look. Entries never change, so also what was sealed
and compacted between two looks is seen in the order in which it happened.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from holdfast.chain import EMPTY, Chain, Snapshot
from holdfast.digest import Digest
from holdfast.errors import NameNotFound
from holdfast.format import frame, layout, marks, spool
from holdfast.format.follow import Follower, Row
from holdfast.ops import unseal
from holdfast.repository import Repository
from holdfast.series import is_sealed
from holdfast.verified import again

_WINDOW_BYTES = 65_536


@dataclass(frozen=True, slots=True)
class TailRecord:
    """What one call of `log` wrote: its step, its time in ns since 1970, its values by key.

    `rank` is the writer's, 0 for the one that began the run. A record of a higher `attempt` than
    those before it begins a resumption: it supersedes their points from its first step on.
    """

    step: int
    timestamp: int
    metrics: dict[str, float]
    rank: int
    attempt: int


@dataclass(slots=True)
class _Spool:
    """A spool that is not sealed as far as we know, and which points of it were read."""

    name: str
    about: dict[str, Any]
    begin: int  # where its records begin
    follower: Follower
    seen: unseal.Seen


@dataclass(frozen=True, slots=True)
class _Segment:
    """A segment whose records have not been given yet."""

    digest: Digest
    about: dict[str, Any]
    rank: int


class Looks:
    """Looks at one run, each going on where the one before stopped, or was left."""

    def __init__(self, repository: Repository, run_id: str, wanted: Callable[[str], bool]) -> None:
        self.repository = repository
        self.run_id = run_id
        self.wanted = wanted
        self.chains: dict[int | None, tuple[Chain, Snapshot]] = {}  # by rank; None is the run's own
        self.spools: dict[str, _Spool] = {}
        self.pending: deque[_Segment] = deque()

    def new(self) -> Iterator[list[TailRecord]]:
        """What is new, piece by piece. It may be left in the middle: the next one goes on there."""
        names = self.listed()
        self.advance()
        while self.pending:
            found = self.records(self.pending[0])
            self.pending.popleft()
            yield found
        # What was listed no more has gone after its points were in a chain: all have been given.
        self.spools = {name: item for name, item in self.spools.items() if name in names}
        yield from self.read_spools(names)

    def listed(self) -> set[str]:
        """The spools that are there."""
        found = self.repository.spools.walk(layout.spools(self.run_id))
        return {stat.name for stat in found}

    # Segments.

    def advance(self) -> None:
        """Follow the chains to their ends, and note the segments that they bring."""
        backend = self.repository.backend
        for rank in (None, *self.repository.ranks(self.run_id)):
            if rank in self.chains:
                self._advance_one(rank)
                continue
            chain = Chain(backend, layout.chain(self.run_id, rank))
            self._take(rank, chain, EMPTY, chain.load())

    def _advance_one(self, rank: int | None) -> None:
        chain, before = self.chains[rank]
        while after := chain.after(before):
            self._take(rank, chain, before, after)
            before = after

    def _take(self, rank: int | None, chain: Chain, before: Snapshot, after: Snapshot) -> None:
        """Note the segments of `after` that are not of `before`, nor put together from those."""
        known = before.state.get("segments", {})
        new = [
            _Segment(Digest(name), about, rank or 0)
            for name, about in after.state.get("segments", {}).items()
            if name not in known and not is_sealed(before.state, about["writer"], about["sequence"])
        ]
        self.pending.extend(sorted(new, key=lambda item: _order(item.about)))
        self.chains[rank] = chain, after

    def records(self, sealed: _Segment) -> list[TailRecord]:
        """The records of a segment that were not read from its spools."""
        about = sealed.about
        sequences = range(about["sequence"], about["last_sequence"] + 1)
        read = [
            item
            for item in self.spools.values()
            if item.about["writer"] == about["writer"] and item.about["sequence"] in sequences
        ]
        lines = []
        if sum(item.follower.points for item in read) < about["points"]:
            lines = unseal.read(
                self.repository.backend,
                self.run_id,
                sealed.digest,
                about,
                self.wanted,
                _together([item.seen for item in read]),
            )
        for item in read:
            del self.spools[item.name]
        attempt = about["attempt"]
        return [TailRecord(step, at, of, sealed.rank, attempt) for at, step, of in lines]

    # Spools.

    def read_spools(self, names: set[str]) -> Iterator[list[TailRecord]]:
        """What is new in the spools, of each writer in the order in which it wrote them."""
        gone: set[str] = set()  # writers one of whose spools went away: they wait for the next look
        for name in sorted(names - self.spools.keys()):
            writer = layout.spool_parts(name)[1]
            try:
                self._open(name)
            except NameNotFound:
                gone.add(writer)
        before: dict[str, _Spool] = {}  # of each writer, the spool in front
        for item in sorted(self.spools.values(), key=lambda item: _order(item.about)):
            writer = item.about["writer"]
            try:
                if writer not in gone and writer in before and self._is_begun(item):
                    # What was logged to the one in front since we read it comes first.
                    yield from self._read(before[writer])
                if writer not in gone:
                    yield from self._read(item)
            except NameNotFound:
                gone.add(writer)
            before[writer] = item

    def _is_begun(self, item: _Spool) -> bool:
        """True if there are records in a spool of which none was read."""
        if item.follower.points:
            return False
        first = Follower(item.name)
        first.feed(self.repository.spools.get_range(item.name, 0, _WINDOW_BYTES))
        return first.position > item.begin

    def _open(self, name: str) -> None:
        """Begin to read a spool, unless it is sealed."""
        _, writer, sequence = layout.spool_parts(name)
        if any(is_sealed(snapshot.state, writer, sequence) for _, snapshot in self.chains.values()):
            return
        front = frame.HEADER_BYTES + spool.MAX_ABOUT_BYTES + marks.MARK_BYTES
        data = self.repository.spools.get_range(name, 0, front)
        if spool.is_blank(data):
            return
        about, begin = spool.read_header(data, name)
        spool.check_owner(about, self.run_id, writer, sequence, place=name)
        self.spools[name] = _Spool(name, about, begin, Follower(name), {})

    def _read(self, item: _Spool) -> Iterator[list[TailRecord]]:
        """The new rows of a spool, a window at a time."""
        window, follower = _WINDOW_BYTES, item.follower
        while True:
            before = follower.position
            rows, data = again(lambda: self._feed(item, window))  # noqa: B023
            yield [record for row in rows if (record := self._record(item, row))]
            if len(data) < window or (follower.position == before and not data[0]):
                return  # behind what was written a file ends, or there are zeros
            if follower.position == before:
                window *= 4  # a record may be longer

    def _feed(self, item: _Spool, window: int) -> tuple[list[Row], bytes]:
        data = self.repository.spools.get_range(item.name, item.follower.position, window)
        return item.follower.feed(data), data

    def _record(self, item: _Spool, row: Row) -> TailRecord | None:
        """The row as far as it is wanted; None if nothing of it is."""
        pairs = zip(row.keys, row.values, strict=True)
        metrics = {key: value for key, value in pairs if self.wanted(key)}
        for key in metrics:
            item.seen.setdefault(key, []).append(row.step)
        if not metrics:
            return None
        about = item.about
        return TailRecord(row.step, row.time, metrics, about.get("rank", 0), about["attempt"])


def _order(about: dict[str, Any]) -> tuple[Any, ...]:
    """Sorts spools and segments as they were logged."""
    return about["attempt"], about["opened_at"], about["writer"], about["sequence"]


def _together(parts: Iterable[unseal.Seen]) -> unseal.Seen:
    found: unseal.Seen = {}
    for part in parts:
        for key, steps in part.items():
            found.setdefault(key, []).extend(steps)
    return found
