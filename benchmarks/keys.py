"""Ten thousand metrics in one run: what each thing costs that a run or a store does with them."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

KEYS = [f"layer{number // 100}/grad/{number % 100}" for number in range(10_000)]
TABLE = """| 10,000 metrics | {first} | {second} |
|---|---|---|"""


def run(place: Path) -> None:
    wide = _measured(place / "wide", lambda run, step: run.log(_row(step), step=step), 3)
    single = _measured(place / "single", lambda run, step: [_one(run, key) for key in KEYS], 1)
    print(TABLE.format(first="in each call, s", second="one in each call, s"))
    for name, seconds in wide.items():
        print(f"| {name} | {seconds:.2f} | {single[name]:.2f} |")


def _row(step: int) -> dict[str, float]:
    return {key: step / (number + 3) for number, key in enumerate(KEYS)}


def _one(run: object, key: str) -> None:
    run.log({key: 0.5})  # type: ignore[attr-defined]


def _measured(place: Path, log: Callable[..., object], calls: int) -> dict[str, float]:
    import holdfast

    found: dict[str, float] = {}

    def timed(name: str, call: Callable[[], object]) -> object:
        start = time.perf_counter()
        answer = call()
        found[name] = time.perf_counter() - start
        return answer

    with holdfast.open(place) as store:
        run = store.start_run("bench", run_id="bench", capture=False, system=False)
        timed("log all of them", lambda: [log(run, step) for step in range(calls)])
        timed("finish: seal and publish", run.finish)
        timed("read one", lambda: store.metrics("bench", KEYS[77]))
        timed("read all", lambda: store.metrics("bench", "*"))
        timed("catalog: refresh, list", store.runs)
        timed("`store.sql` over statistics", lambda: store.sql("SELECT max(last) FROM metrics"))
        timed(
            "follow from the start",
            lambda: list(store.tail("bench", from_start=True, follow=False)),
        )
        again = timed("resume at step 1: count anew", lambda: store.resume("bench", step=1))
        again.log(_row(1), step=1)  # type: ignore[attr-defined]
        timed("finish again", again.finish)  # type: ignore[attr-defined]
    return found
