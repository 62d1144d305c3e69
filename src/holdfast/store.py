"""`ExperimentStore`: experiments, runs, metrics and artifacts of one store, and the seed's methods.

Each method is a door to an operation; what it does is written there.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import warnings
import weakref
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Executor
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, BinaryIO, Self, TypeVar

from holdfast.checking import CheckingMethods
from holdfast.checkpointing import CheckpointMethods
from holdfast.collecting import CollectingMethods
from holdfast.errors import HoldfastError
from holdfast.naming import NamingMethods
from holdfast.ops import artifacts, runs
from holdfast.ops.compact import Compacted, compact
from holdfast.ops.handle import fetch
from holdfast.ops.ingest import Wanted
from holdfast.ops.lookup import find_run
from holdfast.ops.recover import Recovered, recover
from holdfast.ops.snapshots import pinned
from holdfast.reading import ReadingMethods
from holdfast.records import ExperimentRecord
from holdfast.repository import open_repository
from holdfast.seed import SeedMethods
from holdfast.signing import SigningMethods
from holdfast.summary import ArtifactInfo, RunSummary
from holdfast.syncing import SyncMethods
from holdfast.writer import RunWriter
from holdfast.writing import WritingMethods

if TYPE_CHECKING:
    from holdfast.catalog import Catalog
    from holdfast.ops.tail import Tail
    from holdfast.sql import SqlRows

Answer = TypeVar("Answer")
_MOST_RESETS = 4  # the catalog needs two before it stays in memory; threads may share one


class ExperimentStore(
    WritingMethods,
    ReadingMethods,
    NamingMethods,
    CheckpointMethods,
    CheckingMethods,
    CollectingMethods,
    SigningMethods,
    SyncMethods,
    SeedMethods,
):
    """A store at `url`: a directory, `s3://bucket/folder`, `gs://…`, `az://…`, or `memory://name`;
    without one, in memory and ours alone.

    `create` founds a store in a new or empty place; `cache=False` keeps the catalog in memory, and
    no file of a bucket on this machine.
    `layout` is how artifacts are stored where a call does not say: `auto`, `plain` or `packed`.
    `storage_options` are those of fsspec, for a bucket; they are never stored. `single_writer` says that
    no other process writes at the same time, where the storage could not keep them apart. What is
    written to a bucket goes to this machine first and is sent every `publish_seconds` (5); no more than
    about `backlog_bytes` (8 GiB) of artifacts wait here.
    `at` opens the store as it was, read-only: the id of a snapshot (`sha256:…`) or its name.
    Raises NotAStore, UnsupportedFormat, Corrupt, AccessDenied, Unavailable, SnapshotNotFound.
    """

    def __init__(
        self,
        url: str | os.PathLike[str] | None = None,
        *,
        create: bool = True,
        read_only: bool = False,
        cache: bool = True,
        layout: str = "auto",
        storage_options: Mapping[str, Any] | None = None,
        single_writer: bool = False,
        publish_seconds: float | None = None,
        backlog_bytes: int | None = None,
        at: str | None = None,
    ) -> None:
        self.layout = Wanted(layout).layout
        self.repository = open_repository(
            url,
            create=create and at is None,
            read_only=read_only or at is not None,
            storage_options=storage_options,
            single_writer=single_writer,
            cache=cache,
        )
        self.store_id = self.repository.store_id
        self.url = self.repository.backend.url
        if at is not None:
            self.repository = pinned(self.repository, at)
        WritingMethods.__init__(self)
        self._begin_publishing(publish_seconds, backlog_bytes)
        self._in_memory = url is None or not cache or str(url).startswith("memory://")
        self._index: Catalog | None = None
        self._writers: dict[str, RunWriter] = {}
        _stores.add(self)

    # Reading.

    def experiments(self) -> list[ExperimentRecord]:
        """Every experiment, oldest first."""
        return runs.experiments(self.repository)

    def runs(
        self,
        where: str | None = None,
        order_by: str | list[str] | None = None,
        limit: int | None = None,
        *,
        deleted: bool = False,
    ) -> list[RunSummary]:
        """The runs that match, newest first unless `order_by` says otherwise.

        `where` is an expression such as `config.lr < 1e-3 and metrics.loss.last < 0.5`; `order_by`
        a field, with `-` in front for descending. Raises QueryError, which points at the mistake. A
        damaged run never hides the others: it is reported as a warning.
        """
        found = self._ask(lambda catalog: catalog.select(where, order_by, limit, deleted))
        return [
            RunSummary.from_state(
                state, run_id=run_id, generation=generation, experiment_name=name, crashed=crashed
            )
            for run_id, generation, state, name, crashed in found
        ]

    def sql(
        self,
        query: str,
        params: Mapping[str, Any] | Sequence[Any] = (),
        *,
        max_rows: int = 1_000_000,
        timeout_seconds: float = 60.0,
    ) -> SqlRows:
        """What one SELECT gives over runs, experiments, config, tags, metrics and artifacts.

        `params` are the values of `?` or `:name` in it. docs/reference/sql.md has the columns. Raises
        QueryError: for a mistake, for anything but reading, and past `max_rows` or `timeout_seconds`.
        """
        from holdfast.catalog_views import Limits
        from holdfast.sql import SqlRows

        limits = Limits(max_rows, timeout_seconds)
        return SqlRows(*self._ask(lambda catalog: catalog.sql(query, params, limits)))

    def run(self, run_id: str) -> RunSummary:
        """One run, read from its manifest itself. Raises RunNotFound, Corrupt."""
        self._caught_up()
        run_id = find_run(self.repository, run_id)
        return runs.summary(self.repository, run_id)

    def metric_keys(self, run_id: str) -> list[str]:
        """Every metric that the run has points of, those not sealed yet included."""
        return runs.points(self.repository, find_run(self.repository, run_id)).keys()

    def tail(
        self,
        run_id: str,
        keys: Sequence[str] | str | None = None,
        *,
        follow: bool = True,
        from_start: bool = False,
        last: int = 0,
        unsealed: bool = False,
        poll_seconds: float | None = None,
        timeout_seconds: float | None = None,
    ) -> Tail:
        """The records of a run as they are logged: an iterator of `TailRecord` that ends with the run.

        `keys` are names or patterns such as `train/*`. It begins with what is logged from now on, or
        `from_start`, or with the `last` n records, and with all that is not sealed yet if `unsealed`
        is set; without `follow` it ends where it would wait. It looks every `poll_seconds` (0.1 where
        the spools are, 2 elsewhere) and ends when nothing came for `timeout_seconds`.

        Raises RunNotFound, InvalidValue, Corrupt, BackendError.
        """
        from holdfast.ops.tail import Tail

        return Tail(
            self.repository,
            find_run(self.repository, run_id),
            keys=keys,
            follow=follow,
            from_start=from_start,
            last=last,
            unsealed=unsealed,
            poll_seconds=poll_seconds,
            timeout_seconds=timeout_seconds,
        )

    def artifacts(self, run_id: str) -> list[ArtifactInfo]:
        """The artifacts of a run, by key."""
        return sorted(self.run(run_id).artifacts.values(), key=lambda about: about.key)

    def read_artifact(self, address: str, key: str | None = None) -> bytes:
        """All bytes of an artifact, verified; `address` is any address, or a run with `key`.

        Raises ArtifactNotFound, DigestMismatch (naming the damaged file).
        """
        return artifacts.read(self.repository, self._artifact(address, key).about)

    def get_artifact(
        self,
        address: str,
        key: str | None = None,
        *,
        to: str | os.PathLike[str] = ".",
        overwrite: bool = False,
        progress: Callable[[int, int], None] | None = None,
    ) -> Path:
        """Write an artifact out, verified before it has its name; returns the path written.

        A `to` that is a directory, or ends in `/`, is where it goes under the last part of its key;
        any other `to` is its name. A different file is replaced only with `overwrite`.
        """
        return fetch(self.repository, self._artifact(address, key), to, overwrite, progress)

    def read_artifacts(self, run_id: str, keys: Iterable[str] | None = None) -> dict[str, bytes]:
        """All bytes of many artifacts of a run (of all, without `keys`), several read at once, verified.

        Raises ArtifactNotFound, Corrupt, InvalidValue for a directory.
        """
        self._caught_up()
        abouts = artifacts.choose(self.repository, run_id, keys)
        return artifacts.read_many(self.repository, abouts)

    def get_artifacts(
        self,
        run_id: str,
        keys: Iterable[str] | None = None,
        *,
        to: str | os.PathLike[str] = ".",
        overwrite: bool = False,
    ) -> dict[str, Path]:
        """Write many artifacts of a run (all, without `keys`) under the directory `to`, each at its
        key, several at once. Raises what `get_artifact` raises; what was written by then is whole."""
        self._caught_up()
        abouts = artifacts.choose(self.repository, run_id, keys)
        return artifacts.fetch_many(self.repository, abouts, Path(to), overwrite)

    def open_artifact(self, address: str, key: str | None = None) -> BinaryIO:
        """A seekable, read-only file; every piece is verified before it is handed out."""
        return artifacts.open_file(self.repository, self._artifact(address, key).about)

    # Housekeeping.

    def recover(
        self,
        *,
        salvage: bool = False,
        progress: Callable[[int, int], None] = lambda done, total: None,
    ) -> list[Recovered]:
        """Seal what crashed processes left behind, send what they left on this machine for a remote
        store, and mark their runs as crashed.

        With `salvage`, a spool that is damaged in its middle moves to quarantine/ as it is, and its
        intact records are kept; without, its run is reported with the problem and left alone.
        """
        return recover(self.repository, salvage=salvage, progress=progress)

    def compact(
        self,
        run_id: str | None = None,
        *,
        dry_run: bool = False,
        executor: str | Executor | None = None,
        progress: Callable[[int, int], None] = lambda done, total: None,
    ) -> list[Compacted]:
        """Put the small metric segments of a run, or of every run, together into few; the points stay
        the same. Safe while the run is written and while others compact. `executor` runs it, as in
        `fsck`. Raises Corrupt, BackendError.
        """
        name = find_run(self.repository, run_id) if run_id else None
        return compact(self.repository, name, dry_run=dry_run, executor=executor, progress=progress)

    def close(self) -> None:
        """Seal what is open and stop the background thread. Runs that were not finished stay open
        in the store and show as crashed once this process has ended."""
        try:
            for writer in [*self._writers.values(), *self._open_writers()]:
                if not writer.closed:
                    writer.seal(go_on=False)
        finally:
            self._writers.clear()
            self._stop_writing()
            if self._index is not None:
                self._index.close()
                self._index = None
            _stores.discard(self)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<ExperimentStore {self.url}>"

    def _ask(self, question: Callable[[Catalog], Answer]) -> Answer:
        """What the catalog answers; one that had to be emptied is filled and asked again."""
        from holdfast.catalog import CatalogReset

        self._caught_up()
        for _ in range(_MOST_RESETS):
            with contextlib.suppress(CatalogReset):
                return question(self._catalog())
        return question(self._catalog())

    def _catalog(self) -> Catalog:
        """The catalog, brought up to date."""
        from holdfast.catalog import Catalog
        from holdfast.ops.refresh import refresh

        if self._index is None:
            url = self.repository.backend.url  # which says at which snapshot
            self._index = Catalog.open(self.store_id, url, memory=self._in_memory)
        for problem in refresh(self.repository, self._index):
            warnings.warn(f"{problem.message} (left out of the list)", stacklevel=4)
        return self._index


_stores: weakref.WeakSet[ExperimentStore] = weakref.WeakSet()


@atexit.register
def _close_all() -> None:
    """Seal what is open when Python ends; a run that nobody finished is named."""
    for store in list(_stores):
        unfinished = sorted(store._open_runs)
        ranks_left = sorted(store._joined)
        try:
            store.close()
        except HoldfastError as error:
            warnings.warn(f"{store.url}: {error}", stacklevel=1)
        for run_id in unfinished:
            warnings.warn(
                f"run {run_id} was never finished: use `with store.start_run(...) as run:`",
                stacklevel=1,
            )
        for run_id, rank in ranks_left:
            warnings.warn(
                f"rank {rank} of run {run_id} was never finished: use `with store.join_run(...)`",
                stacklevel=1,
            )
