"""Bytes on disk for a point, steps and times included, of curves from models that are really trained."""

from __future__ import annotations

import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

from benchmarks import curves, history, measure
from benchmarks.read import rows

STEPS, LONG = 200_000, 1_000_000


def run(place: Path) -> None:
    """Ten metrics a call, and one long series; as sealed, and compacted with overviews."""
    ten = list(curves.ten(STEPS))
    times, losses = curves.long(LONG)
    cases: dict[str, Any] = {
        "holdfast, sealed": history.sealed,
        "holdfast, compacted": history.compacted,
    }
    cases |= {name: peer[0] for name, peer in history.PEERS.items() if name != "holdfast"}
    # How much of the data the slow ones are given; their size grows in proportion to it.
    shares = {"tensorboard": 0.1, "mlflow, sqlite": 0.01}
    print("| bytes a point | ten metrics a call | one long series |")
    print("|---|---|---|")
    for name, write in cases.items():
        share = shares.get(name, 1.0)
        few, points = ten[: int(STEPS * share)], int(LONG * share)
        try:
            cells = [
                _bytes(place, write, few) / (10 * len(few)),
                _bytes(place, write, rows(times, losses, points)) / points,
            ]
        except ImportError as error:
            print(f"not installed: {name} ({error.name})", file=sys.stderr)
            continue
        print(f"| {name} |", " | ".join(f"{cell:.2f}" for cell in cells), "|", flush=True)


def _bytes(place: Path, write: Any, data: Any) -> int:
    """Of what is needed to read the points: for Holdfast the segments that the manifest names."""
    home = Path(tempfile.mkdtemp(dir=place))  # some peers keep a database open by its path
    write(home, data)
    found = _named(home / "lab") if (home / "lab").exists() else measure.size_bytes(home)
    shutil.rmtree(home)
    return found


def _named(url: Path) -> int:
    import holdfast

    with holdfast.open(url, read_only=True) as store:
        state = store.repository.manifest("bench").load().state
        return sum(about["size_bytes"] for about in state["segments"].values())
