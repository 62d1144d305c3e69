"""Runs from one store to another: the same bytes on both sides, only what is missing, and no half runs."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import holdfast
from holdfast import absent
from holdfast.backend.local import LocalBackend
from holdfast.backend.memory import MemoryBackend
from holdfast.backend.wrap import WatchedBackend
from holdfast.errors import InvalidValue, NotSynced, Unavailable
from holdfast.format import layout
from holdfast.repository import connected
from holdfast.store import ExperimentStore

LISTINGS = {"walk", "names", "folders", "token"}


class Watched:
    """A store in memory whose backend writes down every call."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, str]] = []
        self.memory = MemoryBackend()
        self.store = ExperimentStore()
        self.fault: Exception | None = None
        backend = WatchedBackend(self.memory, self._watch)
        self.store.repository = connected(backend)
        self.store.store_id = self.store.repository.store_id
        self.store.url = f"memory://{self.store.store_id}"

    def _watch(self, operation: str, name: str) -> None:
        self.calls.append((operation, name))
        if self.fault:
            raise self.fault

    def names(self, prefix: str = "") -> dict[str, int]:
        return {stat.name: stat.size_bytes for stat in self.memory.walk(prefix)}


@pytest.fixture
def pair() -> Iterator[tuple[Watched, Watched]]:
    source, target = Watched(), Watched()
    yield source, target
    source.store.close()
    target.store.close()


def chains(names: dict[str, int], backend: Any) -> dict[str, bytes]:
    """Every entry that means something in another store as well."""
    return {
        name: backend.get(name)
        for name in names
        if layout.entry_number(name) is not None and name.startswith(("runs/", "experiments/"))
    }


def write(store: ExperimentStore, run_id: str = "run", experiment: str = "e") -> None:
    """A run of every kind of content."""
    with store.start_run(experiment, run_id=run_id, capture=False) as run:
        for step in range(50):
            run.log({"loss": 1 / (step + 1), "system/cpu": step}, step=step)
        run.log_artifact(b"small", key="notes/small.txt")
        run.log_artifact(random.Random(run_id).randbytes(2_500_000), key="data/big.bin")


def add_checkpoint(run: Any, weights: Any, step: int) -> Any:
    """A slightly changed checkpoint of 4 MB; returns its weights."""
    rng = np.random.default_rng(step)
    changed = weights.copy()
    changed[: 1 << 17] += rng.normal(scale=1e-3, size=1 << 17).astype(np.float32)
    run.log_checkpoint({"w": changed}, step=step)
    return changed


def weights() -> Any:
    return np.random.default_rng(7).normal(size=1 << 20).astype(np.float32)


def same(one: ExperimentStore, other: ExperimentStore, run_id: str) -> None:
    """Everything of a run reads the same in both stores."""
    assert one.run(run_id) == other.run(run_id)
    for key in one.metric_keys(run_id):
        assert (
            one.metrics(run_id, key).values.tolist() == other.metrics(run_id, key).values.tolist()
        )
    assert one.read_artifacts(run_id) == other.read_artifacts(run_id)


def test_a_store_is_the_same_on_the_other_side(pair: tuple[Watched, Watched]) -> None:
    source, target = pair
    write(source.store, "a")
    write(source.store, "b", "other")
    report = source.store.sync_to(target.store)
    assert report.ok and sorted(report.runs) == ["a", "b"]
    for run_id in ("a", "b"):
        same(source.store, target.store, run_id)
    ours = chains(source.names(), source.memory)
    assert ours == chains(target.names(), target.memory)
    assert target.store.verify() == []
    assert len(target.store.runs()) == 2
    assert [e.name for e in target.store.experiments()] == ["e", "other"]


def test_files_come_before_what_names_them(pair: tuple[Watched, Watched]) -> None:
    source, target = pair
    with source.store.start_run("e", run_id="run", capture=False) as run:
        run.log({"x": 1.0})
        after = add_checkpoint(run, weights(), 1)
        add_checkpoint(run, after, 2)
    target.calls.clear()
    source.store.sync_to(target.store)
    created = [name for op, name in target.calls if op in ("create", "stage.commit")]
    kinds = [_kind(name) for name in created]
    order = ["syncs", "experiments", "files", "recipes", "segments", "manifest"]
    places = {kind: [n for n, k in enumerate(kinds) if k == kind] for kind in order}
    assert max(places["files"]) < min(places["recipes"]) < min(places["segments"])
    assert max(places["segments"]) < min(places["manifest"])
    assert kinds[0] == kinds[-1] == "syncs"


