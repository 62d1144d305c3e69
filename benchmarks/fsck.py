"""fsck of every byte, beside sha256sum over the same files: plain checkpoints, packed ones, many small runs.

sha256sum runs as people run it, two at once with xargs, and alone. Everything is in the page cache.
"""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

import holdfast
from benchmarks.measure import median, size_bytes

CHECKPOINTS, FLOATS = 8, 32 << 20  # of 128 MiB each
RUNS = 300
MB = 1e6


def run(place: Path) -> None:
    print(
        "| store | on disk MB | xargs -P2 sha256sum MB/s | sha256sum MB/s | fsck MB/s | to xargs -P2 |"
    )
    print("|---|---|---|---|---|---|")
    for name, fill in (("plain", plain), ("packed", packed), ("small", small)):
        root = place / name
        with holdfast.open(root) as store:
            fill(store)
        print(row(name, root), flush=True)


def plain(store: holdfast.ExperimentStore) -> None:
    """Checkpoints as they are, each a file."""
    random = np.random.default_rng(1)
    with store.start_run("bench") as run:
        for number in range(CHECKPOINTS):
            run.log_artifact(random.bytes(4 * FLOATS), key=f"{number}.bin", layout="plain")


def packed(store: holdfast.ExperimentStore) -> None:
    """bf16-like weights that drift: chunks encoded as differences to the version before."""
    random = np.random.default_rng(2)
    weights = random.standard_normal(FLOATS // 2).astype("f4")
    path = Path(store.url).parent / "weights.npy"
    with store.start_run("bench") as run:
        for number in range(CHECKPOINTS):
            weights += 1e-4 * random.standard_normal(weights.size).astype("f4")
            np.save(path, weights)
            run.log_artifact(path, key=f"{number}.npy", layout="packed")


def small(store: holdfast.ExperimentStore) -> None:
    """Many runs of little: what is measured is the time for each file."""
    for number in range(RUNS):
        with store.start_run("bench", run_id=f"run-{number}", capture=False, system=False) as run:
            for step in range(200):
                run.log({"loss": 1 / (step + 1), "acc": step * 0.1}, step=step)
            run.log_artifact(b"%d" % number * 1000, key="notes")


def row(name: str, root: Path) -> str:
    size = size_bytes(root) / MB
    two = size / median(lambda: timed(lambda: sums(root, "-P2", "-n16")), 3)
    one = size / median(lambda: timed(lambda: sums(root, "-n1000")), 3)
    ours = size / median(lambda: timed(lambda: check(root)), 3)
    return f"| {name} | {size:,.0f} | {two:,.0f} | {one:,.0f} | {ours:,.0f} | {ours / two:.2f} |"


def sums(root: Path, *how: str) -> None:
    files = subprocess.run(
        ["find", str(root), "-type", "f", "-print0"], check=True, capture_output=True
    )
    subprocess.run(
        ["xargs", "-0", *how, "sha256sum"],
        input=files.stdout,
        check=True,
        stdout=subprocess.DEVNULL,
    )


def check(root: Path) -> None:
    """Opening and all, but for the start of Python."""
    report = holdfast.fsck(root)
    assert report.findings == []


def timed(call: Callable[[], None]) -> float:
    begin = time.perf_counter()
    call()
    return time.perf_counter() - begin
