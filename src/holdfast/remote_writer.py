"""Writing one run of a remote store: everything goes to this machine, and is sent from there.

Points go to spools, changes and artifacts to an outbox, and the store's publisher calls `publish` on its
own thread. No call of a training script waits for the network but `finish`, and that as long as it is told.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from holdfast import process
from holdfast.backend.base import Appender
from holdfast.backlog import Backlog
from holdfast.chain import Decide, Snapshot
from holdfast.digest import Digest
from holdfast.errors import BackendError, Corrupt, HoldfastError, InvalidState
from holdfast.format import layout, manifest
from holdfast.format.manifest import State
from holdfast.format.outbox import Pending, Wish
from holdfast.ops import artifacts, ranks
from holdfast.ops.compact import FAN_OUT, tidy, tidy_open
from holdfast.ops.ingest import Wanted
from holdfast.ops.lineage import Lineage
from holdfast.ops.publish import Unsent, described, send, send_left
from holdfast.ops.runs import ending
from holdfast.ops.seal import NO_CHANGE
from holdfast.outbox import Outbox
from holdfast.records import RunStatus
from holdfast.repository import Repository
from holdfast.writer import SPOOL_BYTES, Opened, RunWriter

if TYPE_CHECKING:
    from holdfast.publisher import Publisher

_TIDY_EVERY = 2 * FAN_OUT  # publishings between two looks for small segments to put together


class RemoteWriter(RunWriter):
    """A RunWriter whose store is not on this machine."""

    def __init__(self, *args: Any, publisher: Publisher, backlog: Backlog, **more: Any) -> None:
        self.publisher = publisher
        self.backlog = backlog
        self.begun_by = process.identity()
        self.outbox: Outbox | None = None
        self.problem: HoldfastError | None = None  # why it can never be sent
        self._begin_sending()
        super().__init__(*args, **more)

    def _begin_sending(self) -> None:
        self._sending = threading.RLock()  # held while the network is used; never by `log`
        self._making = threading.Lock()  # held while the outbox is made
        self.begun = threading.Event()  # set when something of this writer is in the store
        self.sent = threading.Event()  # set when all of a closed writer is in the store
        self._plain_bytes = 0  # of the open spool, written before its first record
        self._doubtful: set[str] = set()  # ended spools that no fsync was good for
        self._wants_tidy: bool | None = None
        self._published = 0

    # What the training script calls.

    def begin(self, *pending: Pending) -> None:
        """Promise changes of chains; durable on this machine when it returns."""
        self._outbox().add(*pending)

    def await_begun(self, timeout_seconds: float) -> None:
        """Wait until the new run is in the store, if that answers. Raises InvalidState when its id is
        taken: then nothing of it is kept."""
        if self.publisher.reachable:
            self.publisher.wait(self, self.begun, timeout_seconds, patient=False)
        if isinstance(self.problem, InvalidState) and self.outbox is not None:
            self.outbox.remove()
            raise self.problem

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
        """As it is: what it shares with others is in the store, and the publisher looks for that."""
        wanted, plain = Wanted(layout or default, compact), artifacts.How(Wanted("plain"), Lineage)
        if base is not None:
            self._check_base(base)
        if not artifacts.may_share(source, wanted):
            return plain
        outbox = self._outbox()
        outbox.wish(key, Wish(wanted.layout, base, compact))
        return replace(plain, into=replace(self.repository, backend=outbox.originals))

    @contextmanager
    def storing(self, *keys: str) -> Iterator[Repository]:
        """Raises StorageFull when too much waits already."""
        self.backlog.admit(self.publisher)
        outbox = self._outbox()
        try:
            with outbox.storing() as place:
                yield replace(self.repository, backend=place)
        finally:
            outbox.take_wishes(keys)

    def _check_base(self, base: str) -> None:
        """Refuse what cannot be a base. Whether the store has a digest is only known when it is asked."""
        if self.rank is None and base not in self._known().get("artifacts", {}):
            Digest.parse(base)

    def commit(self, change: State | Decide) -> None:
        with self._slow:
            if self.closed:  # by another thread, meanwhile
                raise self.finished()
            made = change(self._known()) if callable(change) else change
            keys = made.get("artifacts", {})
            waits = self._outbox().wishes
            wishes = {key: waits[key] for key in keys if keys[key] and key in waits}
            self.begin(Pending(layout.manifest(self.run_id), made, wishes=wishes))
        stored = filter(None, keys.values())
        self.backlog.add(sum(one["size_bytes"] for one in stored))

    def _known(self) -> State:
        """The manifest as far as it is known here: what was sent, and what waits."""
        chain = layout.manifest(self.run_id)
        state = self._state if self.rank is None else {}
        for _, waiting in self._outbox().pending()[0]:
            if waiting.chain == chain:
                state = manifest.apply(state, waiting.change)
        return state

    def end(
        self,
        status: RunStatus,
        error: Mapping[str, str] | None,
        compact: bool | None,
        timeout_seconds: float | None,
    ) -> Unsent | None:
        with self._slow:
            self._wants_tidy = compact
            self.begin(self._last_change(status, error))
            self._put_away(go_on=False)
        return self._leave(timeout_seconds)

    def tidy(self, compact: bool | None) -> None:
        """The publisher has done it."""

    def seal(self, *, go_on: bool, also: Callable[[State], State] = NO_CHANGE) -> Snapshot:
        """End the open spool, and leave the rest to the publisher. `also` belongs to local stores."""
        with self._slow:
            self._put_away(go_on=go_on)
        if not go_on:
            self._leave(0.0)
        self.publisher.hurry()
        return self.snapshot or Snapshot({}, -1, None)

    def _leave(self, timeout_seconds: float | None) -> Unsent | None:
        """Nothing more will be written here: have the rest sent, and wait for that."""
        self.keeper.remove(self)
        self.publisher.add(self)
        if self.publisher.wait(self, self.sent, timeout_seconds):
            return None
        return self.unsent()

    def unsent(self) -> Unsent | None:
        """What of this writer the store does not have."""
        if self.outbox is None or self.sent.is_set():
            return None
        problem = self.problem.message if self.problem else None
        with suppress(BackendError):  # it is sent and removed just now
            return described(self.repository, self.outbox, problem)
        return None

    def _last_change(self, status: RunStatus, error: Mapping[str, str] | None) -> Pending:
        """What ends the run, or this rank of it, unless another process has taken it over."""
        now = time.time_ns()
        is_main = self.rank is None
        change = ending(status, error) if is_main else ranks.ended(status, now, error)
        chain = layout.chain(self.run_id, self.rank)
        return Pending(chain, change, only={"writer": self.begun_by})

    def _outbox(self) -> Outbox:
        with self._making:
            if self.outbox is None:
                state = self.repository.state
                self.outbox = Outbox.begin(state, self.run_id, self.writer_id, self.rank)
            return self.outbox

    # What the keeper does, on its thread: nothing that needs the network.

    def tend(self, *, sync: bool) -> None:
        if self._written >= SPOOL_BYTES:
            with self._slow:
                self._put_away(go_on=True)
            self.publisher.hurry()
        super().tend(sync=sync)

    def sync(self) -> None:
        with self._slow:
            super().sync()
            if self._doubtful.intersection(self._unsealed):
                raise BackendError(
                    f"{self.name}: the disk failed to keep points that are not sent yet",
                    run_id=self.run_id,
                )

    def beat(self) -> None:
        """The publisher does it."""

    def beat_remote(self) -> None:
        """Renew the heartbeat in the store."""
        if not self.closed:
            super().beat()

    def _create(self) -> Opened:
        self._outbox()  # every spool belongs to one
        return super()._create()

    def _hand_over(self, next_spool: Opened | None) -> None:
        super()._hand_over(next_spool)
        self._plain_bytes = self._written

    def _ended(self, appender: Appender) -> None:
        """What `flush` promises holds for spools that are ended as well."""
        try:
            appender.sync()
        except HoldfastError:
            self._doubtful = set(self._unsealed[:-1] if self._appender else self._unsealed)
        appender.close()

    # What the publisher does, on its thread.

    def publish(self, *, roll: bool) -> None:
        """Send what there is; with `roll`, the points of the open spool too.

        Raises Unavailable, and what can never be sent: InvalidState (the id is taken), Corrupt.
        """
        with self._sending:
            names, closed = self._ready(roll)
            if self.outbox is None or not (names or closed or self._has_changes()):
                return
            if closed:  # what its children wrote belongs to the run that ends
                send_left(self.publisher.repository, self.run_id, wait=False)
            self._send(self.outbox, names, closed)
            self.begun.set()
            if closed:
                with suppress(Corrupt):  # all is sent; `verify` and `compact` name what is damaged
                    tidy(self.repository, self.run_id, self.rank, self._state, self._wants_tidy)
                self.outbox.remove()
                self.sent.set()

    def _send(self, outbox: Outbox, names: list[str], closed: bool) -> None:
        repository = self.publisher.repository
        self.snapshot = send(repository, outbox, names, base=self.snapshot, full=closed)
        with self._slow:
            self._unsealed = [name for name in self._unsealed if name not in names]
        self.backlog.look_again()
        self._published += bool(names)
        if names and self._published % _TIDY_EVERY == 0 and not closed:
            tidy_open(repository, self.run_id, self.rank, self._state)

    def _ready(self, roll: bool) -> tuple[list[str], bool]:
        """The spools that are ended, or are now; and whether nothing will come after them."""
        with self._slow:
            if roll and self._written > self._plain_bytes:
                self._put_away(go_on=True)
            is_open = self._appender is not None
            return self._unsealed[:-1] if is_open else list(self._unsealed), self.closed

    def _has_changes(self) -> bool:
        return self.outbox is not None and self.outbox.has_changes()

    @property
    def has_changes(self) -> bool:
        """True if artifacts, tags or the like wait."""
        return not self.sent.is_set() and self._has_changes()

    @property
    def _state(self) -> State:
        return self.snapshot.state if self.snapshot else {}

    def after_fork(self) -> None:
        """A child writes to an outbox of its own; its parent sends that, when the child is gone."""
        self._begin_sending()
        self.outbox = None
        super().after_fork()
