"""Reading metrics as people ask for them: one series, a mapping of several, or several runs aligned."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, get_args

from holdfast.downsample import downsample
from holdfast.errors import InvalidValue
from holdfast.format.overview import MOST_POINTS
from holdfast.names import check_id
from holdfast.ops.lookup import find_run
from holdfast.ops.runs import points
from holdfast.repository import Repository
from holdfast.selection import Selection, matching, reduced
from holdfast.series import RunPoints, Series
from holdfast.together import Aligned, Curve, On, SeriesMap, align


def metrics(
    repository: Repository, run: Any, key: Any, on: Any, selection: Selection
) -> Series | SeriesMap | Aligned:
    """What `store.metrics` gives. Raises RunNotFound, MetricNotFound, InvalidValue, Corrupt."""
    if on is not None and on not in get_args(On):
        raise InvalidValue(f"on={on!r} cannot be used: it is one of {', '.join(get_args(On))}")
    if not isinstance(key, str):
        key = list(key) if isinstance(key, Iterable) else [key]
    if _is_one(run):
        return _of_one(_points(repository, run), key, on, selection)
    if not isinstance(run, Iterable):
        raise InvalidValue(
            f"run={run!r:.60} cannot be used: pass a run id, a run, or a list of them"
        )
    every = {found.run_id: found for found in (_points(repository, one) for one in run)}
    if not every:
        raise InvalidValue("the list of runs is empty: name at least one")
    return _of_several(list(every.values()), key, on or "step", selection)


def _is_one(run: Any) -> bool:
    return isinstance(run, str) or hasattr(run, "run_id")


def _points(repository: Repository, run: Any) -> RunPoints:
    """The points of a run. A whole id is not looked up first: in a bucket that is a request."""
    text = check_id("run id", _id(run))
    found = points(repository, text)
    return found if found.snapshot.number >= 0 else points(repository, find_run(repository, text))


def _id(run: Any) -> str:
    found: str = getattr(run, "run_id", run)
    return found


def _of_one(
    found: RunPoints, key: Any, on: On | None, selection: Selection
) -> Series | SeriesMap | Aligned:
    keys = found.keys()
    wanted = matching(key, keys, f"run {found.run_id} has")
    if on is not None:
        curves = {one.key: _curve(found, one) for one in _read(found, wanted, selection, on)}
        return align(curves, on, selection.max_points)
    series = _read(found, wanted, selection)
    return series[0] if isinstance(key, str) and key in keys else SeriesMap(series)


def _of_several(every: list[RunPoints], key: Any, on: On, selection: Selection) -> Aligned:
    """A run that has none of the metrics has no column of its own, unless one metric is asked for:
    its column is then empty, since the caller named the run."""
    every_key = sorted({name for found in every for name in found.keys()})
    wanted = matching(key, every_key, _named(every))
    lone = isinstance(key, str) and wanted == [key]
    curves = {}
    for found in every:
        there = wanted if lone else [name for name in wanted if name in set(found.keys())]
        for series in _read(found, there, selection, on):
            name = found.run_id if lone else f"{found.run_id}:{series.key}"
            curves[name] = _curve(found, series)
    return align(curves, on, selection.max_points)


def _named(every: list[RunPoints]) -> str:
    return f"run {every[0].run_id} has" if len(every) == 1 else f"the {len(every)} runs have"


def _curve(found: RunPoints, series: Series) -> Curve:
    run = found.snapshot.state.get("run", {})
    begun = run.get("started_at") or run.get("created_at")
    if begun is None:  # known by its points alone
        begun = int(series.timestamps.min()) if len(series) else 0
    return Curve(series, begun)


def _read(
    found: RunPoints, keys: list[str], selection: Selection, on: On | None = None
) -> list[Series]:
    """The series of each key as selected; thinned out, unless they are going to be aligned."""
    _check_attempt(found, selection.attempt)
    if on is not None or selection.max_points is None:
        return [_selected(found, key, selection) for key in keys]
    most = selection.max_points
    ready = {} if selection.ranged else _overview(found, keys, most)
    whole = (ready.get(key) or _selected(found, key, selection) for key in keys)
    return [downsample(series, most) for series in whole]


def _overview(found: RunPoints, keys: list[str], most: int) -> dict[str, Series]:
    """What segments keep for charts, where it holds as many points as are asked for: one read for all
    metrics, and no block of points."""
    if most > MOST_POINTS:
        return {}
    known = found.snapshot.state.get("metrics", {})
    count = {key: known.get(key, {}).get("count", most) for key in keys}
    held = found.overview(keys) or {}
    return {key: one for key, one in held.items() if len(one) >= min(most, count[key])}


def _selected(found: RunPoints, key: str, selection: Selection) -> Series:
    steps, last, how = selection.steps, selection.last, selection.reduce
    narrow: dict[str, Any] = {"attempt": selection.attempt, "rank": selection.rank}
    if how is None:
        return found.series(key, steps=steps, last=last, **narrow)
    whole = reduced(found.series(key, steps=steps, **narrow), how)
    return whole if last is None else whole.slice(slice(max(0, len(whole) - last), None))


def _check_attempt(found: RunPoints, attempt: int | None) -> None:
    known = {int(number) for number in found.snapshot.state.get("attempts", {})}
    if attempt and attempt not in known:
        there = ", ".join(map(str, sorted(known))) or "none"
        raise InvalidValue(
            f"attempt={attempt} cannot be used: run {found.run_id} has attempts {there}",
            run_id=found.run_id,
            attempt=attempt,
        )
