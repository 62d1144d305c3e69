"""The small files of a directory, in packs together: what goes in comes out, and little is stored."""

from __future__ import annotations

import random
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import holdfast
from holdfast import bundles
from holdfast.backend.memory import MemoryBackend
from holdfast.backend.wrap import WatchedBackend
from holdfast.bundles import Bundle
from holdfast.digest import Digest
from holdfast.errors import Corrupt, HoldfastError, InvalidValue
from holdfast.format import layout, pack, recipe
from holdfast.format.recipe import Builder, Chunk
from holdfast.format.recipe_files import bundled
from holdfast.ops import reach
from holdfast.ops.bundle import MIN_FILES
from test_faults import Faults, LosingBackend, _store

Store = holdfast.ExperimentStore
Files = dict[str, bytes]


def sources(count: int, seed: int = 0) -> Files:
    """Texts that are alike."""
    draw = random.Random(seed)
    words = [f"name_{draw.randrange(500)}" for _ in range(400)]
    return {
        f"pkg/{number:04d}.py": " ".join(draw.choices(words, k=draw.randrange(20, 400))).encode()
        for number in range(count)
    }


def write(root: Path, files: Files) -> Path:
    for path, data in files.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_bytes(data)
    return root


def read(root: Path) -> Files:
    return {str(p.relative_to(root)): p.read_bytes() for p in root.rglob("*") if p.is_file()}


def names(store: Store, prefix: str) -> list[str]:
    return [stat.name for stat in store.repository.backend.walk(prefix)]


def size(store: Store) -> int:
    backend = store.repository.backend
    return sum(s.size_bytes for p in ("blobs/", "packs/", "recipes/") for s in backend.walk(p))


def log(store: Store, root: Path, key: str, **how: Any) -> Digest:
    with store.start_run("s", run_id=key.replace("/", "-")) as run:
        return run.log_artifact(root, key, **how).digest


def test_a_directory_of_small_files_is_one_pack(store: Store, tmp_path: Path) -> None:
    files = sources(300)
    tree = log(store, write(tmp_path / "in", files), "code")
    assert [len(names(store, kind)) for kind in ("blobs/", "packs/", "recipes/")] == [1, 1, 1]
    assert size(store) < 0.5 * sum(map(len, files.values()))
    assert read(store.get_artifact("code", "code", to=tmp_path / "out")) == files
    backend = store.repository.backend
    assert set(Bundle.of(backend, tree)) == set(map(Digest.of, files.values()))
    for data in list(files.values())[::50]:  # by its digest alone
        assert store.read_artifact(str(Digest.of(data))) == data
        assert store.open_artifact(str(Digest.of(data))).read() == data
        target = store.get_artifact(str(Digest.of(data)), to=tmp_path / "one", overwrite=True)
        assert target.read_bytes() == data
    assert store.verify() == []


def test_what_did_not_change_is_not_stored_again(store: Store, tmp_path: Path) -> None:
    files = sources(200)
    first = log(store, write(tmp_path / "in", files), "code/1")
    before = size(store)
    changed = files | {"pkg/0003.py": b"changed", "new.py": b"new"}
    del changed["pkg/0007.py"]
    (tmp_path / "in" / "pkg" / "0007.py").unlink()
    second = log(store, write(tmp_path / "in", changed), "code/2")
    grown = size(store) - before
    tree = len(store.repository.backend.get(layout.blob(second)))
    assert grown < tree + 44 * 200 + 1500  # the document, the recipe's table, two files
    backend = store.repository.backend
    assert Digest.of(files["pkg/0007.py"]) in Bundle.of(backend, first)
    assert Digest.of(files["pkg/0007.py"]) not in Bundle.of(backend, second)
    assert read(store.get_artifact("code-1", "code/1", to=tmp_path / "a")) == files
    assert read(store.get_artifact("code-2", "code/2", to=tmp_path / "b")) == changed
    assert log(store, tmp_path / "in", "code/3") == second
    assert size(store) == before + grown
    assert store.verify() == []


