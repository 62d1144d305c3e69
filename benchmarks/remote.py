"""Artifacts in a bucket: Holdfast beside plain s3fs, against the same Ceph in the same run."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.buckets import ceph

ROUNDS = 3
LARGE, LARGE_BYTES = 8, 64 << 20
SMALL, SMALL_BYTES = 1_000, 64 << 10


def run(place: Path) -> None:
    """Four tables of one: large and small artifacts, up and down, in turn, three rounds; medians."""
    with ceph(place) as server:
        if server is None:
            return
        from servers import buckets

        _measure(place, buckets.s3_bucket(server), buckets.s3_options(server))


def _measure(place: Path, bucket: str, options: dict[str, Any]) -> None:
    import s3fs

    import holdfast

    fs = s3fs.S3FileSystem(**options, use_listings_cache=False)
    store = holdfast.open(f"s3://{bucket}/lab", storage_options=options, cache=False)
    spent: dict[str, list[float]] = {}
    for turn in range(ROUNDS):
        files = _files(place / f"in-{turn}")
        small = {f"small/{number}": os.urandom(SMALL_BYTES) for number in range(SMALL)}
        _large(spent, fs, store, f"{bucket}/plain-{turn}", files, place / f"out-{turn}")
        _small(spent, fs, store, f"{bucket}/plain-{turn}", small)
        for path in files.values():
            path.unlink()
    store.close()
    _print(spent)


def _files(folder: Path) -> dict[str, Path]:
    folder.mkdir()
    found = {f"large/{number}": folder / str(number) for number in range(LARGE)}
    for path in found.values():
        path.write_bytes(os.urandom(LARGE_BYTES))
    return found


def _large(
    spent: dict[str, list[float]], fs: Any, store: Any, top: str, files: dict[str, Path], out: Path
) -> None:
    names = {key: f"{top}/{key}" for key in files}
    local = [str(path) for path in files.values()]
    plain = [str(out / "plain" / key) for key in names]
    run = store.start_run("large", capture=False)
    (out / "plain" / "large").mkdir(parents=True)
    _time(spent, "large up s3fs", lambda: fs.put(local, list(names.values())))
    _time(spent, "large up holdfast", lambda: run.log_artifacts(files))
    _time(spent, "large down s3fs", lambda: fs.get(list(names.values()), plain))
    _time(spent, "large down holdfast", lambda: store.get_artifacts(run.id, to=out))
    run.finish()
    for path in out.rglob("*"):
        if path.is_file():
            path.unlink()


def _small(
    spent: dict[str, list[float]], fs: Any, store: Any, top: str, small: dict[str, bytes]
) -> None:
    names = {f"{top}/{key}": data for key, data in small.items()}
    run = store.start_run("small", capture=False)
    _time(spent, "small up s3fs", lambda: fs.pipe(names))
    _time(spent, "small up holdfast", lambda: run.log_artifacts(small))
    _time(spent, "small down s3fs", lambda: fs.cat(list(names)))
    _time(spent, "small down holdfast", lambda: store.read_artifacts(run.id))
    run.finish()


def _time(spent: dict[str, list[float]], name: str, call: Callable[[], object]) -> None:
    start = time.perf_counter()
    call()
    spent.setdefault(name, []).append(time.perf_counter() - start)


def _print(spent: dict[str, list[float]]) -> None:
    sizes = {"large": (LARGE * LARGE_BYTES / (1 << 20), "MiB/s"), "small": (SMALL, "artifacts/s")}
    print("| artifacts | s3fs | Holdfast | ratio, median of rounds (least, most) |")
    print("|---|---|---|---|")
    for kind, (amount, unit) in sizes.items():
        for way in ("up", "down"):
            peer, ours = spent[f"{kind} {way} s3fs"], spent[f"{kind} {way} holdfast"]
            ratios = sorted(p / o for p, o in zip(peer, ours, strict=True))
            rates = [f"{amount / sorted(t)[len(t) // 2]:,.0f} {unit}" for t in (peer, ours)]
            middle = ratios[len(ratios) // 2]
            told = f"{middle:.2f} ({ratios[0]:.2f}, {ratios[-1]:.2f})"
            print(f"| {kind}, {way} | {rates[0]} | {rates[1]} | {told} |")
