"""Large artifacts in and out."""

from __future__ import annotations

import random
import subprocess
import sys
import time
from pathlib import Path


def run(place: Path) -> None:
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
