"""Writing the points of one run: one spool a process, sealed in the background.

`log` is the hot path: one dict lookup that checks keys and types together, one struct, one checksum,
one write. Nothing else happens on the caller's thread.
"""

from __future__ import annotations

import itertools
import struct
import threading
import time
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any

from holdfast import process
from holdfast.backend.base import NEVER, Appender
from holdfast.chain import Chain, Decide, Snapshot
from holdfast.errors import HoldfastError, InvalidState, InvalidValue, StorageFull
from holdfast.format import layout, marks, spool
from holdfast.format.manifest import State
from holdfast.ids import new_writer_id
from holdfast.keeper import Keeper
from holdfast.ops import artifacts, ranks, references
from holdfast.ops.compact import tidy
from holdfast.ops.orphans import orphans
from holdfast.ops.publish import Unsent
from holdfast.ops.runs import attempt, ending
from holdfast.ops.seal import NO_CHANGE, seal
from holdfast.records import RunStatus
from holdfast.repository import Repository
from holdfast.values import checked, checked_step, is_plain

SPOOL_BYTES = 8 << 20  # a spool is sealed when it has grown to about this size
AHEAD_BYTES = (
    64 << 10,
    4 << 20,
)  # least and most room that the keeper makes ahead of what is logged
_CARRIED = 64  # schemas that a spool's successor has from the start
_MARK = marks.MARK
_crc32, _now = zlib.crc32, time.time_ns
_plain: set[type] = {float, int}  # types whose values pack as they are; grows as others are met
Schema = tuple[
    Callable[..., bytes], bytes, bytes
]  # packs (prefix, step, 0xD3, time, size, *values)
Opened = tuple[str, Appender, int, int]  # a spool: name, end, crc32 and length of its header


def _no_spool(record: bytes) -> int:
    raise InvalidState("there is no open spool")  # pragma: no cover - _learn opens one first


