"""The methods of `ExperimentStore` that bring runs to another store, or from one."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from holdfast.backend.local import LocalBackend
from holdfast.errors import BackendError, InvalidValue, Unavailable

if TYPE_CHECKING:
    from holdfast.ops.sync import SyncReport
    from holdfast.ops.sync_plan import Plan
    from holdfast.repository import Repository
    from holdfast.store import ExperimentStore


class SyncMethods:
    """Mixed into ExperimentStore."""

    repository: Repository
    url: str
    runs: Callable[..., Any]
    _caught_up: Callable[[], None]

    def sync_to(
        self,
        target: ExperimentStore | str | os.PathLike[str],
        where: str | None = None,
        *,
        artifacts: str | Sequence[str] | None = "*",
        metrics: bool = True,
        dry_run: bool = False,
        fork: bool = False,
        limit_bytes: int | None = None,
        recheck: bool = False,
        progress: Callable[[int, int], None] | None = None,
    ) -> SyncReport | Plan:
        """Bring the runs that match `where` (all, without it) to another store, an open one or a URL.

        Only what is missing there goes over, verified on the way. `artifacts` is a pattern of keys, or
        several, of what goes along (`*` matches `/` too), None for none; `metrics` says whether the points
        do. What was left out can follow later. `dry_run` returns the plan and changes nothing. `fork` brings
        a run that both sides appended to in as a new run. `limit_bytes` is the most that is sent in a
        second. `recheck` reads what earlier syncs found equal again.

        Only sealed points go over, so of a run that is going on those up to its last sealing. Damage in the
        source does not stop it: the runs that need a damaged file are left out, and the report's `findings`
        say so. Raises QueryError, InvalidValue, and BackendError when a side fails (StorageFull,
        Unavailable, …): then what arrived stays, and the next call goes on.
        """
        from holdfast.ops import sync
        from holdfast.ops.sync_needs import What
        from holdfast.ops.sync_plan import plan

        self._caught_up()
        other = _opened(target)
        try:
            if other.repository.store_id == self.repository.store_id and other.url == self.url:
                raise InvalidValue(f"{self.url} cannot be synced with itself", value=self.url)
            what = What(_patterns(artifacts), metrics)
            sides = sync.sides_of(
                self.repository, other.repository, what, fork=fork, recheck=recheck
            )
            chosen = None if where is None else [run.run_id for run in self.runs(where)]
            with sync.workers(sides) as pool:
                planned = plan(sides, pool, chosen)
                if dry_run:
                    return planned
                return sync.execute(planned, pool, limit_bytes=limit_bytes, progress=progress)
        finally:
            if other is not target:
                other.close()

    def follow_to(
        self,
        target: ExperimentStore | str | os.PathLike[str],
        where: str | None = None,
        *,
        every_seconds: float = 10.0,
        **options: Any,
    ) -> Iterator[SyncReport]:
        """`sync_to` again and again, with a report each time, until none of the runs is open any more.

        Meanwhile open runs show as running in the target. An object store that does not answer is tried
        again the next time; its report says so. Raises what `sync_to` raises otherwise.
        """
        from holdfast.ops.sync import beat, unavailable

        other = _opened(target)
        try:
            while True:
                is_open = self._open_among(where)
                try:
                    report = self.sync_to(other, where, **options)
                    beat(other.repository, is_open)
                except Unavailable as error:
                    report = unavailable(self.url, other.url, error)
                yield report  # type: ignore[misc]
                if not is_open:
                    return
                time.sleep(every_seconds)
        finally:
            if other is not target:
                other.close()

    @property
    def peer(self) -> str | None:
        """The URL of the store that this one was last pushed to or synced with from this machine."""
        try:
            return _peers().get(self.repository.store_id).decode()
        except (BackendError, UnicodeDecodeError):
            return None

    @peer.setter
    def peer(self, url: str) -> None:
        place = url if "://" in url else os.path.abspath(url)
        with suppress(BackendError):  # it is a convenience
            _peers().put(self.repository.store_id, place.encode())

    def _open_among(self, where: str | None) -> dict[str, int]:
        """The runs that are being written, with the number of their newest entry."""
        found = self.runs(where)
        is_open = (run for run in found if run.status.value == "Running" and not run.crashed)
        return {run.run_id: run.generation for run in is_open}


def _peers() -> LocalBackend:
    from holdfast.repository import state_folder

    return LocalBackend(os.path.join(state_folder(), "peers"))


def _patterns(artifacts: str | Sequence[str] | None) -> tuple[str, ...]:
    if artifacts is None:
        return ()
    return (artifacts,) if isinstance(artifacts, str) else tuple(artifacts)


def _opened(target: ExperimentStore | str | os.PathLike[str]) -> ExperimentStore:
    from holdfast.store import ExperimentStore

    return target if isinstance(target, ExperimentStore) else ExperimentStore(target)
