"""`Run`: what a training script holds while it logs."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from holdfast.errors import InvalidValue
from holdfast.format import inputs
from holdfast.names import check_key
from holdfast.ops import artifacts, checkpoints
from holdfast.ops.adding import storing
from holdfast.ops.tags import checked_tags
from holdfast.records import RunStatus
from holdfast.summary import ArtifactInfo
from holdfast.values import checked_step
from holdfast.writer import RunWriter

if TYPE_CHECKING:
    from holdfast.ops.handle import StoredArtifact
    from holdfast.ops.publish import Unsent
    from holdfast.ops.tail import Tail
    from holdfast.repository import Repository
    from holdfast.series import Series
    from holdfast.store import ExperimentStore


FINISH_SECONDS = 60.0  # how long `finish` waits for a remote store


class Run:
    """An open run, or one rank of it (`store.join_run`). Use it as a context manager: leaving it by an
    exception marks the run Failed with the exception's type and message, Ctrl-C marks it Cancelled,
    anything else Success.
    """

    def __init__(self, store: ExperimentStore, writer: RunWriter, experiment_id: str) -> None:
        self.store = store
        self.id = writer.run_id
        self.experiment_id = experiment_id
        self.rank = writer.rank
        self._writer = writer
        self._finished = False
        self.log = writer.log  # type: ignore[method-assign]  # a call costs no detour

    def log(
        self, metrics: Mapping[str, Any], step: int | None = None, timestamp: int | None = None
    ) -> None:
        """Append one record of numbers; when this returns it survives `kill -9`.

        `step` is an int from 0 to 2**64-1; without it, the one after the last. `timestamp` is in ns
        since 1970; without it, now. Raises InvalidValue for anything that is not a number, with the
        key and the type, and writes nothing then.
        """
        self._writer.log(metrics, step, timestamp)

    def log_artifact(
        self,
        source: artifacts.Source,
        key: str,
        *,
        layout: str | None = None,
        base: str | None = None,
        compact: bool = False,
    ) -> ArtifactInfo:
        """Store a file, directory, bytes or binary stream under `key`, durable when this returns.

        The same bytes are stored once, whatever their names. Logging a key again moves the name to
        the new bytes. Raises InvalidValue, NotFound, BackendError.

        `layout` is `plain` (a file of its own), `packed` (chunks shared with other versions, encoded
        against them) or `auto`; without it, that of the store. What it is encoded against is found by
        the key, or is `base`: a key of this run, or a digest. `compact`
        takes twice the time for some percent.
        """
        self._refuse_finished()
        check_key("artifact", key)

        def store(held: Mapping[str, Any]) -> dict[str, Any]:
            with self._writer.storing(key) as place:
                about = self._stored(place, held[key], key, layout, base, compact)
                self._writer.commit({"artifacts": {key: about}})
            return about

        return ArtifactInfo.from_state(key, storing({key: source}, store))

    def _stored(
        self,
        place: Repository,
        source: artifacts.Source,
        key: str,
        layout: str | None = None,
        base: str | None = None,
        compact: bool = False,
        kept: int | None = None,
    ) -> dict[str, Any]:
        """Store the bytes of what will be the artifact `key`; returns what the manifest says of it."""
        how = self._writer.how(key, source, layout, self.store.layout, base, compact, kept)
        return artifacts.store(place, source, None, how)

    def log_checkpoint(
        self,
        state: Any,
        step: int | None = None,
        key: str = "checkpoints/{step}",
        *,
        keep_last: int | None = None,
        keep_best: tuple[str, str, int] | None = None,
        format: str | None = None,
        **how: Any,
    ) -> ArtifactInfo:
        """Store a checkpoint: a module, a state_dict, a map of arrays, or a path; `how` as in `log_artifact`.

        `step` is that of the last `log` unless given. A flat map of tensors becomes safetensors, all else is
        written by torch.save, unless `format` (`safetensors` or `torch`) says so. Of the checkpoints
        of this run the `keep_last` newest and those that are best by `keep_best`, such as
        ("val/loss", "min", 3), keep their names; the others lose them, and their bytes go with the
        next collection. Raises InvalidValue, MetricNotFound, MissingDependency, BackendError.
        """
        self._refuse_finished()
        step = self._writer.last_step if step is None else checked_step(step)
        key = check_key("artifact", key.replace("{step}", str(step)))
        last, best = (
            checkpoints.checked_count("keep_last", keep_last),
            checkpoints.Best.of(keep_best),
        )
        about: dict[str, Any] = {"step": step, "attempt": self._writer.attempt}
        if best is not None:
            values = self.store.metrics(self.id, best.metric, last=1).values
            about["metrics"] = {best.metric: float(values[-1])}
            about["best"] = {"metric": best.metric, "mode": best.mode}

        def store(held: Mapping[str, Any]) -> dict[str, Any]:
            with self._writer.storing(key) as place:
                artifact = self._stored(
                    place, held[key], key, kept=checkpoints.kept(last, best), **how
                )
                self._writer.commit(
                    lambda state: checkpoints.change(state, key, artifact, about, last, best)
                )
            return artifact

        with checkpoints.as_file(state, format) as path:
            return ArtifactInfo.from_state(key, storing({key: path}, store))

    def log_artifacts(self, sources: Mapping[str, artifacts.Source]) -> dict[str, ArtifactInfo]:
        """Store many sources by their keys, several at once; all of them become part of the run in one
        step, or none. Raises what `log_artifact` raises."""
        self._refuse_finished()
        for key in sources:
            check_key("artifact", key)

        def store(held: Mapping[str, Any]) -> dict[str, Any]:
            with self._writer.storing(*held) as place:
                hows = {
                    key: self._writer.how(key, source, None, self.store.layout)
                    for key, source in held.items()
                }
                abouts = artifacts.store_many(place, held, hows.__getitem__)
                self._writer.commit({"artifacts": abouts} if abouts else {})
            return abouts

        abouts = storing(sources, store)
        return {key: ArtifactInfo.from_state(key, about) for key, about in abouts.items()}

    def use_artifact(self, artifact: Any, key: str | None = None) -> StoredArtifact:
        """Note that this run reads an artifact, and give it: `.read()`, `.open()`, `.get(to=…)`.

        `artifact` is any address, or what says which bytes by itself: an entry of a lock file, a
        `Version`, a `StoredArtifact`. Those, and `sha256:…`, are noted even while a remote store does not
        answer. Raises InvalidValue, Ambiguous, ArtifactNotFound, RunNotFound, AliasNotFound, Unavailable.
        """
        self._refuse_finished()
        found, asked = self.store._to_use(artifact, key)
        at = time.time_ns()
        self._writer.commit(lambda state: inputs.used(state, found.target, asked, at))
        return found

    def set_tags(self, tags: Mapping[str, Any]) -> None:
        """Add tags or change them; a value of None takes the tag away."""
        self._refuse_finished()
        self._writer.commit({"tags": checked_tags(tags)})

    def set_note(self, note: str | None) -> None:
        """Write the run's note; None takes it away."""
        self._refuse_finished()
        if note is not None and not isinstance(note, str):
            raise InvalidValue(f"a note is text, not {type(note).__name__}")
        self._writer.commit({"run": {"note": note}})

    def metrics(self, key: str) -> Series:
        """The series of `key` so far."""
        return self.store.metrics(self.id, key)

    def tail(self, keys: Sequence[str] | str | None = None, **how: Any) -> Tail:
        """The run's records as they are logged, for another thread: see `ExperimentStore.tail`."""
        return self.store.tail(self.id, keys, **how)

    def flush(self) -> None:
        """Return when everything logged so far survives a power cut. Raises what prevents it."""
        self._writer.sync()

    def finish(
        self,
        status: RunStatus = RunStatus.SUCCESS,
        *,
        error: Mapping[str, str] | None = None,
        compact: bool | None = None,
        timeout: float = FINISH_SECONDS,
    ) -> Unsent | None:
        """Seal all points and give the run its final status; a second call does nothing.

        Then the segments of a run that has 8 or more are put together (`ExperimentStore.compact`);
        `compact` says to do that always, or never.

        In a remote store everything is durable on this machine when it returns. It waits up to `timeout`
        seconds for the store to have it too, and returns what the store has not (`Unsent`), which is sent
        later: by this process, by the next one that opens the store here, or by `holdfast recover`. None
        means that everything is in the store; for a local store it always is.

        A rank that joined the run ends alone, and what it ended as is noted in its own chain.
        Raises InvalidValue for a status that is not terminal, BackendError when the store (of a remote
        one, this machine's disk) fails: the points are kept in the spool then, and finishing again tries
        again.
        """
        if not isinstance(status, RunStatus) or not status.terminal:
            raise InvalidValue(f"a run cannot finish as {status}: use Success, Failed or Cancelled")
        if self._finished:
            return None
        unsent = self._writer.end(status, error, compact, timeout)
        self._finished = True
        self.store._closed_run(self)
        self._writer.tidy(compact)
        return unsent

    def _refuse_finished(self) -> None:
        if self._finished:
            raise self._writer.finished()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            self._end(kind, value)
        except KeyboardInterrupt as error:  # while it was ending
            self._end(KeyboardInterrupt, error)
            raise

    def _end(self, kind: type[BaseException] | None, value: BaseException | None) -> None:
        if kind is None or (isinstance(value, SystemExit) and not value.code):
            self.finish()
            return
        stopped = issubclass(kind, KeyboardInterrupt)
        status = RunStatus.CANCELLED if stopped else RunStatus.FAILED
        self.finish(status, error={"type": kind.__name__, "message": str(value)[:2000]})

    def __repr__(self) -> str:
        rank = "" if self.rank is None else f" rank {self.rank}"
        finished = ", finished" if self._finished else ""
        return f"<Run {self.id}{rank} of {self.experiment_id}{finished}>"
