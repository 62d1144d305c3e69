"""What a store says of a run: read-only views of a manifest's state."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from holdfast.digest import Digest
from holdfast.format import inputs
from holdfast.records import RunStatus
from holdfast.timestamp import Timestamp


@dataclass(frozen=True, slots=True)
class MetricStats:
    """One metric of a run at a glance. `first` and `last` go by step; min, max and mean leave NaN out
    and are None when there is nothing else."""

    count: int
    nan: int
    first: float
    last: float
    min: float | None
    max: float | None
    mean: float | None
    first_step: int
    last_step: int

    @classmethod
    def from_state(cls, state: dict[str, Any]) -> MetricStats:
        """From the map in a manifest."""
        return cls(**{name: state.get(name) for name in cls.__slots__})  # type: ignore[arg-type]


class _Metrics(Mapping[str, MetricStats]):
    """The statistics by key, each made when it is asked for: lists of runs hold very many."""

    __slots__ = ("_states",)

    def __init__(self, states: dict[str, Any]) -> None:
        self._states = states

    def __getitem__(self, key: str) -> MetricStats:
        return MetricStats.from_state(self._states[key])

    def __iter__(self) -> Iterator[str]:
        return iter(self._states)

    def __len__(self) -> int:
        return len(self._states)

    def __repr__(self) -> str:
        return repr(dict(self))


@dataclass(frozen=True, slots=True)
class ArtifactInfo:
    """One artifact of a run; `kind` is file, bytes or directory."""

    key: str
    digest: Digest
    size_bytes: int
    kind: str
    created_at: Timestamp

    @classmethod
    def from_state(cls, key: str, state: dict[str, Any]) -> ArtifactInfo:
        """From the map in a manifest. Raises InvalidValue when its digest is none."""
        digest, at = Digest.parse(state["digest"]), Timestamp(state["created_at"])
        return cls(key, digest, state["size_bytes"], state["kind"], at)


@dataclass(frozen=True, slots=True)
class InputInfo:
    """One artifact that a run has read: `run_id` and `key` say which run made it, if that is known;
    `address` is what the run asked for."""

    digest: Digest
    run_id: str | None
    key: str | None
    address: str
    size_bytes: int | None
    kind: str
    used_at: Timestamp

    @classmethod
    def from_state(cls, name: str, state: dict[str, Any]) -> InputInfo:
        """From the map in a manifest. Raises InvalidValue when its digest is none."""
        run_id, key = inputs.origin(name) or (None, None)
        return cls(
            Digest.parse(state["digest"]),
            run_id,
            key,
            state.get("address", name),
            state.get("size_bytes"),
            state.get("kind", "bytes"),
            Timestamp(state["used_at"]),
        )


@dataclass(frozen=True, slots=True)
class RunSummary:
    """Everything a manifest says of a run, at one generation."""

    run_id: str
    experiment_id: str
    experiment: str
    name: str | None
    status: RunStatus
    crashed: bool
    created_at: Timestamp | None
    started_at: Timestamp | None
    ended_at: Timestamp | None
    config: dict[str, Any]
    tags: dict[str, Any]
    note: str | None
    error: dict[str, str] | None
    metrics: Mapping[str, MetricStats]
    artifacts: dict[str, ArtifactInfo]
    source: dict[str, Any]
    attempts: int
    generation: int
    deleted: bool
    ranks: tuple[int, ...] = ()  # who joined it, as in distributed training; () if nobody did
    inputs: tuple[InputInfo, ...] = ()  # what it has read, in that order

    @property
    def state(self) -> str:
        """`Crashed`, or the status as text."""
        return "Crashed" if self.crashed else self.status.value

    @property
    def duration_seconds(self) -> float | None:
        """From start to end, or to now while the run goes on; None when it never started or crashed."""
        if self.started_at is None or (self.ended_at is None and self.crashed):
            return None
        end = self.ended_at or Timestamp.now()
        return (end.ns - self.started_at.ns) / 1e9

    def value(self, name: str) -> Any:
        """What a query sees under `name`, such as `config.lr`, `metrics["train/loss"].min` or `state`.

        None when this run has nothing there; times are Timestamps, a metric alone is its last value,
        an artifact alone its digest. Raises InvalidValue when `name` is no name.
        """
        from holdfast.query_fields import field_parts  # late: few ask, and it brings a parser

        section, *rest = field_parts(name)
        if rest and section in _SECTIONS:
            return _SECTIONS[section](self, ".".join(rest))
        value = self.duration_seconds if name == "duration" else getattr(self, section, None)
        return value.value if isinstance(value, RunStatus) else value

    @classmethod
    def from_state(
        cls,
        state: dict[str, Any],
        *,
        run_id: str,
        generation: int,
        experiment_name: str | None,
        crashed: bool,
    ) -> RunSummary:
        """From a manifest's state, as `stats.with_ranks` gives it."""
        run = state.get("run", {})
        error = run.get("error")
        return cls(
            run_id=run_id,
            experiment_id=run.get("experiment_id", ""),
            experiment=experiment_name or run.get("experiment_id", ""),
            name=run.get("name"),
            status=RunStatus(run.get("status", "Pending")),
            crashed=crashed or (error or {}).get("type") == "Crashed",
            created_at=_moment(run.get("created_at")),
            started_at=_moment(run.get("started_at")),
            ended_at=_moment(run.get("ended_at")),
            config=state.get("config", {}),
            tags=state.get("tags", {}),
            note=run.get("note"),
            error=error,
            metrics=_Metrics(state.get("metrics", {})),
            artifacts=_artifacts(state.get("artifacts", {})),
            source=state.get("source", {}),
            attempts=len(state.get("attempts", {})) or 1,
            generation=generation,
            deleted="deleted_at" in run,
            ranks=tuple(sorted(map(int, state.get("ranks", {})))),
            inputs=_inputs(state.get(inputs.SECTION, {})),
        )


