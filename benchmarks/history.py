"""Finished histories on disk: how each peer stores given points, and the code with which a new process
reads one metric of them into numpy, printing the seconds it took beyond its imports."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

Row = tuple[int, dict[str, float]]  # (time in ns, the metrics of one step)
BATCH = 65_536

_TIMED = """
import time
{imports}
start = time.perf_counter()
{read}
assert len(found) == {points}, len(found)
print(time.perf_counter() - start)
"""


def holdfast(place: Path, rows: Iterable[Row], compact: bool | None = None) -> None:
    import holdfast

    with holdfast.open(place / "lab") as store:
        run = store.start_run("bench", run_id="bench", capture=False)
        log = run.log
        for step, (at, metrics) in enumerate(rows):
            log(metrics, step=step, timestamp=at)
        run.finish(compact=compact)


def compacted(place: Path, rows: Iterable[Row]) -> None:
    holdfast(place, rows, compact=True)


def sealed(place: Path, rows: Iterable[Row]) -> None:
    holdfast(place, rows, compact=False)


def parquet(place: Path, rows: Iterable[Row]) -> None:
    """One column each for step, time and metrics; the encodings that make it smallest."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    writer, held = None, []

    def flush() -> None:
        nonlocal writer
        table = pa.Table.from_pylist(held)
        if writer is None:
            metrics = table.column_names[2:]
            encodings = {"s": "DELTA_BINARY_PACKED", "t": "DELTA_BINARY_PACKED"}
            encodings |= dict.fromkeys(metrics, "BYTE_STREAM_SPLIT")
            options = {"compression": "zstd", "use_dictionary": False, "column_encoding": encodings}
            writer = pq.ParquetWriter(place / "log.parquet", table.schema, **options)
        writer.write_table(table)
        held.clear()

    for step, (at, metrics) in enumerate(rows):
        held.append({"s": step, "t": at, **metrics})
        if len(held) == BATCH:
            flush()
    if held:
        flush()
    if writer is not None:
        writer.close()


def json_lines(place: Path, rows: Iterable[Row]) -> None:
    with open(place / "log.jsonl", "w") as file:
        for step, (at, metrics) in enumerate(rows):
            file.write(json.dumps({"s": step, "t": at / 1e9, **metrics}) + "\n")


def tensorboard(place: Path, rows: Iterable[Row]) -> None:
    from tensorboard.compat.proto.event_pb2 import Event
    from tensorboard.compat.proto.summary_pb2 import Summary
    from tensorboard.summary.writer.event_file_writer import EventFileWriter

    writer = EventFileWriter(str(place / "tb"))
    for step, (at, metrics) in enumerate(rows):
        values = [Summary.Value(tag=key, simple_value=value) for key, value in metrics.items()]
        writer.add_event(Event(step=step, wall_time=at / 1e9, summary=Summary(value=values)))
    writer.close()


def mlflow(place: Path, rows: Iterable[Row]) -> None:
    import mlflow
    from mlflow.entities import Metric

    mlflow.set_tracking_uri(f"sqlite:///{place / 'mlflow.db'}")
    client = mlflow.MlflowClient()
    run = client.create_run(client.create_experiment("bench"))
    (place / "run_id").write_text(run.info.run_id)
    held: list[Any] = []
    for step, (at, metrics) in enumerate(rows):
        held += [Metric(key, value, at // 1_000_000, step) for key, value in metrics.items()]
        if len(held) >= 1000:
            client.log_batch(run.info.run_id, held[:1000])
            del held[:1000]
    client.log_batch(run.info.run_id, held)


def _code(imports: str, read: str) -> str:
    return _TIMED.replace("{imports}", imports).replace("{read}", read)


_OF_HOLDFAST = _code(
    "import holdfast, holdfast.series\nstore = holdfast.open({place!r} + '/lab')",
    "found = store.metrics('bench', {key!r})",
)
_OF_JSON = """
steps, times, found = [], [], []
for line in open({place!r} + '/log.jsonl'):
    row = json.loads(line)
    if {key!r} in row:
        steps.append(row['s']); times.append(row['t']); found.append(row[{key!r}])
steps, times, found = np.array(steps), np.array(times), np.array(found)"""
_OF_TENSORBOARD = """
reader = EventAccumulator({place!r} + '/tb', size_guidance=dict(scalars=0))
reader.Reload()
found = reader.Scalars({key!r})
columns = [np.array([getattr(one, name) for one in found]) for name in ("step", "wall_time", "value")]"""
_OF_MLFLOW = """
client = mlflow.MlflowClient('sqlite:///' + {place!r} + '/mlflow.db')
found = client.get_metric_history(open({place!r} + '/run_id').read(), {key!r})
columns = np.array([(m.step, m.timestamp, m.value) for m in found])"""

# name -> (how it is written, how it is read, the most points that take bearable time)
PEERS: dict[str, tuple[Any, str, int]] = {
    "holdfast": (holdfast, _OF_HOLDFAST, 10_000_000),
    "parquet by pyarrow": (
        parquet,
        _code(
            "import pyarrow.parquet as pq",
            "table = pq.read_table({place!r} + '/log.parquet', columns=['s', 't', {key!r}])\n"
            "found, *_ = [table[name].to_numpy() for name in ({key!r}, 's', 't')]",
        ),
        10_000_000,
    ),
    "json lines": (json_lines, _code("import json\nimport numpy as np", _OF_JSON), 1_000_000),
    "tensorboard": (
        tensorboard,
        _code(
            "import numpy as np\nfrom tensorboard.backend.event_processing.event_accumulator "
            "import EventAccumulator",
            _OF_TENSORBOARD,
        ),
        100_000,
    ),
    "mlflow, sqlite": (mlflow, _code("import mlflow\nimport numpy as np", _OF_MLFLOW), 100_000),
}


def reading(code: str, place: Path, key: str, points: int) -> str:
    """The program that reads `key` from what lies in `place`."""
    filled = code.replace("{place!r}", repr(str(place))).replace("{key!r}", repr(key))
    return filled.replace("{points}", str(points))
