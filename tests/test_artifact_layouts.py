"""Artifacts in packs: any bytes in, the same bytes out, in any layout and any order of versions."""

from __future__ import annotations

import json
import os
import random
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import holdfast
from holdfast.digest import Digest
from holdfast.errors import ArtifactNotFound, Corrupt, InvalidValue
from holdfast.format import layout
from holdfast.verified_artifact import find, layouts

Store = holdfast.ExperimentStore
MIB = 1 << 20


def weights(seed: int, count: int = 3 * MIB // 2) -> np.ndarray[Any, Any]:
    """bfloat16 numbers as a trained layer has them, as integers."""
    values = np.random.default_rng(seed).normal(0, 0.02, count).astype("<f4")
    return (values.view("<u4") >> 16).astype("<u2")


def moved(numbers: np.ndarray[Any, Any], seed: int) -> np.ndarray[Any, Any]:
    """The same after a step of training: most change by a little."""
    return numbers + np.random.default_rng(seed).integers(0, 3, numbers.size, dtype="<u2")


def safetensors(**tensors: np.ndarray[Any, Any]) -> bytes:
    """A checkpoint in bfloat16."""
    header, at = {}, 0
    for name, numbers in tensors.items():
        header[name] = {
            "dtype": "BF16",
            "shape": [numbers.size],
            "data_offsets": [at, at + numbers.nbytes],
        }
        at += numbers.nbytes
    text = json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + b"".join(t.tobytes() for t in tensors.values())


def versions(count: int, size: int = 3 * MIB // 2) -> list[bytes]:
    found, numbers = [], weights(0, size)
    for number in range(count):
        found.append(safetensors(a=numbers, b=weights(1, 5000)))
        numbers = moved(numbers, number)
    return found


def stored_bytes(store: Store) -> int:
    names = ("blobs/", "packs/", "recipes/")
    return sum(stat.size_bytes for name in names for stat in store.repository.backend.walk(name))


def depth(store: Store, data: bytes) -> int:
    made_of = find(store.repository.backend, Digest.of(data))
    assert made_of is not None
    return int(made_of.depths().max())


def test_versions_of_a_checkpoint_are_stored_as_differences(store: Store, tmp_path: Path) -> None:
    series = versions(10)
    with store.start_run("s", run_id="s") as run:
        for step, data in enumerate(series):
            run.log_artifact(data, key=f"checkpoints/{step}.safetensors")
    assert stored_bytes(store) < 0.45 * sum(map(len, series))
    for step, data in enumerate(series):
        key = f"checkpoints/{step}.safetensors"
        assert store.read_artifact("s", key) == data
        assert store.read_artifact(str(Digest.of(data))) == data
        assert (
            store.get_artifact("s", key, to=tmp_path / "out", overwrite=True).read_bytes() == data
        )
        with store.open_artifact("s", key) as file:
            for at in (0, 5000, MIB - 1, len(data) - 7):
                file.seek(at)
                assert file.read(9) == data[at : at + 9]
            file.seek(0)
            assert file.read() == data
    assert [depth(store, data) for data in series] == [0, 1, 1, 1, 2, 2, 1, 2, 2, 1]
    assert store.verify() == []


def test_the_next_version_needs_none_of_those_between(store: Store) -> None:
    series = versions(6)
    with store.start_run("s", run_id="s") as run:
        for data in series:
            run.log_artifact(data, key="model.safetensors")  # each time the name moves
        about = store.repository.manifest("s").load().state["artifacts"]["model.safetensors"]
    assert about["version"] == 5
    assert [number for number, _ in about["bases"]] == [3, 0]
    assert depth(store, series[5]) == 2
    assert store.read_artifact("s", "model.safetensors") == series[5]


def test_the_base_is_found_in_another_run_of_the_experiment_or_named(store: Store) -> None:
    first, second = versions(2)
    with store.start_run("s") as run:
        run.log_artifact(first, key="a/1.safetensors")
    with store.start_run("s") as run:
        run.log_artifact(second, key="a/1.safetensors")
    assert depth(store, second) == 1
    third = safetensors(a=moved(weights(0), 7), b=weights(3, 5000))
    with store.start_run("other") as run:
        run.log_artifact(third, key="b", base=str(Digest.of(first)))
        assert depth(store, third) == 1
        with pytest.raises(ArtifactNotFound, match="base"):
            run.log_artifact(first, key="c", base="sha256:" + "0" * 64)
        with pytest.raises(InvalidValue, match="layout"):
            run.log_artifact(first, key="c", layout="zip")
    assert store.verify() == []


def test_auto_keeps_small_and_incompressible_things_plain(store: Store) -> None:
    noise = random.Random(1).randbytes(3 * MIB)
    text = b"".join(b"%d of a table that repeats itself\n" % n for n in range(100_000))
    with store.start_run("s") as run:
        run.log_artifact(b"small" * 100, key="small")
        run.log_artifact(noise, key="noise")
        run.log_artifact(text, key="text")
    backend = store.repository.backend
    assert layouts(backend, Digest.of(b"small" * 100)) == {"plain"}
    assert layouts(backend, Digest.of(noise)) == {"plain"}
    assert layouts(backend, Digest.of(text)) == {"packed"}


def test_a_later_version_points_into_the_plain_blob_of_the_first(store: Store) -> None:
    noise = random.Random(1).randbytes(8 * MIB)
    later = noise[: 3 * MIB] + b"rows that were inserted" + noise[3 * MIB :]
    with store.start_run("s", run_id="s") as run:
        run.log_artifact(noise, key="table")
        before = stored_bytes(store)
        run.log_artifact(later, key="table")
    assert stored_bytes(store) - before < 2 * MIB
    assert store.read_artifact("s", "table") == later
    made_of = find(store.repository.backend, Digest.of(later))
    assert made_of is not None
    assert (Digest.of(noise), False) in made_of.homes
    assert store.verify() == []


def test_what_is_stored_already_is_not_stored_again(store: Store) -> None:
    data = versions(1)[0]
    with store.start_run("one") as run:
        run.log_artifact(data, key="a")
    before = stored_bytes(store)
    with store.start_run("two", run_id="two") as run:  # where nothing is known of the first
        run.log_artifact(data, key="b")
        run.log_artifact(data, key="c")
    assert stored_bytes(store) == before
    assert store.read_artifact("two", "c") == data


def test_directories_share_and_come_back(store: Store, tmp_path: Path) -> None:
    first, second = versions(2)
    for name, data in (("one", first), ("two", second)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "model.safetensors").write_bytes(data)
        (tmp_path / name / "copy.safetensors").write_bytes(data)
        (tmp_path / name / "config.json").write_bytes(b"{}")
    with store.start_run("s", run_id="s") as run:
        run.log_artifact(tmp_path / "one", key="step-1")
        before = stored_bytes(store)
        run.log_artifact(tmp_path / "two", key="step-2")
    assert stored_bytes(store) - before < 0.5 * len(second)
    out = store.get_artifact("s", "step-2", to=tmp_path / "out")
    assert (out / "model.safetensors").read_bytes() == second
    assert (out / "copy.safetensors").read_bytes() == second
    assert store.verify() == []


@settings(max_examples=12, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.sampled_from(["auto", "plain", "packed"]),
            st.sampled_from(["text", "noise", "weights", "zeros", "tiny"]),
            st.integers(0, 3),
            st.booleans(),
        ),
        min_size=1,
        max_size=6,
    )
)
def test_any_bytes_in_any_layout_in_any_order(steps: list[tuple[str, str, int, bool]]) -> None:
    numbers = weights(0, MIB)
    with Store() as store, store.start_run("s", run_id="s") as run:
        kept = {}
        for number, (layout, kind, seed, compact) in enumerate(steps):
            data = {
                "text": b"%d;" % seed * (400_000 + seed),
                "noise": random.Random(seed // 2).randbytes(MIB + 100 * seed),
                "weights": safetensors(a=moved(numbers, seed), c=numbers[: 3000 + seed]),
                "zeros": bytes(2 * MIB + seed),
                "tiny": bytes(seed),
            }[kind]
            kept[f"k/{number}"] = data
            run.log_artifact(data, key=f"k/{number}", layout=layout, compact=compact)
        for key, data in kept.items():
            assert store.read_artifact("s", key) == data
        assert store.verify() == []


def test_packing_and_writing_out(store: Store) -> None:
    series = versions(3)
    backend = store.repository.backend
    with store.start_run("s", run_id="s") as run:
        for step, data in enumerate(series):
            run.log_artifact(data, key=f"c/{step}", layout="plain")
    assert [layouts(backend, Digest.of(data)) for data in series] == 3 * [{"plain"}]
    packed = store.pack("s")
    assert [one.key for one in packed] == ["c/0", "c/1", "c/2"]
    assert all(one.new_bytes < 0.8 * one.size_bytes for one in packed)
    assert [one.new_bytes for one in store.pack("s")] == [0, 0, 0]
    for data in series:  # as if they had been collected
        backend.delete(f"blobs/sha256/{Digest.of(data).hex[:2]}/{Digest.of(data).hex}")
    assert [store.read_artifact("s", f"c/{step}") for step in range(3)] == series
    denser = store.pack("s", "c/2", compact=True)
    assert 0 < denser[0].new_bytes < 0.3 * len(series[2])
    assert store.materialize("s", "c/1")[0].new_bytes == len(series[1])
    assert layouts(backend, Digest.of(series[1])) == {"plain", "packed"}
    assert [store.read_artifact("s", f"c/{step}") for step in range(3)] == series
    with pytest.raises(ArtifactNotFound, match="c/0"):
        store.pack("s", "nothing")
    state = store.repository.manifest("s").load().state["artifacts"]
    assert [state[f"c/{step}"]["layout"] for step in range(3)] == ["packed", "plain", "packed"]


def test_streams_and_files_are_stored_alike(store: Store, tmp_path: Path) -> None:
    data = versions(1)[0] * 3  # longer than what is kept in memory
    (tmp_path / "file").write_bytes(data)
    reader, writer = os.pipe()
    feeder = threading.Thread(target=lambda: _feed(writer, data))
    feeder.start()
    with store.start_run("s") as run:
        one = run.log_artifact(tmp_path / "file", key="file")
        with os.fdopen(reader, "rb") as pipe:
            two = run.log_artifact(pipe, key="pipe")
    feeder.join()
    assert one.digest == two.digest == Digest.of(data)


def _feed(writer: int, data: bytes) -> None:
    with os.fdopen(writer, "wb") as file:
        file.write(data)


def test_packing_by_digest(store: Store, tmp_path: Path) -> None:
    one, two = versions(2)
    with store.start_run("s", run_id="s") as run:
        run.log_artifact(one, key="a", layout="plain")
        run.log_artifact(two, key="other", layout="plain")
    backend, first, second = store.repository.backend, Digest.of(one), Digest.of(two)
    store.pack(str(first))
    [row] = store.pack(str(second), base=str(first))
    assert (row.key, row.digest, row.size_bytes) == (str(second), second, len(two))
    assert row.new_bytes < 0.5 * len(two)
    assert depth(store, two) == 1
    backend.delete(layout.blob(second))
    assert store.read_artifact("s", "other") == two
    store.materialize(str(second))
    assert layouts(backend, second) == {"plain", "packed"}
    for address in ("sha256:x", str(Digest.of(b"nothing"))):
        with pytest.raises((ArtifactNotFound, InvalidValue), match="sha256"):
            store.pack(address)


def damage(backend: Any, name: str, at: int) -> None:
    broken = bytearray(backend.get(name))
    broken[at] ^= 1
    backend.delete(name)
    backend.create(name, bytes(broken))


@pytest.mark.parametrize("damaged", ["blobs/", "packs/"])
def test_where_one_form_is_damaged_the_other_is_read(
    store: Store, tmp_path: Path, damaged: str
) -> None:
    [data] = versions(1)
    digest = Digest.of(data)
    with store.start_run("s", run_id="s") as run:
        run.log_artifact(data, key="a", layout="plain")
    store.pack("s")
    backend = store.repository.backend
    [name] = [stat.name for stat in backend.walk(damaged)]
    damage(backend, name, 2_000_000)
    assert store.read_artifact("s", "a") == data
    assert store.get_artifact("s", "a", to=tmp_path / "out").read_bytes() == data
    with store.open_artifact("s", "a") as file:
        assert file.read() == data
    with store.open_tensors("s", "a") as tensors:
        assert tensors["a"].tobytes() in data
    assert [finding.place for finding in store.verify("s")] == [name]
    backend.delete(name)
    with store.open_artifact("s", "a") as file:
        assert file.read() == data
    for stat in list(backend.walk("recipes/")):  # the packs do no good without
        backend.delete(stat.name)
    if damaged == "blobs/":
        with pytest.raises(Corrupt, match="blobs/.* is missing"):
            store.read_artifact("s", "a")
    else:
        assert store.read_artifact(str(digest)) == data
