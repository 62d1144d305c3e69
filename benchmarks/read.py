"""One metric of a finished run into numpy, in a new process each time, beside other formats."""

from __future__ import annotations

import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import curves, history, measure

KEY = "train/loss"
COUNTS = (100_000, 1_000_000, 10_000_000)


def rows(times: Any, values: Any, points: int) -> Iterator[history.Row]:
    pairs = zip(times[:points].tolist(), values[:points].astype(float).tolist(), strict=True)
    return ((at, {KEY: value}) for at, value in pairs)


def run(place: Path) -> None:
    """Milliseconds beyond imports: a real loss curve, and uniformly random values as the worst case."""
    times, losses = curves.long(max(COUNTS))
    cases: dict[str, tuple[Any, str, int, Any]] = {
        name: (*peer, losses) for name, peer in history.PEERS.items()
    }
    _, code, most = history.PEERS["holdfast"]
    cases["holdfast, not compacted"] = (history.sealed, code, most, losses)
    chance = np.random.default_rng(1).random(max(COUNTS))
    cases["holdfast, random values"] = (history.holdfast, code, most, chance)
    print("| one metric to numpy, ms (bytes a point) |", " | ".join(f"{n:,}" for n in COUNTS), "|")
    print("|---" * (1 + len(COUNTS)) + "|")
    for name, (write, code, most, values) in cases.items():
        cells = []
        for points in COUNTS:
            try:
                cells.append(_cell(place, write, code, rows(times, values, points), points, most))
            except ImportError as error:
                print(f"not installed: {name} ({error.name})", file=sys.stderr)
                break
        else:
            print(f"| {name} |", " | ".join(cells), "|", flush=True)


def _cell(place: Path, write: Any, code: str, data: Any, points: int, most: int) -> str:
    if points > most:
        return "—"
    home = Path(tempfile.mkdtemp(dir=place))  # some peers keep a database open by its path
    write(home, data)
    times = 7 if points <= 1_000_000 else 5
    spent = measure.said_by_process(history.reading(code, home, KEY, points), times)
    size = measure.size_bytes(home) / points
    shutil.rmtree(home)
    return f"{1e3 * spent:.1f} ({size:.2f})"
