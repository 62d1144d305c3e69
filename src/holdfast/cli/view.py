"""What `holdfast watch` shows of a run: the lines of one frame, for a terminal of any size."""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from holdfast.cli.plot import sparkline
from holdfast.cli.table import duration, fit, number, width_of

if TYPE_CHECKING:
    from holdfast import MetricStats, TailRecord

KEPT = 2_000  # points of a metric that are kept for its curve
FEWEST = 24  # a curve goes further back than CURVE_SECONDS for so many points
CURVE_SECONDS = 300
RATE_SECONDS = 60
_NAME, _NUMBER, _CURVE = 10, 12, 8  # the narrowest that a column may be
_COLUMNS = ("last", "min", "max", "points/s")  # the rightmost goes first where there is no room
_DIGITS = re.compile(r"([0-9]{1,18})")
_COLOURS = {"Running": 32, "Success": 32, "Failed": 31, "Crashed": 31, "Cancelled": 33}


@dataclass(slots=True)
class Metric:
    """One line: statistics of all points, and the newest (time in ns, step, value)."""

    last: float | None = None
    min: float | None = None
    max: float | None = None
    points: deque[tuple[int, int, float]] = field(default_factory=lambda: deque(maxlen=KEPT))

    def add(self, value: float) -> None:
        self.last = value
        if value == value:
            self.min = value if self.min is None else min(self.min, value)
            self.max = value if self.max is None else max(self.max, value)

    def rate(self, now: int) -> float:
        """Points a second over the last RATE_SECONDS before `now`, or since the first one known."""
        times = [at for at, _, _ in self.points if now - at <= RATE_SECONDS * 10**9]
        if len(times) < 2 or max(times) <= min(times):
            return 0.0
        return (len(times) - 1) / ((max(times) - min(times)) / 1e9)

    def curve(self, now: int, width: int) -> str:
        recent = sum(now - at <= CURVE_SECONDS * 10**9 for at, _, _ in self.points)
        kept = list(self.points)[-max(recent, FEWEST) :]
        return sparkline((value for _, _, value in kept), width)


@dataclass(frozen=True, slots=True)
class Head:
    """What stands above the metrics; ages in seconds, None where unknown."""

    title: str
    state: str
    elapsed: float | None
    heard: float | None  # since the writer's last sign of life