class RunWriter:
    """The open end of a run in this process. Thread-safe; survives a fork by starting afresh.

    `attempt` counts resumptions (0: points that no resumption supersedes); `from_step` is the step
    the attempt began at, None to take the first one that is logged. `rank` is the number of a writer
    that joined the run; its snapshots are of its own chain, those of the main one (None) of the
    manifest.
    """

    def __init__(
        self,
        repository: Repository,
        keeper: Keeper,
        run_id: str,
        *,
        attempt: int,
        from_step: int | None = None,
        next_step: int = 0,
        snapshot: Snapshot | None = None,
        rank: int | None = None,
    ) -> None:
        self.repository = repository
        self.keeper = keeper
        self.run_id = run_id
        self.rank = rank
        self.attempt = attempt
        self.from_step = from_step
        self.snapshot = snapshot
        self.failure: HoldfastError | None = None
        self.closed = False
        self._next = next_step
        self._lock = threading.RLock()  # held by log: never while anything slow happens
        self._slow = threading.RLock()  # held by sync, seal and close
        self._begin(new_writer_id())
        # What sealing needs is imported now, not in the middle of somebody's training step.
        import holdfast.format.column  # noqa: F401

    def _begin(self, writer_id: str) -> None:
        self.writer_id = writer_id
        self._sequences = itertools.count()
        self._has_logged = False
        self._unsealed: list[str] = []
        self._forget()

    def _forget(self) -> None:
        self._appender: Appender | None = None
        self._write: Callable[[bytes], int] = _no_spool
        self._schemas: dict[tuple[str, ...], Schema] = {}
        self._crc = 0
        self._header_bytes = 0
        self._written = 0  # bytes of records in the spool
        self._synced = 0  # how many of them need no sync
        self._call_at = NEVER  # when so many are written, the keeper is called

    def log(
        self, metrics: Mapping[str, Any], step: Any = None, timestamp: int | None = None
    ) -> None:
        """Append one record; when this returns, it survives `kill -9`.

        Raises InvalidValue (nothing is written), StorageFull or another BackendError.
        """
        with self._lock:
            try:
                plain = _plain.issuperset(map(type, metrics.values()))
                schema = self._schemas.get(tuple(metrics)) if plain else None
            except (AttributeError, TypeError):
                schema = None
            if schema is None:
                metrics, schema = self._learn(metrics, step)
            if step is None:
                step = self._next
            elif type(step) is not int:
                step = checked_step(step)
            pack, prefix, size = schema
            # A call's time is kept to the microsecond: it costs half of what nanoseconds do.
            at = _now() // 1000 * 1000 if timestamp is None else timestamp
            try:
                row = pack(prefix, step, 0xD3, at, size, *metrics.values())
            except (struct.error, OverflowError) as error:
                checked_step(step)
                checked(metrics, step)
                raise InvalidValue(f"step {step}: {error}", step=step) from error
            crc = _crc32(row, self._crc)
            mark = _MARK + crc.to_bytes(4, "little")
            self._append(row + mark)
            self._crc = _crc32(mark, crc)
            self._next = step + 1

    @property
    def last_step(self) -> int:
        """The step of the last `log`. Raises InvalidValue before the first one."""
        if not self._next:
            raise InvalidValue("nothing was logged yet, so there is no last step: give step=")
        return self._next - 1

    def log_aside(self, metrics: Mapping[str, Any]) -> None:
        """Log at the last step; which step the next `log` gets stays as it is.

        Before the first `log` of this writer, and after it is closed, nothing is written.
        """
        with self._lock:
            if metrics and self._has_logged and self._next and not self.closed:
                self.log(metrics, self._next - 1)

    def _append(self, record: bytes) -> None:
        """Write a whole record or nothing."""
        try:
            written = self._write(record)
        except OSError as error:
            raise self._full(error) from error
        if written != len(record):
            if self._appender is not None:
                self._appender.cut(written)
            raise self._full(None)
        self._written += written
        if self._written >= self._call_at:
            self._call_at = NEVER  # once is enough
            self.keeper.hurry()

    def _full(self, error: OSError | None) -> HoldfastError:
        reason = error.strerror if error else "no space left on device"
        return StorageFull(
            f"run {self.run_id}: the point was not written ({reason}); free space and log it again",
            run_id=self.run_id,
        )

    def _learn(self, metrics: Mapping[str, Any], step: Any) -> tuple[dict[str, float], Schema]:
        """Keys or types that were not seen before: check them, and describe the keys in the spool."""
        values = checked(metrics, step)
        if self._appender is None or len(self._schemas) >= spool.MAX_SCHEMAS:
            self._open(self._next if step is None else checked_step(step))
        _plain.update(kind for kind in map(type, metrics.values()) if is_plain(kind))
        keys = tuple(values)
        return values, self._schemas.get(keys) or self._describe(keys)

    def _describe(self, keys: tuple[str, ...]) -> Schema:
        sid = len(self._schemas)
        self._add(spool.encode_schema(sid, keys))
        prefix, size = spool.row_prefix(sid), spool.bin_prefix(len(keys))
        self._schemas[keys] = schema = (spool.row_struct(len(keys)).pack, prefix, size)
        return schema

    def _add(self, record: bytes) -> None:
        """Write a record and its mark."""
        crc = _crc32(record, self._crc)
        self._append(record + marks.mark(crc))
        self._crc = marks.after_mark(crc)

    def _open(self, first_step: int) -> None:
        """Begin a new spool; the caller holds the lock."""
        if self.closed:
            raise self.finished()
        if (
            self._appender is not None
        ):  # it is out of numbers for schemas: nobody will sync it later
            self._appender.sync()
        if self.attempt > 1 and self.from_step is None and self.rank is None:
            self.from_step = first_step
        self._use(*self._create())
        self._has_logged = True
        self.keeper.add(self)

    def _create(self) -> Opened:
        """A new spool."""
        sequence = next(self._sequences)
        name = layout.spool(self.run_id, self.writer_id, sequence)
        rank = {} if self.rank is None else {"rank": self.rank}
        header = spool.encode_header(
            {
                **rank,
                "run_id": self.run_id,
                "writer": self.writer_id,
                "sequence": sequence,
                "attempt": self.attempt,
                "from_step": self.from_step,
                "opened_at": time.time_ns(),
                "identity": process.identity(),
            }
        )
        crc = marks.after_mark(zlib.crc32(header[: -marks.MARK_BYTES]))
        return name, self.repository.spools.append(name, header), crc, len(header)

    def _use(self, name: str, appender: Appender, crc: int, header_bytes: int) -> None:
        """Log to this spool from now on; the caller holds the lock."""
        self._forget()
        self._appender, self._write, self._crc = appender, appender.write, crc
        self._header_bytes = header_bytes
        self._unsealed.append(name)
        self._call_at = min(SPOOL_BYTES, appender.prepare(0) // 2)

    # What the keeper does, on its thread.

    def tend(self, *, sync: bool) -> None:
        """Seal the spool if it is full, make room ahead of what is logged, and `sync` if asked."""
        try:
            if self._written >= SPOOL_BYTES:
                self.seal(go_on=True)
            self._prepare()
            if sync:
                self.sync()
            self.failure = None
        except HoldfastError as error:
            self.failure = error
            raise

    def _prepare(self) -> None:
        with self._slow:
            if self._appender is not None:
                least, most = AHEAD_BYTES
                room = self._appender.prepare(min(max(self._written, least), most))
                self._call_at = min(SPOOL_BYTES, self._written + room // 2)

    def beat(self) -> None:
        """Renew the heartbeat."""
        if self.snapshot is not None and self.snapshot.number >= 0:
            self._chain.beat(self.snapshot.number)

    def sync(self) -> None:
        """Return when every record logged before the call survives a power cut."""
        with self._slow:
            with self._lock:
                written, appender = self._written, self._appender
            if appender is None or written <= self._synced:
                return
            try:
                appender.sync()
            except HoldfastError:
                # After a failed fsync the kernel may have dropped the pages' dirt: never ask that
                # file again, but write its points anew, as a segment.
                self.seal(go_on=True)
                return
            self._note_synced(appender, written)

    def _note_synced(self, appender: Appender, written: int) -> None:
        """Say in the spool how much of it is on the disk; the note itself is worth no sync."""
        with self._lock:
            if self._appender is not appender:
                return
            before = self._written
            with suppress(
                HoldfastError
            ):  # no room for it: then more of the spool counts as unsynced
                self._add(marks.encode_synced(self._header_bytes + written))
            self._synced = written + self._written - before

    def seal(self, *, go_on: bool, also: Callable[[State], State] = NO_CHANGE) -> Snapshot:
        """Publish all that was logged, with the change that `also` decides on."""
        with self._slow:
            names = self._put_away(go_on=go_on)
            self.snapshot = seal(
                self.repository,
                self.run_id,
                names,
                base=self.snapshot,
                also=also,
                rank=self.rank,
                full=not go_on,
            )
            self._unsealed = [name for name in self._unsealed if name not in names]
            if not go_on:
                self.keeper.remove(self)
            return self.snapshot

    def _put_away(self, *, go_on: bool) -> list[str]:
        """End the open spool, with or without another to follow; the names of all that are ended."""
        next_spool = self._successor() if go_on else None
        with self._lock:
            appender, names = self._appender, list(self._unsealed)
            self._hand_over(next_spool)
            self.closed = self.closed or not go_on
        if appender is not None:
            self._ended(appender)
        return names

    def _ended(self, appender: Appender) -> None:
        appender.close()

    def _successor(self) -> Opened | None:
        """The spool after this one, made here so that no call of `log` waits for it."""
        if self._appender is None:
            return None
        with suppress(HoldfastError):  # then `log` tries, and says what is wrong
            made = self._create()
            made[1].prepare(self._written)  # as much as the one before it took
            return made
        return None

    def _hand_over(self, next_spool: Opened | None) -> None:
        known = list(self._schemas)
        self._forget()
        if next_spool is not None:
            self._use(*next_spool)
            with suppress(HoldfastError):
                for keys in known[:_CARRIED]:
                    self._describe(keys)

    @property
    def names(self) -> list[str]:
        """The spools of this writer that are not sealed yet."""
        return list(self._unsealed)

    @contextmanager
    def storing(self, *keys: str) -> Iterator[Repository]:
        """Where the artifacts `keys` are stored before `commit` makes them part of the run, all within."""
        yield references.writable(self.repository)

    def how(
        self,
        key: str,
        source: artifacts.Source,
        layout: str | None,
        default: str,
        base: str | None = None,
        compact: bool = False,
        kept: int | None = None,
    ) -> artifacts.How:
        """How an artifact is stored there: in `layout`, or else in the `default` of the store."""
        layout = layout or default
        return artifacts.how(self.repository, self.run_id, key, layout, base, compact, kept)

    def end(
        self,
        status: RunStatus,
        error: Mapping[str, str] | None,
        compact: bool | None,
        timeout_seconds: float | None,
    ) -> Unsent | None:
        """Seal everything and give the run, or this rank of it, its final status; what is unsent."""
        with self._slow:
            found = orphans(self.repository, self.run_id, self.rank, without=self.names)
            self._unsealed += found
            self.seal(go_on=False, also=lambda state: self._ending(state, status, error))
        return None  # a store on this machine has it all

    def tidy(self, compact: bool | None) -> None:
        """Put the segments of a run that has ended together, if that pays or is wanted."""
        if self.snapshot is not None:
            tidy(self.repository, self.run_id, self.rank, self.snapshot.state, compact)

    def _ending(self, state: State, status: RunStatus, error: Mapping[str, str] | None) -> State:
        """The change that ends the run, unless somebody has resumed it behind our back."""
        if self.rank is not None:
            return ranks.ending(state, status, error)
        newest = attempt(state) or 1
        return ending(status, error) if newest == self.attempt else {}

    def commit(self, change: State | Decide) -> None:
        """Publish a change of the manifest that has nothing to do with points, or what is decided on it."""
        with self._slow:
            known = self.snapshot if self.rank is None else None
            decide = change if callable(change) else lambda state: change
            prefix = layout.manifest(self.run_id)
            after = references.commit(self.repository, prefix, decide, base=known)
            if self.rank is None:
                self.snapshot = after

    @property
    def _chain(self) -> Chain:
        return Chain(self.repository.backend, layout.chain(self.run_id, self.rank))

    def finished(self) -> InvalidState:
        """The error for writing on after the end."""
        again = f"store.resume({self.run_id!r})"
        if self.rank is not None:
            again = f"store.join_run({self.run_id!r}, rank={self.rank})"
        return InvalidState(
            f"{self.name} is finished: {again} opens it again", run_id=self.run_id, rank=self.rank
        )

    @property
    def name(self) -> str:
        """For people: `run X`, or `rank 3 of run X`."""
        of = "" if self.rank is None else f"rank {self.rank} of "
        return f"{of}run {self.run_id}"

    def after_fork(self) -> None:
        """In a child process: the parent goes on with its spool, we begin one of our own."""
        self._lock, self._slow = threading.RLock(), threading.RLock()
        self.snapshot = None
        self._begin(new_writer_id())
