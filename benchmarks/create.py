"""`create`: runs of ten parameters, five metrics and twenty steps, begun, logged and finished."""

from __future__ import annotations

import json
import os
import random
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

STEPS = 20
ROUNDS = 3
Create = Callable[[Path, int], float]


def _plans(count: int) -> Iterator[tuple[dict[str, float], list[dict[str, float]]]]:
    """(parameters, metrics of each step) of each run."""
    chance = random.Random(1)
    for _ in range(count):
        config = {f"p{k}": chance.random() for k in range(10)}
        yield config, [{f"m{k}": chance.random() for k in range(5)} for _ in range(STEPS)]


def holdfast_runs(place: Path, count: int) -> float:
    """Durable: what `start_run` and `finish` returned from survives a power cut."""
    import holdfast

    start = time.perf_counter()
    with holdfast.open(place) as store:
        for number, (config, steps) in enumerate(_plans(count)):
            with store.start_run("many", config=config, tags={"n": number}) as run:
                for step, metrics in enumerate(steps):
                    run.log(metrics, step=step)
    return time.perf_counter() - start


def files_with_fsync(place: Path, count: int) -> float:
    """The floor of a durable run by hand: a directory, two files (begun, finished), five fsyncs."""
    start = time.perf_counter()
    place.mkdir()
    for number, (config, steps) in enumerate(_plans(count)):
        home = place / f"{number:06d}"
        home.mkdir()
        _write(home / "config.json", json.dumps(config))
        _sync(home)
        _sync(place)
        _write(home / "metrics.jsonl", "\n".join(map(json.dumps, steps)))
        _sync(home)
    return time.perf_counter() - start


def _write(path: Path, text: str) -> None:
    with open(path, "w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())


def _sync(directory: Path) -> None:
    fd = os.open(directory, os.O_RDONLY)
    os.fsync(fd)
    os.close(fd)


def tensorboard(place: Path, count: int) -> float:
    """Not durable: nothing is fsynced."""
    from tensorboard.compat.proto.event_pb2 import Event
    from tensorboard.compat.proto.summary_pb2 import Summary
    from tensorboard.summary.writer.event_file_writer import EventFileWriter

    start = time.perf_counter()
    for number, (config, steps) in enumerate(_plans(count)):
        writer = EventFileWriter(str(place / str(number)))
        for step, metrics in enumerate([*steps, config]):
            values = [Summary.Value(tag=key, simple_value=value) for key, value in metrics.items()]
            writer.add_event(Event(step=step, wall_time=time.time(), summary=Summary(value=values)))
        writer.close()
    return time.perf_counter() - start


def mlflow_sqlite(place: Path, count: int) -> float:
    """Durable by SQLite's own transactions."""
    import mlflow

    place.mkdir()
    mlflow.set_tracking_uri(f"sqlite:///{place / 'mlflow.db'}")
    mlflow.set_experiment("many")  # the tables are made here, which is not counted
    start = time.perf_counter()
    for config, steps in _plans(count):
        with mlflow.start_run():
            mlflow.log_params(config)
            for step, metrics in enumerate(steps):
                mlflow.log_metrics(metrics, step=step)
    return time.perf_counter() - start


# name -> (how, runs; the time is scaled to 1,000)
PEERS: dict[str, tuple[Create, int]] = {
    "two files by hand, fsynced": (files_with_fsync, 300),
    "holdfast": (holdfast_runs, 1000),
    "tensorboard": (tensorboard, 200),
    "mlflow, sqlite": (mlflow_sqlite, 10),
}


def run(place: Path) -> None:
    """In turn, three rounds; the median, and how far the rounds were apart."""
    found: dict[str, list[float]] = {}
    for turn in range(ROUNDS):
        for name, (peer, count) in PEERS.items():
            home = place / f"{name.replace(' ', '-')}-{turn}"
            try:
                seconds = peer(home, count)
            except ImportError as error:
                print(f"not installed: {name} ({error.name})", file=sys.stderr)
                continue
            found.setdefault(name, []).append(1000 * seconds / count)
            shutil.rmtree(home)
    print("| 1,000 runs begun, logged, finished | s | least to most | runs measured |")
    print("|---|---|---|---|")
    for name, rounds in found.items():
        low, middle, high = _spread(rounds)
        print(f"| {name} | {middle:.1f} | {low:.1f} to {high:.1f} | {PEERS[name][1]} |")


def _spread(rounds: list[Any]) -> tuple[Any, Any, Any]:
    ordered = sorted(rounds)
    return ordered[0], ordered[len(ordered) // 2], ordered[-1]
