"""`python -m benchmarks [import|log|read|size|overview|compact|list|artifacts]`: prints Markdown tables."""

from __future__ import annotations

import random
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks import catalog, measure
from benchmarks.compact import compact
from benchmarks.frames import frames
from benchmarks.overview import overview
from benchmarks.peers import PEERS
from benchmarks.read import read
from benchmarks.size import size
from benchmarks.tail import tail

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
    "list": catalog.listing,
    "size": size,
    "overview": overview,
    "compact": compact,
    "artifacts": artifacts,
    "frames": frames,
    "tail": tail,
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
