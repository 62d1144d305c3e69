"""A large checkpoint in and out, durable: `python -m benchmarks.ingest FOLDER [TURNS]`.

FOLDER is what `python -m benchmarks.series FOLDER` made. Two versions of one file of some 600 MB (or 76 MB
for each of TURNS) are put together from the checkpoints of s3: for each tensor and each step one tensor,
which in the second version is that of the next step, with copies that are turned so that no two are equal.
Each line is a process of its own; the files are in the page cache. Seconds of processors say what it costs,
whoever shares the machine: two cores give at most size / (seconds / 2). With more TURNS only memory is of
interest, and delta coding, which takes the most, is all that is run.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from benchmarks import measure

TURNS = 8
_CODE = """
import resource, sys, time, holdfast
place, act = sys.argv[1:3]
holdfast.open("memory://").close()  # numpy and the others are imported before the clock starts
begin = time.perf_counter()
before = time.process_time()
with holdfast.open(place) as store:
    {act}
print(time.perf_counter() - begin, time.process_time() - before,
      next(line.split()[1] for line in open('/proc/self/status') if 'VmHWM' in line))
"""
_PUT = (
    "store.add_artifact_file(act, sys.argv[3], sys.argv[4], layout=sys.argv[5], compact={compact})"
)
_GET = "store.get_artifact(act, sys.argv[3], to=sys.argv[4], overwrite=True)"
_READ = """for piece in iter(lambda f=store.open_artifact(act, sys.argv[3]): f.read(1 << 20), b''): pass"""
_WHOLE = "store.read_artifact(act, sys.argv[3])"


def tensors(path: Path) -> dict[str, np.ndarray]:
    """The bf16 tensors of a safetensors file, as integers."""
    data = path.read_bytes()
    size = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + size])
    return {
        name: np.frombuffer(data[8 + size :][slice(*about["data_offsets"])], "<u2")
        for name, about in header.items()
        if name != "__metadata__"
    }


def build(target: Path, steps: list[Path], turns: int = TURNS) -> None:
    """One file of all tensors of all steps, each in copies that are turned by a number of elements."""
    found, header, at = [tensors(step) for step in steps], {}, 0
    places = [(n, name, turn) for n, of in enumerate(found) for name in of for turn in range(turns)]
    for number, name, turn in places:
        size = found[number][name].nbytes
        key = f"{name}.{number}.{turn}"  # so that none seems an average of another
        header[key] = {"dtype": "BF16", "shape": [size // 2], "data_offsets": [at, at + size]}
        at += size
    text = json.dumps(header).encode()
    with open(target, "wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for number, name, turn in places:
            file.write(np.roll(found[number][name], 1 + turn * 37_003))


def line(name: str, size: int, act: str, *arguments: str) -> None:
    begin = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-c", _CODE.format(act=act), *arguments],
        check=True,
        stdout=subprocess.PIPE,
    )
    seconds, used, memory = map(float, done.stdout.split())
    whole = time.perf_counter() - begin
    print(
        f"| {name} | {size / 1e6 / seconds:.0f} | {size / 1e6 / used * 2:.0f} | {whole:.1f} "
        f"| {memory / 1024:.0f} |",
        flush=True,
    )


def main(folder: Path, turns: int = TURNS) -> None:
    import holdfast

    print(f"{measure.machine()}\n")
    steps = sorted((folder / "s3").glob("01-*/model.safetensors"))
    with tempfile.TemporaryDirectory(prefix="holdfast-bench-", dir=folder.parent) as name:
        place = Path(name)
        one, two, lab = place / "one", place / "two", str(place / "lab")
        build(one, steps[:-1], turns)
        build(two, steps[1:], turns)
        size = one.stat().st_size
        with holdfast.open(lab) as store:
            for run in ("plain", "fast", "dense"):  # experiments of their own share nothing
                store.start_run(run, run_id=run, capture=False).finish()
        print(f"{size / 1e6:.0f} MB\n")
        print("| what | MB/s | MB/s if two cores were ours | seconds, whole process | MiB, peak |")
        print("|---|---|---|---|---|")
        put, compact = _PUT.format(compact=False), _PUT.format(compact=True)
        few = turns > TURNS
        for name, act, *arguments in (
            ("put, plain", put, lab, "plain", str(one), "m/1", "plain"),
            ("put, no base", put, lab, "fast", str(one), "m/1", "packed"),
            ("put, delta coded", put, lab, "fast", str(two), "m/2", "packed"),
            ("put again: hashed, looked up", put, lab, "fast", str(two), "m/3", "packed"),
            ("put compact, no base", compact, lab, "dense", str(one), "m/1", "packed"),
            ("put compact, delta coded", compact, lab, "dense", str(two), "m/2", "packed"),
            ("get, plain", _GET, lab, "plain", "m/1", str(place / "out")),
            ("get, delta coded", _GET, lab, "fast", "m/2", str(place / "out")),
            ("get, compact", _GET, lab, "dense", "m/2", str(place / "out")),
            ("read, plain", _READ, lab, "plain", "m/1"),
            ("read whole, plain", _WHOLE, lab, "plain", "m/1"),
            ("read whole, delta coded", _WHOLE, lab, "fast", "m/2"),
            ("read, delta coded", _READ, lab, "fast", "m/2"),
            ("read, compact", _READ, lab, "dense", "m/2"),
        ):
            if not few or (arguments[1] == "fast" and act is not _WHOLE):
                line(name, size, act, *arguments)


if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    main(Path(sys.argv[1]), *map(int, sys.argv[2:]))
