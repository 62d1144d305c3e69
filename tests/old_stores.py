"""The stores in fixtures/stores and how they were made: `python tests/old_stores.py NAME` makes one anew.

That is done once for each format, and once more when one gains something; never again: what lies there
is what an older Holdfast left. `describe` is what every later Holdfast must still say of it.
"""

from __future__ import annotations

import json
import os
import shutil
import struct
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np

import holdfast
from holdfast import MetricRecord, RunStatus, Timestamp
from holdfast.ops.policy import Policy

STORES = Path(__file__).parents[1] / "fixtures" / "stores"
NOON = 1_736_942_400_000_000_000  # 2025-01-15T12:00:00Z
PLAIN, RESUMED, LEFT, LARGE = (f"20250115-12000{n}-aaaaa{n}" for n in range(4))
COMPACTED, RANKS, PACKED, BUNDLED = (f"20250115-12000{n}-aaaaa{n}" for n in (8, 9, 7, 6))
READS = "20250115-120005-aaaaa5"
SYNCED, REMOVED = "20250115-120004-aaaaa4", "20250115-120004-bbbbb4"
OTHER_STORE = "0e9d1c2b-7a65-4f3e-8d21-c5b4a3928170"
# The secret key of RFC 8032, section 7.1, test 1.
KEY = b"""-----BEGIN PRIVATE KEY-----
MC4CAQAwBQYDK2VwBCIEIJ1hsZ3v/VpguoRK9JLsLMREScVpezJpGXA7rAMcrn9g
-----END PRIVATE KEY-----
"""


def bits(value: float) -> str:
    return struct.pack(">d", value).hex()


def describe(store: Any) -> dict[str, Any]:
    """Everything in a store, through its public methods, as JSON."""
    return {
        "store_id": store.store_id,
        "experiments": [json.loads(record.to_json()) for record in store.experiments()],
        "runs": {run.run_id: _run(store, run) for run in store.runs(deleted=True)},
        **_names_of(store),
    }


def _names_of(store: Any) -> dict[str, Any]:
    """What aliases ever named, what runs have read, and the store as it was when snapshots were made."""
    aliases = {
        alias.name: [moved.address for moved in store.alias_history(alias.name)]
        for alias in store.aliases()
    }
    inputs = {
        run.run_id: [[one.run_id, one.key, one.address, str(one.digest)] for one in run.inputs]
        for run in store.runs(deleted=True)
        if run.inputs
    }
    snapshots = {}
    for kept in store.snapshots():
        with holdfast.open(store.url, at=kept.name, cache=False) as then:
            named = {alias.name: alias.address for alias in then.aliases()}
            runs = {run.run_id: run.generation for run in then.runs(deleted=True)}
        snapshots[kept.name] = {"id": kept.target.digest, "aliases": named, "runs": runs}
    found = {"aliases": aliases, "inputs": inputs, "snapshots": snapshots}
    return {key: value for key, value in found.items() if value}


def _run(store: Any, run: Any) -> dict[str, Any]:
    times = (run.created_at, run.started_at, run.ended_at)
    return {
        "experiment": run.experiment,
        "name": run.name,
        "state": run.state,
        "times": [at and str(at) for at in times],
        "config": run.config,
        "tags": run.tags,
        "note": run.note,
        "error": run.error,
        "source": run.source,
        "attempts": run.attempts,
        "generation": run.generation,
        "deleted": run.deleted,
        "metrics": {key: _stats(stats) for key, stats in store.run(run.run_id).metrics.items()},
        **_ranks_of(store, run.run_id),
        "series": {key: points(store, run.run_id, key) for key in store.metric_keys(run.run_id)},
        "artifacts": {
            key: _artifact(store, run.run_id, about) for key, about in run.artifacts.items()
        },
    }


def _ranks_of(store: Any, run_id: str) -> dict[str, Any]:
    """Who joined the run, and who wrote each point."""
    joined = store.run(run_id).ranks
    if not joined:
        return {}
    series = {key: store.metrics(run_id, key).ranks.tolist() for key in store.metric_keys(run_id)}
    return {"ranks": {"joined": list(joined), "series": series}}


def _stats(stats: Any) -> dict[str, Any]:
    names = ("count", "nan", "first", "last", "min", "max", "mean", "first_step", "last_step")
    values = {name: getattr(stats, name) for name in names}
    return {k: bits(v) if isinstance(v, float) else v for k, v in values.items()}


