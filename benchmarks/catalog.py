"""The catalog over many runs: cold and warm, in the same process and in a new one, beside peers."""

from __future__ import annotations

import random
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

RUNS = (1_000, 10_000, 100_000)
WHERE = "config.p0 < 0.3 and metrics.m1.last > 0.5 and status == 'Success'"
ORDER = "-metrics.m0.min"
METRICS = [f"m{number}" for number in range(5)]


def state_of(number: int, like: dict[str, Any]) -> dict[str, Any]:
    """The state of run `number` of ten parameters, five metrics and twenty steps; repeatable."""
    chance = random.Random(number)
    run_id = f"20250101-{number // 1000:06d}-{number:06d}"
    return {
        **like,
        "run": {**like["run"], "run_id": run_id, "created_at": like["run"]["created_at"] + number},
        "config": {f"p{k}": chance.random() for k in range(10)},
        "tags": {"n": number},
        "metrics": {key: _statistics([chance.random() for _ in range(20)]) for key in METRICS},
    }


def _statistics(values: list[float]) -> dict[str, Any]:
    ends = {"first": values[0], "last": values[-1], "first_step": 0, "last_step": len(values) - 1}
    spread = {"min": min(values), "max": max(values), "mean": sum(values) / len(values)}
    return {"count": len(values), "nan": 0, **ends, **spread}


def real_state(url: Path) -> dict[str, Any]:
    """What one real run of that shape leaves in its manifest."""
    import holdfast

    with holdfast.open(url, cache=False) as store:
        with store.start_run("many", config={f"p{k}": 0.5 for k in range(10)}) as run:
            for step in range(20):
                run.log(dict.fromkeys(METRICS, 0.5), step=step)
        state = store.repository.manifest(run.id).load().state
        shutil.rmtree(url / "runs" / run.id)
        shutil.rmtree(url / "heads" / "runs")
    return state


def make(url: Path, count: int) -> None:
    """A store of `count` finished runs, written entry by entry without waiting for the disk.

    Made as a run would, 100,000 durable ones take a quarter of an hour; the files are the same.
    """
    from holdfast.chain import Chain
    from holdfast.format import layout

    like = real_state(url)
    backend = _Quick(url)
    for number in range(count):
        state = state_of(number, like)
        run_id = state["run"]["run_id"]
        chain = Chain(backend, layout.manifest(run_id))
        begun = {**state["run"], "status": "Running", "ended_at": None}
        base = chain.commit(chain.load([]), _always({"run": begun, "config": state["config"]}))
        chain.commit(base, _always({k: v for k, v in state.items() if k != "config"}), full=True)


def _always(change: dict[str, Any]) -> Callable[[Any], Any]:
    return lambda state: change


class _Quick:
    """As much of a backend as a chain needs, without fsync."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def create(self, name: str, data: bytes) -> None:
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)

    put = create

    def delete(self, name: str) -> None:
        (self.root / name).unlink()

    def walk(self, prefix: str) -> Iterator[Any]:
        return iter(())