@pytest.mark.parametrize("how", [{"layout": "plain"}, {}])
def test_few_files_and_those_that_shall_be_plain_are(
    store: Store, tmp_path: Path, how: dict[str, str]
) -> None:
    log(store, write(tmp_path / "in", sources(MIN_FILES - (not how))), "code/1", **how)
    assert not names(store, "packs/")
    assert len(names(store, "blobs/")) == 1 + MIN_FILES - (not how)


def test_plain_files_of_an_earlier_version_stay_where_they_are(
    store: Store, tmp_path: Path
) -> None:
    files = sources(40)
    log(store, write(tmp_path / "in", files), "code/1", layout="plain")
    files |= {"more.py": b"more"}
    tree = log(store, write(tmp_path / "in", files), "code/2")
    assert set(Bundle.of(store.repository.backend, tree)) == {Digest.of(b"more")}
    assert read(store.get_artifact("code-2", "code/2", to=tmp_path / "out")) == files
    assert store.verify() == []


def test_out_of_the_bundle_and_into_it(store: Store, tmp_path: Path) -> None:
    files = sources(30) | {"empty": b"", "twice": b"same", "again": b"same"}
    log(store, write(tmp_path / "in", files), "a")
    [row] = store.materialize("a")
    assert row.size_bytes == sum(map(len, set(files.values())))
    assert len(names(store, "blobs/")) == 1 + len(set(files.values()))
    assert store.materialize("a") == []
    for name in (*names(store, "recipes/"), *names(store, "packs/")):
        store.repository.backend.delete(name)
    assert read(store.get_artifact("a", "a", to=tmp_path / "out")) == files
    [row] = store.pack("a")
    assert row.new_bytes < row.size_bytes
    for name in names(store, "blobs/"):
        if name.rpartition("/")[2] in {Digest.of(data).hex for data in files.values() if data}:
            store.repository.backend.delete(name)
    assert read(store.get_artifact("a", "a", to=tmp_path / "again")) == files
    assert store.pack("a") == []
    assert store.verify() == []


def test_a_run_needs_the_bundle_and_no_blobs(store: Store, tmp_path: Path) -> None:
    files = sources(30)
    tree = log(store, write(tmp_path / "in", files | {"empty": b""}), "a")
    found = reach.of_run(store.repository, "a").artifacts
    assert set(found) == {tree, Digest.of(b"")}
    homes = reach.Homes(store.repository.backend)
    assert homes.files(tree) == set(names(store, "packs/") + names(store, "recipes/")) | {
        layout.blob(tree)
    }
    usage = store.du(by="artifact")
    assert usage.garbage_bytes == 0
    [row] = [row for row in usage.rows if row.key == "a"]
    assert row.freed_bytes == size(store)


def test_a_damaged_pack_costs_the_files_in_the_chunk_and_no_others(tmp_path: Path) -> None:
    files = {f"{n:03d}": random.Random(n).randbytes(20_000) for n in range(80)}
    write(tmp_path / "in", files)
    with holdfast.open(tmp_path / "lab") as store:
        log(store, tmp_path / "in", "a")
        [path] = [p for p in (tmp_path / "lab" / "packs").rglob("*") if p.is_file()]
        broken = bytearray(path.read_bytes())
        broken[1000] ^= 1
        path.write_bytes(broken)
        lost, problems = [], set()
        for name, data in files.items():
            try:
                found = store.read_artifact(str(Digest.of(data)))
            except Corrupt as error:
                lost.append(name)
                problems.add(path.name in error.message)
            else:
                assert found == data
        assert problems == {True}
        assert lost == sorted(files)[:27]  # those of the first chunk
        assert [one.place for one in store.verify()] == [
            f"packs/sha256/{path.parent.name}/{path.name}"
        ]
        with pytest.raises(Corrupt):
            store.get_artifact("a", "a", to=tmp_path / "out")
        for name in lost:  # other forms of them serve, and the damage is still told
            store.add_artifact_file("a", files[name], f"again/{name}")
        assert read(store.get_artifact("a", "a", to=tmp_path / "out2")) == files
        assert store.verify()