def points(store: Any, run_id: str, key: str) -> list[list[Any]]:
    series = store.metrics(run_id, key)
    rows = zip(series.steps, series.timestamps, series.values, strict=True)
    return [[int(step), int(at), bits(float(value))] for step, at, value in rows]


def _artifact(store: Any, run_id: str, about: Any) -> dict[str, Any]:
    found = {
        "digest": str(about.digest),
        "size_bytes": about.size_bytes,
        "kind": about.kind,
        "created_at": str(about.created_at),
    }
    if about.kind != "directory":
        return {**found, "content": store.read_artifact(run_id, about.key).hex()}
    with tempfile.TemporaryDirectory() as folder:
        root = store.get_artifact(run_id, about.key, to=Path(folder) / "out")
        return {
            **found,
            "content": {str(p.relative_to(root)): _node(p) for p in sorted(root.rglob("*"))},
        }


def _node(path: Path) -> dict[str, Any]:
    if path.is_symlink():
        return {"kind": "link", "target": os.readlink(path)}
    mode = path.stat().st_mode & 0o777
    if path.is_dir():
        return {"kind": "directory", "mode": mode}
    return {"kind": "file", "mode": mode, "content": path.read_bytes().hex()}


# How it was made.


def make(target: Path, fill: Callable[[Any, Path], None]) -> None:
    """Write the store to `target`, and beside it what must be read from it."""
    ticks = iter(range(NOON, NOON + 10**15, 1_000_000))
    nonces = iter(range(10**6))

    def clock() -> int:
        return next(ticks)

    with (
        tempfile.TemporaryDirectory() as folder,
        mock.patch("time.time_ns", clock),
        mock.patch("holdfast.writer._now", clock),
        mock.patch("holdfast.chain.new_nonce", lambda: next(nonces).to_bytes(16, "big")),
        mock.patch("holdfast.writer.new_writer_id", lambda: f"{next(nonces):08x}"),
        mock.patch("holdfast.process.identity", lambda: {"host": "node1", "pid": 4711}),
        mock.patch("holdfast.format.overview.LEAST_ROWS", 64),  # or the store would be large
        mock.patch("holdfast.format.overview._ROWS_A_POINT", 8),
        mock.patch("uuid.uuid4", lambda: "5f0c7a52-3f5e-4a6e-9a2b-0d8f5b1c2e3d"),
    ):
        store = holdfast.open(Path(folder) / "lab", cache=False)
        fill(store, Path(folder))
        shutil.copytree(Path(folder) / "lab", target)  # as a crash would leave it
        expected = describe(store)
        store.close()
    expected["runs"][LEFT]["state"] = "Crashed"  # once its writer is gone
    text = json.dumps(expected, indent=1, sort_keys=True)
    target.with_suffix(".expected.json").write_text(text + "\n")


def fill(store: Any, folder: Path) -> None:
    _plain(store, folder)
    _resumed(store)
    _large(store)
    _compacted(store)
    run = store.start_run("vit", run_id=LEFT, capture=False, tags=["left"])
    for step in range(10):
        run.log({"loss": 1 / (step + 1)}, step=step)
    run.log({"loss": float("-inf"), "acc": 0.5})
    run.flush()


def _plain(store: Any, folder: Path) -> None:
    config = {"lr": 1e-3, "model": {"name": "resnet", "layers": [2, 2, 2]}, "seed": None}
    run = store.start_run(
        "resnet", name="first", run_id=PLAIN, capture=False, config=config, note="a plain run"
    )
    for step in range(40):
        run.log({"train/loss": 2.0 ** -(step % 7), "train/lr": 1e-3}, step=step)
        if step % 10 == 9:
            run.log({"eval/acc": step / 40}, step=step)
    run.log({"train/loss": float("nan"), "train/lr": -0.0}, step=2**64 - 1)
    run.log_artifact(b"weights\r\n\x00\xff", key="checkpoints/step=39/model.bin")
    (folder / "model" / "parts").mkdir(parents=True)
    (folder / "model" / "parts" / "a.txt").write_bytes(b"a\n")
    (folder / "model" / "parts" / "a.txt").chmod(0o640)
    (folder / "model" / "latest").symlink_to("parts/a.txt")
    run.log_artifact(folder / "model", key="model")
    for number in range(15):  # so many generations that the chain has two full ones
        run.set_tags({"stage": f"try-{number}", "number": number, "gone": None if number else True})
    run.finish()
    store.add_metric(MetricRecord(PLAIN, "top1", 3, 0.75, timestamp=Timestamp(NOON)))
    store._writers[PLAIN].seal(go_on=False)


