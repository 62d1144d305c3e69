"""The catalog over many runs: cold and warm, in the same process and in a new one, beside peers."""

from __future__ import annotations

import json
import os
import random
import shutil
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks import measure

RUNS = (1_000, 10_000, 100_000)
WHERE = "config.p0 < 0.3 and metrics.m1.last > 0.5 and status == 'Success'"
ORDER = "-metrics.m0.min"
COLUMNS = (
    "cold catalog, s (of processor)",
    "warm, ms (of processor)",
    "warm, new process, ms",
    "one run more, ms (of processor)",
    "json lines, ms",
    "parquet, ms",
    "mlflow sqlite, ms",
)
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


NEW_PROCESS = """
import time, holdfast, holdfast.catalog, holdfast.ops.refresh, holdfast.query
store = holdfast.open({url!r})
start = time.perf_counter()
assert len(store.runs({where!r}, order_by={order!r}, limit=50)) == 50
print(time.perf_counter() - start)
"""


def run(place: Path) -> None:
    """Filter and sort many runs, the refresh of the catalog included; how it grows; peers."""
    print(f"| runs | {' | '.join(COLUMNS)} |\n|---{'|---' * len(COLUMNS)}|")
    os.environ["HOLDFAST_CACHE_DIR"] = str(place / "cache")
    for count in RUNS:
        url = place / f"list-{count}"
        make(url, count)
        time.sleep(2.1)  # a store that was written just now has no tokens yet
        cells = [*_ours(url), *_rows(place, count), _mlflow(place, count)]
        print(f"| {count:,} | {' | '.join(cells)} |", flush=True)


def _ours(url: Path) -> list[str]:
    import holdfast

    with holdfast.open(url) as store:
        cold = _spent(store)
        same = [_spent(store) for _ in range(5)]
        code = NEW_PROCESS.format(url=str(url), where=WHERE, order=ORDER)
        new = measure.said_by_process(code)
        more = [_after_one_more(store) for _ in range(5)]
    cells = [_told(spent, 1e3) for spent in (sorted(same)[2], sorted(more)[2])]
    return [_told(cold, 1), cells[0], f"{1e3 * new:.1f}", cells[1]]


def _spent(store: Any) -> tuple[float, float]:
    """Seconds on the clock and of the processor, which others may share."""
    busy = time.process_time()
    return _seconds(partial(_ask, store)), time.process_time() - busy


def _told(spent: tuple[float, float], factor: float) -> str:
    digits = 2 if factor == 1 else 1
    return f"{spent[0] * factor:.{digits}f} ({spent[1] * factor:.{digits}f})"


def _ask(store: Any) -> None:
    found = store.runs(WHERE, order_by=ORDER, limit=50)
    if len(found) != 50:
        raise SystemExit(f"{len(found)} runs were found, not 50")


def _after_one_more(store: Any) -> tuple[float, float]:
    store.start_run("many", capture=False).finish()
    return _spent(store)


def _seconds(call: Callable[[], object]) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


# One row a run, by hand: nothing is kept up to date, and the whole file is read for each question.


def _flat(number: int) -> dict[str, Any]:
    state = state_of(number, {"run": {"created_at": 0}})
    stats = {f"{k}.{s}": of[s] for k, of in state["metrics"].items() for s in ("last", "min")}
    return {"run_id": state["run"]["run_id"], "status": "Success", **state["config"], **stats}


def _rows(place: Path, count: int) -> list[str]:
    lines = place / "rows.jsonl"
    lines.write_text("".join(json.dumps(_flat(number)) + "\n" for number in range(count)))

    def by_hand() -> None:
        with open(lines) as file:
            rows = [json.loads(line) for line in file]
        kept = [r for r in rows if r["p0"] < 0.3 and r["m1.last"] > 0.5]
        sorted(kept, key=lambda row: -row["m0.min"])[:50]

    found = [f"{1e3 * measure.median(partial(_seconds, by_hand), 3):.1f}"]
    try:
        return [*found, f"{1e3 * measure.median(_parquet(place, lines)):.1f}"]
    except ImportError:
        return [*found, "–"]


def _parquet(place: Path, lines: Path) -> Callable[[], float]:
    import pyarrow.compute as pc
    import pyarrow.json as pj
    import pyarrow.parquet as pq

    file = place / "rows.parquet"
    pq.write_table(pj.read_json(lines), file, compression="zstd")

    def question() -> None:
        where = (pc.field("p0") < 0.3) & (pc.field("m1.last") > 0.5)
        table = pq.read_table(file, filters=where & (pc.field("status") == "Success"))
        table.sort_by([("m0.min", "descending")]).slice(0, 50).to_pylist()

    return partial(_seconds, question)


def _mlflow(place: Path, count: int) -> str:
    """Only for the fewest runs: to put them in takes it minutes."""
    if count != RUNS[0]:
        return "–"
    try:
        import mlflow
    except ImportError:
        return "–"
    mlflow.set_tracking_uri(f"sqlite:///{place / 'mlflow.db'}")
    client = mlflow.MlflowClient()
    experiment = client.create_experiment("many")
    for number in range(count):
        _put_into_mlflow(client, experiment, number)
    # Its parameters are texts, which know no order.
    where = "params.p0 LIKE '0.2%' and metrics.m1 > 0.5 and attributes.status = 'FINISHED'"

    def question() -> None:
        client.search_runs([experiment], where, order_by=["metrics.m0 DESC"], max_results=50)

    return f"{1e3 * measure.median(partial(_seconds, question)):.1f}"


def _put_into_mlflow(client: Any, experiment: str, number: int) -> None:
    from mlflow.entities import Metric, Param

    state = state_of(number, {"run": {"created_at": 0}})
    run_id = client.create_run(experiment).info.run_id
    metrics = [Metric(key, of["last"], 0, 19) for key, of in state["metrics"].items()]
    params = [Param(key, str(value)) for key, value in state["config"].items()]
    client.log_batch(run_id, metrics=metrics, params=params)
    client.set_terminated(run_id)
