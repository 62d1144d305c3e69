"""A run from start to finish: what is logged is read back exactly, and mistakes are explained."""

from __future__ import annotations

import math
import os
import threading
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

import holdfast
from holdfast.errors import (
    ArtifactNotFound,
    Corrupt,
    DigestMismatch,
    InvalidState,
    InvalidValue,
    MetricNotFound,
    RunBusy,
    RunNotFound,
)

Store = holdfast.ExperimentStore


def test_points_are_read_back_exactly_before_and_after_sealing(store: Store) -> None:
    values = [0.1, math.nan, math.inf, -math.inf, -0.0, 5e-324, 1.7976931348623157e308]
    run = store.start_run("exact")
    for step, value in enumerate(values):
        run.log({"train/loss": value}, step=step)
    live = store.metrics(run.id, "train/loss")
    run.finish()
    sealed = store.metrics(run.id, "train/loss")
    for series in (live, sealed):
        assert series.values.tobytes() == np.array(values).tobytes()
        assert series.steps.tolist() == list(range(len(values)))
    assert live.timestamps.tolist() == sealed.timestamps.tolist()


def test_steps_go_up_to_u64_and_come_back_in_order(store: Store) -> None:
    steps = [2**64 - 1, 0, 7, 7, 3]
    with store.start_run("steps") as run:
        for place, step in enumerate(steps):
            run.log({"x": place}, step=step)
    series = store.metrics(run.id, "x")
    assert series.steps.tolist() == [0, 3, 7, 7, 2**64 - 1]
    assert series.values.tolist() == [1, 4, 2, 3, 0]


def test_equal_steps_keep_the_order_of_logging_across_key_sets(store: Store) -> None:
    with store.start_run("order") as run:
        run.log({"a": 1}, step=5)
        run.log({"a": 2, "b": 0}, step=5)
        run.log({"a": 3}, step=5)
        assert store.metrics(run.id, "a").values.tolist() == [1, 2, 3]
    assert store.metrics(run.id, "a").values.tolist() == [1, 2, 3]


def test_without_a_step_the_next_one_is_taken(store: Store) -> None:
    with store.start_run("auto") as run:
        run.log({"x": 1})
        run.log({"x": 2}, step=10)
        run.log({"x": 3})
    assert store.metrics(run.id, "x").steps.tolist() == [0, 10, 11]


@pytest.mark.parametrize(
    "value",
    [np.float32(0.5), np.float64(0.5), np.array(0.5), Fraction(1, 2), np.float16(0.5)],
    ids=repr,
)
def test_scalars_of_every_kind_are_numbers(store: Store, value: object) -> None:
    with store.start_run("scalars") as run:
        run.log({"x": value, "n": np.int64(3)}, step=np.int32(4))
        run.log({"x": value, "n": np.uint8(3)}, step=5)
    assert store.metrics(run.id, "x").values.tolist() == [0.5, 0.5]
    assert store.metrics(run.id, "n").steps.tolist() == [4, 5]


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ("0.3", "str '0.3'"),
        (None, "None"),
        (True, "bool 'True'"),
        (np.bool_(True), "bool"),
        (np.zeros((2, 3)), "ndarray of shape (2, 3)"),
        (np.zeros(1), "ndarray of shape (1,)"),
        ([1.0], "list"),
        ({"a": 1}, "train/loss"),
        (1j, "complex"),
        (10**400, "64-bit float"),
    ],
)
def test_what_is_no_number_is_refused_with_key_and_type(
    store: Store, value: object, said: str
) -> None:
    with store.start_run("bad") as run:
        run.log({"loss": 1.0}, step=0)
        with pytest.raises(InvalidValue) as refused:
            run.log({"loss": 2.0, "bad": value}, step=1)
        assert said in str(refused.value)
        assert "'bad'" in str(refused.value)
        assert "step 1" in str(refused.value)
    assert len(store.metrics(run.id, "loss")) == 1


@pytest.mark.parametrize("step", [-1, 2**64, 1.5, "3", True, math.nan])
def test_what_is_no_step_is_refused(store: Store, step: object) -> None:
    with store.start_run("bad") as run:
        run.log({"x": 1.0}, step=0)
        with pytest.raises(InvalidValue, match="whole number from 0"):
            run.log({"x": 1.0}, step=step)  # type: ignore[arg-type]
    assert len(store.metrics(run.id, "x")) == 1


