"""The methods of `ExperimentStore` that begin, continue and change runs, and what it has open."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from holdfast import ids, provenance
from holdfast.backlog import Backlog
from holdfast.digest import Digest
from holdfast.errors import Unavailable
from holdfast.format import layout
from holdfast.format.outbox import Pending
from holdfast.keeper import Keeper
from holdfast.names import check_id, check_key, check_rank
from holdfast.ops import adding, artifacts, publish, ranks, runs
from holdfast.ops.lookup import find_run
from holdfast.ops.repack import Repacked, repack, repack_alone
from holdfast.ops.tags import checked_config, checked_tags
from holdfast.outbox import outboxes
from holdfast.publisher import Publisher
from holdfast.remote_writer import RemoteWriter
from holdfast.run import Run
from holdfast.summary import ArtifactInfo
from holdfast.system import EVERY_SECONDS, SystemMetrics, interval
from holdfast.writer import RunWriter

if TYPE_CHECKING:
    from concurrent.futures import Executor

    from holdfast.format.manifest import State
    from holdfast.repository import Repository

BEGIN_SECONDS = 10.0  # how long a new run waits to be in a remote store before it goes on without


class WritingMethods:
    """Mixed into ExperimentStore."""

    repository: Repository
    store_id: str
    layout: str
    _chosen: Callable[[str, tuple[str, ...]], tuple[str, tuple[str, ...]]]

    def __init__(self) -> None:
        self.keeper = Keeper()
        self._open_runs: dict[str, Run] = {}
        self._joined: dict[tuple[str, int], Run] = {}
        self._samplers: dict[tuple[str, int | None], SystemMetrics] = {}
        self._experiments: set[str] = set()
        self._publisher: Publisher | None = None
        self._backlog: Backlog | None = None

    def _begin_publishing(self, publish_seconds: float | None, backlog_bytes: int | None) -> None:
        """For a remote store: send what is written here, and what processes that are gone have left."""
        if self.repository.is_remote and not self.repository.read_only:
            self._publisher = Publisher(self.repository, publish_seconds)
            self._backlog = Backlog(self.repository, backlog_bytes)
            if any(outbox.is_orphan() for outbox in outboxes(self.repository.state)):
                self._publisher.start()

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
        system: bool = True,
        system_seconds: float = EVERY_SECONDS,
    ) -> Run:
        """Begin a run of `experiment` (its name; it is created when new).

        `capture` says what to keep of what is running: command, git, python, platform, packages;
        True is all of it. With `system`, the load of the machine is logged every `system_seconds` as
        the metrics `system/…`. Raises InvalidValue, and InvalidState when `run_id` is taken.
        """
        every_seconds = interval(system, system_seconds)
        experiment_id = ids.experiment_id_for(experiment)
        run_id = check_id("run id", run_id) if run_id is not None else ids.new_run_id()
        sections: dict[str, dict[str, Any]] = {
            "run": {"experiment_id": experiment_id, "name": name, "note": note},
            "config": checked_config(config),
            "tags": checked_tags(tags),
            "source": provenance.capture(capture),
        }
        if self._publisher is not None:
            writer = self._begin_remote(run_id, experiment_id, experiment, sections)
        else:
            self._ensure_experiment(experiment_id, experiment)
            snapshot = runs.begin_run(self.repository, run_id, sections)
            writer = self._writer(run_id, attempt=1, snapshot=snapshot)
        return self._opened(writer, experiment_id, every_seconds)

    def resume(
        self,
        run_id: str,
        *,
        step: int | None = None,
        system: bool = True,
        system_seconds: float = EVERY_SECONDS,
    ) -> Run:
        """Go on with a run, in a new attempt that begins at `step` (or at the first one logged).

        Points that earlier attempts logged at or after that step are superseded: they stay in
        history. `system` and `system_seconds` as in `start_run`. Raises RunNotFound, and RunBusy when
        another process writes the run.
        """
        every_seconds = interval(system, system_seconds)
        run_id = find_run(self.repository, run_id)
        if run_id in self._open_runs:
            raise runs.busy_here(run_id)
        self._send_left(run_id)
        snapshot, attempt, next_step = runs.resume_run(self.repository, run_id, step)
        writer = self._writer(
            run_id,
            attempt=attempt,
            from_step=step,
            next_step=next_step if step is None else step,
            snapshot=snapshot,
        )
        return self._opened(writer, snapshot.state["run"]["experiment_id"], every_seconds)

    def join_run(
        self,
        run_id: str,
        *,
        rank: int,
        attempt: int | None = None,
        wait_seconds: float = 0,
        system: bool = True,
        system_seconds: float = EVERY_SECONDS,
    ) -> Run:
        """Write to a run that another process has open, as its writer number `rank`.

        Each rank has files of its own, so none waits for another. With `wait_seconds` it waits that
        long for the run to be begun or resumed, with `attempt` for that attempt or a later one; the
        id is given in full. `system` and `system_seconds` as in `start_run`. Raises InvalidValue,
        RunNotFound, InvalidState when the run is finished or crashed, and RunBusy when another live
        process has this rank.
        """
        every_seconds = interval(system, system_seconds)
        check_id("run id", run_id)
        rank = check_rank(rank)
        self._send_left(run_id)
        joined = ranks.join(self.repository, run_id, rank, attempt, wait_seconds)
        writer = self._writer(
            run_id,
            attempt=joined.attempt,
            from_step=joined.from_step,
            next_step=joined.next_step,
            snapshot=joined.snapshot,
            rank=rank,
        )
        return self._opened(writer, joined.experiment_id, every_seconds)

    def add_artifact_file(
        self,
        run_id: str,
        source: artifacts.Source,
        key: str,
        progress: Callable[[int, int], None] | None = None,
        *,
        layout: str | None = None,
        base: str | None = None,
        compact: bool = False,
    ) -> ArtifactInfo:
        """Add an artifact to any run, open or finished; `progress` is told (done, all) as it goes.

        The rest as in `Run.log_artifact`."""
        run_id = find_run(self.repository, run_id)
        check_key("artifact", key)
        how = artifacts.how(self.repository, run_id, key, layout or self.layout, base, compact)
        about = adding.add(self.repository, run_id, key, source, how, progress)
        return ArtifactInfo.from_state(key, about)

    def pack(
        self,
        address: str,
        *keys: str,
        base: str | None = None,
        compact: bool = False,
        executor: str | Executor | None = None,
        progress: Callable[[int, int], None] | None = None,
    ) -> list[Repacked]:
        """Store artifacts of a run (all, without keys; or that of an address) in packs, each encoded
        against the version it was stored after, or against `base` (a key of the run, or a digest).

        What is packed already is left alone, unless `compact` asks for some percent more. Nothing is
        removed, and stopping it loses nothing. Instead of a run `address` may be the digest of one artifact.
        `executor` runs it, as in `fsck`.

        Raises ArtifactNotFound, Corrupt, BackendError.
        """
        if address.startswith("sha256:"):
            of = Digest.parse(address)
            return repack_alone(self.repository, of, layout="packed", base=base, compact=compact)
        run_id, keys = self._chosen(address, keys)
        return repack(
            self.repository,
            run_id,
            keys,
            layout="packed",
            base=base,
            compact=compact,
            executor=executor,
            progress=progress,
        )

    def materialize(
        self,
        address: str,
        *keys: str,
        executor: str | Executor | None = None,
        progress: Callable[[int, int], None] | None = None,
    ) -> list[Repacked]:
        """Store artifacts of a run (all, without keys; or that of an address, or the one with a digest)
        plain, each a file that `sha256sum` can check."""
        if address.startswith("sha256:"):
            return repack_alone(self.repository, Digest.parse(address), layout="plain")
        run_id, keys = self._chosen(address, keys)
        return repack(
            self.repository, run_id, keys, layout="plain", executor=executor, progress=progress
        )

    def add_artifacts(
        self, run_id: str, sources: Mapping[str, artifacts.Source]
    ) -> dict[str, ArtifactInfo]:
        """Add many artifacts by their keys to any run, several at once; all of them or none."""
        run_id = find_run(self.repository, run_id)
        for key in sources:
            check_key("artifact", key)
        abouts = adding.add_many(self.repository, run_id, sources, self._how(run_id))
        return {key: ArtifactInfo.from_state(key, about) for key, about in abouts.items()}

    def _how(self, run_id: str) -> Callable[[str], artifacts.How]:
        """How to store what goes into a run, by its key, when the call does not say."""
        return lambda key: artifacts.how(self.repository, run_id, key, self.layout)

    def delete_run(self, run_id: str) -> None:
        """Put a tombstone on a run: lists leave it out; nothing is removed; `undelete_run` undoes."""
        runs.mark_deleted(self.repository, find_run(self.repository, run_id), True)

    def undelete_run(self, run_id: str) -> None:
        """Take the tombstone off."""
        runs.mark_deleted(self.repository, find_run(self.repository, run_id), False)

    def _opened(self, writer: RunWriter, experiment_id: str, every_seconds: float | None) -> Run:
        run = Run(self, writer, experiment_id)  # type: ignore[arg-type]  # the whole of which this is a part
        if run.rank is None:
            self._open_runs[run.id] = run
        else:
            self._joined[run.id, run.rank] = run
        self.keeper.add(writer)
        if every_seconds is not None:
            sampler = SystemMetrics(writer, every_seconds)
            self._samplers[run.id, run.rank] = sampler
            self.keeper.add(sampler)
        return run

    def _closed_run(self, run: Run) -> None:
        if run.rank is None:
            self._open_runs.pop(run.id, None)
        else:
            self._joined.pop((run.id, run.rank), None)
        if sampler := self._samplers.pop((run.id, run.rank), None):
            self.keeper.remove(sampler)

    def _ensure_experiment(self, experiment_id: str, name: str) -> None:
        if experiment_id not in self._experiments:
            runs.ensure_experiment(self.repository, experiment_id, name)
            self._experiments.add(experiment_id)

    def _writer(self, run_id: str, **about: Any) -> RunWriter:
        if self._publisher is None:
            return RunWriter(self.repository, self.keeper, run_id, **about)
        writer = self._remote_writer(run_id, **about)
        self._publisher.add(writer)
        return writer

    def _remote_writer(self, run_id: str, **about: Any) -> RemoteWriter:
        ends: dict[str, Any] = {"publisher": self._publisher, "backlog": self._backlog}
        return RemoteWriter(self.repository, self.keeper, run_id, **ends, **about)

    def _begin_remote(
        self, run_id: str, experiment_id: str, name: str, sections: State
    ) -> RunWriter:
        """Begin a run here, and in the store if that answers soon. Raises InvalidState."""
        writer = self._remote_writer(run_id, attempt=1)
        found = runs.new_experiment(experiment_id, name)
        writer.begin(
            Pending(layout.experiment(experiment_id), found, "found"),
            Pending(
                layout.manifest(run_id), runs.first_state(run_id, sections, self.store_id), "begin"
            ),
        )
        writer.publisher.add(writer)  # only now: both are sent, or none
        writer.await_begun(BEGIN_SECONDS)
        return writer

    def _send_left(self, run_id: str) -> None:
        """Before somebody goes on with a run: what this machine has of it must be in the store."""
        if self._publisher is None:
            return
        for writer in self._publisher.writers(run_id):
            if writer.closed and not self._publisher.wait(writer, writer.sent, BEGIN_SECONDS):
                raise Unavailable(
                    f"run {run_id} is not wholly sent yet: try again later", run_id=run_id
                )
        publish.send_left(self.repository.hasty(), run_id)

    def _caught_up(self) -> None:
        """Before something is read: what was written here, if the store answers."""
        if self._publisher is not None:
            self._publisher.catch_up(BEGIN_SECONDS)

    def unsent(self) -> list[publish.Unsent]:
        """What this machine has for a remote store, and the store has not, by run; [] for a local one."""
        return publish.unsent(self.repository) if self.repository.is_remote else []

    def _open_writers(self) -> Iterator[RunWriter]:
        for run in [*self._open_runs.values(), *self._joined.values()]:
            yield run._writer

    def _stop_writing(self) -> None:
        self._open_runs.clear()
        self._joined.clear()
        self._samplers.clear()
        self.keeper.close()
        if self._publisher is not None:
            self._publisher.close()
