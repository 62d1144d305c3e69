"""Other ways to log ten metrics a step, each in a directory of its own; those not installed are left
out and named."""

from __future__ import annotations

import json
import os
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

Log = Callable[[int, dict[str, float]], object]


@contextmanager
def raw_msgpack(place: Path) -> Iterator[Log]:
    """The floor: packb and one write a call; survives kill -9 like ours."""
    import msgpack

    fd = os.open(place / "raw.msgpack", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    pack, write, now = msgpack.packb, os.write, time.time
    yield lambda step, metrics: write(fd, pack({"s": step, "t": now(), "m": metrics}))
    os.close(fd)


@contextmanager
def holdfast_run(place: Path) -> Iterator[Log]:
    import holdfast

    with holdfast.open(place / "lab") as store, store.start_run("bench") as run:
        log = run.log
        yield lambda step, metrics: log(metrics, step=step)


@contextmanager
def json_lines(place: Path) -> Iterator[Log]:
    with open(place / "log.jsonl", "w", buffering=1) as file:
        dump, now = json.dumps, time.time
        yield lambda step, metrics: file.write(dump({"s": step, "t": now(), **metrics}) + "\n")


@contextmanager
def parquet(place: Path) -> Iterator[Log]:
    """pyarrow by hand, row groups of 65,536 rows; loses what is in memory on a kill."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    rows: list[dict[str, float]] = []
    writers: list[pq.ParquetWriter] = []

    def flush() -> None:
        if rows:
            table = pa.Table.from_pylist(rows)
            if not writers:
                options = {"compression": "zstd"}
                writers.append(pq.ParquetWriter(place / "log.parquet", table.schema, **options))
            writers[0].write_table(table)
            rows.clear()

    def log(step: int, metrics: dict[str, float]) -> None:
        rows.append({"s": step, "t": time.time_ns(), **metrics})
        if len(rows) == 65_536:
            flush()

    yield log
    flush()
    for writer in writers:
        writer.close()


@contextmanager
def sqlite_by_hand(place: Path) -> Iterator[Log]:
    """One row a point, one commit every 1,000 calls."""
    db = sqlite3.connect(place / "log.sqlite")
    db.execute("PRAGMA journal_mode=WAL")
    db.execute("CREATE TABLE points(key TEXT, step INTEGER, time REAL, value REAL)")

    def log(step: int, metrics: dict[str, float]) -> None:
        now = time.time()
        rows = [(key, step, now, value) for key, value in metrics.items()]
        db.executemany("INSERT INTO points VALUES (?, ?, ?, ?)", rows)
        if step % 1000 == 999:
            db.commit()

    yield log
    db.commit()
    db.close()


@contextmanager
def tensorboard(place: Path) -> Iterator[Log]:
    from tensorboard.compat.proto.event_pb2 import Event
    from tensorboard.compat.proto.summary_pb2 import Summary
    from tensorboard.summary.writer.event_file_writer import EventFileWriter

    writer = EventFileWriter(str(place / "tb"))

    def log(step: int, metrics: dict[str, float]) -> None:
        values = [Summary.Value(tag=key, simple_value=value) for key, value in metrics.items()]
        writer.add_event(Event(step=step, wall_time=time.time(), summary=Summary(value=values)))

    yield log
    writer.close()


@contextmanager
def mlflow_sqlite(place: Path) -> Iterator[Log]:
    import mlflow

    mlflow.set_tracking_uri(f"sqlite:///{place / 'mlflow.db'}")
    with mlflow.start_run():
        yield lambda step, metrics: mlflow.log_metrics(metrics, step=step)


# name -> (context, the share of the steps it is given, since some are slow)
PEERS: dict[str, tuple[Callable[[Path], object], float]] = {
    "raw msgpack + write": (raw_msgpack, 1.0),
    "holdfast": (holdfast_run, 1.0),
    "json lines": (json_lines, 0.5),
    "parquet by pyarrow": (parquet, 0.5),
    "sqlite by hand": (sqlite_by_hand, 0.2),
    "tensorboard": (tensorboard, 0.05),
    "mlflow, sqlite": (mlflow_sqlite, 0.001),
}
