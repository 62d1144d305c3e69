"""Checking a store: the methods of `ExperimentStore`, and functions for a store that does not open."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from concurrent.futures import Executor
from typing import Any

from holdfast.ops.findings import Finding
from holdfast.ops.fsck import Report, Sample
from holdfast.ops.fsck import fsck as check
from holdfast.ops.lookup import find_run
from holdfast.ops.repair import Action, Repaired, execute, place_of, plan
from holdfast.ops.verify import verify
from holdfast.repository import Repository, opened_anyway

Progress = Callable[[int, int], None]  # (bytes checked, all)
_MOST_ROUNDS = 8


class CheckingMethods:
    """Mixed into ExperimentStore."""

    repository: Repository

    def verify(self, run_id: str | None = None, progress: Progress | None = None) -> list[Finding]:
        """Read every byte of a run, or of the whole store; returns what is damaged."""
        name = find_run(self.repository, run_id) if run_id else None
        return verify(self.repository, name, progress)

    def fsck(
        self,
        depth: str = "bytes",
        *,
        run_id: str | None = None,
        sample: str | None = None,
        part: int | None = None,
        executor: str | Executor | None = None,
        resume: bool = False,
        progress: Progress = lambda done, total: None,
    ) -> Report:
        """Check the store, or what one run needs, and change nothing; returns what was found.

        `depth` is `names` (is everything there?), `structure` (does it fit together?) or `bytes` (is
        every byte as it was written?). `sample="1/64"` checks the part of the day, or `part` from 0 on.
        `executor` runs it: `threads`, `processes`, `dask://host:port`, `ray://host:port`, or any
        `concurrent.futures.Executor`. With `resume` a check that was stopped goes on.

        Raises InvalidValue, RunNotFound, MissingDependency, Unavailable, AccessDenied.
        """
        name = find_run(self.repository, run_id) if run_id else None
        return check(
            self.repository,
            depth,
            run_id=name,
            sample=Sample.parse(sample, part) if sample else Sample(),
            executor=executor,
            resume=resume,
            progress=progress,
        )

    def repair(
        self,
        source: str | os.PathLike[str] | None = None,
        *,
        dry_run: bool = False,
        spools: bool = True,
        report: Report | None = None,
        executor: str | Executor | None = None,
        progress: Progress = lambda done, total: None,
        source_options: Mapping[str, Any] | None = None,
    ) -> Repaired:
        """Mend what `fsck` finds, or found (`report`): from the store at `source`, from other forms of the
        same artifacts, from the heads of chunks. With `dry_run` nothing is changed: it says what would be.

        What was damaged goes to quarantine/ and is never deleted. `spools=False` leaves alone what
        processes that are gone left behind. Without a report it checks again until a check finds nothing
        more that it could mend. Raises ReadOnly, NotAStore, Unavailable, AccessDenied.
        """
        there = place_of(opened_anyway(source, source_options)) if source is not None else None
        mended: list[Action] = []
        for _ in range(
            _MOST_ROUNDS
        ):  # what hides behind other damage comes to light with that mended
            found = report or self.fsck(executor=executor, progress=progress)
            planned = plan(self.repository, [*found.findings, *found.notes], there, spools=spools)
            if dry_run:
                return Repaired(planned.actions, planned.refused)
            done = execute(self.repository, planned, there, spools=spools, executor=executor)
            mended += done.mended
            if report or not done.mended:
                break
        return Repaired(mended, done.refused)


def repair(
    url: str | os.PathLike[str],
    source: str | os.PathLike[str] | None = None,
    *,
    dry_run: bool = False,
    spools: bool = True,
    report: Report | None = None,
    executor: str | Executor | None = None,
    progress: Progress = lambda done, total: None,
    storage_options: Mapping[str, Any] | None = None,
    source_options: Mapping[str, Any] | None = None,
) -> Repaired:
    """`ExperimentStore.repair` of the store at `url`, also of one whose store.json is damaged."""
    methods = CheckingMethods()
    methods.repository = opened_anyway(url, storage_options, read_only=dry_run)
    return methods.repair(
        source, dry_run=dry_run, spools=spools, report=report, executor=executor,
        progress=progress, source_options=source_options,
    )  # fmt: skip


def fsck(
    url: str | os.PathLike[str],
    depth: str = "bytes",
    *,
    run_id: str | None = None,
    sample: str | None = None,
    part: int | None = None,
    executor: str | Executor | None = None,
    resume: bool = False,
    progress: Progress = lambda done, total: None,
    storage_options: Mapping[str, Any] | None = None,
) -> Report:
    """`ExperimentStore.fsck` of the store at `url`, also of one whose store.json is damaged or missing.

    Raises NotAStore besides."""
    methods = CheckingMethods()
    methods.repository = opened_anyway(url, storage_options)
    return methods.fsck(
        depth, run_id=run_id, sample=sample, part=part, executor=executor, resume=resume,
        progress=progress,
    )  # fmt: skip