@pytest.mark.parametrize("metrics", [{}, None, "loss", [("a", 1)], {1: 0.5}, {"": 1.0}])
def test_what_is_no_dict_of_metrics_is_refused(store: Store, metrics: object) -> None:
    with store.start_run("bad") as run, pytest.raises(InvalidValue):
        run.log(metrics, step=0)  # type: ignore[arg-type]


def test_ten_thousand_keys_and_keys_that_appear_once(store: Store) -> None:
    with store.start_run("wide") as run:
        run.log({f"k/{n}": n for n in range(10_000)}, step=0)
        for n in range(300):
            run.log({f"once/{n}": n}, step=n)
        assert store.metrics(run.id, "k/9999").values.tolist() == [9999]
    assert store.metrics(run.id, "k/9999").values.tolist() == [9999]
    assert store.metrics(run.id, "once/299").steps.tolist() == [299]
    assert len(store.run(run.id).metrics) == 10_300


def test_statistics_say_what_the_series_holds(store: Store) -> None:
    with store.start_run("stats") as run:
        for step, value in [(3, 2.0), (1, 8.0), (2, math.nan), (3, 5.0)]:
            run.log({"x": value}, step=step)
    stats = store.run(run.id).metrics["x"]
    assert (stats.count, stats.nan, stats.first, stats.last) == (4, 1, 8.0, 5.0)
    assert (stats.min, stats.max, stats.mean) == (2.0, 8.0, 5.0)
    assert (stats.first_step, stats.last_step) == (1, 3)


def test_the_context_manager_says_how_it_ended(store: Store) -> None:
    with pytest.raises(ZeroDivisionError), store.start_run("e") as failed:
        1 / 0  # noqa: B018
    with pytest.raises(KeyboardInterrupt), store.start_run("e") as cancelled:
        raise KeyboardInterrupt
    with store.start_run("e") as good:
        pass
    assert store.run(good.id).status.value == "Success"
    assert store.run(cancelled.id).status.value == "Cancelled"
    summary = store.run(failed.id)
    assert summary.status.value == "Failed"
    assert summary.error == {"type": "ZeroDivisionError", "message": "division by zero"}


def test_a_finished_run_takes_nothing_more(store: Store) -> None:
    run = store.start_run("done")
    run.log({"x": 1.0})
    run.finish()
    run.finish()
    for call in (
        lambda: run.log({"x": 2.0}),
        lambda: run.log_artifact(b"x", key="k"),
        lambda: run.set_note("n"),
    ):
        with pytest.raises(InvalidState, match="resume"):
            call()
    assert len(store.metrics(run.id, "x")) == 1


def test_resuming_supersedes_later_points_and_recounts(store: Store) -> None:
    with store.start_run("resume") as run:
        for step in range(100):
            run.log({"loss": 100.0 - step, "acc": step}, step=step)
    with store.resume(run.id, step=50) as again:
        for step in range(50, 60):
            again.log({"loss": 1000.0}, step=step)
        live = store.metrics(run.id, "loss")
    series = store.metrics(run.id, "loss")
    assert series.steps.tolist() == live.steps.tolist() == list(range(60))
    assert series.values[49:51].tolist() == [51.0, 1000.0]
    stats = store.run(run.id).metrics
    assert (stats["loss"].count, stats["loss"].last, stats["loss"].max) == (60, 1000.0, 1000.0)
    assert (stats["acc"].count, stats["acc"].last) == (50, 49.0)


def test_resuming_without_a_step_rewinds_to_the_first_one_logged(store: Store) -> None:
    with store.start_run("resume") as run:
        for step in range(10):
            run.log({"x": 0.0}, step=step)
    with store.resume(run.id) as again:
        again.log({"x": 1.0}, step=4)
    assert store.metrics(run.id, "x").values.tolist() == [0, 0, 0, 0, 1]
    assert store.run(run.id).metrics["x"].count == 5
    with store.resume(run.id) as third:
        third.log({"x": 2.0})
    assert store.metrics(run.id, "x").steps.tolist() == [0, 1, 2, 3, 4, 5]


def test_one_run_has_one_writer(store: Store) -> None:
    run = store.start_run("busy")
    with pytest.raises(RunBusy, match=str(os.getpid())):
        store.resume(run.id)
    with pytest.raises(InvalidState, match="exists already"):
        store.start_run("busy", run_id=run.id)
    run.finish()


