"""The seed's store methods and entrenar's protocol, on both backends."""

from __future__ import annotations

import io
import json
import math
from pathlib import Path

import pytest

import holdfast
from holdfast import (
    ArtifactRecord,
    ExperimentRecord,
    MetricRecord,
    RunRecord,
    RunStatus,
    StoreStorage,
    Timestamp,
)
from holdfast.errors import ExperimentNotFound, InvalidState, InvalidValue, RunNotFound

Store = holdfast.ExperimentStore
AT = Timestamp.parse("2025-01-15T12:00:00.123456789Z")


def test_a_new_store_is_empty(store: Store) -> None:
    assert store.is_empty()
    assert (store.experiment_count(), store.run_count(), store.metric_count()) == (0, 0, 0)
    assert store.get_experiment("exp-001") is None
    assert store.get_run("run-001") is None
    assert store.get_runs_for_experiment("exp-001") == []
    assert store.get_metrics_for_run("run-001", "loss") == []
    assert store.get_artifacts_for_run("run-001") == []


def test_without_a_place_it_is_in_memory() -> None:
    with holdfast.ExperimentStore() as one, holdfast.ExperimentStore() as other:
        one.add_experiment(ExperimentRecord("exp-001", "one"))
        assert other.is_empty()


def test_experiments_and_runs_are_upserted_by_id(store: Store) -> None:
    first = ExperimentRecord("exp-001", "First", created_at=AT, config={"lr": 0.1, "n": None})
    store.add_experiment(first)
    store.add_experiment(ExperimentRecord("exp-001", "Second", created_at=AT, config=[1, None]))
    assert store.experiment_count() == 1
    found = store.get_experiment("exp-001")
    assert found is not None
    assert (found.name, found.config, found.created_at) == ("Second", [1, None], AT)
    run = RunRecord("run-001", "exp-404")
    store.add_run(run)  # the parent need not exist
    run.start()
    assert store.get_run("run-001").status is RunStatus.PENDING  # type: ignore[union-attr]
    store.add_run(run)
    assert store.get_run("run-001") == run
    assert store.run_count() == 1


def test_runs_of_an_experiment_come_in_the_order_they_were_added(store: Store) -> None:
    for name in ("run-b", "run-a", "run-c"):
        store.add_run(RunRecord(name, "exp-001", renacer_span_id="span"))
    store.add_run(RunRecord("run-x", "exp-002"))
    assert [r.run_id for r in store.get_runs_for_experiment("exp-001")] == [
        "run-b",
        "run-a",
        "run-c",
    ]


def test_metrics_are_appended_in_step_order_and_never_deduplicated(store: Store) -> None:
    for step, value in [(2, 0.2), (1, 0.1), (2, 0.3), (2, 0.2), (0, math.nan)]:
        store.add_metric(MetricRecord("unknown-run", "loss", step, value, timestamp=AT))
    found = store.get_metrics_for_run("unknown-run", "loss")
    assert [m.step for m in found] == [0, 1, 2, 2, 2]
    assert [m.value for m in found[1:]] == [0.1, 0.2, 0.3, 0.2]
    assert math.isnan(found[0].value)
    assert {m.timestamp for m in found} == {AT}
    assert store.metric_count() == 5
    assert store.run_count() == 0
    assert store.get_run("unknown-run") is None
    assert store.get_metrics_for_run("unknown-run", "acc") == []
    assert not store.is_empty()


def test_artifact_records_take_any_hash_and_keep_it(store: Store) -> None:
    record = ArtifactRecord("run-001", "model.pt", "sha256:abc123", 2**40, created_at=AT)
    store.add_artifact(record)
    assert store.get_artifacts_for_run("run-001") == [record]
    store.add_run(RunRecord("run-001", "exp-001"))
    assert store.get_artifacts_for_run("run-001") == [record]


