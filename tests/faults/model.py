"""What was asked of the store and what it acknowledged: the other side of every comparison.

Each act is written down before it is tried, as one that may or may not have been; it becomes `sure` when its
call has returned. Points are recognised by their values, which are all different.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any


class Violation(AssertionError):
    """The store broke a promise."""


MOMENTS = itertools.count(1)
NEVER = 1 << 62


class Act:
    """Something that was tried; `value` is what it would leave. What has not returned may happen any time."""

    def __init__(self, value: Any, sure: bool = False) -> None:
        self.value = value
        self.begun, self.ended = next(MOMENTS), NEVER
        if sure:
            self.done()

    def done(self) -> None:
        """Its call has returned."""
        self.ended = next(MOMENTS)

    def __repr__(self) -> str:
        return f"{self.value}{'' if self.ended < NEVER else '?'}"


@dataclass
class Point:
    key: str
    step: int
    value: float
    attempt: int
    writer: str
    sure: bool = False


@dataclass
class Attempt:
    """A resumption: its number once that is known, and the step from which it supersedes earlier points."""

    number: int | None
    step: int | None
    sure: bool = False  # its first step is in force

    def may_cut(self, point: Point) -> bool:
        later = self.number is None or point.attempt < self.number
        return later and self.step is not None and self.step <= point.step

    def cuts(self, point: Point) -> bool:
        return self.sure and self.may_cut(point)


@dataclass
class RunModel:
    """One run: every point, artifact, tag and status that anybody tried to give it."""

    run_id: str
    begun: bool = False
    remote: bool = False
    points: dict[float, Point] = field(default_factory=dict)
    attempts: list[Attempt] = field(default_factory=list)
    artifacts: dict[str, list[Act]] = field(default_factory=dict)
    tags: dict[str, list[Act]] = field(default_factory=dict)
    statuses: list[Act] = field(default_factory=list)
    deleted: list[Act] = field(default_factory=list)

    def sure_points(self) -> set[float]:
        return {value for value, point in self.points.items() if point.sure}

    # Comparisons. `known` is what was sure before somebody began to read.

    def check_series(
        self, key: str, found: Iterable[tuple[int, float]], known: set[float], cuts: list[Attempt]
    ) -> None:
        rows = list(found)
        values = [value for _, value in rows]
        self._demand(len(set(values)) == len(values), f"{key}: a point comes twice", rows)
        self._demand(
            [s for s, _ in rows] == sorted(s for s, _ in rows), f"{key}: not by step", rows
        )
        for step, value in rows:
            point = self.points.get(value)
            self._demand(point is not None, f"{key}: nobody logged {value}", rows)
            if point is not None:
                self._demand((point.key, point.step) == (key, step), f"{value} is elsewhere", rows)
                cut = any(attempt.cuts(point) for attempt in cuts)
                self._demand(not cut, f"{key}: {value} was superseded", rows)
        for value in known.difference(values):
            point = self.points[value]
            if point.key == key and not any(attempt.may_cut(point) for attempt in self.attempts):
                raise Violation(
                    f"run {self.run_id}, {key}: {value} at step {point.step} is lost: {rows}"
                )
        self._check_order(rows, key)

    def _check_order(self, rows: list[tuple[int, float]], key: str) -> None:
        """Points of one step and one writer are in the order in which they were logged."""
        last: dict[tuple[int, str], float] = {}
        for step, value in rows:
            place = (step, self.points[value].writer)
            self._demand(last.get(place, -1) < value, f"{key}: {value} is out of order", rows)
            last[place] = value

    def _demand(self, holds: bool, what: str, rows: object) -> None:
        if not holds:
            raise Violation(f"run {self.run_id}, {what}: {rows}")


def is_sure(acts: list[Act], at: int = NEVER) -> bool:
    """Had any of them returned at that moment?"""
    return any(act.ended < at for act in acts)


def possible(acts: list[Act], at: int = NEVER) -> list[Any]:
    """The values that may have been the newest at that moment or since: all but those after whose end
    another act began that had returned by then."""
    newest = max((act.begun for act in acts if act.ended < at), default=0)
    return [act.value for act in acts if act.ended > newest]