class View:
    """Fed with records, it knows every metric and draws as many as fit."""

    def __init__(self) -> None:
        self.metrics: dict[str, Metric] = {}
        self.step: int | None = None
        self.attempt = 0
        self.newest = 0  # the time of the newest record, in ns
        self.records = 0
        self._sorted: list[str] = []
        self._times: deque[int] = deque(maxlen=KEPT)

    def seed(self, stats: Mapping[str, MetricStats]) -> None:
        """Begin with what the manifest says; points that are known besides are added to it."""
        known, self.metrics, self._sorted = self.metrics, {}, []
        for key, of in stats.items():
            self.metrics[key] = Metric(of.last, of.min, of.max)
        for key, metric in known.items():
            mine = self.metrics.setdefault(key, Metric())
            mine.points = metric.points
            for _, _, value in metric.points:
                mine.add(value)

    def feed(self, records: Iterable[TailRecord]) -> None:
        for record in records:
            if record.attempt > self.attempt:
                self._rewind(record.step)
            self.attempt = max(self.attempt, record.attempt)
            self.step, at = record.step, record.timestamp
            self.records += 1
            self.newest = max(self.newest, at)
            self._times.append(at)
            for key, value in record.metrics.items():
                metric = self.metrics.setdefault(key, Metric())
                metric.add(value)
                metric.points.append((at, record.step, value))

    def _rewind(self, step: int) -> None:
        """A new attempt goes on from `step`: what was logged from there on is superseded."""
        for metric in self.metrics.values():
            kept = [point for point in metric.points if point[1] < step]
            metric.points = deque(kept, maxlen=KEPT)

    # Drawing.

    def frame(
        self, head: Head, now: int, width: int, height: int | None = None, *, colour: bool = False
    ) -> list[str]:
        """The lines, none wider than `width`, no more than `height`; `now` in ns."""
        status = self._status(head, now, width)
        if height is not None:
            status = status[: max(1, height // 5)]
        lines = [head.title, *status, ""]
        keys = self._keys()
        room = len(keys) if height is None else max(0, height - len(lines) - 1)
        shown = keys if len(keys) <= room else keys[: max(0, room - 1)]
        lines += self._table(shown, width) if keys else ["nothing was logged yet"]
        if len(shown) < len(keys):
            left = len(keys) - len(shown)
            lines.append(f"… and {left:,} more {_plural(left)}: -k PATTERN chooses")
        fitting = [fit(line, width) for line in lines[:height]]
        return _painted(fitting, head.state) if colour else fitting

    def _keys(self) -> list[str]:
        """All metrics in the order of a person: layer/2 before layer/10, those of the system last."""
        if len(self._sorted) != len(self.metrics):
            self._sorted = sorted(self.metrics, key=_natural)
        return self._sorted

    def _status(self, head: Head, now: int, width: int) -> list[str]:
        parts = [f"elapsed {duration(head.elapsed)}"]
        if self.step is not None:
            parts.append(f"step {self.step:,}")
            parts.append(f"{self._rate():.3g} records/s")
        if head.state == "Running":
            if self.newest:
                parts.append(f"last record {_age((now - self.newest) / 1e9)}")
            parts.append(f"heartbeat {_age(head.heard)}")
        return _wrapped([head.state, *parts], width)

    def _rate(self) -> float:
        """Records a second, as `Metric.rate`."""
        return Metric(points=deque((at, 0, 0.0) for at in self._times)).rate(self.newest)

    def _table(self, keys: list[str], width: int) -> Iterator[str]:
        """One line a metric; columns are of fixed width, so that nothing moves between frames."""
        columns = [*_COLUMNS]
        while len(columns) > 1 and width < _NAME + (_NUMBER + 2) * len(columns) + _CURVE + 2:
            columns.pop()
        left = width - (_NUMBER + 2) * len(columns)
        longest = max([len("metric"), *map(width_of, keys)])
        name = min(longest, left - _CURVE - 2)
        curve = left - name - 2
        if name < min(longest, _NAME):
            name, curve = max(1, min(longest, left)), 0
        heads = "".join(f"  {column:>{_NUMBER}}" for column in columns)
        yield _padded("metric", name) + heads + ("  curve" if curve else "")
        for key in keys:
            metric = self.metrics[key]
            values = {
                "last": number(metric.last),
                "min": number(metric.min),
                "max": number(metric.max),
                "points/s": f"{metric.rate(self.newest):.3g}",
            }
            cells = "".join(f"  {values[column]:>{_NUMBER}}" for column in columns)
            drawn = f"  {metric.curve(self.newest, curve)}" if curve else ""
            yield (_padded(key, name) + cells + drawn).rstrip()


def _natural(key: str) -> tuple[bool, list[tuple[int, str]]]:
    parts = _DIGITS.split(key)
    return key.startswith("system/"), [
        (int(part), "") if place % 2 else (0, part) for place, part in enumerate(parts)
    ]


def _padded(text: str, width: int) -> str:
    clean = fit("".join(char if char.isprintable() else " " for char in text), width)
    return clean + " " * (width - width_of(clean))


def _painted(lines: list[str], state: str) -> list[str]:
    """The state in its colour, if the second line still begins with it."""
    return [
        line.replace(state, f"\x1b[1;{_COLOURS.get(state, 33)}m{state}\x1b[0m", 1)
        if place == 1 and line.startswith(state)
        else line
        for place, line in enumerate(lines)
    ]


def _wrapped(parts: list[str], width: int) -> list[str]:
    """The parts on one line, or on as many as it takes."""
    lines = parts[:1]
    for part in parts[1:]:
        if width_of(lines[-1]) + 3 + width_of(part) <= width:
            lines[-1] += f"   {part}"
        else:
            lines.append(part)
    return lines


def _age(seconds: float | None) -> str:
    return "-" if seconds is None else f"{duration(max(0.0, seconds))} ago"


def _plural(count: int) -> str:
    return "metric" if count == 1 else "metrics"
