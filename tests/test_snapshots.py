"""Snapshots: one digest over everything, the same wherever the same is held, made while others write; the
store read as it was; and proofs that need no store."""

from __future__ import annotations

import hashlib
import json
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import settings as example_settings
from hypothesis import strategies as st

import holdfast
import old_stores
from holdfast import ExperimentStore, RunStatus
from holdfast.backend.memory import MemoryBackend
from holdfast.backend.wrap import WatchedBackend
from holdfast.chain import Chain
from holdfast.errors import (
    ArtifactNotFound,
    BackendError,
    Corrupt,
    DigestMismatch,
    HoldfastError,
    InvalidValue,
    ReadOnly,
    RunNotFound,
    SnapshotNotFound,
)
from holdfast.format import layout, proof
from holdfast.ops import snapshots
from holdfast.repository import connected
from test_faults import Faults, LosingBackend


def fill(store: ExperimentStore, folder: Path | None = None) -> None:
    """Two runs of an experiment and one of another; metrics, artifacts, ranks, an alias."""
    for number, experiment in enumerate(["resnet", "resnet", "other"]):
        config = {"lr": 0.1 * (number + 1)}
        with store.start_run(
            experiment, run_id=f"run-{number}", config=config, capture=False
        ) as run:
            for step in range(20):
                run.log({"loss": 1 / (step + 1), "acc": step * number}, step=step)
            for key in ("model.pt", "log.txt", "deep/er.bin"):
                run.log_artifact(f"{key} of {number}".encode(), key=key)
            if number == 0:
                with store.join_run(run.id, rank=3) as joined:
                    joined.log({"loss": 7.0}, step=100)
                run.log_artifact(bytes(3 << 20), key="large.bin")
                if folder is not None:
                    (folder / "d").mkdir()
                    (folder / "d/x").write_bytes(b"x")
                    run.log_artifact(folder / "d", key="folder")
    store.alias("prod", "run-0:model.pt")


def go_on(store: ExperimentStore) -> None:
    """Everything changes that can change."""
    with store.resume("run-0", step=5) as run:
        run.log({"loss": 99.0}, step=5)
        run.log_artifact(b"other bytes", key="model.pt")
        run.set_tags({"new": True})
    store.delete_run("run-1")
    store.alias("prod", "run-2:model.pt")
    store.alias("dev", "run-2")
    fresh = store.start_run("fresh", run_id="run-9", capture=False)
    fresh.log({"loss": 3.0}, step=0)
    fresh.finish(RunStatus.FAILED)
    store.compact()


def everything(store: ExperimentStore) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(json.dumps(old_stores.describe(store)))
    del found["store_id"]  # of the store, and not of what it holds
    found["aliases"] = {alias.name: alias.address for alias in store.aliases()}
    found["sql"] = store.sql("SELECT * FROM artifacts ORDER BY run_id, key").rows
    return found


@pytest.fixture
def lab(tmp_path: Path) -> Path:
    with holdfast.open(tmp_path / "lab") as store:
        fill(store, tmp_path)
    return tmp_path / "lab"


def bare(backend: Any) -> ExperimentStore:
    store = ExperimentStore()
    store.repository = connected(backend)
    return store


def test_the_id_is_what_sha256sum_says(lab: Path) -> None:
    with holdfast.open(lab) as store:
        taken = store.snapshot("paper")
        assert taken.is_exact and taken.name == "paper"
        assert taken.chains == 2 + 3 + 1 + 1  # experiments, runs, a rank, an alias
        file = lab / layout.blob(taken.digest)
        said = subprocess.run(["sha256sum", file], capture_output=True, text=True, check=True)
        assert f"sha256:{said.stdout.split()[0]}" == str(taken)
        assert file.stat().st_size < 200, "it is little, so that it fits into a proof"
        (kept,) = store.snapshots()
        assert (kept.name, kept.target and kept.target.digest) == ("paper", str(taken))