def test_where_the_bundle_is_damaged_plain_files_are_read(store: Store, tmp_path: Path) -> None:
    files = sources(30)
    log(store, write(tmp_path / "in", files), "a")
    [name] = names(store, "recipes/")
    backend = store.repository.backend
    whole = backend.get(name)
    backend.delete(name)
    backend.create(name, whole[:-1])
    with pytest.raises(Corrupt, match=name):
        store.get_artifact("a", "a", to=tmp_path / "out")
    for path, data in files.items():
        store.add_artifact_file("a", data, path)
    assert read(store.get_artifact("a", "a", to=tmp_path / "out2")) == files
    assert name in [one.place for one in store.verify()]


def _ingest(store: Store, root: Path, said: list[str]) -> None:
    with store.start_run("s", run_id="s", capture=False) as run:
        for key in ("c/0", "c/1"):
            run.log_artifact(root / key[2:], key)
            said.append(key)


@pytest.mark.parametrize("wrapper", [WatchedBackend, LosingBackend])
def test_any_one_call_may_fail_while_storing(wrapper: type[WatchedBackend], tmp_path: Path) -> None:
    first = sources(20)
    second = first | {"pkg/0001.py": b"changed"}
    for name, files in (("0", first), ("1", second)):
        write(tmp_path / name, files)
    number, failed = 0, 0
    while True:
        number += 1
        backend, faults = MemoryBackend(), Faults()
        said: list[str] = []
        store = _store(wrapper(backend, faults))
        faults.left, faults.calls = number, 0
        try:
            _ingest(store, tmp_path, said)
        except HoldfastError:
            failed += 1
        reached, faults.left = faults.calls, -1
        store.close()
        with _store(backend) as again:
            assert again.verify() == []
            state = again.repository.manifest("s").load().state.get("artifacts", {})
            assert set(said) <= set(state)
            for key, files in (("c/0", first), ("c/1", second)):
                if key in state:
                    out = tmp_path / f"{number}-{key[2:]}"
                    assert read(again.get_artifact("s", key, to=out)) == files
        if reached < number:
            break
    assert failed >= 10


_KILLED = """
import os, sys
from pathlib import Path
sys.path[:0] = [sys.argv[2]]
from holdfast.backend.local import LocalBackend
from holdfast.backend.wrap import WatchedBackend
from holdfast.repository import connected
from holdfast.store import ExperimentStore

for last in range(1, 10**6, 2):
    child = os.fork()
    if not child:
        calls = [0]
        def watch(operation, name):
            calls[0] += 1
            if calls[0] == last:
                os.kill(os.getpid(), 9)
        store = ExperimentStore()
        store.repository = connected(WatchedBackend(LocalBackend(f"{sys.argv[1]}/{last}"), watch))
        store.start_run("s", run_id="s", capture=False)
        for number in "01":
            store.add_artifact_file("s", Path(sys.argv[3], number), f"c/{number}")
        os._exit(0)
    if os.waitpid(child, 0)[1] == 0:
        print(last)
        break
"""


def test_a_process_may_be_killed_at_any_call(tmp_path: Path) -> None:
    series = [sources(20), sources(20) | {"new": b"new"}]
    for number, files in enumerate(series):
        write(tmp_path / "in" / str(number), files)
    arguments = [str(tmp_path), str(Path(__file__).parent), str(tmp_path / "in")]
    done = subprocess.run(
        [sys.executable, "-c", _KILLED, *arguments], check=True, capture_output=True, text=True
    )
    begun = 0
    for number in range(1, int(done.stdout) + 1, 2):
        if not (tmp_path / str(number) / "store.json").exists():
            continue
        with holdfast.open(tmp_path / str(number), cache=False) as store:
            assert store.verify() == []
            state = store.repository.manifest("s").load().state
            for key in state.get("artifacts", {}):
                out = store.get_artifact("s", key, to=tmp_path / f"{number}-{key[2:]}")
                assert read(out) == series[int(key[2:])]
            begun += "run" in state
    assert begun > 8


