"""The records of the seed schema, and their JSON, byte for byte. See docs/reference/seed-schema.md."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from enum import Enum
from typing import Any

from holdfast import wire
from holdfast.errors import InvalidState, InvalidValue
from holdfast.timestamp import Timestamp

U64 = 2**64 - 1
Time = Timestamp | datetime | str | int


class RunStatus(Enum):
    """Where a run is: Pending → Running → one of the terminal three."""

    PENDING = "Pending"
    RUNNING = "Running"
    SUCCESS = "Success"
    FAILED = "Failed"
    CANCELLED = "Cancelled"

    @property
    def terminal(self) -> bool:
        return self in (RunStatus.SUCCESS, RunStatus.FAILED, RunStatus.CANCELLED)

    def __str__(self) -> str:
        return self.value


def _u64(name: str, value: Any) -> int:
    if isinstance(value, bool) or not hasattr(type(value), "__index__"):
        raise InvalidValue(
            f"{name} is a whole number from 0 to 2**64-1, not {value!r:.60}", value=value
        )
    index = int(value.__index__())
    if not 0 <= index <= U64:
        raise InvalidValue(f"{name} is a whole number from 0 to 2**64-1, not {index}", value=index)
    return index


def _text(name: str, value: Any) -> str:
    if not isinstance(value, str):
        raise InvalidValue(f"{name} is text, not {type(value).__name__} {value!r:.60}", value=value)
    return value


def _optional(check: Callable[[str, Any], Any], name: str, value: Any) -> Any:
    return None if value is None else check(name, value)


def _time(name: str, value: Any) -> Timestamp:
    try:
        return Timestamp.from_any(value)
    except InvalidValue as error:
        raise InvalidValue(f"{name}: {error.message}", value=value) from error


def _needed(fields: dict[str, Any], kind: str, names: tuple[str, ...]) -> list[Any]:
    for name in names:
        if name not in fields:
            raise InvalidValue(f"this JSON of {kind} lacks {name!r}", kind=kind, name=name)
    return [fields[name] for name in names]


def _quoted(value: Timestamp | str | None) -> str:
    return "null" if value is None else wire.text(str(value))


@dataclass(slots=True)
class ExperimentRecord:
    """An experiment: its id, its name, when it was made, and any JSON value as its config."""

    experiment_id: str
    name: str
    created_at: Timestamp = field(default_factory=Timestamp.now, kw_only=True)
    config: Any = field(default=None, kw_only=True)

    def __post_init__(self) -> None:
        self.experiment_id = _text("experiment_id", self.experiment_id)
        self.name = _text("name", self.name)
        self.created_at = _time("created_at", self.created_at)
        wire.dump(self.config)

    def to_json(self) -> str:
        """Compact JSON, fields in wire order."""
        return (
            f'{{"experiment_id":{wire.text(self.experiment_id)},"name":{wire.text(self.name)},'
            f'"created_at":{_quoted(self.created_at)},"config":{wire.dump(self.config)}}}'
        )

    @classmethod
    def from_json(cls, line: str | bytes) -> ExperimentRecord:
        """Raises InvalidValue. Unknown keys are ignored."""
        fields = wire.load(line, "an experiment")
        names = ("experiment_id", "name", "created_at")
        experiment_id, name, created_at = _needed(fields, "an experiment", names)
        return cls(
            experiment_id, name, created_at=_text_time(created_at), config=fields.get("config")
        )


@dataclass(slots=True)
class RunRecord:
    """A run of an experiment."""

    run_id: str
    experiment_id: str
    status: RunStatus = field(default=RunStatus.PENDING, kw_only=True)
    started_at: Timestamp | None = field(default=None, kw_only=True)
    ended_at: Timestamp | None = field(default=None, kw_only=True)
    renacer_span_id: str | None = field(default=None, kw_only=True)

    def __post_init__(self) -> None:
        self.run_id = _text("run_id", self.run_id)
        self.experiment_id = _text("experiment_id", self.experiment_id)
        self.status = _status(self.status)
        self.started_at = _optional(_time, "started_at", self.started_at)
        self.ended_at = _optional(_time, "ended_at", self.ended_at)
        self.renacer_span_id = _optional(_text, "renacer_span_id", self.renacer_span_id)

    def start(self) -> None:
        """Pending to Running. Raises InvalidState from any other status."""
        if self.status is not RunStatus.PENDING:
            raise InvalidState(
                f"run {self.run_id} is {self.status}: only a Pending run can be started",
                run_id=self.run_id,
                status=self.status.value,
            )
        self.status = RunStatus.RUNNING
        self.started_at = Timestamp.now()

    def complete(self, status: RunStatus) -> None:
        """Running to a terminal status. Raises InvalidState for any other transition."""
        status = _status(status)
        if self.status is not RunStatus.RUNNING or not status.terminal:
            raise InvalidState(
                f"run {self.run_id} is {self.status} and cannot become {status}: only a Running run "
                "can become Success, Failed or Cancelled",
                run_id=self.run_id,
                status=self.status.value,
            )
        self.status = status
        self.ended_at = Timestamp.now()

    def to_json(self) -> str:
        """Compact JSON, fields in wire order."""
        return (
            f'{{"run_id":{wire.text(self.run_id)},"experiment_id":{wire.text(self.experiment_id)},'
            f'"status":"{self.status}","started_at":{_quoted(self.started_at)},'
            f'"ended_at":{_quoted(self.ended_at)},"renacer_span_id":{_quoted(self.renacer_span_id)}}}'
        )

    @classmethod
    def from_json(cls, line: str | bytes) -> RunRecord:
        """Raises InvalidValue. Unknown keys are ignored, missing optional ones are None."""
        fields = wire.load(line, "a run")
        run_id, experiment_id, status = _needed(
            fields, "a run", ("run_id", "experiment_id", "status")
        )
        started, ended = fields.get("started_at"), fields.get("ended_at")
        return cls(
            run_id,
            experiment_id,
            status=_status(status),
            started_at=None if started is None else _text_time(started),
            ended_at=None if ended is None else _text_time(ended),
            renacer_span_id=fields.get("renacer_span_id"),
        )


def _status(value: Any) -> RunStatus:
    try:
        return RunStatus(value)
    except ValueError:
        known = ", ".join(status.value for status in RunStatus)
        raise InvalidValue(f"{value!r} is no status: it is one of {known}", value=value) from None


def _text_time(value: Any) -> Timestamp:
    return Timestamp.parse(value)


@dataclass(slots=True)
class MetricRecord:
    """One point: `value` is a float64, NaN and infinities included; `step` an unsigned 64-bit int."""

    run_id: str
    key: str
    step: int
    value: float
    timestamp: Timestamp = field(default_factory=Timestamp.now, kw_only=True)

    def __post_init__(self) -> None:
        self.run_id = _text("run_id", self.run_id)
        self.key = _text("key", self.key)
        self.step = _u64("step", self.step)
        self.value = _float(self.value)
        if type(self.timestamp) is not Timestamp:
            self.timestamp = _time("timestamp", self.timestamp)

    def to_json(self) -> str:
        """Compact JSON, fields in wire order; NaN and infinities are null."""
        return (
            f'{{"run_id":{wire.text(self.run_id)},"key":{wire.text(self.key)},"step":{self.step},'
            f'"value":{wire.number(self.value)},"timestamp":{_quoted(self.timestamp)}}}'
        )

    @classmethod
    def from_json(cls, line: str | bytes) -> MetricRecord:
        """Raises InvalidValue. A value of null is NaN; unknown keys are ignored."""
        fields = wire.load(line, "a metric")
        names = ("run_id", "key", "step", "value", "timestamp")
        run_id, key, step, value, at = _needed(fields, "a metric", names)
        return cls(
            run_id, key, step, math.nan if value is None else value, timestamp=_text_time(at)
        )


def _float(value: Any) -> float:
    if type(value) is float:
        return value
    if isinstance(value, (bool, str, bytes)) or not hasattr(type(value), "__float__"):
        raise InvalidValue(
            f"value is a number, not {type(value).__name__} {value!r:.60}", value=value
        )
    try:
        return float(value)
    except (TypeError, ValueError, OverflowError) as error:
        raise InvalidValue(
            f"value {value!r:.60} is no 64-bit float: {error}", value=value
        ) from error


@dataclass(slots=True)
class ArtifactRecord:
    """A named artifact of a run. `cas_hash` is any text here: a store checks it once bytes are behind
    it."""

    run_id: str
    key: str
    cas_hash: str
    size_bytes: int
    created_at: Timestamp = field(default_factory=Timestamp.now, kw_only=True)

    def __post_init__(self) -> None:
        self.run_id = _text("run_id", self.run_id)
        self.key = _text("key", self.key)
        self.cas_hash = _text("cas_hash", self.cas_hash)
        self.size_bytes = _u64("size_bytes", self.size_bytes)
        self.created_at = _time("created_at", self.created_at)

    def to_json(self) -> str:
        """Compact JSON, fields in wire order."""
        return (
            f'{{"run_id":{wire.text(self.run_id)},"key":{wire.text(self.key)},'
            f'"cas_hash":{wire.text(self.cas_hash)},"size_bytes":{self.size_bytes},'
            f'"created_at":{_quoted(self.created_at)}}}'
        )

    @classmethod
    def from_json(cls, line: str | bytes) -> ArtifactRecord:
        """Raises InvalidValue. Unknown keys are ignored."""
        fields = wire.load(line, "an artifact")
        names = ("run_id", "key", "cas_hash", "size_bytes", "created_at")
        run_id, key, cas_hash, size_bytes, at = _needed(fields, "an artifact", names)
        return cls(run_id, key, cas_hash, size_bytes, created_at=_text_time(at))
