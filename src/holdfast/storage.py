"""entrenar's `ExperimentStorage`, as a Protocol and as one implementation over any store.

See docs/reference/seed-schema.md for what its other backends lose and this one keeps.
"""

from __future__ import annotations

from typing import Any, NamedTuple, Protocol

from holdfast import ids
from holdfast.digest import Digest
from holdfast.errors import ExperimentNotFound, RunNotFound
from holdfast.records import ExperimentRecord, MetricRecord, RunRecord, RunStatus
from holdfast.store import ExperimentStore
from holdfast.timestamp import Timestamp


class MetricPoint(NamedTuple):
    """One value of one metric."""

    step: int
    value: float
    timestamp: Timestamp


class ExperimentStorage(Protocol):
    """What entrenar asks of a backend."""

    def create_experiment(self, name: str, config: Any = None) -> str: ...
    def create_run(self, experiment_id: str) -> str: ...
    def start_run(self, run_id: str) -> None: ...
    def complete_run(self, run_id: str, status: RunStatus) -> None: ...
    def log_metric(self, run_id: str, key: str, step: int, value: float) -> None: ...
    def log_artifact(self, run_id: str, key: str, data: bytes) -> str: ...
    def get_metrics(self, run_id: str, key: str) -> list[MetricPoint]: ...
    def get_run_status(self, run_id: str) -> RunStatus: ...
    def set_span_id(self, run_id: str, span_id: str) -> None: ...
    def get_span_id(self, run_id: str) -> str | None: ...


class StoreStorage:
    """`ExperimentStorage` over an ExperimentStore.

    Every method raises RunNotFound or ExperimentNotFound for an unknown id, InvalidState for a
    transition that is not allowed, and BackendError when the store fails.
    """

    def __init__(self, store: ExperimentStore) -> None:
        self.store = store

    def create_experiment(self, name: str, config: Any = None) -> str:
        """A new experiment, also when the name is taken; returns its id."""
        record = ExperimentRecord(ids.new_experiment_id(name), name, config=config)
        self.store.add_experiment(record)
        return record.experiment_id

    def create_run(self, experiment_id: str) -> str:
        """A new run, Pending; returns its id."""
        if self.store.get_experiment(experiment_id) is None:
            raise ExperimentNotFound(
                f"there is no experiment {experiment_id!r}: create_experiment makes one",
                experiment_id=experiment_id,
            )
        record = RunRecord(ids.new_run_id(), experiment_id)
        self.store.add_run(record)
        return record.run_id

    def start_run(self, run_id: str) -> None:
        """Pending to Running."""
        record = self._run(run_id)
        record.start()
        self.store.add_run(record)

    def complete_run(self, run_id: str, status: RunStatus) -> None:
        """Running to a terminal status."""
        record = self._run(run_id)
        record.complete(status)
        self.store.add_run(record)

    def log_metric(self, run_id: str, key: str, step: int, value: float) -> None:
        """Append a point."""
        self._run(run_id)
        self.store.add_metric(MetricRecord(run_id, key, step, value))

    def log_artifact(self, run_id: str, key: str, data: bytes) -> str:
        """Store bytes; returns `sha256:<64 hex>`."""
        self._run(run_id)
        return str(self.store.add_artifact_file(run_id, data, key).digest)

    def read_artifact(self, digest: str) -> bytes:
        """The bytes behind what `log_artifact` returned, verified."""
        return self.store.read_artifact(str(Digest.parse(digest)))

    def get_metrics(self, run_id: str, key: str) -> list[MetricPoint]:
        """The points by step; empty for an unknown key."""
        self._run(run_id)
        found = self.store.get_metrics_for_run(run_id, key)
        return [MetricPoint(record.step, record.value, record.timestamp) for record in found]

    def get_run_status(self, run_id: str) -> RunStatus:
        return self._run(run_id).status

    def set_span_id(self, run_id: str, span_id: str) -> None:
        """Kept through start and complete."""
        record = self._run(run_id)
        record.renacer_span_id = span_id
        self.store.add_run(record)

    def get_span_id(self, run_id: str) -> str | None:
        return self._run(run_id).renacer_span_id

    def _run(self, run_id: str) -> RunRecord:
        record = self.store.get_run(run_id)
        if record is None:
            raise RunNotFound(f"there is no run {run_id!r} in the store", run_id=run_id)
        return record
