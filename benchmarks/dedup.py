"""Series of checkpoints in Holdfast, restic, borg, zstd and as copies: what they take, how fast they go.

`python -m benchmarks dedup`. HOLDFAST_SERIES names a folder where `python -m benchmarks.series` made the
series; else they are trained first. `apt install restic borgbackup zstd` brings three of the others, `pip
install hf-xet` another, and dvc is best installed where nothing else is; what is not there is left out.
HOLDFAST_TOOLS and HOLDFAST_ONLY, with commas, choose tools and series.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import subprocess
import sys
import sysconfig
import time
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from benchmarks import measure

QUIET: dict[str, Any] = {"check": True, "stdout": subprocess.DEVNULL}
Versions = list[Path]  # a folder, or one file, for each version
_PEAK = "next(int(line.split()[1]) for line in open('/proc/self/status') if 'VmHWM' in line) / 1024"

# In a new process each: speeds hold the start of Python, and the peak of memory is its own.
_HOLDFAST = f"""
import json, sys, time, holdfast
from pathlib import Path
url, how, versions, out, together = json.loads(sys.stdin.read())
begin, keys, first = time.perf_counter(), [], None
with holdfast.open(url) as store:
    for number, version in enumerate(versions):
        path = Path(version)
        sibling = "sibling" in path.name
        if not keys or sibling or "base" in Path(versions[number - 1]).name:
            run = store.start_run("series", capture=False, system=False)
        parts = [path] if path.is_file() or together else sorted(p for p in path.rglob("*") if p.is_file())
        for part in parts:
            key = f"checkpoints/{{number}}/{{part.name if part != path else 'all'}}"
            base = str(first) if sibling else None
            about = run.log_artifact(part, key, base=base, **how)
            first = first or about.digest
            keys.append((run.id, key))
        if sibling or "base" in path.name:
            run.finish()
    run.finish()
put = time.perf_counter() - begin
peak = {_PEAK}
begin = time.perf_counter()
with holdfast.open(url, read_only=True) as store:
    for number, (run_id, key) in enumerate(keys):
        store.get_artifact(run_id, key, to=f"{{out}}/{{number}}")