def test_everything_is_there_after_reopening(tmp_path: Path) -> None:
    with holdfast.open(tmp_path / "lab") as store:
        store.add_experiment(ExperimentRecord("exp-001", "E", created_at=AT))
        run = RunRecord("run-001", "exp-001", renacer_span_id="span-abc-123")
        run.start()
        store.add_run(run)
        for step in range(100):
            store.add_metric(MetricRecord("run-001", "loss", step, 1.0 / (step + 1), timestamp=AT))
    with holdfast.open(tmp_path / "lab") as store:
        assert store.get_run("run-001") == run
        assert store.metric_count() == 100
        assert store.get_metrics_for_run("run-001", "loss")[99].value == 0.01


def test_points_of_many_runs_do_not_hold_many_files_open(store: Store) -> None:
    for number in range(200):
        store.add_metric(MetricRecord(f"run-{number:03d}", "x", 0, number, timestamp=AT))
    assert len(store._writers) <= 64
    assert store.metric_count() == 200
    assert store.get_metrics_for_run("run-000", "x")[0].value == 0.0


@pytest.mark.parametrize("bad", ["", "../x", "a/b", "con", ".hidden", "x" * 200])
def test_ids_are_checked_at_the_door(store: Store, bad: str) -> None:
    with pytest.raises(InvalidValue):
        store.add_experiment(ExperimentRecord(bad, "E"))
    with pytest.raises(InvalidValue):
        store.add_run(RunRecord(bad, "exp-001"))
    with pytest.raises(InvalidValue):
        store.add_metric(MetricRecord(bad, "loss", 0, 1.0))
    assert store.is_empty()


def test_export_is_the_seeds_json(store: Store) -> None:
    store.add_experiment(ExperimentRecord("exp-001", "E", created_at=AT))
    store.add_run(RunRecord("run-001", "exp-001"))
    store.add_metric(MetricRecord("run-001", "accuracy", 100, 0.95, timestamp=AT))
    store.add_artifact(ArtifactRecord("run-001", "m", "sha256:" + 64 * "0", 3, created_at=AT))
    out = io.StringIO()
    store.export_json(out)
    lines = [json.loads(line) for line in out.getvalue().splitlines()]
    assert [next(iter(line)) for line in lines] == ["experiment", "run", "metric", "artifact"]
    assert '"timestamp":"2025-01-15T12:00:00.123456789Z"' in out.getvalue()
    assert MetricRecord.from_json(json.dumps(lines[2]["metric"])).value == 0.95


def test_entrenars_storage_keeps_what_others_lose(store: Store) -> None:
    storage: holdfast.ExperimentStorage = StoreStorage(store)
    one = storage.create_experiment("resnet", {"lr": 0.1})
    assert storage.create_experiment("resnet") != one
    run_id = storage.create_run(one)
    assert storage.get_run_status(run_id) is RunStatus.PENDING
    storage.set_span_id(run_id, "span-1")
    storage.start_run(run_id)
    started = store.get_run(run_id).started_at  # type: ignore[union-attr]
    storage.log_metric(run_id, "loss", 1, 0.5)
    storage.log_metric(run_id, "loss", 0, 0.7)
    assert [(p.step, p.value) for p in storage.get_metrics(run_id, "loss")] == [(0, 0.7), (1, 0.5)]
    digest = storage.log_artifact(run_id, "model.pt", b"weights")
    assert digest.startswith("sha256:")
    assert len(digest) == 71
    assert store.read_artifact(digest) == b"weights"
    storage.complete_run(run_id, RunStatus.SUCCESS)
    assert storage.get_span_id(run_id) == "span-1"
    assert store.get_run(run_id).started_at == started  # type: ignore[union-attr]
    with pytest.raises(InvalidState):
        storage.start_run(run_id)
    with pytest.raises(InvalidState):
        storage.complete_run(run_id, RunStatus.FAILED)
    with pytest.raises(RunNotFound):
        storage.log_metric("no-run", "loss", 0, 1.0)
    with pytest.raises(ExperimentNotFound):
        storage.create_run("no-experiment")


def test_export_leaves_out_no_point_of_a_run_that_was_never_added() -> None:
    store = holdfast.ExperimentStore()
    store.add_metric(MetricRecord("unknown", "loss", 1, 0.5))
    out = io.StringIO()
    store.export_json(out)
    assert out.getvalue().startswith('{"metric":{"run_id":"unknown"')
