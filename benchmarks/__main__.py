"""`python -m benchmarks [log|read|list|import|artifacts|remote]`: prints Markdown tables."""

from __future__ import annotations

import random
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks import measure
from benchmarks.peers import PEERS
from benchmarks.remote import remote

STEPS = 300_000
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


def log(place: Path) -> None:
    """One call a step with ten metrics, in turn, three rounds; medians."""
    data = curves(STEPS)
    found: dict[str, list[dict[str, float]]] = {}
    missing: list[str] = []
    for turn in range(3):
        for name, (peer, share) in PEERS.items():
            if name in missing:
                continue
            home = place / f"{name.replace(' ', '-')}-{turn}"
            home.mkdir()
            try:
                measured = _log_with(peer, home, data, share)
                found.setdefault(name, []).append(measured)
            except ImportError as error:
                missing.append(name)
                print(f"not installed: {name} ({error.name})", file=sys.stderr)
            shutil.rmtree(home)
    floor = _middle(found["raw msgpack + write"], "rate")
    print("| ten metrics a call | points/s | of raw | p50 µs | p99 µs | worst ms | bytes/point |")
    print("|---|---|---|---|---|---|---|")
    for name, rounds in found.items():
        rate = _middle(rounds, "rate")
        cells = [f"{_middle(rounds, key):.1f}" for key in ("p50", "p99", "worst_ms", "size")]
        print(f"| {name} | {rate:,.0f} | {rate / floor:.2f} | {' | '.join(cells)} |")


def _middle(rounds: list[dict[str, float]], key: str) -> float:
    return sorted(item[key] for item in rounds)[len(rounds) // 2]


def _log_with(
    peer: Any, home: Path, data: list[dict[str, float]], share: float
) -> dict[str, float]:
    count = max(50, int(len(data) * share))
    with peer(home) as call:
        found = measure.calls(lambda step: call(step, data[step]), count)
    found["rate"] = 10 * count / found["seconds"]
    found["size"] = measure.size_bytes(home) / (10 * count)
    return found


READ = """
import time
import holdfast
store = holdfast.open({url!r})
{before}
start = time.perf_counter()
series = store.metrics("bench", "loss")
assert len(series) == {points}
print(time.perf_counter() - start)
"""


def read(place: Path) -> None:
    """One metric of a finished run, in a new process each time."""
    import holdfast

    print("| points | read alone, ms | whole process beyond `python -c pass`, ms |")
    print("|---|---|---|")
    bare = measure.in_new_process("pass")
    for points in (100_000, 1_000_000, 10_000_000):
        url = place / f"read-{points}"
        chance = random.Random(1)
        with holdfast.open(url) as store, store.start_run("bench", run_id="bench") as run:
            for step in range(points):
                run.log({"loss": chance.random()}, step=step)
        warm = READ.format(url=str(url), points=points, before="import holdfast.series")
        cold = READ.format(url=str(url), points=points, before="")
        alone, whole = measure.said_by_process(warm), measure.in_new_process(cold)
        size = measure.size_bytes(url / "runs" / "bench" / "segments") / points
        print(
            f"| {points:,} ({size:.2f} bytes each) | {1e3 * alone:.1f} | {1e3 * (whole - bare):.1f} |"
        )
    numpy = measure.in_new_process("import numpy") - bare
    print(f"\n`import numpy` alone takes {1e3 * numpy:.1f} ms of the right column.")


def imports(place: Path) -> None:
    """What `import holdfast` and the first open cost."""
    bare = measure.in_new_process("pass")
    url = str(place / "lab")
    cases = {
        "import holdfast": "import holdfast",
        "import and open a store": f"import holdfast; holdfast.open({url!r})",
        "holdfast --help": "import sys; sys.argv=['holdfast','--help']\n"
        "from holdfast.cli import main\ntry: main()\nexcept SystemExit: pass",
    }
    print("| new process | ms beyond `python -c pass` |")
    print("|---|---|")
    for name, code in cases.items():
        print(f"| {name} | {1e3 * (measure.in_new_process(code) - bare):.1f} |")


def _many_runs(url: Path, count: int) -> float:
    import holdfast

    chance = random.Random(1)
    start = time.perf_counter()
    with holdfast.open(url) as store:
        for number in range(count):
            config = {f"p{k}": chance.random() for k in range(10)}
            with store.start_run("many", config=config, tags={"n": number}) as run:
                for step in range(20):
                    run.log({f"m{k}": chance.random() for k in range(5)}, step=step)
    return time.perf_counter() - start


def listing(place: Path) -> None:
    """Create runs of 10 params and 5 metrics × 20 steps, durable; list, filter and sort them."""
    import holdfast

    print(
        "| runs | create and finish, s | cold catalog, s | all, warm, ms | filter + sort, warm, ms |"
    )
    print("|---|---|---|---|---|")
    for count in (1_000, 10_000):
        url = place / f"list-{count}"
        created = _many_runs(url, count)
        with holdfast.open(url, cache=False) as store:
            cold = _seconds(store.runs)
            every = measure.median(partial(_seconds, store.runs))
            filtered = measure.median(partial(_seconds, partial(_query, store)))
        print(
            f"| {count:,} | {created:.1f} | {cold:.2f} | {1e3 * every:.0f} | {1e3 * filtered:.0f} |"
        )


def _query(store: Any) -> Any:
    where = "config.p0 < 0.3 and metrics.m1.last > 0.5 and status == 'Success'"
    return store.runs(where, order_by="-metrics.m0.min", limit=50)


def _seconds(call: Callable[[], object]) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def artifacts(place: Path) -> None:
    """A 2 GiB artifact in and out: speed, and peak memory of the process."""
    source = place / "large.bin"
    block = random.Random(1).randbytes(1 << 20)
    with open(source, "wb") as file:
        for number in range(2048):
            file.write(number.to_bytes(8, "big") + block[8:])
    url = str(place / "large")
    put = (
        f"import holdfast\nwith holdfast.open({url!r}) as s, s.start_run('a', run_id='a') as r:\n"
        f"    r.log_artifact({str(source)!r}, key='large')\n"
    )
    get = (
        f"import holdfast\nholdfast.open({url!r}).get_artifact('a', 'large', to={url + '.out'!r})\n"
    )
    copy = f"import shutil\nshutil.copyfile({str(source)!r}, {url + '.copy'!r})\n"
    peak = "print(next(line.split()[1] for line in open('/proc/self/status') if 'VmHWM' in line))"
    print("| 2 GiB file | seconds | MB/s | peak memory, MiB |")
    print("|---|---|---|---|")
    for name, code in [("plain copy", copy), ("log_artifact", put), ("get_artifact", get)]:
        start = time.perf_counter()
        answer = subprocess.run([sys.executable, "-c", code + peak], check=True, stdout=-1)
        spent = time.perf_counter() - start
        memory = int(answer.stdout) / 1024
        print(f"| {name} | {spent:.1f} | {2147 / spent:.0f} | {memory:.0f} |")


SECTIONS = {
    "import": imports,
    "log": log,
    "read": read,
    "list": listing,
    "artifacts": artifacts,
    "remote": remote,
}


def main() -> None:
    wanted = sys.argv[1:] or list(SECTIONS)
    print(f"{measure.machine()}\n")
    resource.setrlimit(resource.RLIMIT_NOFILE, (4096, 4096))
    for name in wanted:
        print(f"## {name}\n")
        with tempfile.TemporaryDirectory(prefix="holdfast-bench-", dir=Path.cwd()) as place:
            SECTIONS[name](Path(place))
        print(flush=True)


if __name__ == "__main__":
    main()