print(json.dumps([put, time.perf_counter() - begin, max(peak, {_PEAK})]))
"""


def holdfast_store(versions: Versions, place: Path, **how: Any) -> tuple[float, float, float]:
    """Seconds in and out, and the peak of memory in MiB."""
    together = all(path.is_dir() and len(list(path.iterdir())) > 100 for path in versions)
    asked = [str(place / "store"), how, list(map(str, versions)), str(place / "out"), together]
    (place / "out").mkdir()
    answer = subprocess.run(
        [sys.executable, "-c", _HOLDFAST],
        input=json.dumps(asked).encode(),
        check=True,
        stdout=subprocess.PIPE,
    )
    put, get, peak = json.loads(answer.stdout)
    return put, get, peak


def timed(work: Callable[[], object]) -> float:
    begin = time.perf_counter()
    work()
    return time.perf_counter() - begin


def copies(versions: Versions, place: Path) -> tuple[float, float, float | None]:
    """What DVC, git-lfs and most trackers keep: whole files."""

    def copy(source: Path, target: Path) -> None:
        target.parent.mkdir(parents=True, exist_ok=True)
        (shutil.copytree if source.is_dir() else shutil.copyfile)(source, target)

    put = timed(lambda: [copy(v, place / "store" / str(n)) for n, v in enumerate(versions)])
    get = timed(lambda: copy(place / "store", place / "out"))
    return put, get, None


def zstd(versions: Versions, place: Path) -> tuple[float, float, float | None]:
    (place / "store").mkdir()
    (place / "out").mkdir()

    def put() -> None:
        for number, version in enumerate(versions):
            archive = place / "store" / f"{number}.tar.zst"
            command = [
                "tar",
                "-C",
                version.parent,
                "-I",
                "zstd -3 -T2",
                "-cf",
                archive,
                version.name,
            ]
            subprocess.run(command, **QUIET)

    def get() -> None:
        for archive in (place / "store").iterdir():
            into = place / "out" / archive.name
            into.mkdir()
            subprocess.run(["tar", "-C", into, "-I", "zstd", "-xf", archive], **QUIET)

    return timed(put), timed(get), None


def restic(versions: Versions, place: Path) -> tuple[float, float, float | None]:
    environment = os.environ | {
        "RESTIC_REPOSITORY": str(place / "store"), "RESTIC_PASSWORD": "x",
        "RESTIC_CACHE_DIR": str(place / "cache"),
    }  # fmt: skip

    def call(*command: object) -> None:
        subprocess.run(["restic", "-q", *map(str, command)], env=environment, **QUIET)

    call("init", "--repository-version", "2")
    put = timed(lambda: [call("backup", "--tag", n, v) for n, v in enumerate(versions)])
    tags = range(len(versions))
    get = timed(
        lambda: [
            call("restore", "latest", "--tag", n, "--target", place / "out" / str(n)) for n in tags
        ]
    )
    return put, get, None


def borg(versions: Versions, place: Path) -> tuple[float, float, float | None]:
    store = str(place / "store")
    environment = os.environ | {"BORG_BASE_DIR": str(place / "cache")}

    def call(*command: object, cwd: Path = place) -> None:
        subprocess.run(["borg", *map(str, command)], env=environment, cwd=cwd, **QUIET)

    call("init", "-e", "none", store)
    (place / "out").mkdir()
    create = ["create", "-C", "zstd,3", "--chunker-params", "buzhash,14,18,16,4095"]
    put = timed(lambda: [call(*create, f"{store}::{n}", v) for n, v in enumerate(versions)])

    def get() -> None:
        for number in range(len(versions)):
            (place / "out" / str(number)).mkdir()
            call("extract", f"{store}::{number}", cwd=place / "out" / str(number))

    return put, timed(get), None


def dvc(versions: Versions, place: Path) -> tuple[float, float, float | None]:
    """Its cache is the store; one call of it a version, as a training script would."""
    work = place / "work"
    work.mkdir()

    def call(*command: object) -> None:
        environment = os.environ | {"DVC_NO_ANALYTICS": "1", "DVC_SITE_CACHE_DIR": str(place / "c")}
        subprocess.run(["dvc", *map(str, command), "-q"], env=environment, cwd=work, **QUIET)

    call("init", "--no-scm")
    call("config", "cache.dir", place / "store")
    call("config", "cache.type", "copy")
    names = [f"{number}" for number in range(len(versions))]
    for name, version in zip(names, versions, strict=True):
        if version.is_dir():
            shutil.copytree(version, work / name)
        else:
            shutil.copyfile(version, work / name)
    put = timed(lambda: [call("add", name) for name in names])
    for name in names:
        shutil.rmtree(work / name) if (work / name).is_dir() else (work / name).unlink()
    return put, timed(lambda: call("checkout")), None


_XET = """
import json, sys, time, hf_xet
files, store, out = json.loads(sys.stdin.read())
begin, found = time.perf_counter(), []
for group in files:
    found += hf_xet.upload_files(group, store, None, None, None, "model")
put, begin = time.perf_counter() - begin, time.perf_counter()
wanted = [
    hf_xet.PyXetDownloadInfo(f"{out}/{n}", one.hash, one.file_size) for n, one in enumerate(found)
]
hf_xet.download_files(wanted, store, None, None, None)
print(json.dumps([put, time.perf_counter() - begin]))
"""


def xet(versions: Versions, place: Path) -> tuple[float, float, float | None]:
    """Hugging Face's own client with a store on this disk, whose shards and blocks are counted."""
    files = [sorted(map(str, filter(Path.is_file, version.rglob("*")))) for version in versions]
    files = [found or [str(version)] for found, version in zip(files, versions, strict=True)]
    asked = [files, f"local://{place / 'store'}", str(place / "out")]
    (place / "store").mkdir()
    (place / "out").mkdir()
    answer = subprocess.run(
        [sys.executable, "-c", _XET],
        input=json.dumps(asked).encode(),
        env=os.environ | {"HF_XET_CACHE": str(place / "cache")},
        check=True,
        stdout=subprocess.PIPE,
    )
    put, get = json.loads(answer.stdout.splitlines()[-1])
    return put, get, None


