"""A store as Parquet files: the same facts in DuckDB, polars and pandas, and never half a file."""

from __future__ import annotations

import math
import sys
from dataclasses import replace
from pathlib import Path

import duckdb
import numpy as np
import pandas
import polars
import pyarrow.parquet as pq
import pytest

import holdfast
from holdfast.backend.wrap import WatchedBackend
from holdfast.errors import BackendError, Corrupt, Exists, MissingDependency, QueryError
from holdfast.ops import parquet

Store = holdfast.ExperimentStore
NAMES = [f"{name}.parquet" for name in ("runs", "config", "tags", "metrics", "artifacts")]


def filled(store: Store) -> None:
    """Three runs, one of them failed and one still open, and a run that is known by a point alone."""
    config = {"lr": 0.1, "optim": {"name": "adam", "betas": [0.9, 0.99]}, "amp": True, "seed": 7}
    with store.start_run("exp", run_id="b", config=config, tags={"n": 3, "best": True}) as run:
        for step in range(20):
            run.log({"loss": 1 / (step + 1), "acc": math.nan if step == 3 else step}, step=step)
        run.log_artifact(b"weights", key="model.bin")
    with pytest.raises(ZeroDivisionError), store.start_run("exp", run_id="a") as run:
        run.log({"loss": 5.0}, step=2**64 - 1)
        raise ZeroDivisionError("oh")
    open_run = store.start_run("more", run_id="c", name="named", note="é")
    open_run.log({"loss": 7.0})
    store.add_metric(holdfast_metric("lonely"))


def holdfast_metric(run_id: str) -> holdfast.MetricRecord:
    return holdfast.MetricRecord(run_id, "loss", 1, 2.5, timestamp=holdfast.Timestamp(5))


def test_the_tables_hold_what_the_store_holds(store: Store, tmp_path: Path) -> None:
    filled(store)
    out = tmp_path / "deep" / "out"
    told: list[tuple[int, int]] = []
    written = store.export_parquet(out, progress=lambda done, total: told.append((done, total)))
    assert written == [out / name for name in NAMES]
    assert sorted(path.name for path in out.iterdir()) == sorted(NAMES)
    assert told[-1] == (3, 4)
    points = pandas.read_parquet(out / "metrics.parquet")
    assert list(points.columns) == ["run_id", "key", "step", "time", "value", "rank"]
    assert points["run_id"].unique().tolist() == ["a", "b", "c", "lonely"]
    for (run_id, key), rows in points.groupby(["run_id", "key"]):
        series = store.metrics(run_id, key)
        assert rows["step"].to_numpy().tobytes() == series.steps.tobytes()
        assert rows["value"].to_numpy().tobytes() == series.values.tobytes()
        assert rows["time"].astype("int64").tolist() == series.timestamps.tolist()
        assert set(rows["rank"]) == {0}
    runs = polars.read_parquet(out / "runs.parquet")
    assert runs["run_id"].to_list() == ["a", "b", "c"]
    assert runs["status"].to_list() == ["Failed", "Success", "Running"]
    assert runs["error_type"].to_list() == ["ZeroDivisionError", None, None]
    assert runs["name"].to_list() == [None, None, "named"]
    assert runs["note"].to_list()[2] == "é"
    started = [run.started_at for run in store.runs(order_by="run_id")]
    assert runs["started_at"].to_physical().to_list() == [at.ns for at in started if at]
    config = duckdb.sql(f"select key, value, number from '{out}/config.parquet'").fetchall()
    assert config == [
        ("amp", "true", None), ("lr", "0.1", 0.1), ("optim.betas", "[0.9, 0.99]", None),
        ("optim.name", "adam", None), ("seed", "7", 7.0),
    ]  # fmt: skip
    tags = duckdb.sql(f"select * from '{out}/tags.parquet'").fetchall()
    assert tags == [("b", "best", "true", None), ("b", "n", "3", 3.0)]
    kept = polars.read_parquet(out / "artifacts.parquet").row(0, named=True)
    about = store.artifacts("b")[0]
    assert (kept["run_id"], kept["key"], kept["digest"]) == ("b", "model.bin", str(about.digest))
    assert (kept["size_bytes"], kept["kind"]) == (7, "bytes")


def test_engines_join_the_tables(store: Store, tmp_path: Path) -> None:
    filled(store)
    store.export_parquet(tmp_path / "out")
    question = f"""
        select m.run_id, c.number as lr, min(m.value) as best
        from '{tmp_path}/out/metrics.parquet' m join '{tmp_path}/out/config.parquet' c
        using (run_id) where m.key = 'loss' and c.key = 'lr' group by all"""
    assert duckdb.sql(question).fetchall() == [("b", 0.1, 0.05)]
    lazy = polars.scan_parquet(tmp_path / "out" / "metrics.parquet")
    assert lazy.filter(run_id="a").collect()["step"].to_list() == [2**64 - 1]