def _resumed(store: Any) -> None:
    run = store.start_run("resnet", run_id=RESUMED, capture=False, config={"lr": 1e-2})
    for step in range(10):
        run.log({"loss": 10.0 - step, "only-first": step}, step=step)
    run.finish(RunStatus.FAILED, error={"type": "RuntimeError", "message": "out of memory"})
    run = store.resume(RESUMED, step=5)
    for step in range(5, 12):
        run.log({"loss": 5.5 - step / 10}, step=step)
    run.finish()


def _large(store: Any) -> None:
    """A state so large that changes are stored alone, but for the full entry that ends the run."""
    config = {f"layer-{number:03d}": {"width": number, "name": "x" * 20} for number in range(120)}
    run = store.start_run("vit", run_id=LARGE, capture=False, config=config)
    run.set_tags({"stage": "first"})
    run.log({"loss": 0.5}, step=0)
    run.finish()
    store.delete_run(LARGE)
    store.undelete_run(LARGE)


def _compacted(store: Any) -> None:
    """Two attempts, each of one segment that was made of several and has overviews."""
    run = store.start_run("vit", run_id=COMPACTED, capture=False)
    for first, resumed in ((0, False), (70, True)):
        if resumed:
            run = store.resume(COMPACTED, step=first)
        for step in range(first, first + 90):
            values = {"loss": (step * 7919 % 101) / 8 - 2 * resumed}
            run.log(values | ({} if step % 30 else {"acc": step / 256}), step=step)
            if step % 25 == 24:
                run._writer.seal(go_on=True)
        run.finish(compact=True)


def fill_ranks(store: Any, folder: Path) -> None:
    """As `fill`, and ranks: ended, superseded, and left in a spool."""
    fill(store, folder)
    run = store.start_run("resnet", run_id=RANKS, capture=False)
    for rank in (0, 1, 2**31 - 1):
        with store.join_run(RANKS, rank=rank) as joined:
            for step in range(6):
                joined.log({"loss": step + rank / 2**33, f"rank/{rank}": step}, step=step)
    run.log({"loss": 0.25}, step=0)
    run.finish()
    run = store.resume(RANKS, step=4)
    run.log({"loss": 0.125})
    with store.join_run(RANKS, rank=1) as joined:
        joined.log({"loss": float("nan")})
    run.finish()
    left = store.join_run(LEFT, rank=3)
    left.log({"loss": -1.0}, step=12)
    left.flush()


def fill_spool_2(store: Any, folder: Path) -> None:
    """A run left in an open spool of version 2: flushed, logged to since, with room behind it."""
    run = store.start_run("vit", run_id=LEFT, capture=False, tags=["left"])
    for step in range(10):
        run.log({"loss": 1 / (step + 1)}, step=step)
    run.flush()
    run.log({"loss": float("-inf"), "acc": 0.5})
    run.flush()
    run.log({"loss": -0.0})


def fill_packed(store: Any, folder: Path) -> None:
    """As `fill_ranks`, and artifacts in packs: versions of a checkpoint with a moving average, text, one
    that points into the blob of another, a directory."""
    fill_ranks(store, folder)
    run = store.start_run("resnet", run_id=PACKED, capture=False)
    random = np.random.default_rng(1)
    weights = random.normal(0, 0.02, 3000).astype("<f4")
    average = weights.copy()
    for step in range(4):
        data = _checkpoint(weights, average)
        run.log_artifact(data, key=f"checkpoints/{step}", layout="packed", compact=step == 3)
        weights += random.normal(0, 1e-5, weights.size).astype("<f4")
        average += (weights - average) * np.float32(0.1)
    run.log_artifact(b"a line of a log\n" * 3000, key="log", layout="packed")
    noise = random.bytes(100_000)
    with (  # or it would have to be long
        mock.patch("holdfast.ops.ingest.MIN_PACKED_BYTES", 50_000),
        mock.patch("holdfast.ops.lineage.MIN_PACKED_BYTES", 50_000),
    ):
        run.log_artifact(noise, key="table/1")
        run.log_artifact(noise + b"and more", key="table/2")
    (folder / "shards").mkdir()
    (folder / "shards" / "model").write_bytes(_checkpoint(weights, average))
    (folder / "shards" / "config.json").write_bytes(b"{}")
    run.log_artifact(folder / "shards", key="shards", layout="packed")
    run.finish()