TOOLS: dict[str, Callable[..., Any]] = {
    "copy": copies,
    "dvc": dvc,
    "xet": xet,
    "zstd -3": zstd,
    "restic": restic,
    "borg, 64 KiB, zstd": borg,
    "Holdfast": holdfast_store,
    "Holdfast compact": lambda versions, place: holdfast_store(versions, place, compact=True),
}


CHOSEN = [tool for tool in os.environ.get("HOLDFAST_TOOLS", "").split(",") if tool]
ONLY = [name for name in os.environ.get("HOLDFAST_ONLY", "").split(",") if name]


def is_there(program: str) -> bool:
    if program == "xet":
        return find_spec("hf_xet") is not None
    return program in ("copy", "Holdfast") or shutil.which(program) is not None


def compare(name: str, versions: Versions, place: Path, without: tuple[str, ...] = ()) -> None:
    logical = sum(map(measure.size_bytes, versions))
    for tool, work in TOOLS.items():
        if tool in without or (CHOSEN and tool not in CHOSEN):
            continue
        if not is_there(tool.split()[0].strip(",")):
            print(f"| {name} | {tool} | not installed | | | |")
            continue
        home = place / "tool"
        home.mkdir()
        put, get, peak = work(versions, home)
        stored = measure.size_bytes(home / "store")
        speeds = [logical / 1e6 / seconds for seconds in (put, get)]
        memory = "" if peak is None else f"{peak:.0f}"
        print(
            f"| {name} | {tool} | {stored / logical:.3f} | {speeds[0]:.0f} | {speeds[1]:.0f} | {memory} |",
            flush=True,
        )
        shutil.rmtree(home)


def series(place: Path) -> Path:
    made = os.environ.get("HOLDFAST_SERIES")
    if made:
        return Path(made)
    subprocess.run([sys.executable, "-m", "benchmarks.series", place / "series"], **QUIET)
    return place / "series"


