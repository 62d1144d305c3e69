"""What following a run costs: how late records come, how fast old ones do, and what the writer feels."""

from __future__ import annotations

import os
import pty
import resource
import subprocess
import sys
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from benchmarks.measure import ENVIRONMENT

KEYS = [f"metric/{number}" for number in range(10)]
RECORDS = 100_000
WATCHED_SECONDS = 10.0
WRITER = """
import sys, time
import holdfast
with holdfast.open({url!r}) as store, store.start_run("tail", run_id="live") as run:
    print("ready", flush=True)
    sys.stdin.readline()
    for step in range(1000):
        run.log({{"loss": 1.0}}, step)
        time.sleep(0.005)
"""
SPEED = """
import time
import holdfast
keys = [f"metric/{{number}}" for number in range(10)]
with holdfast.open({url!r}) as store, store.start_run("tail", run_id={run!r}) as run:
    record, start, calls = dict.fromkeys(keys, 0.5), time.perf_counter(), 0
    while time.perf_counter() - start < 5:
        for _ in range(1000):
            run.log(record)
        calls += 1000
    print(calls / (time.perf_counter() - start))
"""


def run(place: Path) -> None:
    """Following a run on the same machine, from another process than the one that writes."""
    url = str(place / "lab")
    print("| follow a run | |\n|---|---|")
    for poll_seconds in (0.1, 0.01):
        p50, p99 = _late(url + str(poll_seconds), poll_seconds)
        print(f"| a record comes after, looking every {poll_seconds} s | {p50}, p99 {p99} |")
    for name, value in [*_looks(url), *_felt(url), ("`holdfast watch`, of one core", _watch(url))]:
        print(f"| {name} | {value} |")


def _late(url: str, poll_seconds: float) -> tuple[str, str]:
    """p50 and p99 of the time from `log` to the tail, 1,000 records at 200 a second."""
    import holdfast

    words = [sys.executable, "-c", WRITER.format(url=url)]
    with subprocess.Popen(words, stdin=-1, stdout=-1, env=ENVIRONMENT) as child:
        assert child.stdin is not None and child.stdout is not None
        child.stdout.readline()
        followed = holdfast.open(url, read_only=True).tail("live", poll_seconds=poll_seconds)
        child.stdin.write(b"\n")
        child.stdin.flush()
        late = sorted(time.time_ns() - record.timestamp for record in followed)
    return f"{late[500] / 1e6:.1f} ms", f"{late[990] / 1e6:.1f} ms"


def _looks(url: str) -> list[tuple[str, str]]:
    """How fast old records come, and what a look costs that finds nothing."""
    import holdfast

    record: dict[str, Any] = dict.fromkeys(KEYS, 0.5)
    with holdfast.open(url) as store:
        run = store.start_run("tail", run_id="old")
        for step in range(RECORDS):
            run.log(record, step)
        run._writer.seal(go_on=True)
        sealed = _rate(store)
        followed = store.tail("old")
        start = time.process_time()
        for _ in range(1000):
            followed.poll()
        idle = (time.process_time() - start) / 1000
        for step in range(10_000):
            run.log(record, RECORDS + step)
        start = time.perf_counter()
        assert len(followed.poll()) == 10_000
        spool = 10_000 / (time.perf_counter() - start)
        run.finish()
    return [
        ("records of ten metrics, from a spool", f"{spool:,.0f} a second"),
        ("records of ten metrics, from segments", f"{sealed:,.0f} a second"),
        ("a look that finds nothing, CPU", f"{1e6 * idle:.0f} µs"),
    ]


def _rate(store: Any) -> float:
    start = time.perf_counter()
    assert sum(1 for _ in store.tail("old", from_start=True, follow=False)) == RECORDS
    return RECORDS / (time.perf_counter() - start)


def _felt(url: str) -> list[tuple[str, str]]:
    """How much slower a writer is that logs as fast as it can while somebody follows, in turn."""
    alone, followed = [], []
    for turn in range(3):
        alone.append(_speed(url, f"alone{turn}", watch=False))
        followed.append(_speed(url, f"watched{turn}", watch=True))
    ratio = sorted(followed)[1] / sorted(alone)[1]
    return [("speed of a writer at full speed, watched / not", f"{ratio:.2f}")]


def _speed(url: str, run: str, *, watch: bool) -> float:
    with ExitStack() as stack:
        words = [sys.executable, "-c", SPEED.format(url=url, run=run)]
        child = stack.enter_context(subprocess.Popen(words, stdout=-1, env=ENVIRONMENT))
        if watch:
            while not Path(url, "runs", run, "manifest").is_dir():
                time.sleep(0.01)
            stack.enter_context(_watching(url, run, "--interval", "1"))
        assert child.stdout is not None
        return float(child.stdout.read())


def _watching(url: str, run: str, *more: str) -> subprocess.Popen[bytes]:
    words = [sys.executable, "-m", "holdfast.cli", "watch", run, "--store", url, *more]
    return subprocess.Popen(words, stdout=subprocess.DEVNULL, env=ENVIRONMENT)


def _watch(url: str) -> str:
    """The CPU that `holdfast watch` takes on a terminal: 50 metrics, ten records a second."""
    import holdfast

    near, far = pty.openpty()
    with holdfast.open(url) as store:
        run = store.start_run("tail", run_id="watched")
        record = {f"layer/{number}": 0.5 for number in range(50)}
        run.log(record)
        words = [sys.executable, "-m", "holdfast.cli", "watch", "watched", "--store", url]
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        environment = {**ENVIRONMENT, "TERM": "xterm"}
        child = subprocess.Popen(words, stdout=far, stderr=far, env=environment)
        os.close(far)
        begun = time.monotonic()
        while time.monotonic() - begun < WATCHED_SECONDS:
            run.log(record)
            time.sleep(0.1)
            os.read(near, 1 << 20) if _has(near) else None
        run.finish()
        while _has(near, 10):
            try:
                os.read(near, 1 << 20)
            except OSError:
                break
        child.wait()
    os.close(near)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    used = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return f"{100 * used / WATCHED_SECONDS:.1f} %, start of Python included"


def _has(fd: int, seconds: float = 0) -> bool:
    import select

    return bool(select.select([fd], [], [], seconds)[0])
