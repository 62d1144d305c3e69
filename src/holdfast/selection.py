"""Which points are wanted: what a caller may say, checked once, and the points of one step merged."""

from __future__ import annotations

import operator
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any, NoReturn

import numpy as np

from holdfast.errors import InvalidValue, MetricNotFound
from holdfast.series import Series
from holdfast.values import MAX_STEP

LEAST_POINTS = 4  # both ends, the lowest and the highest
REDUCTIONS = {"mean": np.add, "min": np.minimum, "max": np.maximum, "sum": np.add, "last": None}
Steps = slice | range | tuple[int | None, int | None] | None
_GLOB = frozenset("*?[")


@dataclass(frozen=True, slots=True)
class Selection:
    """A checked wish: the points of steps first <= step < stop, and how many of them."""

    steps: tuple[int | None, int | None] = (None, None)
    last: int | None = None
    attempt: int | None = None
    rank: int | None = None
    reduce: str | None = None
    max_points: int | None = None

    @classmethod
    def of(
        cls,
        *,
        steps: Any = None,
        last: Any = None,
        attempt: Any = None,
        rank: Any = None,
        reduce: Any = None,
        max_points: Any = None,
    ) -> Selection:
        """From what a caller passed. Raises InvalidValue."""
        if reduce is not None and reduce not in REDUCTIONS:
            _refuse("reduce", reduce, f"it is one of {', '.join(REDUCTIONS)}")
        return cls(
            _steps(steps),
            _whole(
                "last", last, 1, "pass the number of points wanted at the end, such as last=100"
            ),
            _whole("attempt", attempt, 0, "attempts are counted from 1; 0 is points without one"),
            _whole("rank", rank, 0, "ranks are whole numbers from 0"),
            reduce,
            _whole("max_points", max_points, LEAST_POINTS, f"a curve takes {LEAST_POINTS} or more"),
        )

    @property
    def ranged(self) -> bool:
        """True if not all points of the newest attempt are wanted."""
        narrow = (self.last, self.attempt, self.rank, self.reduce)
        return self.steps != (None, None) or any(value is not None for value in narrow)


def _whole(name: str, value: Any, least: int, advice: str) -> int | None:
    if value is None:
        return None
    try:
        number = operator.index(value)
    except TypeError:
        _refuse(name, value, advice)
    if isinstance(value, bool) or number < least:
        _refuse(name, value, advice)
    return number


def _steps(value: Any) -> tuple[int | None, int | None]:
    """From a slice, a range or (first, stop)."""
    form = "pass range(100, 200), slice(100, None) or (first, stop); the stop is left out"
    if value is None:
        return (None, None)
    if isinstance(value, (slice, range)):
        if value.step not in (None, 1):
            _refuse("steps", value, "it takes no stride: max_points= thins a series out")
        value = (value.start, value.stop)
    if not isinstance(value, (tuple, list)) or len(value) != 2:
        _refuse("steps", value, form)
    first, stop = (_whole("steps", end, 0, form) for end in value)
    return _open_end(first), None if stop is None or stop > MAX_STEP else stop


def _open_end(first: int | None) -> int | None:
    if first is not None and first > MAX_STEP:
        _refuse("steps", first, "the last step there can be is 2**64-1")
    return first


def _refuse(name: str, value: Any, advice: str) -> NoReturn:
    raise InvalidValue(f"{name}={value!r:.60} cannot be used: {advice}", name=name, value=value)


def matching(wanted: str | list[str], keys: list[str], place: str) -> list[str]:
    """The keys that are meant: `wanted` is a key, a glob or several of both; `place` is such as
    "run 7 has", for the message.

    A key of that very name wins over a glob. `*` matches `/` as well. Raises MetricNotFound with the
    keys that come nearest, and InvalidValue when `wanted` is not text.
    """
    advice = "pass a metric, a glob such as 'train/*', or a list of them"
    if not wanted:
        _refuse("key", wanted, advice)
    found: dict[str, None] = {}
    for word in [wanted] if isinstance(wanted, str) else wanted:
        if not isinstance(word, str):
            _refuse("key", word, advice)
        found.update(dict.fromkeys(_matches(word, keys, place)))
    return list(found)


def _matches(word: str, keys: list[str], place: str) -> list[str]:
    if word in keys:
        return [word]
    if is_glob(word):
        found = [key for key in keys if fnmatchcase(key, word)]
        if found or (word == "*" and not keys):
            return found
    raise unknown(word, keys, place)


def is_glob(word: str) -> bool:
    """True if the word is a pattern, unless there is a metric of that very name."""
    return not _GLOB.isdisjoint(word)


def unknown(word: str, keys: list[str], place: str) -> MetricNotFound:
    """The error for a metric that is not there."""
    import difflib  # late: for a mistake only

    near = difflib.get_close_matches(word, keys, 3) or keys[:5]
    hint = f"; there is {', '.join(near)}" if near else "; nothing was logged there"
    what = f"no metric that matches {word!r}" if is_glob(word) else f"no metric {word!r}"
    return MetricNotFound(f"{place} {what}{hint}", key=word)


def reduced(series: Series, how: str) -> Series:
    """One point a step, merged over the ranks that have that step.

    A rank that lacks a step does not count there, and one that logged it twice counts with what it
    logged last. NaN in one rank makes mean, sum, min and max NaN. `last` is the point logged last by
    the clock. The time of a merged point is the latest of its points.
    """
    series = _last_of_each_rank(series)
    if not len(series):
        return Series(series.key, series.steps, series.values, series.timestamps)
    starts = np.flatnonzero(np.append(True, series.steps[1:] != series.steps[:-1]))
    times = np.maximum.reduceat(series.timestamps, starts)
    merge = REDUCTIONS[how]
    if merge is None:
        by_time = np.lexsort((series.timestamps, series.steps))
        ends = np.append(starts[1:], len(series)) - 1
        values = series.values[by_time][ends]
    else:
        with np.errstate(over="ignore", invalid="ignore"):
            values = merge.reduceat(series.values, starts)
        if how == "mean":
            values = values / np.diff(starts, append=len(series))
    return Series(series.key, series.steps[starts], values, times)


def _last_of_each_rank(series: Series) -> Series:
    ranks = np.zeros(len(series), np.int32) if series.ranks is None else series.ranks
    order = np.lexsort((ranks, series.steps))
    steps, ranks = series.steps[order], ranks[order]
    again = (steps[1:] == steps[:-1]) & (ranks[1:] == ranks[:-1])
    return series.slice(np.sort(order[np.append(~again, True)[: len(order)]]))