def fill_bundled(store: Any, folder: Path) -> None:
    """As `fill_packed`, and two versions of a directory whose small files are bundled: some new, one changed,
    one empty, and one that is there twice."""
    fill_packed(store, folder)
    run = store.start_run("resnet", run_id=BUNDLED, capture=False)
    code = folder / "code"
    (code / "deep").mkdir(parents=True)
    for number in range(20):
        (code / "deep" / f"{number:02d}.py").write_text(f"number = {number}\n" * (30 + number))
    (code / "empty").touch()
    (code / "again.py").write_text("number = 7\n" * 37)
    (code / "latest").symlink_to("deep/19.py")
    run.log_artifact(code, key="code/1")
    (code / "deep" / "03.py").write_text("changed = True\n" * 20)
    (code / "deep" / "20.py").write_text("new = True\n")
    run.log_artifact(code, key="code/2")
    run.finish()


def fill_names(store: Any, folder: Path) -> None:
    """As `fill`, with aliases that were moved, deleted and undone, a run that has read artifacts, and a
    snapshot after which everything went on."""
    fill(store, folder)
    key = "checkpoints/step=39/model.bin"
    store.alias("prod/resnet", f"{PLAIN}:{key}")
    store.alias("prod", PLAIN)
    run = store.start_run("resnet", run_id=READS, capture=False)
    run.use_artifact("prod/resnet")
    run.use_artifact(f"{PLAIN}:model/parts/a.txt")
    run.use_artifact(str(store.artifact(PLAIN, key).digest))
    run.log_artifact(b"better weights", key=key)
    run.finish()
    store.snapshot("paper/2025")
    store.alias("prod/resnet", f"resnet:{key}@latest")
    store.delete_alias("prod")
    store.undo_alias("prod")
    store.delete_run(READS)
    store.snapshot("paper/2025")
    store.alias("only/this", READS)


def fill_collected(store: Any, folder: Path) -> None:
    """As `fill_names`; a signed snapshot, runs that a sync brought, one of them removed and collected,
    rules for keeping, and after the collection an artifact with the bytes that it took."""
    fill_names(store, folder)
    with mock.patch("uuid.uuid4", lambda: OTHER_STORE):
        other = holdfast.open(folder / "other", cache=False)
    for run_id in (SYNCED, REMOVED):
        with other.start_run("resnet", run_id=run_id, capture=False) as run:
            run.log({"loss": 0.25}, step=1)
            run.log_artifact(b"of " + run_id.encode(), key="notes.txt")
    other.sync_to(store)
    other.close()
    (folder / "key.pem").write_bytes(KEY)
    store.sign("paper/2025", folder / "key.pem")
    store.set_gc_policy(Policy(keep="status == 'Success' or tags.left"))
    store.delete_run(REMOVED)
    store.gc()
    store.add_artifact_file(SYNCED, b"of " + REMOVED.encode(), "again.txt")


def _checkpoint(weights: Any, average: Any) -> bytes:
    """A safetensors file."""
    rounded = (weights.view("<u4") >> 16).astype("<u2")
    header, body = {}, b""
    for name, kind, numbers in (
        ("model.w", "F32", weights), ("ema.w", "F32", average), ("half", "BF16", rounded),
    ):  # fmt: skip
        data = numbers.tobytes()
        place = [len(body), len(body) + len(data)]
        header[name] = {"dtype": kind, "shape": [numbers.size], "data_offsets": place}
        body += data
    text = json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + body


FILLS = {
    "format-1-ranks": fill_ranks,
    "format-1-spool-2": fill_spool_2,
    "format-1-packed": fill_packed,
    "format-1-bundled": fill_bundled,
    "format-1-names": fill_names,
    "format-1-collected": fill_collected,
}

if __name__ == "__main__":
    target = STORES / sys.argv[1]
    shutil.rmtree(target, ignore_errors=True)
    STORES.mkdir(parents=True, exist_ok=True)
    make(target, FILLS.get(target.name, fill))
    sizes = [path.stat().st_size for path in STORES.rglob("*") if path.is_file()]
    print(f"{len(sizes)} files, {sum(sizes)} bytes")
