"""Timing helpers: medians, percentiles, whole new processes."""

from __future__ import annotations

import os
import platform
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

SLOW_NS = 500_000  # calls from here on are looked at one by one


def calls(call: Callable[[int], object], count: int) -> dict[str, float]:
    """Time each of `count` calls: total seconds, and percentiles in µs.

    `waited_ms` is the longest call in which the thread gave up its processor by itself, for a lock or
    the disk: on a machine that others use too, the longest of all is most often one of theirs.
    """
    clock, spent, waited = time.perf_counter_ns, [], 0
    begin, waits = clock(), _waits()
    for number in range(count):
        start = clock()
        call(number)
        took = clock() - start
        spent.append(took)
        if took > SLOW_NS:
            now = _waits()
            waited, waits = max(waited, took if now > waits else 0), now
        elif not number % 64:
            waits = _waits()
    total = clock() - begin
    spent.sort()
    return {
        "seconds": total / 1e9,
        "p50": spent[count // 2] / 1e3,
        "p99": spent[int(count * 0.99)] / 1e3,
        "worst_ms": spent[-1] / 1e6,
        "waited_ms": waited / 1e6,
    }


def _waits() -> int:
    """How often this thread gave up its processor by itself."""
    return resource.getrusage(getattr(resource, "RUSAGE_THREAD", resource.RUSAGE_SELF)).ru_nvcsw


def median(run: Callable[[], float], times: int = 5) -> float:
    return statistics.median(run() for _ in range(times))


# An installed package has its compiled modules; a shell that forbids them would time the compiler.
ENVIRONMENT = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}


def in_new_process(code: str, times: int = 7) -> float:
    """Median seconds of `python -c code`, the whole process."""

    def once() -> float:
        start = time.perf_counter()
        subprocess.run(
            [sys.executable, "-c", code], check=True, stdout=subprocess.DEVNULL, env=ENVIRONMENT
        )
        return time.perf_counter() - start

    once()
    return median(once, times)


def said_by_process(code: str, times: int = 7) -> float:
    """Median of the number that `python -c code` prints."""

    def once() -> float:
        answer = subprocess.run(
            [sys.executable, "-c", code], check=True, stdout=subprocess.PIPE, env=ENVIRONMENT
        )
        return float(answer.stdout)

    once()
    return median(once, times)


def machine() -> str:
    """The class of machine, for the record."""
    model = platform.processor() or platform.machine()
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
        model = f"{len(names)} × {names[0]}"
    except (OSError, IndexError):
        pass
    day = datetime.now(UTC).date().isoformat()
    return f"{day}, {model}, {platform.system()}, CPython {platform.python_version()}"


def size_bytes(path: Path) -> int:
    if path.is_file():
        return path.stat().st_size
    return sum(item.stat().st_size for item in path.rglob("*") if item.is_file())