def _kind(name: str) -> str:
    if name.endswith(".seg"):
        return "segments"
    top = name.split("/")[0]
    return {"blobs": "files", "packs": "files", "runs": "manifest"}.get(top, top)


def test_nothing_new_takes_nothing_but_listings(pair: tuple[Watched, Watched]) -> None:
    source, target = pair
    for number in range(5):
        write(source.store, f"run-{number}")
    source.store.sync_to(target.store)
    for side in pair:
        side.calls.clear()
    report = source.store.sync_to(target.store)
    assert (report.runs, report.equal, report.sent_bytes) == ([], 5, 0)
    for side in pair:
        assert {operation for operation, _ in side.calls} <= LISTINGS
        assert len(side.calls) <= 12  # whatever the number of runs


def test_what_another_machine_synced_is_only_compared(
    pair: tuple[Watched, Watched], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    source, target = pair
    write(source.store)
    source.store.sync_to(target.store)
    monkeypatch.setenv("HOLDFAST_CACHE_DIR", str(tmp_path / "of another user"))
    report = source.store.sync_to(target.store)
    assert (report.runs, report.equal, report.files, report.entries) == ([], 1, 0, 0)


def test_one_more_checkpoint_sends_what_it_added(pair: tuple[Watched, Watched]) -> None:
    source, target = pair
    run = source.store.start_run("e", run_id="run", capture=False)
    now = weights()
    for step in range(4):
        now = add_checkpoint(run, now, step)
    source.store.sync_to(target.store)
    before = source.names("packs/") | source.names("blobs/")
    add_checkpoint(run, now, 4)
    added = sum((source.names("packs/") | source.names("blobs/")).values()) - sum(before.values())
    report = source.store.sync_to(target.store)
    assert 0 < added < 2_000_000  # deduplication did something
    assert report.sent_bytes <= 1.1 * added
    run.finish()
    assert source.store.sync_to(target.store).sent_bytes < 10_000
    same(source.store, target.store, "run")
    assert target.store.verify() == []


def test_only_some_runs(pair: tuple[Watched, Watched]) -> None:
    source, target = pair
    for number in range(3):
        with source.store.start_run(
            f"e{number}", run_id=f"r{number}", config={"lr": number}
        ) as run:
            run.log({"x": number})
    report = source.store.sync_to(target.store, "config.lr >= 1")
    assert sorted(report.runs) == ["r1", "r2"]
    assert {run.run_id for run in target.store.runs()} == {"r1", "r2"}
    assert {e.name for e in target.store.experiments()} == {"e1", "e2"}
    assert source.store.sync_to(target.store).runs == ["r0"]


def test_what_was_left_out_is_said_and_is_no_damage(pair: tuple[Watched, Watched]) -> None:
    source, target = pair
    write(source.store)
    report = source.store.sync_to(target.store, artifacts="notes/*", metrics=False)
    assert (report.ok, report.partial) == (True, ["run"])
    assert chains(source.names(), source.memory) == chains(target.names(), target.memory)
    assert target.store.read_artifact("run", "notes/small.txt") == b"small"
    with pytest.raises(NotSynced, match="was not synced"):
        target.store.read_artifact("run", "data/big.bin")
    with pytest.raises(NotSynced, match="holdfast pull"):
        target.store.metrics("run", "loss")
    assert target.store.verify() == []
    later = source.store.sync_to(target.store)
    assert (later.runs, later.entries, later.partial) == (["run"], 0, [])
    assert not absent.load(target.memory, "run")
    same(source.store, target.store, "run")


def test_a_file_that_is_lost_is_damage_also_where_others_were_left_out(
    pair: tuple[Watched, Watched],
) -> None:
    source, target = pair
    write(source.store)
    source.store.sync_to(target.store, artifacts="notes/*")
    blob = layout.blob(target.store.run("run").artifacts["notes/small.txt"].digest)
    target.memory.delete(blob)
    assert [one.place for one in target.store.verify()] == [blob]
    report = source.store.sync_to(target.store, artifacts="notes/*", recheck=True)
    assert report.runs == ["run"]
    assert target.store.verify() == []


def test_what_is_absent_in_the_source_is_absent_in_the_target(
    pair: tuple[Watched, Watched],
) -> None:
    source, middle = pair
    last = Watched()
    write(source.store)
    source.store.sync_to(middle.store, artifacts=None, metrics=True)
    report = middle.store.sync_to(last.store)
    assert (report.ok, report.partial) == (True, ["run"])
    with pytest.raises(NotSynced):
        last.store.read_artifact("run", "data/big.bin")
    same_metrics = last.store.metrics("run", "loss").values.tolist()
    assert same_metrics == source.store.metrics("run", "loss").values.tolist()
    assert last.store.verify() == []
    source.store.sync_to(last.store)
    same(source.store, last.store, "run")


def tag(side: Watched, run_id: str = "run", **tags: int) -> None:
    """Append to a run that has ended, as any process may."""
    chain = side.store.repository.manifest(run_id)
    chain.commit(chain.load(), lambda _: {"tags": tags})


def damage(side: Watched, name: str) -> None:
    data = bytearray(side.memory.get(name))
    data[len(data) // 2] ^= 1
    side.memory.put(name, bytes(data))


@pytest.mark.parametrize("kind", ["blobs/", "runs/bad/segments/", "runs/bad/manifest/00000001"])
@pytest.mark.parametrize("harm", ["flip", "remove"])
def test_damage_in_the_source_leaves_out_what_needs_it(
    pair: tuple[Watched, Watched], kind: str, harm: str
) -> None:
    source, target = pair
    with source.store.start_run("e", run_id="bad", capture=False) as run:
        run.log({"x": 1.0})
        run.log_artifact(b"to be damaged", key="a")
    name = next(iter(source.names(kind)))
    write(source.store, "good")
    if harm == "flip":
        damage(source, name)
    else:
        source.memory.delete(name)
    report = source.store.sync_to(target.store)
    assert not report.ok
    assert report.runs == ["good"]
    assert all("run bad" in one.affects for one in report.findings)
    assert any(name in one.message or name in one.place for one in report.findings)
    assert target.store.verify() == []
    assert [run.run_id for run in target.store.runs()] == ["good"]
    same(source.store, target.store, "good")


def test_a_target_keeps_the_generation_it_has_when_more_is_damaged(
    pair: tuple[Watched, Watched],
) -> None:
    source, target = pair
    run = source.store.start_run("e", run_id="run", capture=False)
    run.log_artifact(b"first", key="first")
    source.store.sync_to(target.store)
    run.log_artifact(b"second", key="second")
    second = source.store.run("run").artifacts["second"].digest
    damage(source, layout.blob(second))
    report = source.store.sync_to(target.store)
    assert [one.code for one in report.findings] == ["digest_mismatch"]
    assert list(target.store.run("run").artifacts) == ["first"]
    assert target.store.verify() == []
    source.memory.put(layout.blob(second), b"second")
    run.finish()
    assert source.store.sync_to(target.store).ok
    same(source.store, target.store, "run")


def test_a_pack_of_which_little_is_wanted_is_repacked(pair: tuple[Watched, Watched]) -> None:
    source, target = pair
    run = source.store.start_run("e", run_id="run", capture=False)
    rng = np.random.default_rng(3)
    parts = {f"p{n}": rng.normal(size=1 << 19).astype(np.float32) for n in range(8)}
    run.log_checkpoint(parts, step=0, layout="packed")
    small = {"p0": parts["p0"], "q": rng.normal(size=1 << 16).astype(np.float32)}
    run.log_checkpoint(small, step=1, layout="packed")
    size = sum(source.names("packs/").values())
    report = source.store.sync_to(target.store, artifacts="checkpoints/1")
    assert report.sent_bytes < size / 3
    assert target.store.read_artifact("run", "checkpoints/1") == source.store.read_artifact(
        "run", "checkpoints/1"
    )
    assert target.store.verify() == []
    large = max(source.names("packs/").items(), key=lambda item: item[1])[0]
    assert large not in target.names("packs/")
    again = source.store.sync_to(target.store, artifacts="checkpoints/1")
    assert again.files == 0
    everything = source.store.sync_to(target.store)
    assert everything.ok
    same(source.store, target.store, "run")
    assert target.store.verify() == []
    run.finish()


def test_the_next_version_finds_what_was_repacked(pair: tuple[Watched, Watched]) -> None:
    source, target = pair
    run = source.store.start_run("e", run_id="run", capture=False)
    rng = np.random.default_rng(3)
    parts = {f"p{n}": rng.normal(size=1 << 19).astype(np.float32) for n in range(8)}
    run.log_checkpoint(parts, step=0, layout="packed")
    run.log_checkpoint({"p0": parts["p0"]}, step=1, layout="packed")
    source.store.sync_to(target.store, artifacts="checkpoints/1")
    more = {"p0": parts["p0"], "q": rng.normal(size=1 << 18).astype(np.float32)}
    run.log_checkpoint(more, step=2, layout="packed")
    report = source.store.sync_to(target.store, artifacts=["checkpoints/1", "checkpoints/2"])
    assert report.sent_bytes < 1.1 * (1 << 20) + 50_000  # q, and nothing of p0
    assert target.store.read_artifact("run", "checkpoints/2") == source.store.read_artifact(
        "run", "checkpoints/2"
    )
    assert target.store.verify() == []
    run.finish()


def test_open_runs_go_over_up_to_the_last_sealing(pair: tuple[Watched, Watched]) -> None:
    source, target = pair
    run = source.store.start_run("e", run_id="run", capture=False)
    run.log({"x": 1.0}, step=0)
    report = source.store.sync_to(target.store)
    assert report.open_runs == ["run"]
    assert not any("/spool/" in name for name in target.names())
    assert target.store.run("run").status.value == "Running"
    run.log({"x": 2.0}, step=1)
    run.finish()
    assert source.store.sync_to(target.store).open_runs == []
    same(source.store, target.store, "run")


def test_following_a_run_until_it_ends(pair: tuple[Watched, Watched]) -> None:
    source, target = pair
    run = source.store.start_run("e", run_id="run", capture=False)
    reports = source.store.follow_to(target.store, every_seconds=0)
    assert next(reports).open_runs == ["run"]
    (head,) = target.names("heads/runs/")
    seen = target.memory.stat(head).modified
    run.log({"x": 1.0}, step=0)
    assert next(reports).ok
    assert target.memory.stat(head).modified > seen  # so it does not look as if it had crashed
    target.fault = Unavailable("no answer came")
    assert [one.code for one in next(reports).findings] == ["unavailable"]
    target.fault = None
    run.finish()
    assert next(reports).runs == ["run"]
    assert list(reports) == []
    same(source.store, target.store, "run")


def test_recovering_the_target_leaves_the_runs_of_others_alone(
    pair: tuple[Watched, Watched], monkeypatch: pytest.MonkeyPatch
) -> None:
    """They may go on where they came from: what became of them is said there."""
    source, target = pair
    run = source.store.start_run("e", run_id="run", capture=False)
    with source.store.join_run("run", rank=1) as rank:
        rank.log({"y": 1.0})
        source.store.sync_to(target.store)
        monkeypatch.setattr("holdfast.liveness.is_dead", lambda identity, beat: True)
        assert target.store.recover() == []
        monkeypatch.undo()
    run.finish()
    assert source.store.sync_to(target.store).ok
    assert target.store.run("run").status.value == "Success"


def test_ranks_go_along(pair: tuple[Watched, Watched]) -> None:
    source, target = pair
    run = source.store.start_run("e", run_id="run", capture=False)
    with source.store.join_run("run", rank=1) as rank:
        rank.log({"y": 5.0}, step=0)
    run.log({"x": 1.0}, step=0)
    run.finish()
    source.store.sync_to(target.store)
    assert target.store.metrics("run", "y").values.tolist() == [5.0]
    assert chains(source.names(), source.memory) == chains(target.names(), target.memory)


def test_directories_go_along_with_all_that_is_in_them(
    pair: tuple[Watched, Watched], tmp_path: Path
) -> None:
    source, target = pair
    (tmp_path / "in" / "deep").mkdir(parents=True)
    (tmp_path / "in" / "deep" / "a.txt").write_text("a")
    (tmp_path / "in" / "b.bin").write_bytes(random.Random(1).randbytes(1_500_000))
    with source.store.start_run("e", run_id="run", capture=False) as run:
        run.log_artifact(tmp_path / "in", key="folder")
    source.store.sync_to(target.store)
    out = target.store.get_artifact("run", "folder", to=tmp_path / "out")
    assert (out / "deep" / "a.txt").read_text() == "a"
    assert (out / "b.bin").read_bytes() == (tmp_path / "in" / "b.bin").read_bytes()
    assert target.store.verify() == []


def test_a_run_with_a_tombstone_brings_only_that(pair: tuple[Watched, Watched]) -> None:
    source, target = pair
    write(source.store, "gone")
    source.store.delete_run("gone")
    report = source.store.sync_to(target.store)
    assert report.ok
    assert not target.names("blobs/")
    assert target.store.runs() == []
    assert target.store.verify() == []
    source.store.undelete_run("gone")
    source.store.sync_to(target.store)
    same(source.store, target.store, "gone")
    assert target.store.verify() == []


def test_laptops_that_founded_one_experiment_merge(pair: tuple[Watched, Watched]) -> None:
    one, other = pair
    bucket = Watched()
    write(one.store, "of-one", "resnet")
    write(other.store, "of-other", "resnet")
    assert one.store.sync_to(bucket.store).ok
    assert other.store.sync_to(bucket.store).ok
    assert {run.run_id for run in bucket.store.runs()} == {"of-one", "of-other"}
    assert len(bucket.store.experiments()) == 1
    for side in (other, bucket):
        side.calls.clear()
    other.store.sync_to(bucket.store)
    assert {operation for operation, _ in other.calls + bucket.calls} <= LISTINGS


def test_aliases_go_along_with_what_they_name(pair: tuple[Watched, Watched]) -> None:
    source, target = pair
    write(source.store, "run")
    source.store.alias("prod/model", "run:data/big.bin")
    source.store.alias("best", "run")
    report = source.store.sync_to(target.store)
    assert report.ok
    assert target.store.read_artifact("prod/model") == source.store.read_artifact("prod/model")
    assert target.store.run("best").run_id == "run"
    source.calls.clear()
    target.calls.clear()
    source.store.sync_to(target.store)
    assert {operation for operation, _ in source.calls + target.calls} <= LISTINGS
    source.store.alias("best", "run:notes/small.txt")
    source.store.sync_to(target.store)
    assert target.store.read_artifact("best") == b"small"
    target.store.alias("best", "run:data/big.bin")
    source.store.alias("best", "run")
    report = source.store.sync_to(target.store)
    assert [split.chain for split in report.diverged] == ["aliases/best/"]
    assert target.store.verify() == []


def test_a_snapshot_is_the_same_and_can_be_read_in_the_copy(tmp_path: Path) -> None:
    with holdfast.open(tmp_path / "a") as source, holdfast.open(tmp_path / "b") as target:
        run = source.start_run("e", run_id="run", capture=False)
        run.log({"x": 1.0}, step=0)
        run.log_checkpoint({"w": weights()}, step=0, keep_last=1)
        run._writer.seal(go_on=True)
        then = source.snapshot("then")
        old = source.read_artifact("run", "checkpoints/0")
        run.log({"x": 2.0}, step=1)
        run.log_checkpoint({"w": weights() + 1}, step=1, keep_last=1)
        run.finish()
        assert source.sync_to(target).ok
        assert list(target.run("run").artifacts) == ["checkpoints/1"]
        assert target.snapshot().digest == source.snapshot().digest
        assert target.verify() == []
    with holdfast.open(tmp_path / "b", at=str(then.digest)) as store:
        assert store.read_artifact("run", "checkpoints/0") == old
        assert store.metrics("run", "x").values.tolist() == [1.0]


def test_a_directory_of_many_small_files_goes_with_its_bundle(
    pair: tuple[Watched, Watched], tmp_path: Path
) -> None:
    source, target = pair
    folder = tmp_path / "in"
    folder.mkdir()
    for number in range(40):
        (folder / f"{number}.txt").write_text(f"file {number}\n" * 300)
    with source.store.start_run("e", run_id="run", capture=False) as run:
        run.log_artifact(folder, key="code")
        (folder / "0.txt").write_text("changed")
        run.log_artifact(folder, key="code-2")
    assert any(name.endswith(layout.BUNDLE) for name in source.names("recipes/"))
    for pattern in ("code-2", "*"):
        report = source.store.sync_to(target.store, artifacts=pattern)
        assert report.ok
        key = "code-2" if pattern == "code-2" else "code"
        out = target.store.get_artifact("run", key, to=tmp_path / f"out-{key}")
        assert len(list(out.iterdir())) == 40
        assert (out / "7.txt").read_bytes() == (folder / "7.txt").read_bytes()


def test_a_divergence_is_reported_and_nothing_is_merged(pair: tuple[Watched, Watched]) -> None:
    source, target = pair
    write(source.store, "run")
    write(source.store, "other")
    source.store.sync_to(target.store)
    newest = len(source.names("runs/run/manifest/")) - 1
    tag(source, here=1)
    tag(target, there=1)
    tag(target, there=2)
    before = [dict(side.names()) for side in pair]
    report = source.store.sync_to(target.store)
    assert not report.ok
    (split,) = report.diverged
    assert (split.chain, split.common) == ("runs/run/manifest/", newest)
    assert [event.number for event in split.ours] == [newest + 1]
    assert [event.number for event in split.theirs] == [newest + 1, newest + 2]
    assert all(event.changed == ("tags",) or "tags" in event.changed for event in split.theirs)
    assert [dict(side.names()) for side in pair] == before
    assert report.equal == 1


def test_a_fork_brings_the_other_side_in_as_a_run_of_its_own(pair: tuple[Watched, Watched]) -> None:
    source, target = pair
    run = source.store.start_run("e", run_id="run", capture=False)
    run.log({"x": 1.0}, step=0)
    run.flush()
    source.store.sync_to(target.store)
    tag(target, there=1)
    run.log({"x": 2.0}, step=1)
    run.log_artifact(b"new here", key="new")
    report = source.store.sync_to(target.store, fork=True)
    (split,) = report.diverged
    assert report.ok and report.forks == [split.fork]
    fork = split.fork
    assert fork is not None and fork.startswith("run-fork-")
    assert target.store.read_artifact(fork, "new") == b"new here"
    assert target.store.run("run").tags == {"there": 1}
    state = target.store.repository.manifest(fork).load().state
    assert state["run"]["parent"] == {"run_id": "run", "generation": split.common}
    assert target.store.verify() == []
    calls = dict(target.names())
    again = source.store.sync_to(target.store)  # it is there: nothing to report
    assert again.ok and again.forks == [] and dict(target.names()) == calls
    run.log({"x": 3.0}, step=2)
    run.finish()
    assert not source.store.sync_to(target.store).ok
    assert source.store.sync_to(target.store, fork=True).forks == [fork]
    assert target.store.metrics(fork, "x").values.tolist() == [1.0, 2.0, 3.0]
    assert target.store.verify() == []
    back = target.store.sync_to(source.store, fork=True)
    assert back.ok and len(back.forks) == 1 and fork in back.runs
    assert source.store.verify() == []


def test_a_target_that_is_ahead_is_left_alone(pair: tuple[Watched, Watched]) -> None:
    source, target = pair
    write(source.store)
    source.store.sync_to(target.store)
    tag(target, there=1)
    report = source.store.sync_to(target.store)
    assert report.ok and report.runs == []
    back = target.store.sync_to(source.store)
    assert back.runs == ["run"]
    assert source.store.run("run").tags == {"there": 1}


def test_a_store_is_not_synced_with_itself(tmp_path: Path) -> None:
    with holdfast.open(tmp_path / "lab") as store, pytest.raises(InvalidValue, match="itself"):
        store.sync_to(tmp_path / "lab")


def test_a_dry_run_changes_nothing(pair: tuple[Watched, Watched]) -> None:
    source, target = pair
    write(source.store)
    before = target.names()
    plan = source.store.sync_to(target.store, dry_run=True)
    assert [run.run_id for run in plan.runs] == ["run"]
    assert target.names() == before
    report = source.store.sync_to(target.store)
    assert (
        abs(report.sent_bytes - plan.size_bytes) < 2_000
    )  # the chains of experiments are not counted
    assert report.files == plan.files


def test_a_limit_holds(pair: tuple[Watched, Watched], monkeypatch: pytest.MonkeyPatch) -> None:
    source, target = pair
    write(source.store)
    slept: list[float] = []
    monkeypatch.setattr("holdfast.ops.sync_send.time.sleep", slept.append)
    report = source.store.sync_to(target.store, limit_bytes=1_000_000)
    assert max(slept) > 0.5 * report.sent_bytes / 1_000_000


def test_a_remembered_equality_does_not_hide_another_store(tmp_path: Path) -> None:
    """A target that was replaced by a copy of another state, under the same address and id."""
    source, target = holdfast.open(tmp_path / "a"), holdfast.open(tmp_path / "b")
    write(source)
    source.sync_to(target)
    backend = LocalBackend(tmp_path / "b")
    for stat in list(backend.walk("runs/")):
        backend.delete(stat.name)
    assert source.sync_to(target).runs == ["run"]
    same(source, target, "run")
    source.close()
    target.close()