def _dig(values: Any, name: str) -> Any:
    """The value under a dotted name in nested dicts and lists, whose keys may hold dots themselves."""
    if isinstance(values, list):
        values = {str(index): value for index, value in enumerate(values)}
    if not isinstance(values, dict) or name in values:
        return values.get(name) if isinstance(values, dict) else None
    inner = (
        (value, name[len(key) + 1 :]) for key, value in values.items() if name.startswith(f"{key}.")
    )
    return next((found for value, rest in inner if (found := _dig(value, rest)) is not None), None)


def _of_keyed(items: Mapping[str, Any], name: str, default: str) -> Any:
    """`items[key].attribute`, where the attribute may be left out."""
    key, attribute = (name, default) if name in items else name.rpartition(".")[::2]
    value = getattr(items.get(key), attribute, None)
    return str(value) if isinstance(value, Digest) else value


_SECTIONS: dict[str, Callable[[RunSummary, str], Any]] = {
    "config": lambda run, name: _dig(run.config, name),
    "tags": lambda run, name: run.tags.get(name),
    "metrics": lambda run, name: _of_keyed(run.metrics, name, "last"),
    "artifacts": lambda run, name: _of_keyed(run.artifacts, name, "digest"),
    "source": lambda run, name: _dig(run.source, name),
    "error": lambda run, name: _dig(run.error or {}, name),
}


def _inputs(state: dict[str, Any]) -> tuple[InputInfo, ...]:
    found = (InputInfo.from_state(name, about) for name, about in state.items())
    return tuple(sorted(found, key=lambda one: (one.used_at, one.address)))


def _moment(ns: int | None) -> Timestamp | None:
    return None if ns is None else Timestamp(ns)


def _artifacts(state: dict[str, Any]) -> dict[str, ArtifactInfo]:
    """The artifacts whose bytes a store can hold; records with any other hash are the seed's affair."""
    real = {key: about for key, about in state.items() if about["kind"] != "record"}
    return {key: ArtifactInfo.from_state(key, about) for key, about in real.items()}
