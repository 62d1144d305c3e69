"""A training that logs to a bucket while the network is away for a minute: what it costs, what is lost."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

from benchmarks.buckets import ceph

UP_SECONDS, DOWN_SECONDS = 20, 60
# A loop of some thousand steps a second with ten metrics each, in a process of its own.
LOOP = """
import holdfast, json, sys, time
url, options, up, down = sys.argv[1], json.loads(sys.argv[2]), float(sys.argv[3]), float(sys.argv[4])
store = holdfast.open(url, storage_options=options)
run = store.start_run("outage", run_id="outage", capture=False)
print("begun", flush=True)
clock, phases, step = time.perf_counter_ns, ([], [], []), 0
start = time.monotonic()
while (at := time.monotonic() - start) < 2 * up + down:
    row = {f"metric/{number}": step / (number + 1) for number in range(10)}
    before = clock()
    run.log(row, step=step)
    phases[(at > up) + (at > up + down)].append(clock() - before)
    if step % 5000 == 100:
        run.log_artifact(step.to_bytes(8, "big") * 8192, key=f"data/{step}")
    step += 1
    sum(range(20_000))
ended = time.monotonic()
left = run.finish(timeout=120)
print(json.dumps({
    "steps": step, "finish": time.monotonic() - ended, "left": str(left),
    "phases": [
        (len(p), sorted(p)[len(p) // 2], sorted(p)[int(len(p) * 0.99)], max(p)) for p in phases if p
    ],
}))
"""


# The floor: what the same loop pays for one packb and one write, which no network touches.
RAW = """
import json, msgpack, os, sys, time
fd = os.open(sys.argv[1], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
clock, taken, step, start = time.perf_counter_ns, [], 0, time.monotonic()
while time.monotonic() - start < float(sys.argv[2]):
    row = {f"metric/{number}": step / (number + 1) for number in range(10)}
    before = clock()
    os.write(fd, msgpack.packb({"s": step, "t": time.time(), "m": row}))
    taken.append(clock() - before)
    step += 1
    sum(range(20_000))
taken.sort()
print(json.dumps([(len(taken), taken[len(taken) // 2], taken[int(len(taken) * 0.99)], taken[-1])]))
"""


def run(place: Path) -> None:
    """One table: the loop beside nothing, then before, during and after; then what the store has."""
    raw = _finished([sys.executable, "-c", RAW, str(place / "raw"), str(UP_SECONDS)])
    local = _finished(
        [sys.executable, "-c", LOOP, str(place / "lab"), "null", "0", str(UP_SECONDS)]
    )
    with ceph(place) as server:
        if server is None:
            return
        from servers import buckets
        from servers.faults import FaultProxy

        url = f"s3://{buckets.s3_bucket(server)}/lab"
        with FaultProxy(server) as proxy:
            found = _measured(proxy, url, buckets.s3_options(proxy.url))
        named = {"none: `packb` and `write`": raw[0], "none: a store on disk": local["phases"][0]}
        _print(named, found, url, buckets.s3_options(server))


def _finished(command: list[str]) -> Any:
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def _measured(proxy: Any, url: str, options: dict[str, Any]) -> dict[str, Any]:
    from servers.faults import Reset

    times = [str(UP_SECONDS), str(DOWN_SECONDS)]
    command = [sys.executable, "-c", LOOP, url, json.dumps(options), *times]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    process.stdout.readline()
    down = threading.Timer(UP_SECONDS, proxy.rule, ("", Reset()))
    up = threading.Timer(UP_SECONDS + DOWN_SECONDS, proxy.clear)
    for timer in (down, up):
        timer.start()
    found: dict[str, Any] = json.loads(process.communicate()[0])
    return found


def _print(named: dict[str, Any], found: dict[str, Any], url: str, options: dict[str, Any]) -> None:
    import holdfast

    print("| the network | calls | p50 µs | p99 µs | worst ms |")
    print("|---|---|---|---|---|")
    names = ("there", f"away for {DOWN_SECONDS} s", "there again")
    named |= dict(zip(names, found["phases"], strict=True))
    for name, (count, middle, most, worst) in named.items():
        print(f"| {name} | {count:,} | {middle / 1e3:.1f} | {most / 1e3:.1f} | {worst / 1e6:.1f} |")
    begin = time.perf_counter()
    with holdfast.open(url, storage_options=options) as store:
        steps = store.metrics("outage", "metric/3").steps.tolist()
        kept = len(store.run("outage").artifacts)
        wrong = store.verify()
    whole = steps == list(range(found["steps"]))
    wanted = len(range(100, found["steps"], 5000))
    print(
        f"\n`finish` took {found['finish']:.1f} s and left {found['left']}. Of {found['steps']:,} steps "
        f"{'every one is' if whole else f'ONLY {len(steps):,} ARE'} in the store, once; of {wanted} "
        f"artifacts {kept}; {len(wrong)} damaged (looked for in {time.perf_counter() - begin:.1f} s)."
    )