def test_it_says_the_same_until_something_changes(lab: Path) -> None:
    with holdfast.open(lab) as store:
        first = store.snapshot()
        assert first.name is None
        assert not (lab / layout.blob(first.digest)).exists(), "only worked out"
        assert store.snapshot("paper").digest == first.digest
        assert store.snapshot("paper").digest == store.snapshot("other").digest == first.digest
        assert len(Chain(store.repository.backend, layout.snapshot("paper")).load().state) == 2
        changes: list[Callable[[], Any]] = [
            lambda: store.alias("x", "run-1"),
            lambda: store.delete_run("run-2"),
            lambda: store.add_artifact_file("run-1", b"1", "one"),
            lambda: store.start_run("resnet", capture=False).finish(),
        ]
        seen = {first.digest}
        for change in changes:
            change()
            seen.add(store.snapshot().digest)
        assert len(seen) == len(changes) + 1


def test_it_says_nothing_of_the_store_but_what_it_holds(lab: Path) -> None:
    """Another id, no heads, other recipes and packs, garbage, an open spool: the same snapshot."""
    with holdfast.open(lab) as store:
        wanted = store.snapshot("paper").digest
    other = MemoryBackend()
    bare(other)
    for path in sorted(lab.rglob("*")):
        name = path.relative_to(lab).as_posix()
        if path.is_file() and name.startswith(("experiments/", "runs/", "aliases/")):
            other.create(name, path.read_bytes())
    other.create("runs/run-9/spool/00000000-000000.spool", b"")
    other.create(layout.pack(wanted), b"garbage")
    copy = bare(other)
    with holdfast.open(lab) as store:
        assert copy.repository.store_id != store.store_id
        for about in store.artifacts("run-1"):  # stored anew, and plain
            copy.repository.backend.create(
                layout.blob(about.digest), store.read_artifact("run-1", about.key)
            )
    assert copy.snapshot("here").digest == wanted
    assert copy.snapshot().digest == wanted
    then = bare(other)
    then.repository = snapshots.pinned(copy.repository, str(wanted))
    assert then.read_artifact("run-1:model.pt") == b"model.pt of 1"


@pytest.mark.parametrize("how", ["name", "id"])
def test_the_store_is_read_as_it_was(lab: Path, how: str, tmp_path: Path) -> None:
    with holdfast.open(lab) as store:
        wanted = everything(store)
        taken = store.snapshot("paper")
        go_on(store)
        assert everything(store) != wanted
    for _ in range(2):  # the second time from the catalog that the first one left
        with holdfast.open(lab, at={"name": "paper", "id": str(taken)}[how]) as then:
            assert everything(then) == wanted
            assert then.snapshot().digest == taken.digest
            assert then.read_artifact("prod") == b"model.pt of 0"
            assert then.read_artifact("resnet:model.pt@v0") == b"model.pt of 0"
            assert [run.run_id for run in then.runs("config.lr < 0.15")] == ["run-0"]
            assert then.metrics("run-0", "loss").values[-1] == 7.0
            assert then.get_artifact("run-0:folder", to=tmp_path / "out").is_dir()
            assert then.du().total_bytes > 0
            assert then.verify() == []
            with pytest.raises(RunNotFound):
                then.run("run-9")
    with holdfast.open(lab) as store:
        assert "run-9" in everything(store)["runs"]


def test_nothing_can_be_written_to_what_was(lab: Path) -> None:
    with holdfast.open(lab) as store:
        store.snapshot("paper")
    before = sorted(lab.rglob("*"))
    with holdfast.open(lab, at="paper") as then:
        acts: list[Callable[[], Any]] = [
            lambda: then.start_run("resnet", capture=False),
            lambda: then.resume("run-0"),
            lambda: then.add_artifact_file("run-0", b"1", "x"),
            lambda: then.delete_run("run-0"),
            lambda: then.alias("x", "run-0"),
            lambda: then.snapshot("again"),
        ]
        for act in acts:
            with pytest.raises(ReadOnly, match="is a snapshot"):
                act()
        assert then.recover() == []
    assert sorted(lab.rglob("*")) == before