def small_files(place: Path) -> Versions:
    """2,000 files of source text; from one version to the next a line is added to every twentieth."""
    draw, home = random.Random(1), Path(sysconfig.get_paths()["stdlib"])
    sources = [p for p in sorted(home.rglob("*.py")) if "site-packages" not in p.parts][:2000]
    folder = place / "0"
    folder.mkdir(parents=True)
    for number, source in enumerate(sources):
        (folder / f"{number:04d}.py").write_bytes(source.read_bytes())
    for version in range(1, 5):
        shutil.copytree(place / str(version - 1), place / str(version))
        for path in draw.sample(sorted((place / str(version)).iterdir()), len(sources) // 20):
            lines = path.read_bytes().splitlines(keepends=True)
            lines.insert(draw.randrange(len(lines) + 1), b"# version %d\n" % version)
            path.write_bytes(b"".join(lines))
    return [place / str(version) for version in range(5)]


def tables(place: Path) -> Versions:
    """A table of 300 MB as text, and the same with a hundred rows put in at ten places."""
    place.mkdir()
    draw = random.Random(2)
    row = lambda n: b"%d,%.6f,%.6f,%s\n" % (n, draw.random(), draw.gauss(0, 1), draw.choice(WORDS))  # noqa: E731
    rows = [row(number) for number in range(100_000)]
    block = b"".join(rows)
    with open(place / "table-0.csv", "wb") as first:
        while first.tell() < 300e6:
            first.write(b"".join(draw.sample(rows, len(rows))) if first.tell() else block)
    data = (place / "table-0.csv").read_bytes()
    cuts = sorted(data.index(b"\n", draw.randrange(len(data) - 1000)) + 1 for _ in range(10))
    with open(place / "table-1.csv", "wb") as second:
        for start, stop in zip([0, *cuts], [*cuts, len(data)], strict=True):
            second.write(data[start:stop] + b"".join(map(row, range(10))))
    return [place / "table-0.csv", place / "table-1.csv"]


WORDS = [b"alpha", b"beta", b"gamma", b"delta", b"epsilon"]


def large_checkpoint(path: Path) -> None:
    """1 GB of normally distributed bfloat16 in 64 tensors, as safetensors."""
    import numpy as np

    header: dict[str, Any] = {}
    size, draw = 16_000_000, np.random.default_rng(1)
    for number in range(64):
        at = [number * size, (number + 1) * size]
        header[f"layer.{number}"] = {"dtype": "BF16", "shape": [2000, 4000], "data_offsets": at}
    text = json.dumps(header).encode()
    with open(path, "wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for _ in range(64):
            values = draw.standard_normal(8_000_000, dtype="f4")
            file.write((values.view("u4") >> 16).astype("u2").tobytes())


def one_tensor(place: Path) -> None:
    """One of 64 tensors of a checkpoint of 1 GB: bytes and requests, in either layout."""
    import dataclasses

    import holdfast
    from holdfast.backend.wrap import WatchedBackend

    class Counted(WatchedBackend):
        total = requests = 0

        def get(self, name: str) -> bytes:
            return self.count(super().get(name))

        def get_range(self, name: str, offset: int, length: int) -> bytes:
            return self.count(super().get_range(name, offset, length))

        def count(self, data: bytes) -> bytes:
            self.total, self.requests = self.total + len(data), self.requests + 1
            return data

    path = place / "model.safetensors"
    large_checkpoint(path)
    print(
        "| one tensor of 16 MB of 1,024 MB | MB read | requests | ms | in, MB/s | out, MB/s | peak, MiB |"
    )
    print("|---|---|---|---|---|---|---|")
    for layout in ("plain", "packed"):
        home = place / layout
        home.mkdir()
        put, get, peak = holdfast_store([path], home, layout=layout)
        with holdfast.open(home / "store", read_only=True) as store:
            [run] = store.runs()
            watched = Counted(store.repository.backend, lambda operation, name: None)
            store.repository = dataclasses.replace(store.repository, backend=watched)
            begin = time.perf_counter()
            store.open_tensors(run.run_id, next(iter(run.artifacts)))["layer.31"]
            spent = time.perf_counter() - begin
        speeds = [path.stat().st_size / 1e6 / seconds for seconds in (put, get)]
        print(
            f"| {layout} | {watched.total / 1e6:.2f} | {watched.requests} | {1000 * spent:.0f} "
            f"| {speeds[0]:.0f} | {speeds[1]:.0f} | {peak:.0f} |",
            flush=True,
        )
        shutil.rmtree(home)


def run(place: Path) -> None:
    made = series(place)
    print(f"Load when it began: {os.getloadavg()[0]:.1f}.\n")
    print("| series | tool | stored / logical | in, MB/s | out, MB/s | peak, MiB |")
    print("|---|---|---|---|---|---|")
    for name in ("s1", "s2", "s3", "s4", "s5"):
        versions = sorted(path for path in (made / name).iterdir() if path.is_dir())
        if not ONLY or name in ONLY:
            compare(name, versions, place)
    if not ONLY or "small files" in ONLY:
        compare("small files", small_files(place / "small"), place, ("Holdfast compact",))
    if not ONLY or "table" in ONLY:
        compare("table", tables(place / "tables"), place, ("Holdfast compact",))
    if not ONLY or "one tensor" in ONLY:
        print()
        one_tensor(place)
