"""Reading for people and tools: fewer points, several runs, Arrow, Parquet."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks import measure


def run(place: Path) -> None:
    """Each table in turn."""
    _fewer()
    _together()
    _arrow()
    _chart(place)
    _parquet(place)


def _ms(call: Callable[[], object], times: int = 7) -> float:
    def once() -> float:
        start = time.perf_counter()
        call()
        return time.perf_counter() - start

    once()
    return 1e3 * measure.median(once, times)


def _series(points: int, seed: int = 1) -> Any:
    import numpy as np

    from holdfast.series import Series

    rng = np.random.default_rng(seed)
    values = np.exp(-4 * np.arange(points) / points) + rng.normal(0, 0.05, points)
    steps = np.arange(points, dtype=np.uint64)
    return Series("loss", steps, values, steps.astype(np.int64) * 1_000_000)


def _fewer() -> None:
    """10 million points to 2,000, with 40 planted spikes of a single point."""
    import numpy as np

    from holdfast.downsample import downsample
    from holdfast.series import Series

    series = _series(10_000_000)
    spikes = np.random.default_rng(2).choice(len(series), 40, replace=False)
    series.values[spikes] = 3.0
    gaps = Series("loss", series.steps, series.values.copy(), series.timestamps)
    gaps.values[::1000] = np.nan

    def extremes() -> Any:
        blocks = series.values.reshape(1000, -1)
        return blocks.argmin(1), blocks.argmax(1)

    def kept(steps: Any) -> str:
        return f"{np.isin(spikes, steps).sum()} of 40"

    shown = downsample(series, 2000)
    print("| 10,000,000 points to 2,000 | ms | spikes seen |\n|---|---|---|")
    print(
        f"| `max_points=2000` | {_ms(lambda: downsample(series, 2000)):.1f} | {kept(shown.steps)} |"
    )
    with_gaps = downsample(gaps, 2000)
    print(
        f"| with 10,000 gaps | {_ms(lambda: downsample(gaps, 2000)):.1f} | {kept(with_gaps.steps)} |"
    )
    print(f"| numpy argmin and argmax of 1,000 equal blocks | {_ms(extremes):.1f} | |")
    print(f"| every 5,000th point | 0.0 | {kept(series.steps[::5000])} |\n")


def _together() -> None:
    """A comparison of 50 runs, and an exact join of 20."""
    from holdfast.together import Curve, align

    many = {str(n): Curve(_series(200_000, n), 0) for n in range(50)}
    some = {str(n): Curve(_series(100_000, n), 0) for n in range(20)}
    odd = {
        str(n): Curve(c.series.slice(slice(n, None, 1 + n % 2)), 0)
        for n, c in enumerate(some.values())
    }
    print("| several runs | ms | rows |\n|---|---|---|")
    for name, call in {
        "50 runs × 200,000 points over a shared grid, `max_points=2000`": lambda: align(
            many, "step", 2000
        ),
        "20 runs × 100,000 points at the same steps, exact": lambda: align(some, "step"),
        "20 runs × 50,000 or 100,000 points at other steps, exact": lambda: align(odd, "step"),
    }.items():
        print(f"| {name} | {_ms(call, 3):.0f} | {len(call()):,} |")
    print()


def _arrow() -> None:
    """1,000,000 points of step, time and value, handed to three consumers."""
    import duckdb
    import pandas
    import polars
    import pyarrow

    from holdfast import arrow

    one = _series(1_000_000)
    address = one.values.__array_interface__["data"][0]

    def by_duckdb() -> Any:
        points = one  # it looks for the name in this frame
        return duckdb.sql("select avg(value) from points").fetchall() if points else None

    uses: dict[str, Callable[[], Any]] = {
        "pyarrow.table": lambda: pyarrow.table(one),
        "polars.DataFrame": lambda: polars.DataFrame(one),
        "DuckDB avg": by_duckdb,
        "pandas.DataFrame.from_arrow": lambda: pandas.DataFrame.from_arrow(one),
    }
    print(f"| 1,000,000 × 3, ms | {' | '.join(uses)} | no copy |\n|---|{'---|' * (len(uses) + 1)}")
    everyone = dict(arrow._PRODUCERS)
    for name, produce in everyone.items():
        arrow._PRODUCERS.clear()
        arrow._PRODUCERS[name] = produce
        cells = [f"{_ms(use):.2f}" for use in uses.values()]
        same = pyarrow.table(one).column("value").chunk(0).buffers()[1].address == address
        print(f"| {name} | {' | '.join(cells)} | {'same address' if same else 'copied'} |")
    arrow._PRODUCERS.clear()
    arrow._PRODUCERS.update(everyone)
    direct = [f"{_ms(call):.2f}" for call in (one.to_pandas, one.to_polars)]
    print(f"\n`to_pandas()` takes {direct[0]} ms, `to_polars()` {direct[1]} ms.\n")


def _chart(place: Path) -> None:
    """One metric of 10 million points for a chart, from local disk."""
    import holdfast

    url = place / "long"
    with holdfast.open(url) as store, store.start_run("long", run_id="long") as run:
        for step, value in enumerate(_series(10_000_000).values.tolist()):
            run.log({"loss": value}, step=step)
    with holdfast.open(url) as store:
        store.compact("long")
        half = (2_500_000, 7_500_000)
        print("| a chart of 10,000,000 points, from local disk | ms |\n|---|---|")
        for name, wish in {
            "2,000 points of all (the stored overview)": {"max_points": 2000},
            "2,000 points of the middle half": {"max_points": 2000, "steps": half},
            "2,001 points of all (every block is read)": {"max_points": 2001},
            "every point": {},
        }.items():
            spent = _ms(lambda wish=wish: store.metrics("long", "loss", **wish), 3)
            print(f"| {name} | {spent:.1f} |")
    print()


EXPORT = """
import holdfast, time
store = holdfast.open({url!r})
start = time.perf_counter()
store.export_parquet({to!r})
peak = next(line.split()[1] for line in open('/proc/self/status') if 'VmHWM' in line)
print(time.perf_counter() - start, int(peak) / 1024)
"""


def _parquet(place: Path) -> None:
    """Whole stores to Parquet, each in a new process."""
    import holdfast

    many = place / "many"
    with holdfast.open(many) as store:
        for number in range(1000):
            with store.start_run("many", config={"n": number}) as run:
                for step in range(20):
                    run.log({f"m{k}": step / (k + 1) for k in range(5)}, step=step)
    print(
        "| to Parquet | seconds | points/s | bytes/point | peak memory, MiB |\n|---|---|---|---|---|"
    )
    for name, url, points in [
        ("1 run of 10,000,000 points", place / "long", 10_000_000),
        ("1,000 runs of 100 points", many, 100_000),
    ]:
        to = place / f"{url.name}-parquet"
        code = EXPORT.format(url=str(url), to=str(to))
        done = subprocess.run([sys.executable, "-c", code], check=True, stdout=-1, text=True)
        seconds, memory = map(float, done.stdout.split())
        size = (to / "metrics.parquet").stat().st_size / points
        print(f"| {name} | {seconds:.2f} | {points / seconds:,.0f} | {size:.1f} | {memory:.0f} |")