def test_where_and_deleted_runs(store: Store, tmp_path: Path) -> None:
    filled(store)
    store.delete_run("a")
    store.export_parquet(tmp_path / "all")
    store.export_parquet(tmp_path / "some", where="config.lr < 1 or name == 'named'")
    ids = {
        n: polars.read_parquet(tmp_path / n / "metrics.parquet")["run_id"] for n in ("all", "some")
    }
    assert ids["all"].unique().sort().to_list() == ["b", "c", "lonely"]
    assert ids["some"].unique().sort().to_list() == ["b", "c"]
    with pytest.raises(QueryError):
        store.export_parquet(tmp_path / "bad", where="config.lr <")
    assert not (tmp_path / "bad").exists()


def test_a_store_without_runs_gives_empty_tables(store: Store, tmp_path: Path) -> None:
    store.export_parquet(tmp_path / "out")
    for name in NAMES:
        table = pq.read_table(tmp_path / "out" / name)
        assert table.num_rows == 0
        assert table.schema.names[0] == "run_id"
        assert duckdb.sql(f"select count(*) from '{tmp_path}/out/{name}'").fetchall() == [(0,)]
        assert polars.read_parquet(tmp_path / "out" / name).height == 0
        assert len(pandas.read_parquet(tmp_path / "out" / name)) == 0


def test_row_groups_are_sorted_so_that_engines_skip(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parquet, "_GROUP_ROWS", 100)
    monkeypatch.setattr(parquet, "_WINDOW_POINTS", 64)
    for number in range(5):
        with store.start_run("exp", run_id=f"r{number}") as run:
            for step in range(150):
                run.log({"a": step, "b": -step}, step=step * 3)
    store.export_parquet(tmp_path / "out")
    file = pq.ParquetFile(tmp_path / "out" / "metrics.parquet")
    groups = [file.metadata.row_group(n) for n in range(file.metadata.num_row_groups)]
    assert len(groups) >= 15
    assert all(group.num_rows <= 100 for group in groups)
    ranges = [(g.column(0).statistics.min, g.column(0).statistics.max) for g in groups]
    assert ranges == sorted(ranges)
    assert sum(low <= "r3" <= high for low, high in ranges) <= 5
    points = file.read()
    order = list(
        zip(*(points.column(n).to_pylist() for n in ("run_id", "key", "step")), strict=True)
    )
    assert order == sorted(order)
    assert len(order) == len(set(order)) == 1500


def test_a_file_that_is_there_is_never_replaced(store: Store, tmp_path: Path) -> None:
    (tmp_path / "tags.parquet").write_bytes(b"mine")
    with pytest.raises(Exists, match=r"tags\.parquet is there already: name another directory"):
        store.export_parquet(tmp_path)
    assert (tmp_path / "tags.parquet").read_bytes() == b"mine"
    assert not (tmp_path / "metrics.parquet").exists()


def test_damage_leaves_no_file_behind(tmp_path: Path) -> None:
    with holdfast.open(tmp_path / "lab") as store:
        for number in range(3):
            with store.start_run("exp", run_id=f"r{number}") as run:
                run.log({"a": 1})
        segment = next((tmp_path / "lab" / "runs" / "r1" / "segments").iterdir())
        segment.chmod(0o600)
        segment.write_bytes(segment.read_bytes()[:-1] + b"?")
        with pytest.raises(Corrupt, match=segment.name):
            store.export_parquet(tmp_path / "out")
    assert list((tmp_path / "out").iterdir()) == []


def test_a_failure_of_the_backend_at_any_call_leaves_no_file_behind(tmp_path: Path) -> None:
    with holdfast.open() as store:
        filled(store)
        runs, left = store.runs(), [0]

        def watch(operation: str, name: str) -> None:
            left[0] -= 1
            if left[0] < 0:
                raise BackendError(f"{operation} {name} failed")

        backend = WatchedBackend(store.repository.backend, watch)
        repository = replace(store.repository, backend=backend, spools=backend)
        for calls in range(100):
            left[0] = calls
            out = tmp_path / str(calls)
            try:
                parquet.export(repository, runs, ["lonely"], out, lambda done, total: None)
                break
            except BackendError:
                assert list(out.iterdir()) == []
    assert 10 < calls < 99
    assert sorted(path.name for path in out.iterdir()) == sorted(NAMES)


def test_without_pyarrow_the_extra_is_named(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(MissingDependency, match=r"pip install 'holdfast\[parquet\]'"):
        store.export_parquet(tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_long_series_is_written_in_parts(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However its steps are spread, the parts together are the series."""
    monkeypatch.setattr(parquet, "_WINDOW_POINTS", 10)
    steps = [*[5] * 30, *range(6, 40), 2**63, 2**64 - 1]
    with store.start_run("exp", run_id="r") as run:
        for place, step in enumerate(steps):
            run.log({"x": place}, step=step)
    store.export_parquet(tmp_path / "out")
    points = pq.read_table(tmp_path / "out" / "metrics.parquet")
    assert points.column("step").to_pylist() == steps
    assert points.column("value").to_pylist() == np.arange(len(steps), dtype=float).tolist()
