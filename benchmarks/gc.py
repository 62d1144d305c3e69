"""Marking: 100,000 runs with 1,000,000 references, on a local disk, in a new process.

The store is made by writing its entries and files as plain files, without a sync: what is measured is how a
collector reads them.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from holdfast.digest import Digest
from holdfast.format import entry, layout
from holdfast.format.entry import Entry
from holdfast.store import ExperimentStore

RUNS, ARTIFACTS, SEGMENTS = 100_000, 8, 2
_SHARED = 4  # of the artifacts of a run are needed by its neighbour too
_REMOVED = 100  # every so many runs, one is deleted

_MARK = """
import resource, sys, time
import holdfast
start = time.perf_counter()
with holdfast.open(sys.argv[1], cache=False) as store:
    plan = store.gc_plan()
seconds = time.perf_counter() - start
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
print(seconds, peak, len(plan.removals), len(plan.names))
"""


def run(place: Path, runs: int = RUNS) -> None:
    root = place / "lab"
    make(root, runs)
    rows = []
    for _ in range(2):
        command = [sys.executable, "-c", _MARK, str(root)]
        out = subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()
        rows.append((float(out[0]), int(out[1])))
    seconds, peak = min(rows)[0], max(row[1] for row in rows)
    print("| runs | references | mark, s | peak memory | runs that go | files that go |")
    print("|---|---|---|---|---|---|")
    references = runs * (ARTIFACTS + SEGMENTS)
    print(
        f"| {runs:,} | {references:,} | {seconds:.1f} | {peak / 1e6:.0f} MB | {int(out[2]):,} | "
        f"{int(out[3]):,} |"
    )


def make(root: Path, runs: int) -> None:
    """A store of so many ended runs."""
    ExperimentStore(root).close()
    for number in range(runs):
        run_id = f"20250101-{number // 1000:06d}-{number:06d}"
        digests = [Digest.of(f"{number + k // _SHARED} {k}".encode()) for k in range(ARTIFACTS)]
        segments = [Digest.of(f"segment {number} {k}".encode()) for k in range(SEGMENTS)]
        for name in [*map(layout.blob, digests), *(layout.segment(run_id, s) for s in segments)]:
            _write(root / name, b"x" * 100)
        first = Entry(0, None, bytes(16), number, True, {"run": {"run_id": run_id}})
        before = entry.encode(first)
        state = _state(run_id, number, digests, segments)
        last = Entry(1, Digest.of(before).raw, bytes(16), number, True, state)
        for one, data in ((first, before), (last, entry.encode(last))):
            _write(root / layout.entry(layout.manifest(run_id), one.number), data)


def _state(run_id: str, number: int, digests: list[Digest], segments: list[Digest]) -> dict:  # type: ignore[type-arg]
    about = {"size_bytes": 100, "kind": "bytes", "created_at": number}
    record = {"writer": "0" * 8, "sequence": 0, "last_sequence": 0, "size_bytes": 100}
    deleted = {"deleted_at": number} if number % _REMOVED == 0 else {}
    return {
        "run": {"run_id": run_id, "experiment_id": "e", "status": "Success", **deleted},
        "writer": {"host": "node", "pid": 1, "closed": True},
        "config": {f"p{k}": number / 7 for k in range(10)},
        "artifacts": {f"key/{k}": {"digest": str(d), **about} for k, d in enumerate(digests)},
        "segments": {digest.hex: record for digest in segments},
    }


def _write(path: Path, data: bytes) -> None:
    try:
        path.write_bytes(data)
    except FileNotFoundError:
        os.makedirs(path.parent, exist_ok=True)
        path.write_bytes(data)
