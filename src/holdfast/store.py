"""`ExperimentStore`: experiments, runs, metrics and artifacts of one store, and the seed's methods.

Each method is a door to an operation; what it does is written there.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import warnings
import weakref
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, BinaryIO, Self

from holdfast import ids, provenance
from holdfast.digest import Digest
from holdfast.errors import HoldfastError
from holdfast.keeper import Keeper
from holdfast.names import check_id, check_key
from holdfast.ops import artifacts, runs
from holdfast.ops.lookup import find_run
from holdfast.ops.recover import Recovered, recover
from holdfast.ops.tags import checked_config, checked_tags
from holdfast.ops.verify import Finding, verify
from holdfast.records import ExperimentRecord
from holdfast.repository import open_repository
from holdfast.run import Run
from holdfast.seed import SeedMethods
from holdfast.summary import ArtifactInfo, RunSummary
from holdfast.writer import RunWriter

if TYPE_CHECKING:
    from holdfast.catalog import Catalog, Selected
    from holdfast.series import Series

_MOST_RESETS = 4  # the catalog needs two before it stays in memory; threads may share one


class ExperimentStore(SeedMethods):
    """A store at `url`: a directory, `s3://bucket/folder`, `gs://…`, `az://…`, or `memory://name`;
    without one, in memory and ours alone.

    `create` founds a store in a new or empty place; `cache=False` keeps the catalog in memory.
    `storage_options` are those of fsspec, for a bucket; they are never stored. `single_writer` says that
    no other process writes at the same time, where the storage could not keep them apart.
    Raises NotAStore, UnsupportedFormat, Corrupt, AccessDenied, Unavailable.
    """

    def __init__(
        self,
        url: str | os.PathLike[str] | None = None,
        *,
        create: bool = True,
        read_only: bool = False,
        cache: bool = True,
        storage_options: Mapping[str, Any] | None = None,
        single_writer: bool = False,
    ) -> None:
        self.repository = open_repository(
            url,
            create=create,
            read_only=read_only,
            storage_options=storage_options,
            single_writer=single_writer,
        )
        self.store_id = self.repository.store_id
        self.url = self.repository.backend.url
        self.keeper = Keeper()
        self._in_memory = url is None or not cache or str(url).startswith("memory://")
        self._index: Catalog | None = None
        self._open_runs: dict[str, Run] = {}
        self._writers: dict[str, RunWriter] = {}
        self._experiments: set[str] = set()
        _stores.add(self)

    # Writing.

    def start_run(
        self,
        experiment: str,
        *,
        name: str | None = None,
        config: Any = None,
        tags: Any = None,
        note: str | None = None,
        run_id: str | None = None,
        capture: bool | set[str] = True,
    ) -> Run:
        """Begin a run of `experiment` (its name; it is created when new).

        `capture` says what to keep of what is running: command, git, python, platform, packages;
        True is all of it. Raises InvalidValue, and InvalidState when `run_id` is taken.
        """
        experiment_id = self._ensure_experiment(experiment)
        run_id = check_id("run id", run_id) if run_id is not None else ids.new_run_id()
        sections: dict[str, dict[str, Any]] = {
            "run": {"experiment_id": experiment_id, "name": name, "note": note},
            "config": checked_config(config),
            "tags": checked_tags(tags),
            "source": provenance.capture(capture),
        }
        snapshot = runs.begin_run(self.repository, run_id, sections)
        writer = RunWriter(self.repository, self.keeper, run_id, attempt=1, snapshot=snapshot)
        return self._opened(Run(self, writer, experiment_id), writer)

    def resume(self, run_id: str, *, step: int | None = None) -> Run:
        """Go on with a run, in a new attempt that begins at `step` (or at the first one logged).

        Points that earlier attempts logged at or after that step are superseded: they stay in
        history. Raises RunNotFound, and RunBusy when another process writes the run.
        """
        run_id = find_run(self.repository, run_id)
        if run_id in self._open_runs:
            raise runs.busy_here(run_id)
        snapshot, attempt, next_step = runs.resume_run(self.repository, run_id, step)
        writer = RunWriter(
            self.repository,
            self.keeper,
            run_id,
            attempt=attempt,
            from_step=step,
            next_step=next_step if step is None else step,
            snapshot=snapshot,
        )
        return self._opened(Run(self, writer, snapshot.state["run"]["experiment_id"]), writer)

    def add_artifact_file(
        self,
        run_id: str,
        source: artifacts.Source,
        key: str,
        progress: Callable[[int, int], None] | None = None,
    ) -> ArtifactInfo:
        """Add an artifact to any run, open or finished; `progress` is told (done, all) as it goes."""
        run_id = find_run(self.repository, run_id)
        check_key("artifact", key)
        about = artifacts.store(self.repository, source, progress)
        chain = self.repository.manifest(run_id)
        chain.commit(chain.load(), lambda state: {"artifacts": {key: about}})
        return ArtifactInfo.from_state(key, about)

    def add_artifacts(
        self, run_id: str, sources: Mapping[str, artifacts.Source]
    ) -> dict[str, ArtifactInfo]:
        """Add many artifacts by their keys to any run, several at once; all of them or none."""
        run_id = find_run(self.repository, run_id)
        for key in sources:
            check_key("artifact", key)
        abouts = artifacts.store_many(self.repository, sources)
        chain = self.repository.manifest(run_id)
        chain.commit(chain.load(), lambda state: {"artifacts": abouts} if abouts else {})
        return {key: ArtifactInfo.from_state(key, about) for key, about in abouts.items()}

    def delete_run(self, run_id: str) -> None:
        """Put a tombstone on a run: lists leave it out; nothing is removed; `undelete_run` undoes."""
        runs.mark_deleted(self.repository, find_run(self.repository, run_id), True)

    def undelete_run(self, run_id: str) -> None:
        """Take the tombstone off."""
        runs.mark_deleted(self.repository, find_run(self.repository, run_id), False)

    def recover(
        self,
        *,
        salvage: bool = False,
        progress: Callable[[int, int], None] = lambda done, total: None,
    ) -> list[Recovered]:
        """Seal what crashed processes left behind, and mark their runs as crashed.

        With `salvage`, a spool that is damaged in its middle moves to quarantine/ as it is, and its
        intact records are kept; without, its run is reported with the problem and left alone.
        """
        return recover(self.repository, salvage=salvage, progress=progress)

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
        found = self._select(where, order_by, limit, deleted)
        return [
            RunSummary.from_state(
                state, run_id=run_id, generation=generation, experiment_name=name, crashed=crashed
            )
            for run_id, generation, state, name, crashed in found
        ]

    def run(self, run_id: str) -> RunSummary:
        """One run, read from its manifest itself. Raises RunNotFound, Corrupt."""
        run_id = find_run(self.repository, run_id)
        return runs.summary(self.repository, run_id)

    def metrics(self, run_id: str, key: str) -> Series:
        """All points of one metric of a run, in step order. Raises RunNotFound, MetricNotFound."""
        return runs.series(self.repository, find_run(self.repository, run_id), key)

    def metric_keys(self, run_id: str) -> list[str]:
        """Every metric that the run has points of, those not sealed yet included."""
        return runs.points(self.repository, find_run(self.repository, run_id)).keys()

    def artifacts(self, run_id: str) -> list[ArtifactInfo]:
        """The artifacts of a run, by key."""
        return sorted(self.run(run_id).artifacts.values(), key=lambda about: about.key)

    def read_artifact(self, address: str, key: str | None = None) -> bytes:
        """All bytes of an artifact, verified; `address` is a run (with `key`) or `sha256:<hex>`.

        Raises ArtifactNotFound, DigestMismatch (naming the damaged file).
        """
        return artifacts.read(self.repository, self._address(address, key))

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
        about = self._address(address, key)
        target = Path(to)
        if (target.is_dir() and about["kind"] != "directory") or str(to).endswith(("/", os.sep)):
            target = target / (key or about["digest"]).rpartition("/")[2].removeprefix("sha256:")
        return artifacts.fetch(self.repository, about, target, overwrite, progress)

    def read_artifacts(self, run_id: str, keys: Iterable[str] | None = None) -> dict[str, bytes]:
        """All bytes of many artifacts of a run (of all, without `keys`), several read at once, verified.

        Raises ArtifactNotFound, Corrupt, InvalidValue for a directory.
        """
        abouts = artifacts.choose(self.repository, find_run(self.repository, run_id), keys)
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
        abouts = artifacts.choose(self.repository, find_run(self.repository, run_id), keys)
        return artifacts.fetch_many(self.repository, abouts, Path(to), overwrite)

    def open_artifact(self, address: str, key: str | None = None) -> BinaryIO:
        """A seekable, read-only file; every piece is verified before it is handed out."""
        return artifacts.open_file(self.repository, self._address(address, key))

    def verify(
        self, run_id: str | None = None, progress: Callable[[int, int], None] | None = None
    ) -> list[Finding]:
        """Read every byte of a run, or of the whole store; returns what is damaged."""
        name = find_run(self.repository, run_id) if run_id else None
        return verify(self.repository, name, progress)

    # Housekeeping.

    def close(self) -> None:
        """Seal what is open and stop the background thread. Runs that were not finished stay open
        in the store and show as crashed once this process has ended."""
        try:
            for writer in [
                *self._writers.values(),
                *(run._writer for run in self._open_runs.values()),
            ]:
                if not writer.closed:
                    writer.seal(go_on=False)
        finally:
            self._writers.clear()
            self._open_runs.clear()
            self.keeper.close()
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

    def _opened(self, run: Run, writer: RunWriter) -> Run:
        self._open_runs[run.id] = run
        self.keeper.add(writer)
        return run

    def _closed_run(self, run: Run) -> None:
        self._open_runs.pop(run.id, None)

    def _ensure_experiment(self, name: str) -> str:
        experiment_id = ids.experiment_id_for(name)
        if experiment_id not in self._experiments:
            runs.ensure_experiment(self.repository, experiment_id, name)
            self._experiments.add(experiment_id)
        return experiment_id

    def _select(self, *question: Any) -> list[Selected]:
        """What the catalog answers; one that had to be emptied is filled and asked again."""
        from holdfast.catalog import CatalogReset

        for _ in range(_MOST_RESETS):
            with contextlib.suppress(CatalogReset):
                return self._catalog().select(*question)
        return self._catalog().select(*question)

    def _catalog(self) -> Catalog:
        """The catalog, brought up to date."""
        from holdfast.catalog import Catalog
        from holdfast.ops.refresh import refresh

        if self._index is None:
            self._index = Catalog.open(self.store_id, memory=self._in_memory)
        for problem in refresh(self.repository, self._index):
            warnings.warn(f"{problem.message} (left out of the list)", stacklevel=4)
        return self._index

    def _address(self, address: str, key: str | None) -> Mapping[str, Any]:
        """What is known of the artifact at an address."""
        if key is None:
            return artifacts.by_digest(self.repository, Digest.parse(address))
        found = artifacts.choose(self.repository, find_run(self.repository, address), [key])
        return found[key]


_stores: weakref.WeakSet[ExperimentStore] = weakref.WeakSet()


@atexit.register
def _close_all() -> None:
    """Seal what is open when Python ends; a run that nobody finished is named."""
    for store in list(_stores):
        unfinished = sorted(store._open_runs)
        try:
            store.close()
        except HoldfastError as error:
            warnings.warn(f"{store.url}: {error}", stacklevel=1)
        for run_id in unfinished:
            warnings.warn(
                f"run {run_id} was never finished: use `with store.start_run(...) as run:`",
                stacklevel=1,
            )
