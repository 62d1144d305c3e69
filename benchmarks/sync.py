"""A store from this disk to a bucket and to a second disk: how fast beside rclone, and what is sent."""

from __future__ import annotations

import os
import re
import shutil
import statistics
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.buckets import ceph

RUNS, POINTS, METRICS = 200, 2_000, 5
CHECKPOINTS, CHECKPOINT_VALUES = 100, 5 << 20  # 20 MiB of float32 each
SERIES = 10  # runs that have checkpoints
ROUNDS = 3


def run(place: Path) -> None:
    """Tables: sending and fetching beside rclone, in turn, three rounds; then nothing new, and one more."""
    os.environ["HOLDFAST_CACHE_DIR"] = str(place / "cache")
    os.environ["HOLDFAST_SYSTEM"] = "off"
    with ceph(place) as server:
        if server is None:
            return
        from servers import buckets
        from servers.base import program

        if program("rclone") is None:
            print("left out: rclone is missing: `python3 do.py servers` installs it")
            return
        _fill(place / "source")
        _speed(place, server, buckets)
        _small(place, server, buckets)


def _fill(folder: Path) -> None:
    """200 runs; ten of them have ten checkpoints each, of which 2 % of the values change in between."""
    import numpy as np

    import holdfast

    rng = np.random.default_rng(1)
    with holdfast.open(folder) as store:
        for number in range(RUNS):
            with store.start_run(f"e{number % 4}", config={"n": number}, capture=False) as run:
                for step in range(POINTS):
                    run.log({f"m{k}": step / (k + 1) + number for k in range(METRICS)}, step=step)
                if number % (RUNS // SERIES) == 0:
                    weights = rng.normal(size=CHECKPOINT_VALUES).astype(np.float32)
                    for step in range(CHECKPOINTS // SERIES):
                        changed = slice(step << 16, (step << 16) + CHECKPOINT_VALUES // 50)
                        weights[changed] += rng.normal(size=CHECKPOINT_VALUES // 50) * 1e-3
                        run.log_checkpoint({"w": weights}, step=step)
    files = [path.stat().st_size for path in folder.rglob("*") if path.is_file()]
    print(f"The source has {len(files):,} files of {sum(files) / 1e6:,.0f} MB.\n")


def _speed(place: Path, url: str, buckets: Any) -> None:
    spent: dict[str, list[float]] = {}
    options = buckets.s3_options(url)
    for turn in range(ROUNDS):
        bucket = buckets.s3_bucket(url)
        peer = [f":s3:{bucket}/plain", place / f"plain-{turn}"]
        ours = [f"s3://{bucket}/lab", place / f"lab-{turn}"]
        _time(spent, "up rclone", lambda: _rclone(url, place / "source", peer[0]))  # noqa: B023
        _time(spent, "up holdfast", lambda: _sync(place / "source", ours[0], None, options))  # noqa: B023
        _time(spent, "down rclone", lambda: _rclone(url, *peer))  # noqa: B023
        _time(spent, "down holdfast", lambda: _sync(*ours, options, None))  # noqa: B023
        _check([(place / "source", None), (ours[0], options), (ours[1], None)], RUNS)
        shutil.rmtree(peer[1])
        shutil.rmtree(ours[1])
    print("| way | rclone copy | holdfast push | ratio, median of rounds (least, most) |")
    print("|---|---|---|---|")
    for way in ("up", "down"):
        theirs, mine = spent[f"{way} rclone"], spent[f"{way} holdfast"]
        ratios = sorted(a / b for a, b in zip(theirs, mine, strict=True))
        told = f"{statistics.median(ratios):.2f} ({ratios[0]:.2f}, {ratios[-1]:.2f})"
        print(
            f"| {'disk to bucket' if way == 'up' else 'bucket to disk'} "
            f"| {statistics.median(theirs):.1f} s | {statistics.median(mine):.1f} s | {told} |"
        )
    print()


def _time(spent: dict[str, list[float]], name: str, call: Callable[[], object]) -> None:
    os.sync()
    start = time.perf_counter()
    call()
    spent.setdefault(name, []).append(time.perf_counter() - start)


def _rclone(url: str, source: Any, target: Any) -> None:
    """With as many transfers at once as Holdfast makes."""
    from servers.base import program

    settings = {
        "RCLONE_S3_PROVIDER": "Ceph", "RCLONE_S3_ENDPOINT": url, "RCLONE_S3_ACCESS_KEY_ID": "test",
        "RCLONE_S3_SECRET_ACCESS_KEY": "testtest", "RCLONE_S3_NO_CHECK_BUCKET": "true",
        "RCLONE_CONFIG": "/dev/null",
    }  # fmt: skip
    command = [str(program("rclone")), "copy", str(source), str(target)]
    many = ["--transfers", "16", "--checkers", "16"]
    subprocess.run([*command, *many], env={**os.environ, **settings}, check=True)


def _sync(source: Any, target: Any, *options: Any) -> Any:
    """A whole new process would import for half a second; rclone has no such cost to show."""
    import holdfast

    with (
        holdfast.open(source, create=False, read_only=True, storage_options=options[0]) as one,
        holdfast.open(target, storage_options=options[1]) as other,
    ):
        report = one.sync_to(other)
    if not report.ok:
        raise RuntimeError(str(report.findings or report.diverged))
    return report


def _check(stores: list[tuple[Any, Any]], runs: int) -> None:
    """The snapshot is the same in all (each a place and its options), so all chains are; and every run is
    there."""
    import holdfast

    digests = set()
    for place, options in stores:
        with holdfast.open(place, read_only=True, storage_options=options) as store:
            digests.add(store.snapshot().digest)
            if len(store.runs()) != runs:
                raise RuntimeError(f"{len(store.runs())} runs arrived")
    if len(digests) > 1:
        raise RuntimeError(f"the snapshots differ: {digests}")


def _small(place: Path, url: str, buckets: Any) -> None:
    """What nothing new asks for, and what one more checkpoint sends."""
    import numpy as np

    import holdfast
    from servers.faults import FaultProxy

    lab = f"s3://{buckets.s3_bucket(url)}/lab"
    _sync(place / "source", lab, None, buckets.s3_options(url))
    with FaultProxy(url) as proxy:
        options = buckets.s3_options(proxy.url)
        _sync(place / "source", lab, None, options)
        kinds: dict[str, int] = {}
        for line in proxy.requests:
            kind = "listings" if re.search(r"[?&](list-type|prefix)=", line) else line[:80]
            kinds[kind] = kinds.get(kind, 0) + 1
        print("Nothing new: " + ", ".join(f"{n} × {kind}" for kind, n in sorted(kinds.items())))
    with holdfast.open(place / "source") as store:
        run_id = min(run.run_id for run in store.runs() if run.artifacts)
        weights = store.load_checkpoint(run_id)["w"].copy()
        weights[: CHECKPOINT_VALUES // 50] += np.float32(1e-3)
        before = _stored(place / "source")
        with store.resume(run_id) as run:
            run.log_checkpoint({"w": weights}, step=10_000)
    added = _stored(place / "source") - before
    report = _sync(place / "source", lab, None, buckets.s3_options(url))
    print(
        f"\nOne more checkpoint: deduplication stored {added:,} bytes of it here, and the sync sent "
        f"{report.sent_bytes:,}, entries and points included: {report.sent_bytes / added:.3f} ×."
    )


def _stored(folder: Path) -> int:
    kinds = ("blobs", "packs", "recipes")
    return sum(
        p.stat().st_size for kind in kinds for p in (folder / kind).rglob("*") if p.is_file()
    )
