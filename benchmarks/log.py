"""`log`: one call a step with ten metrics, Holdfast beside its peers."""

from __future__ import annotations

import shutil
import sys
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from benchmarks import measure
from benchmarks.peers import PEERS

STEPS = 300_000
ROUNDS = 3
FLOOR = "raw msgpack + write"
KEYS = [f"metric/{number}" for number in range(10)]


def curves(steps: int) -> list[dict[str, float]]:
    """Ten plausible metrics: noisy decays as float32 training would log them, a schedule, a counter."""
    import numpy as np

    rng = np.random.default_rng(7)
    place = np.arange(steps) / steps
    columns = [
        np.float32(np.exp(-4 * place) * (k + 1) + rng.normal(0, 0.05, steps)) for k in range(7)
    ]
    columns.append(1e-3 * (1 + np.cos(np.pi * place)) / 2)
    columns.append(np.arange(steps) * 4096.0)
    columns.append(np.round(rng.binomial(256, 0.5 + 0.4 * place) / 256, 6))
    rows = zip(*(np.float64(column).tolist() for column in columns), strict=True)
    return [dict(zip(KEYS, row, strict=True)) for row in rows]


def run(place: Path) -> None:
    """All peers in turn, three rounds, each in a process of its own, so that none pays for what another
    imported; medians. The floor runs again in each round beside the rest."""
    found = _measured(place)
    floor = _middle(found[FLOOR], "rate")
    print("| ten metrics a call | points/s | of raw | p50 µs | p99 µs | worst ms | bytes/point |")
    print("|---|---|---|---|---|---|---|")
    for name, rounds in found.items():
        rate = _middle(rounds, "rate")
        cells = [f"{_middle(rounds, key):.1f}" for key in ("p50", "p99", "worst_ms", "size")]
        print(f"| {name} | {rate:,.0f} | {rate / floor:.2f} | {' | '.join(cells)} |")
    waits = " / ".join(f"{_middle(found[name], 'waited_ms'):.1f}" for name in (FLOOR, "holdfast"))
    print(f"\nLongest call that waited for something of its own, {FLOOR} / holdfast: {waits} ms.")


def _measured(place: Path) -> dict[str, list[dict[str, float]]]:
    found: dict[str, list[dict[str, float]]] = {}
    missing: set[str] = set()
    for turn in range(ROUNDS):
        for name in PEERS:
            if name in missing:
                continue
            home = place / f"{name.replace(' ', '-')}-{turn}"
            home.mkdir()
            try:
                with get_context("spawn").Pool(1) as process:
                    found.setdefault(name, []).append(process.apply(_log_with, (name, home)))
            except ImportError as error:
                missing.add(name)
                found.pop(name)
                print(f"not installed: {name} ({error.name})", file=sys.stderr)
            shutil.rmtree(home)
    return found


def _middle(rounds: list[dict[str, float]], key: str) -> float:
    return sorted(item[key] for item in rounds)[len(rounds) // 2]


def _log_with(name: str, home: Path) -> dict[str, float]:
    peer: Any
    peer, share = PEERS[name]
    count = max(50, int(STEPS * share))
    data = curves(STEPS)
    with peer(home) as call:
        found = measure.calls(lambda step: call(step, data[step]), count)
    found["rate"] = 10 * count / found["seconds"]
    found["size"] = measure.size_bytes(home) / (10 * count)
    return found
