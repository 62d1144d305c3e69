"""Compaction of long runs: time, memory, and what it makes of reading."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from benchmarks import curves, measure
from benchmarks.history import sealed
from benchmarks.read import rows

_COMPACT = """
import time, holdfast
store = holdfast.open({url!r})
def peak():
    return next(int(line.split()[1]) for line in open('/proc/self/status') if 'VmHWM' in line)
start = time.perf_counter()
(found,) = store.compact('bench')
print(time.perf_counter() - start, peak(), found.segments_before, found.segments_after,
      found.bytes_before, found.bytes_after)
"""


def run(place: Path) -> None:
    """One metric, as many segments as its spools gave, to one; in a new process."""
    times, losses = curves.long(10_000_000)
    print("| points | segments | MB | seconds | peak memory, MiB |")
    print("|---|---|---|---|---|")
    for points in (1_000_000, 10_000_000):
        home = place / f"compact-{points}"
        home.mkdir()
        sealed(home, rows(times, losses, points))
        code = _COMPACT.format(url=str(home / "lab"))
        answer = subprocess.run(
            [sys.executable, "-c", code],
            check=True,
            stdout=subprocess.PIPE,
            env=measure.ENVIRONMENT,
        )
        seconds, peak, before, after, old, new = map(float, answer.stdout.split())
        print(
            f"| {points:,} | {before:.0f} → {after:.0f} | {old / 1e6:.1f} → {new / 1e6:.1f} "
            f"| {seconds:.2f} | {peak / 1024:.0f} |",
            flush=True,
        )
