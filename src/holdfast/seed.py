"""The methods of the seed's `ExperimentStore`, over the same chains and segments as everything else.

What they promise is the schema of trueno-db's `experiment` module: upserts by id, parents that need
not exist, metrics appended and never deduplicated. See docs/reference/seed-schema.md.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import IO, TYPE_CHECKING, Any

from holdfast.errors import InvalidValue
from holdfast.format import layout
from holdfast.names import check_id, check_key
from holdfast.ops import runs
from holdfast.records import ArtifactRecord, ExperimentRecord, MetricRecord, RunRecord
from holdfast.timestamp import Timestamp
from holdfast.writer import RunWriter

if TYPE_CHECKING:
    from holdfast.keeper import Keeper
    from holdfast.repository import Repository
    from holdfast.run import Run

_MOST_WRITERS = 64  # spools kept open for add_metric; the one used longest ago is sealed first


class SeedMethods:
    """Mixed into ExperimentStore."""

    repository: Repository
    keeper: Keeper
    _open_runs: dict[str, Run]
    _writers: dict[str, RunWriter]

    def is_empty(self) -> bool:
        """True if there is no experiment, no run and no metric."""
        folders = self.repository.backend.folders
        return not folders(layout.EXPERIMENTS) and not folders(layout.RUNS)

    def experiment_count(self) -> int:
        return len(self.repository.backend.folders(layout.EXPERIMENTS))

    def run_count(self) -> int:
        """Runs that were added; one that is known by its metrics alone does not count."""
        return sum(1 for _ in self._run_records())

    def metric_count(self) -> int:
        """Every point ever added, duplicates included."""
        return runs.point_count(self.repository)

    def add_experiment(self, record: ExperimentRecord) -> None:
        """Add an experiment, or replace the one with its id."""
        check_id("experiment id", record.experiment_id)
        runs.put_experiment(self.repository, record)

    def get_experiment(self, experiment_id: str) -> ExperimentRecord | None:
        """The experiment, or None."""
        check_id("experiment id", experiment_id)
        return runs.experiment_of(self.repository.experiment(experiment_id).load().state)

    def add_run(self, record: RunRecord) -> None:
        """Add a run, or replace the seed's fields of the one with its id."""
        check_id("run id", record.run_id)
        check_id("experiment id", record.experiment_id)
        runs.put_run(self.repository, record)

    def get_run(self, run_id: str) -> RunRecord | None:
        """The run, or None."""
        check_id("run id", run_id)
        return runs.run_of(self.repository.manifest(run_id).load().state)

    def get_runs_for_experiment(self, experiment_id: str) -> list[RunRecord]:
        """Its runs in the order they were added; empty when it is unknown."""
        return [record for record in self._run_records() if record.experiment_id == experiment_id]

    def _run_records(self) -> Iterator[RunRecord]:
        states = (
            self.repository.manifest(run_id).load().state
            for run_id in self.repository.backend.folders(layout.RUNS)
        )
        known = [state for state in states if "experiment_id" in state.get("run", {})]
        known.sort(key=lambda state: (state["run"]["created_at"], state["run"]["run_id"]))
        return (record for state in known if (record := runs.run_of(state)))

    def add_metric(self, record: MetricRecord) -> None:
        """Append a point; the run need not exist, and nothing is ever deduplicated."""
        check_id("run id", record.run_id)
        at = record.timestamp.ns
        if not -(2**63) <= at < 2**63:
            raise InvalidValue(f"timestamp {record.timestamp} is outside the years 1677 to 2262")
        self._writer_of(record.run_id).log({record.key: record.value}, record.step, at)

    def _writer_of(self, run_id: str) -> RunWriter:
        if run_id in self._open_runs:
            return self._open_runs[run_id]._writer
        writer = self._writers.pop(run_id, None)
        if writer is None or writer.closed:
            writer = RunWriter(self.repository, self.keeper, run_id, attempt=0)
        self._writers[run_id] = writer  # last in, so the first one is the one used longest ago
        if len(self._writers) > _MOST_WRITERS:
            self._writers.pop(next(iter(self._writers))).seal(go_on=False)
        return writer

    def get_metrics_for_run(self, run_id: str, key: str) -> list[MetricRecord]:
        """The points of one metric by step, equal steps as added; empty when unknown."""
        check_id("run id", run_id)
        series = runs.points(self.repository, run_id).series(key)
        columns = (series.steps.tolist(), series.values.tolist(), series.timestamps.tolist())
        return [
            MetricRecord(run_id, key, step, value, timestamp=Timestamp(at))
            for step, value, at in zip(*columns, strict=True)
        ]

    def add_artifact(self, record: ArtifactRecord) -> None:
        """Add a record whose bytes, if there are any, lie elsewhere; one key keeps the newest."""
        check_id("run id", record.run_id)
        about = {
            "digest": record.cas_hash,
            "size_bytes": record.size_bytes,
            "kind": "record",
            "created_at": record.created_at.ns,
        }
        chain = self.repository.manifest(record.run_id)
        base = chain.load()
        if base.number < 0:  # generation 0 holds no references
            base = chain.commit(base, lambda state: {"run": {"run_id": record.run_id}})
        chain.commit(base, lambda state: {"artifacts": {check_key("artifact", record.key): about}})

    def get_artifacts_for_run(self, run_id: str) -> list[ArtifactRecord]:
        """The artifacts of a run, oldest first; empty when it is unknown."""
        check_id("run id", run_id)
        found = self.repository.manifest(run_id).load().state.get("artifacts", {})
        pairs = sorted(found.items(), key=lambda pair: (pair[1]["created_at"], pair[0]))
        return [
            ArtifactRecord(
                run_id,
                key,
                about["digest"],
                about["size_bytes"],
                created_at=Timestamp(about["created_at"]),
            )
            for key, about in pairs
        ]

    def export_json(
        self, out: IO[str], progress: Callable[[int, int], None] = lambda done, total: None
    ) -> None:
        """Everything in the seed's JSON, one line each: `{"experiment": {...}}`, then run, metric,
        artifact."""
        for experiment in runs.experiments(self.repository):
            _line(out, "experiment", experiment)
        for run in self._run_records():
            _line(out, "run", run)
        everything = self.repository.backend.folders(layout.RUNS)  # also runs never added
        for number, run_id in enumerate(everything):
            progress(number, len(everything))
            for key in runs.points(self.repository, run_id).keys():
                for metric in self.get_metrics_for_run(run_id, key):
                    _line(out, "metric", metric)
            for artifact in self.get_artifacts_for_run(run_id):
                _line(out, "artifact", artifact)


def _line(out: IO[str], kind: str, record: Any) -> None:
    out.write(f"{{{json.dumps(kind)}:{record.to_json()}}}\n")