def test_a_file_that_grows_or_empties_while_the_directory_is_read(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = sources(20)
    root = write(tmp_path / "in", files)
    inner = holdfast.directories.scan_tree

    def scan(path: Path) -> Iterator[Any]:
        yield from inner(path)
        (root / "pkg" / "0003.py").write_bytes(b"")
        (root / "pkg" / "0004.py").write_bytes(b"x" * (2 << 20))

    monkeypatch.setattr("holdfast.directories.scan_tree", scan)
    log(store, root, "a")
    found = read(store.get_artifact("a", "a", to=tmp_path / "out"))
    assert found == files | {"pkg/0003.py": b"", "pkg/0004.py": b"x" * (2 << 20)}
    assert store.verify() == []


def _bundle(**changes: Any) -> bytes:
    """A bundle of one chunk of 10 bytes, with fields of its files changed."""
    builder, home = Builder(), Digest.of(b"home")
    builder.append(builder.add(Chunk(bytes(32), 10, home, True, pack.FRONT_BYTES, 10)))
    files = bundled([(Digest.of(b"a"), 0, 4), (Digest.of(b"b"), 4, 6)])
    made_of = builder.build(Digest.of(b"tree"), files=files)
    for name, value in changes.items():
        object.__setattr__(files, name, value)
    return recipe.encode(made_of)


def test_a_hostile_bundle_is_refused() -> None:
    assert recipe.decode(_bundle(), place="r").files is not None
    whole = recipe.decode(_bundle(), place="r").files
    assert whole is not None
    for changes in (
        {"ids": whole.ids[32:] + whole.ids[:32]},
        {"ids": whole.ids[:32] * 2},
        {"ids": whole.ids[:32]},
        {"ids": whole.ids + b"x"},
        {"starts": whole.starts + 1},
        {"starts": whole.starts[:1]},
        {"starts": whole.starts + (2**64 - 5)},
        {"sizes": whole.sizes + 1},
        {"sizes": whole.sizes + (2**32 - 7)},
    ):
        with pytest.raises(Corrupt, match="file"):
            recipe.decode(_bundle(**changes), place="r")
    with pytest.raises(InvalidValue, match="outside"):
        Builder().build(Digest.of(b"tree"), files=bundled([(Digest.of(b"a"), 0, 1)]))


@given(st.lists(st.tuples(st.binary(max_size=3), st.integers(0, 50), st.integers(0, 50))))
def test_files_are_found_by_their_digests(rows: list[tuple[bytes, int, int]]) -> None:
    places = {Digest.of(name): (start, size) for name, start, size in rows}
    found = bundled([(digest, *place) for digest, place in places.items()])
    for digest, (start, size) in places.items():
        assert found.find(digest) == (start, start + size)
    assert found.find(Digest.of(b"another")) is None
    assert set(found.in_order()) == set(found.digests()) == set(places)


def test_a_bundle_under_the_name_of_another_directory_is_damage(tmp_path: Path) -> None:
    with holdfast.open(tmp_path / "lab") as store:
        tree = log(store, write(tmp_path / "in", sources(20)), "a")
        backend = store.repository.backend
        [name] = names(store, "recipes/")
        other = layout.bundle(Digest.of(b"other"), bytes(16))
        backend.create(other, backend.get(name))
        assert bundles.load(backend, tree)[1] is None
        assert bundles.load(backend, Digest.of(b"other"))[1] is not None
        assert [one.place for one in store.verify()] == [other]
