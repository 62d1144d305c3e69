"""One process of the long soak: a writer, a reader, a syncer or a collector, until time is up.

What was acknowledged, and what went wrong, goes to standard output as JSON. Run by test_soak_collected.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import random
import sys
import time
from typing import Any

import holdfast
from holdfast.errors import HoldfastError, NotFound

role, url, name, seconds, options, mirror = sys.argv[1:]
chance = random.Random(name)
until = time.monotonic() + float(seconds)
said: dict[str, Any] = {"runs": {}, "deleted": [], "problems": [], "turns": 0, "failed": 0}
COMMON = random.Random("common").randbytes(1 << 20)


def some_bytes() -> bytes:
    """Small ones, some that others have too, and large ones that share most."""
    kind = chance.random()
    if kind < 0.5:
        return chance.randbytes(chance.choice([100, 20_000]))
    if kind < 0.7:
        return b"shared %d" % chance.randrange(20)
    return COMMON + chance.randbytes(50_000) + COMMON[: 1000 * chance.randrange(100)]


def write(store: holdfast.ExperimentStore, number: int) -> None:
    """One run, acknowledged when it is over; every third one is deleted again."""
    about: dict[str, Any] = {"steps": 60, "artifacts": {}}
    run = store.start_run("soak", run_id=f"{name}-{number:04}", capture=False, system=False)
    for step in range(60):
        run.log({"loss": step / 7}, step)
        if step % 12 == 3:
            key, data = f"data/{chance.randrange(3)}", some_bytes()
            run.log_artifact(data, key)
            about["artifacts"][key] = hashlib.sha256(data).hexdigest()
        time.sleep(0.01)
    if run.finish(timeout=300) is None:
        said["runs"][run.id] = about
        if number % 3 == 2:
            said["deleted"].append(run.id)  # from now on it may be gone
            store.delete_run(run.id)


def read(store: holdfast.ExperimentStore, number: int) -> None:
    """Any run: what its manifest names must be there, unless it is deleted meanwhile."""
    runs = [run for run in store.runs() if run.status.terminal]
    if not runs:
        return
    run = chance.choice(runs)
    try:
        for key in run.artifacts:
            store.read_artifact(run.run_id, key)
        if run.metrics:
            store.metrics(run.run_id, "loss")
    except NotFound:
        return
    except holdfast.errors.Corrupt as error:
        said["problems"].append([run.run_id, error.message])


def sync(store: holdfast.ExperimentStore, number: int) -> None:
    report = store.sync_to(mirror)
    said["problems"] += [["diverged", str(one)] for one in report.diverged]
    time.sleep(1)


def collect(store: holdfast.ExperimentStore, number: int) -> None:
    store.gc()
    time.sleep(chance.random() * 3)


work = {"writer": write, "reader": read, "syncer": sync, "collector": collect}[role]
with holdfast.open(
    url, storage_options=json.loads(options), publish_seconds=0.5, create=False
) as opened:
    while time.monotonic() < until:
        try:
            work(opened, said["turns"])
        except HoldfastError as error:
            said["failed"] += 1
            said["last"] = f"{type(error).__name__}: {error}"
        said["turns"] += 1
    with contextlib.suppress(HoldfastError):
        said["unsent"] = [str(one) for one in opened.unsent()]
print(json.dumps(said))
