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
from holdfast.ops.verify import verify
from holdfast.repository import Repository, opened_anyway

Progress = Callable[[int, int], None]


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
