"""What a remote store gets of an artifact: what a local one would have made of it, and never in the way."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import holdfast
from far import FarBackend, opened
from holdfast.digest import Digest
from holdfast.errors import Corrupt, InvalidValue, Unavailable
from holdfast.format import layout, recipe
from holdfast.repository import connected
from test_tensors import safetensors

MEBI = 1 << 20


@pytest.fixture
def far() -> FarBackend:
    backend = FarBackend()
    connected(backend)
    return backend


def weights(seed: int, changed: float = 0.0) -> bytes:
    """A checkpoint of 2 MiB; of `changed`, a part of it differs from the one of the same seed."""
    chance = np.random.default_rng(seed)
    layers = {f"layer.{n}": chance.normal(size=(256, 512)).astype("<f4") for n in range(4)}
    count = int(4 * changed)
    for n in range(count):
        layers[f"layer.{n}"] = layers[f"layer.{n}"] + np.float32(1e-3)
    return safetensors(layers)


def sha(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def begin(store: holdfast.ExperimentStore, run_id: str = "run", **more: Any) -> holdfast.Run:
    return store.start_run("exp", run_id=run_id, capture=False, system=False, **more)


def made_of(store: holdfast.ExperimentStore, run_id: str, key: str) -> tuple[Any, ...]:
    """In which layouts an artifact is, against what, and what its chunks take."""
    backend = store.repository.backend
    about = store.repository.manifest(run_id).load().state["artifacts"][key]
    digest = Digest.parse(about["digest"])
    found = []
    for stat in backend.walk(layout.recipes(digest).rpartition("/")[0] + "/"):
        if stat.name.startswith(layout.recipes(digest)):
            made = recipe.decode(backend.get(stat.name), place=stat.name)
            homes = sorted(packed for _, packed in made.homes)
            lengths = made.columns["lengths"].tolist()
            found.append((homes, lengths, made.columns["codecs"].tolist()))
    is_plain = any(backend.walk(layout.blob(digest)))
    return about.get("version"), about.get("bases"), is_plain, sorted(found)


def write(store: holdfast.ExperimentStore, folder: Path) -> dict[str, bytes]:
    """Artifacts of every kind; what they hold."""
    data = {f"checkpoints/{n}": weights(1, n / 4) for n in range(3)}
    data |= {"noise": os.urandom(2 * MEBI), "small": b"small", "plain": weights(3)}
    folder.mkdir()
    (folder / "model.safetensors").write_bytes(weights(1, 0.75))
    for number in range(20):  # enough for a bundle
        (folder / f"part-{number}.json").write_bytes(b"{}" * number)
    with begin(store) as run:
        for key in ("checkpoints/0", "checkpoints/1", "noise", "small"):
            run.log_artifact(data[key], key=key)
        run.log_artifact(data["plain"], key="plain", layout="plain")
        run.log_artifact(weights(3, 0.25), key="asked", layout="packed", base="plain", compact=True)
        run.log_artifact(b"tiny", key="tiny", layout="packed")
        run.log_artifacts({"checkpoints/2": data["checkpoints/2"], "folder/1": folder})
    return data | {"asked": weights(3, 0.25), "tiny": b"tiny"}


def test_a_remote_store_gets_what_a_local_one_would(far: FarBackend, tmp_path: Path) -> None:
    local = holdfast.ExperimentStore()
    write(local, tmp_path / "a")
    with opened(far, sends_by_hand=True) as store:
        data = write(store, tmp_path / "b")
        assert store.unsent() == []
        assert list(store.repository.state.walk("")) == []
        for key in [*data, "folder/1"]:
            if key != "noise":
                assert made_of(store, "run", key) == made_of(local, "run", key), key
        assert made_of(store, "run", "checkpoints/1")[2] is False
        for key, wanted in data.items():
            assert store.read_artifact("run", key) == wanted
        out = store.get_artifact("run", "folder/1", to=tmp_path / "out")
        assert (out / "model.safetensors").read_bytes() == weights(1, 0.75)
        assert store.verify() == [] == local.verify()


def test_versions_that_wait_share_and_a_later_run_shares_with_them(
    far: FarBackend, tmp_path: Path
) -> None:
    with opened(far, sends_by_hand=True) as store:
        with begin(store, "one") as run:
            run.log_artifact(weights(1), key="checkpoints/1")
            before = stored_bytes(far)
            run.log_artifact(weights(1, 0.25), key="checkpoints/2")
        assert stored_bytes(far) - before < 3 * MEBI
        before = stored_bytes(far)
        with begin(store, "two") as run:
            run.log_artifact(weights(1, 0.5), key="checkpoints/1")
        assert stored_bytes(far) - before < MEBI
        about = store.repository.manifest("two").load().state["artifacts"]["checkpoints/1"]
        assert (about["version"], about["bases"]) == (1, [[0, f"sha256:{sha(weights(1))}"]])


def stored_bytes(far: FarBackend) -> int:
    return sum(s.size_bytes for top in ("blobs/", "packs/") for s in far.inner.walk(top))


def test_no_call_of_log_artifact_asks_the_store(far: FarBackend) -> None:
    with opened(far, sends_by_hand=True) as store, begin(store) as run:
        far.calls.clear()
        run.log_artifact(weights(1), key="a")
        run.log_artifact(weights(1, 0.5), key="b", layout="packed", base="a", compact=True)
        assert far.calls == []


def test_a_base_that_cannot_be_one_is_refused_and_one_that_is_not_there_is_told(
    far: FarBackend, caplog: pytest.LogCaptureFixture
) -> None:
    with opened(far, sends_by_hand=True) as store, begin(store) as run:
        with pytest.raises(InvalidValue, match="nothing"):
            run.log_artifact(weights(1), key="a", base="nothing")
        with pytest.raises(InvalidValue, match="zip"):
            run.log_artifact(weights(1), key="a", layout="zip")
        missing = f"sha256:{'0' * 64}"
        run.log_artifact(weights(1), key="a", base=missing)
        run.finish()
        assert store.read_artifact("run", "a") == weights(1)
    assert f"a is stored without the base that was asked for: the base {missing}" in caplog.text


class Broken:
    """A network that breaks for good at call `number`."""

    def __init__(self, far: FarBackend, number: int) -> None:
        self.far, self.number = far, number

    def __call__(self, operation: str, name: str) -> None:
        if len(self.far.calls) > self.number:
            raise Unavailable(f"{name}: no answer came", name=name)


def test_a_process_that_dies_at_any_call_of_sending_packs_loses_nothing(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    number = count = 0
    while number <= count:
        backend = FarBackend()
        connected(backend)
        monkeypatch.setenv("HOLDFAST_STATE_DIR", str(tmp_path / str(number)))
        store = opened(backend, sends_by_hand=True)
        backend.calls.clear()
        backend.fault = Broken(backend, number)
        run = begin(store)
        run.log_artifact(weights(1), key="checkpoints/1", layout="packed")
        run.log_artifact(weights(1, 0.5), key="checkpoints/2")
        writer: Any = run._writer
        for _ in range(2):
            try:
                writer.publish(roll=True)
            except Unavailable:
                count = max(count, number + 1)
        run.finish(timeout=0)
        count = max(count, len(backend.calls) - 1) if number == 0 else count
        store.close()
        with monkeypatch.context() as patch:
            patch.setattr("holdfast.process.is_alive", lambda who: False)
            backend.fault = lambda operation, name: None
            with opened(backend, sends_by_hand=True) as store:
                store.recover()
                assert store.unsent() == []
                assert store.read_artifact("run", "checkpoints/1") == weights(1)
                assert store.read_artifact("run", "checkpoints/2") == weights(1, 0.5)
                assert made_of(store, "run", "checkpoints/2")[0] == 1
                assert store.verify() == []
                packs = list(backend.inner.walk("packs/"))
                assert len(packs) == 2, "an earlier try's pack is sent, not another one"
                assert list(store.repository.state.walk("")) == []
        number += 1
    assert number > 20


def test_an_original_stays_while_a_change_may_come_that_needs_it(far: FarBackend) -> None:
    """The same bytes are logged again in the moment in which they are sent: they are staged already, so
    nothing is written, and they must not go."""
    with opened(far, sends_by_hand=True) as store, begin(store) as run:
        writer: Any = run._writer
        run.log_artifact(weights(1), key="a")
        with writer.storing("b") as place:
            about = run._stored(place, weights(1), "b")
            writer.publish(roll=True)
            assert list(writer.outbox.originals.walk("blobs/"))
            writer.commit({"artifacts": {"b": about}})
        writer.publish(roll=True)
        assert list(writer.outbox.originals.walk("")) == []
        with pytest.raises(holdfast.errors.NotFound):
            run.log_artifact("/no such file", key="c")
        assert writer.outbox.wishes == {}
        run.finish()
        assert store.read_artifact("run", "b") == weights(1)


@pytest.mark.parametrize("gone", [False, True])
def test_a_damaged_original_is_named_and_points_go_on(far: FarBackend, gone: bool) -> None:
    with opened(far, sends_by_hand=True) as store:
        run = begin(store)
        writer: Any = run._writer
        run.log_artifact(weights(1), key="a")
        run.log({"loss": 1.0}, step=0)
        name = layout.blob(Digest(sha(weights(1))))
        path = Path(writer.outbox.originals.root, name)
        path.unlink() if gone else path.write_bytes(path.read_bytes()[:-1] + b"x")
        with pytest.raises(Corrupt, match="damaged|lost"):
            writer.publish(roll=True)
        assert store.metrics("run", "loss").values.tolist() == [1.0]
        left = run.finish(timeout=60)
        assert left is not None
        assert left.problem
        assert path.name in left.problem
        assert "a" not in store.run("run").artifacts
