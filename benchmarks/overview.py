"""A chart of every metric of a long run, from a store that nothing is known of: requests and bytes."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from benchmarks import curves
from benchmarks.history import holdfast as write
from benchmarks.read import rows
from holdfast.backend.base import Backend
from holdfast.backend.local import LocalBackend
from holdfast.backend.memory import MemoryBackend
from holdfast.backend.wrap import WatchedBackend


class Counting(WatchedBackend):
    """A backend, what was asked of it, and the bytes that came."""

    def __init__(self, inner: Backend) -> None:
        super().__init__(inner, lambda operation, name: self.calls.append(operation))
        self.calls: list[str] = []
        self.bytes = 0

    def get(self, name: str) -> bytes:
        data = super().get(name)
        self.bytes += len(data)
        return data

    def get_range(self, name: str, offset: int, length: int) -> bytes:
        data = super().get_range(name, offset, length)
        self.bytes += len(data)
        return data


def run(place: Path) -> None:
    """At most 2,000 points of each metric; the bytes of a listing are not counted."""
    times, losses = curves.long(1_000_000)
    cases: dict[str, Any] = {
        "ten metrics × 200,000 steps": list(curves.ten(200_000)),
        "one metric × 1,000,000": rows(times, losses, len(losses)),
    }
    print("| run | requests | kB | points | ms |")
    print("|---|---|---|---|---|")
    for name, data in cases.items():
        home = place / name.replace(" ", "-")
        home.mkdir()
        write(home, data, compact=True)
        print(f"| {name} | {_read(home / 'lab')} |", flush=True)


def _read(url: Path) -> str:
    from holdfast.series import RunPoints

    backend = Counting(LocalBackend(url))
    start = time.perf_counter()
    found = RunPoints.load(backend, "bench", MemoryBackend()).overview() or {}
    spent = time.perf_counter() - start
    calls = f"{len(backend.calls)}: {', '.join(backend.calls)}"
    points = sum(map(len, found.values()))
    return f"{calls} | {backend.bytes / 1e3:.0f} | {points:,} | {1e3 * spent:.1f}"
