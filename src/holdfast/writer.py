"""Writing the points of one run: one spool a process, sealed in the background.

`log` is the hot path: one dict lookup that checks keys and types together, one struct, one checksum,
one write. Nothing else happens on the caller's thread.
"""

from __future__ import annotations

import struct
import threading
import time
import zlib
from collections.abc import Callable, Mapping
from typing import Any

from holdfast import process
from holdfast.backend.base import Appender
from holdfast.chain import Chain, Snapshot
from holdfast.errors import HoldfastError, InvalidState, InvalidValue, StorageFull
from holdfast.format import layout, spool
from holdfast.format.manifest import State
from holdfast.ids import new_writer_id
from holdfast.keeper import Keeper
from holdfast.ops.seal import NO_CHANGE, seal
from holdfast.repository import Repository
from holdfast.values import checked, checked_step, is_plain

SPOOL_BYTES = 8 << 20  # a spool is sealed when it has grown to about this size
_MARK = spool.MARK
_crc32, _now = zlib.crc32, time.time_ns
_plain: set[type] = {float, int}  # types whose values pack as they are; grows as others are met
Schema = tuple[
    Callable[..., bytes], bytes, bytes
]  # packs (prefix, step, 0xD3, time, size, *values)


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
        self._lock = threading.Lock()  # held by log: never while anything slow happens
        self._slow = threading.RLock()  # held by sync, seal and close
        self._begin(new_writer_id())
        # What sealing needs is imported now, not in the middle of somebody's training step.
        import holdfast.format.column  # noqa: F401

    def _begin(self, writer_id: str) -> None:
        self.writer_id = writer_id
        self._sequence = 0
        self._unsealed: list[str] = []
        self._forget()

    def _forget(self) -> None:
        self._appender: Appender | None = None
        self._write: Callable[[bytes], int] = _no_spool
        self._schemas: dict[tuple[str, ...], Schema] = {}
        self._crc = 0
        self._room = SPOOL_BYTES
        self._synced_room = SPOOL_BYTES

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
        self._room -= written
        if self._room <= 0:
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
        record = spool.encode_schema(sid, keys)
        crc = _crc32(record, self._crc)
        self._append(record + spool.mark(crc))
        self._crc = spool.after_mark(crc)
        prefix, size = spool.row_prefix(sid), spool.bin_prefix(len(keys))
        self._schemas[keys] = schema = (spool.row_struct(len(keys)).pack, prefix, size)
        return schema

    def _open(self, first_step: int) -> None:
        """Begin a new spool; the caller holds the lock."""
        if self.closed:
            raise self.finished()
        if self.attempt > 1 and self.from_step is None and self.rank is None:
            self.from_step = first_step
        name = layout.spool(self.run_id, self.writer_id, self._sequence)
        rank = {} if self.rank is None else {"rank": self.rank}
        header = spool.encode_header(
            {
                **rank,
                "run_id": self.run_id,
                "writer": self.writer_id,
                "sequence": self._sequence,
                "attempt": self.attempt,
                "from_step": self.from_step,
                "opened_at": time.time_ns(),
                "identity": process.identity(),
            }
        )
        appender = self.repository.spools.append(name, header)
        self._forget()
        self._appender, self._write = appender, appender.write
        self._crc = spool.after_mark(zlib.crc32(header[: -spool.MARK_BYTES]))
        self._sequence += 1
        self._unsealed.append(name)
        self.keeper.add(self)

    # What the keeper does, on its thread.

    def tend(self) -> None:
        """Make what was logged durable; seal the spool if it is full."""
        try:
            if self._room <= 0:
                self.seal(go_on=True)
            else:
                self.sync()
            self.failure = None
        except HoldfastError as error:
            self.failure = error
            raise

    def beat(self) -> None:
        """Renew the heartbeat."""
        if self.snapshot is not None and self.snapshot.number >= 0:
            self._chain.beat(self.snapshot.number)

    def sync(self) -> None:
        """Return when every record logged before the call survives a power cut."""
        with self._slow:
            room, appender = self._room, self._appender
            if appender is None or room == self._synced_room:
                return
            try:
                appender.sync()
            except HoldfastError:
                # After a failed fsync the kernel may have dropped the pages' dirt: never ask that
                # file again, but write its points anew, as a segment.
                self.seal(go_on=True)
                return
            self._synced_room = room

    def seal(self, *, go_on: bool, also: Callable[[State], State] = NO_CHANGE) -> Snapshot:
        """Publish all that was logged, with the change that `also` decides on."""
        with self._slow:
            with self._lock:
                appender, names = self._appender, list(self._unsealed)
                self._forget()
                self.closed = self.closed or not go_on
            if appender is not None:
                appender.close()
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

    @property
    def names(self) -> list[str]:
        """The spools of this writer that are not sealed yet."""
        return list(self._unsealed)

    def adopt(self, names: list[str]) -> None:
        """Seal these spools, left by processes that are gone, together with our own."""
        self._unsealed += names

    def commit(self, change: State) -> Snapshot:
        """Publish a change of the manifest that has nothing to do with points."""
        with self._slow:
            chain = self.repository.manifest(self.run_id)
            known = self.snapshot if self.rank is None else None
            after = chain.commit(known or chain.load(), lambda state: change)
            if self.rank is None:
                self.snapshot = after
            return after

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
        self._lock, self._slow = threading.Lock(), threading.RLock()
        self.snapshot = None
        self._begin(new_writer_id())
