"""The methods of `ExperimentStore` that read metrics for people and for tools."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, overload

from holdfast.ops import metrics

if TYPE_CHECKING:
    from holdfast.repository import Repository
    from holdfast.selection import Steps
    from holdfast.series import Series
    from holdfast.summary import RunSummary
    from holdfast.together import Aligned, On, SeriesMap

Reduce = Literal["mean", "min", "max", "sum", "last"]


class ReadingMethods:
    """Mixed into ExperimentStore."""

    repository: Repository
    runs: Callable[..., list[RunSummary]]

    @overload
    def metrics(
        self,
        run: str | RunSummary,
        key: str = ...,
        *,
        on: None = None,
        steps: Steps = None,
        last: int | None = None,
        attempt: int | None = None,
        rank: int | None = None,
        reduce: Reduce | None = None,
        max_points: int | None = None,
    ) -> Series | Any: ...  # a SeriesMap when the key is a glob, which no type can tell

    @overload
    def metrics(
        self,
        run: str | RunSummary,
        key: list[str],
        *,
        on: None = None,
        steps: Steps = None,
        last: int | None = None,
        attempt: int | None = None,
        rank: int | None = None,
        reduce: Reduce | None = None,
        max_points: int | None = None,
    ) -> SeriesMap: ...

    @overload
    def metrics(
        self,
        run: str | RunSummary,
        key: str | list[str] = ...,
        *,
        on: On,
        steps: Steps = None,
        last: int | None = None,
        attempt: int | None = None,
        rank: int | None = None,
        reduce: Reduce | None = None,
        max_points: int | None = None,
    ) -> Aligned: ...

    @overload
    def metrics(
        self,
        run: list[str] | list[RunSummary],
        key: str | list[str] = ...,
        *,
        on: On | None = None,
        steps: Steps = None,
        last: int | None = None,
        attempt: int | None = None,
        rank: int | None = None,
        reduce: Reduce | None = None,
        max_points: int | None = None,
    ) -> Aligned: ...

    def metrics(self, run: Any, key: Any = "*", *, on: Any = None, **selection: Any) -> Any:
        """The points of metrics, in step order: of one run a Series, or by key; of several, aligned.

        One run and the name of a metric give a `Series`. A glob (`*`, which matches `/` too, `?`,
        `[…]`) or a list of names gives a `SeriesMap`; a metric of exactly that name comes before a
        glob. A list of runs, or `on`, gives an `Aligned`: the series side by side over one x axis,
        which is the step, the time, or (`relative`) seconds since each run started.

        `steps` is a range, slice or (first, stop); `last` the number of points at the end; `attempt`
        the run as it stood at the end of that attempt; `rank` the points of one process. `reduce`
        (mean, min, max, sum or last) merges the ranks at equal steps, over those that have the step.
        `max_points` (4 or more) gives a curve that looks the same with no more points than that.

        Raises RunNotFound, MetricNotFound, InvalidValue, Corrupt.
        """
        from holdfast.selection import Selection

        return metrics.metrics(self.repository, run, key, on, Selection.of(**selection))

    def export_parquet(
        self,
        directory: str | os.PathLike[str],
        *,
        where: str | None = None,
        progress: Callable[[int, int], None] = lambda done, total: None,
    ) -> list[Path]:
        """Write the runs that match (all, without `where`) as Parquet files; returns their paths.

        The files are runs, config, tags, metrics and artifacts, `.parquet` each. Memory does not grow
        with the number of points. Each file gets its name when it is whole. Raises Exists when one
        of them is there, QueryError, Corrupt, and MissingDependency without pyarrow.
        """
        from holdfast.ops.parquet import export, without_record

        found, further = self.runs(where), []
        if where is None:
            every = self.runs(deleted=True)
            further = without_record(self.repository, [run.run_id for run in every])
        return export(self.repository, found, further, Path(directory), progress)