def test_a_run_that_was_going_on_is_shown_as_going_on(lab: Path) -> None:
    code = (
        "import holdfast, os, sys\n"
        "store = holdfast.open(sys.argv[1])\n"
        "run = store.start_run('live', run_id='live', capture=False)\n"
        "run.log({'loss': 1.0}, step=0)\n"
        "run._writer.seal(go_on=True)\n"
        "run.log({'loss': 2.0}, step=1)\n"
        "store.snapshot('then')\n"
        "os.kill(os.getpid(), 9)\n"
    )
    subprocess.run([__import__("sys").executable, "-c", code, lab], check=False)
    with holdfast.open(lab) as store:
        assert store.run("live").crashed
        store.recover()
    with holdfast.open(lab, at="then") as then:
        assert then.run("live").state == "Running"
        assert [run.state for run in then.runs("experiment == 'live'")] == ["Running"]
        assert then.metrics("live", "loss").values.tolist() == [1.0], "what was sealed"


def test_what_is_no_snapshot_is_refused(lab: Path) -> None:
    with holdfast.open(lab) as store:
        blob = store.artifact("run-0:model.pt").digest
    for at, error in [
        ("nothing", SnapshotNotFound),
        ("sha256:" + "0" * 64, SnapshotNotFound),
        (str(blob), InvalidValue),
        ("sha256:12", InvalidValue),
        ("a@b", InvalidValue),
    ]:
        with pytest.raises(error):
            holdfast.open(lab, at=at)
    with pytest.raises(HoldfastError):
        holdfast.open(lab.parent / "nowhere", at="paper")
    assert not (lab.parent / "nowhere").exists()


def test_a_damaged_document_is_told(lab: Path) -> None:
    with holdfast.open(lab) as store:
        taken = store.snapshot("paper")
        _, document, _ = snapshots.load(store.repository, taken.digest)
    for digest in (taken.digest, document.list):
        path = lab / layout.blob(digest)
        good = path.read_bytes()
        path.write_bytes(good[:-1] + bytes([good[-1] ^ 1]))
        with pytest.raises(DigestMismatch, match=digest.hex):
            holdfast.open(lab, at="paper", cache=False)
        path.write_bytes(good)
        holdfast.open(lab, at="paper", cache=False).close()


def test_a_store_with_a_damaged_chain_has_no_snapshot(lab: Path) -> None:
    with holdfast.open(lab) as store:
        for damage in (b"nonsense", None):
            path = lab / "runs/run-1/manifest/00000000"
            good = path.read_bytes()
            path.write_bytes(damage) if damage else path.unlink()
            newest = max((lab / "runs/run-1/manifest").iterdir())
            newest_good = newest.read_bytes()
            newest.write_bytes(b"nonsense")
            with pytest.raises(Corrupt, match="runs/run-1/manifest"):
                store.snapshot("paper")
            path.write_bytes(good), newest.write_bytes(newest_good)
        assert store.snapshots() == []


def test_an_entry_that_was_replaced_is_not_what_the_snapshot_has(lab: Path) -> None:
    """Somebody rewrites history: every entry is well-formed, and the chain is whole."""
    with holdfast.open(lab) as store:
        store.snapshot("paper")
        chain = store.repository.manifest("run-1")
        newest = chain.load()
        entry, _ = chain.read(newest.number)
        forged = replace(entry, body={**newest.state, "tags": {"better": True}}, full=True)
        from holdfast.format import entry as entries

        (lab / layout.entry(chain.prefix, newest.number)).write_bytes(entries.encode(forged))
        assert store.run("run-1").tags == {"better": True}
    with holdfast.open(lab, at="paper") as then:
        with pytest.raises(DigestMismatch, match="another entry than the snapshot has"):
            then.run("run-1")
        assert then.run("run-0").run_id == "run-0"


# While others write.


class Meanwhile:
    """Does something else right before the listing number `at` of the runs."""

    def __init__(self, at: set[int] | None, act: Callable[[int], Any]) -> None:
        self.at, self.act, self.listings = at, act, 0

    def __call__(self, operation: str, name: str) -> None:
        if (operation, name) == ("walk", layout.RUNS):
            self.listings += 1
            if self.at is None or self.listings in self.at:
                self.act(self.listings)


