"""`processes`: several processes log to runs of their own in one store, beside one process alone."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

from benchmarks.measure import ENVIRONMENT

STEPS = 150_000
ROUNDS = 3
WORKERS = (1, 2, 4)

# Ready, steady, go: imports and the beginning of the run are not what is measured.
WORKER = """
import sys, time
import holdfast
from benchmarks.log import curves
data = curves({steps})
store = holdfast.open({url!r})
run = store.start_run("processes", capture=False)
print("ready", flush=True)
sys.stdin.readline()
start = time.perf_counter()
for step, metrics in enumerate(data):
    run.log(metrics, step=step)
run.finish()
store.close()
print(time.perf_counter() - start, run.id)
"""


def points_per_second(url: Path, workers: int) -> float:
    """All points of all workers over the time of the slowest, sealed and finished."""
    code = WORKER.format(url=str(url), steps=STEPS)
    started = [
        subprocess.Popen(
            [sys.executable, "-c", code], stdin=-1, stdout=-1, text=True, env=ENVIRONMENT
        )
        for _ in range(workers)
    ]
    for worker in started:
        assert worker.stdout
        assert worker.stdout.readline() == "ready\n"
    for worker in started:
        assert worker.stdin
        worker.stdin.write("go\n")
        worker.stdin.flush()
    answers = [worker.communicate()[0].split() for worker in started]
    assert all(worker.returncode == 0 for worker in started)
    _check(url, [run_id for _, run_id in answers])
    return 10 * STEPS * workers / max(float(seconds) for seconds, _ in answers)


def _check(url: Path, run_ids: list[str]) -> None:
    """No error, and every point is there."""
    import holdfast

    with holdfast.open(url, cache=False) as store:
        assert store.verify() == []
        for run_id in run_ids:
            assert store.run(run_id).metrics["metric/0"].count == STEPS


def run(place: Path) -> None:
    """In turn, three rounds; medians."""
    found: dict[int, list[float]] = {workers: [] for workers in WORKERS}
    for turn in range(ROUNDS):
        for workers in WORKERS:
            url = place / f"lab-{workers}-{turn}"
            found[workers].append(points_per_second(url, workers))
            shutil.rmtree(url)
    alone = sorted(found[1])[ROUNDS // 2]
    print("| processes, a run each, one store | points/s together | of one process |")
    print("|---|---|---|")
    for workers, rates in found.items():
        rate = sorted(rates)[ROUNDS // 2]
        print(f"| {workers} | {rate:,.0f} | {rate / alone:.2f} |")