def test_threads_may_log_to_one_run(store: Store) -> None:
    with store.start_run("threads") as run:

        def work(thread: int) -> None:
            for step in range(500):
                run.log({f"t{thread}": step, "all": thread}, step=step)

        threads = [threading.Thread(target=work, args=(n,)) for n in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert len(store.metrics(run.id, "all")) == 2000
    assert store.metrics(run.id, "t3").values.tolist() == list(range(500))


def test_spools_are_sealed_behind_the_logger(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("holdfast.writer.SPOOL_BYTES", 20_000)
    with store.start_run("rotate") as run:
        for step in range(5000):
            run.log({"x": step}, step=step)
            if step % 500 == 499:
                run._writer.tend(sync=False)
        assert store.metrics(run.id, "x").values.tolist() == list(range(5000))
        run.finish(compact=False)
    assert store.metrics(run.id, "x").values.tolist() == list(range(5000))
    state = store.repository.manifest(run.id).load().state
    assert len(state["segments"]) > 3


def test_artifacts_are_stored_once_and_read_back_verified(store: Store, tmp_path: Path) -> None:
    data = os.urandom(3_000_000)
    source = tmp_path / "model.pt"
    source.write_bytes(data)
    with store.start_run("artifacts") as run:
        info = run.log_artifact(source, key="checkpoints/step=100/model.pt")
        same = run.log_artifact(data, key="again")
        with open(source, "rb") as file:
            assert run.log_artifact(file, key="stream").digest == info.digest
    assert info.digest == same.digest
    assert info.size_bytes == 3_000_000
    blobs = list(store.repository.backend.walk("blobs/"))
    assert len(blobs) == 1
    assert store.read_artifact(run.id, "again") == data
    assert store.read_artifact(str(info.digest)) == data
    out = store.get_artifact(run.id, "checkpoints/step=100/model.pt", to=tmp_path / "out" / "m.pt")
    assert out.read_bytes() == data
    with store.open_artifact(str(info.digest)) as opened:
        opened.seek(2_000_000)
        assert opened.read(10) == data[2_000_000:2_000_010]
        assert opened.seek(-5, os.SEEK_END) == 2_999_995
        assert opened.read() == data[-5:]


def test_a_damaged_artifact_is_never_handed_out(store: Store, tmp_path: Path) -> None:
    data = os.urandom(2_500_000)
    with store.start_run("damage") as run:
        info = run.log_artifact(data, key="model")
    place = f"blobs/sha256/{info.digest.hex[:2]}/{info.digest.hex}"
    broken = bytearray(data)
    broken[2_200_000] ^= 1
    store.repository.backend.put(place, bytes(broken))
    with pytest.raises(DigestMismatch, match=info.digest.hex):
        store.read_artifact(run.id, "model")
    with pytest.raises(DigestMismatch):
        store.get_artifact(run.id, "model", to=tmp_path / "out")
    assert not (tmp_path / "out").exists()
    with store.open_artifact(run.id, "model") as opened:
        assert opened.read(100) == data[:100]
        opened.seek(2_199_999)
        with pytest.raises(DigestMismatch, match="damaged between byte"):
            opened.read(2)
    [finding] = store.verify()
    assert finding.code == "digest_mismatch"
    assert finding.place == place
    assert "model" in finding.affects


def test_what_is_not_there_is_said_to_be_not_there(store: Store) -> None:
    with store.start_run("absent") as run:
        run.log({"train/loss": 1.0})
    with pytest.raises(RunNotFound, match="nope"):
        store.run("nope")
    with pytest.raises(MetricNotFound, match="train/loss"):
        store.metrics(run.id, "train/los")
    with pytest.raises(ArtifactNotFound, match="none"):
        store.read_artifact(run.id, "model")
    with pytest.raises(ArtifactNotFound):
        store.read_artifact("sha256:" + 64 * "0")
    with pytest.raises(InvalidValue, match="sha256:"):
        store.read_artifact("sha256:abc123")


def test_a_missing_manifest_entry_is_an_error_and_never_an_older_state(store: Store) -> None:
    with store.start_run("gap") as run:
        run.set_note("one")
    chain = store.repository.manifest(run.id)
    large = {f"key-{n}": "x" * 100 for n in range(100)}  # so that changes are stored alone
    chain.commit(chain.load(), lambda state: {"tags": large})
    chain.commit(chain.load(), lambda state: {"run": {"note": "three"}})
    backend = store.repository.backend
    for number in ("00000003", "00000004"):
        place = f"runs/{run.id}/manifest/{number}"
        data = backend.get(place)
        backend.put(place, b"junk")
        with pytest.raises(Corrupt, match=number):
            store.run(run.id)
        backend.put(place, data)
    backend.delete(f"runs/{run.id}/manifest/00000001")
    with pytest.raises(Corrupt, match="00000001 is missing"):
        store.run(run.id)


def test_long_chains_need_few_reads(store: Store) -> None:
    with store.start_run("chain") as run:
        for number in range(40):
            run.set_tags({"n": number})
    assert store.run(run.id).tags == {"n": 39}
    assert store.run(run.id).generation == 41


def test_tags_notes_and_tombstones(store: Store) -> None:
    with store.start_run(
        "t", tags=["keep"], note="first", config={"a": None, "b": {"c": [1]}}
    ) as run:
        run.set_tags({"stage": "dev", "keep": None})
        run.set_note("second")
    summary = store.run(run.id)
    assert summary.tags == {"stage": "dev"}
    assert summary.note == "second"
    assert summary.config == {"a": None, "b": {"c": [1]}}
    store.delete_run(run.id)
    assert store.runs() == []
    assert [r.run_id for r in store.runs(deleted=True)] == [run.id]
    store.undelete_run(run.id)
    assert [r.run_id for r in store.runs()] == [run.id]


def test_a_prefix_or_an_ending_finds_a_run(store: Store) -> None:
    run = store.start_run("find")
    run.finish()
    assert store.run(run.id[-6:]).run_id == run.id
    other = store.start_run("find")
    other.finish()
    with pytest.raises(RunNotFound, match="could be any of 2"):
        store.run(run.id[:4])


def test_a_blob_of_another_size_is_healed_by_storing_its_bytes_again(store: Store) -> None:
    with store.start_run("heal") as run:
        info = run.log_artifact(b"the weights", key="model")
        store.repository.backend.put(f"blobs/sha256/{info.digest.hex[:2]}/{info.digest.hex}", b"")
        assert [finding.code for finding in store.verify()] == ["digest_mismatch"]
        run.log_artifact(b"the weights", key="again")
    assert store.read_artifact(run.id, "model") == b"the weights"
    assert store.verify() == []


def test_verify_reads_what_nothing_refers_to_and_holds_recipes_against_the_bytes(
    store: Store,
) -> None:
    from holdfast import blobs
    from holdfast.format import layout, recipe
    from holdfast.format.recipe import CHUNK_BYTES

    backend = store.repository.backend
    digest, _ = blobs.put_bytes(backend, b"nobody's")
    backend.put(layout.blob(digest), b"nobody'z")
    [finding] = store.verify()
    assert (finding.code, finding.affects) == ("digest_mismatch", "no run")
    backend.put(layout.blob(digest), b"nobody's")
    data = bytes(CHUNK_BYTES + 1)
    with store.start_run("x") as run:
        whole = run.log_artifact(data, key="k", layout="plain").digest
    [stat] = backend.walk("recipes/")
    wrong = recipe.plain(whole, len(data), [bytes(32), bytes(32)])
    backend.put(stat.name, recipe.encode(wrong))
    [finding] = store.verify()
    assert "recipe" in finding.message
    assert finding.affects == f"run {run.id}, artifact k"


def test_sealing_a_spool_again_after_a_crash_counts_nothing_twice(store: Store) -> None:
    """As if the process died between the manifest and the removal of the spool."""
    from holdfast.ops.seal import seal

    backend = store.repository.backend
    with store.start_run("twice") as run:
        for step in range(5):
            run.log({"loss": step}, step=step)
        [name] = run._writer.names
        spool = backend.get(name)
    before = store.run(run.id).metrics["loss"]
    backend.put(name, spool)
    assert len(store.metrics(run.id, "loss")) == 5
    after = seal(store.repository, run.id, [name])
    assert after.state["metrics"]["loss"]["count"] == 5
    assert store.run(run.id).metrics["loss"] == before
    assert name not in [stat.name for stat in backend.walk("runs/")]