def test_what_changes_meanwhile_is_looked_at_again() -> None:
    inner = MemoryBackend()
    writer = bare(inner)
    fill(writer)
    watch = Meanwhile({2, 3}, lambda n: writer.add_artifact_file("run-1", b"1", f"x{n}"))
    taken = bare(WatchedBackend(inner, watch)).snapshot()
    assert taken.is_exact and watch.listings == 4
    assert taken.digest == writer.snapshot().digest


def test_who_never_rests_gets_a_snapshot_that_says_so() -> None:
    inner = MemoryBackend()
    writer = bare(inner)
    fill(writer)
    watch = Meanwhile(None, lambda n: writer.add_artifact_file("run-1", b"1", f"x{n}"))
    reader = bare(WatchedBackend(inner, watch))
    taken = reader.snapshot("busy")
    assert not taken.is_exact
    then = bare(inner)
    then.repository = snapshots.pinned(then.repository, "busy")
    keys = {info.key for info in then.artifacts("run-1")}
    assert {"model.pt", "x1"} <= keys, "all that was there when it began"
    assert then.verify() == []


@example_settings(max_examples=15)
@given(st.lists(st.integers(0, 6), max_size=12), st.integers(0, 12))
def test_whatever_happens_later_the_store_is_read_as_it_was(acts: list[int], when: int) -> None:
    store = bare(MemoryBackend())
    made = 0

    def act(number: int) -> None:
        nonlocal made
        made += 1
        runs = [run.run_id for run in store.runs(deleted=True)]
        if number == 0 or not runs:
            with store.start_run("e", run_id=f"r{made}", capture=False) as run:
                run.log({"x": made}, step=made)
        elif number == 1:
            store.add_artifact_file(runs[0], f"{made}".encode(), "key")
        elif number == 2:
            with store.resume(runs[-1], step=0) as run:
                run.log({"x": made}, step=0)
        elif number == 3:
            store.delete_run(runs[0])
        elif number == 4:
            store.undelete_run(runs[0])
        elif number == 5:
            store.alias("a", f"runs/{runs[made % len(runs)]}")
        else:
            store.compact()

    for number in acts[:when]:
        act(number)
    wanted, taken = everything(store), store.snapshot("s")
    for number in acts[when:]:
        act(number)
    then = bare(store.repository.backend)
    then.repository = snapshots.pinned(then.repository, str(taken))
    assert everything(then) == wanted
    assert then.snapshot().digest == taken.digest


# Proofs.


@pytest.fixture
def paper(lab: Path) -> ExperimentStore:
    with holdfast.open(lab) as store:
        store.snapshot("paper")
        go_on(store)
    return holdfast.open(lab, at="paper")


def test_every_artifact_can_be_proven_without_the_store(paper: ExperimentStore) -> None:
    count = 0
    for run in paper.runs():
        for info in run.artifacts.values():
            text = paper.proof(run.run_id, info.key)
            assert proof.check(text) == proof.Proven(
                paper.repository.as_of,  # type: ignore[arg-type]
                run.run_id,
                info.key,
                info.digest,
                info.size_bytes,
                info.kind,
            )
            assert len(text) < 4000
            count += 1
    assert count == 3 * 3 + 2


def test_a_digest_alone_is_found_in_its_run(paper: ExperimentStore) -> None:
    digest = paper.artifact("run-1:log.txt").digest
    found = proof.check(paper.proof(str(digest)))
    assert (found.run_id, found.key) == ("run-1", "log.txt")
    with pytest.raises(ArtifactNotFound, match="prove the directory"):
        paper.proof("run-0:folder/x")


def test_only_a_snapshot_proves(lab: Path) -> None:
    with holdfast.open(lab) as store, pytest.raises(InvalidValue, match="at="):
        store.proof("run-0:model.pt")


def _bent(value: Any) -> Any:
    """Something else of the same shape."""
    if isinstance(value, str):
        return value[:-1] + ("0" if value[-1:] != "0" else "1")
    if isinstance(value, int):
        return value + 1
    return [_bent(value[0]), *value[1:]] if value else ["00" * 32]


def test_a_proof_that_was_changed_anywhere_does_not_hold(paper: ExperimentStore) -> None:
    good = json.loads(paper.proof("run-1:model.pt"))
    for name in good:
        if name == "holdfast_proof":
            continue
        bent = {**good, name: _bent(good[name])}
        with pytest.raises(Corrupt, match="does not hold"):
            proof.check(json.dumps(bent))
        short = {key: value for key, value in good.items() if key != name}
        with pytest.raises(Corrupt, match="does not hold"):
            proof.check(json.dumps(short))
        for other in (None, 7, "x", [], {}, [[]], -1):
            if other != good[name]:
                with pytest.raises(Corrupt, match="does not hold"):
                    proof.check(json.dumps({**good, name: other}))
    for at in range(1, 5):
        item = list(good["item"])
        item[at] = _bent(item[at])
        with pytest.raises(Corrupt, match="does not lead"):
            proof.check(json.dumps({**good, "item": item}))
    for text in ("", "[]", "{}", '{"holdfast_proof": 2}', "{" * 100_000):
        with pytest.raises(InvalidValue):
            proof.check(text)


def test_a_segment_is_no_artifact(paper: ExperimentStore) -> None:
    """The hashes of a segment's item hold as well; it must not pass for an artifact."""
    from holdfast.format import snapshot as documents

    data, _, rows = snapshots.load(paper.repository, paper.repository.as_of)  # type: ignore[arg-type]
    at = next(n for n, row in enumerate(rows) if row.prefix == "runs/run-1/manifest/")
    items = documents.items_of(paper.repository.manifest("run-1").load().state)
    place = next(n for n, item in enumerate(items) if item[0] == "segment")
    with pytest.raises(Corrupt, match="does not hold"):
        proof.check(proof.make(data, rows, at, items, place))


# Every backend call fails once, before it acts or after.


@pytest.mark.parametrize("kind", [WatchedBackend, LosingBackend])
def test_a_failure_at_any_call_leaves_no_half_snapshot(kind: type[WatchedBackend]) -> None:
    inner = MemoryBackend()
    plain = bare(inner)
    fill(plain)
    wanted = plain.snapshot().digest
    held = set(inner._files)
    for failing in range(1, 500):
        faults = Faults()
        store, failed = bare(kind(inner, faults)), False
        faults.left = failing
        try:
            assert store.snapshot("paper").digest == wanted
        except BackendError:
            failed = True
        finally:
            faults.left = -1
        assert plain.verify() == []
        kept = plain.snapshots()
        assert failed or kept
        for alias in kept:
            assert alias.target and alias.target.digest == str(wanted)
            assert snapshots.pinned(plain.repository, "paper").as_of == wanted
        assert plain.snapshot().digest == wanted
        for name in set(inner._files) - held:
            inner.delete(name)
        if failing > faults.calls:
            break
    else:
        pytest.fail("it never came to an end")


def test_the_roots_of_the_documents_are_what_they_say(lab: Path) -> None:
    """The list and the items, worked out here by the definition on the page."""
    import msgpack

    from test_merkle import by_definition

    with holdfast.open(lab) as store:
        taken = store.snapshot("paper")
        data, document, rows = snapshots.load(store.repository, taken.digest)
        assert hashlib.sha256(data).hexdigest() == taken.digest.hex
        packed = [msgpack.packb([r.prefix, r.number, r.tip, r.items]) for r in rows]
        assert by_definition(packed) == document.root
        for row in rows:
            entry = (lab / layout.entry(row.prefix, row.number)).read_bytes()
            assert hashlib.sha256(entry).digest() == row.tip
            state = Chain(store.repository.backend, row.prefix).load().state
            artifacts = state.get("artifacts", {})
            items = [
                ["artifact", key, artifacts[key]["digest"], artifacts[key]["size_bytes"],
                 artifacts[key]["kind"]]
                for key in sorted(artifacts)
            ]  # fmt: skip
            segments = state.get("segments", {})
            items += [["segment", name, segments[name]["size_bytes"]] for name in sorted(segments)]
            assert by_definition([msgpack.packb(item) for item in items]) == row.items
