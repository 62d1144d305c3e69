"""Tensors of stored checkpoints: every container gives its arrays exactly, one tensor costs little more than
its own bytes, and what changed between two checkpoints is said as numpy would."""

from __future__ import annotations

import io
import json
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_array_equal
from numpy.typing import NDArray

import holdfast
from holdfast import arrays
from holdfast.backend.wrap import WatchedBackend
from holdfast.errors import DigestMismatch, InvalidValue, NotFound
from holdfast.format.tensors import Tensor
from holdfast.ops.checkpoints import write_safetensors

Arrays = dict[str, NDArray[Any]]


def model(seed: int = 1, rows: int = 300) -> Arrays:
    random = np.random.default_rng(seed)
    return {
        "layer.weight": random.normal(size=(rows, 500)).astype("f4"),
        "layer.bias": random.normal(size=rows).astype("f2"),
        "count": np.array(7, "i8"),
        "mask": random.random(rows) < 0.5,
        "empty": np.empty((0, 3), "f8"),
        "phase": (random.normal(size=(4, 5)) + 1j * random.normal(size=(4, 5))).astype("c8"),
    }


def safetensors(state: Arrays) -> bytes:
    file = io.BytesIO()
    write_safetensors(file, state)
    return file.getvalue()


def npz(state: Arrays) -> bytes:
    file = io.BytesIO()
    np.savez(file, **state)  # type: ignore[arg-type]
    return file.getvalue()


@pytest.fixture
def run(store: holdfast.ExperimentStore) -> Any:
    with store.start_run("t", run_id="r", capture=False) as opened:
        yield opened


@pytest.mark.parametrize("form", [safetensors, npz])
@pytest.mark.parametrize("layout", ["plain", "packed"])
def test_every_tensor_comes_back_from_either_layout(run: Any, form: Any, layout: str) -> None:
    state = model(rows=900)
    run.log_artifact(form(state), "m", layout=layout)
    with run.store.open_tensors("r", "m") as tensors:
        assert set(tensors.keys()) >= set(state) - {"empty"}
        for name in tensors:
            assert tensors.info(name).shape == state[name].shape
            found = tensors.get_tensor(name)
            assert (found.dtype, found.shape) == (state[name].dtype, state[name].shape)
            assert_array_equal(found, state[name])


def test_a_single_array_and_one_in_the_order_of_fortran(run: Any) -> None:
    array = np.asfortranarray(np.arange(600_000.0).reshape(600, 1000))
    file = io.BytesIO()
    np.save(file, array)
    run.log_artifact(file.getvalue(), "a.npy")
    tensors = run.store.open_tensors("r", "a.npy")
    assert_array_equal(tensors[""], array)
    assert_array_equal(tensors.get_slice("")[3:5, 7], array[3:5, 7])


def test_big_endian_numbers_are_turned_round(run: Any) -> None:
    array = np.arange(5000, dtype=">f4")
    file = io.BytesIO()
    np.save(file, array)
    run.log_artifact(file.getvalue(), "a")
    found = run.store.open_tensors("r", "a")[""]
    assert found.dtype == np.dtype("f4") and found.dtype.isnative
    assert_array_equal(found, array)


INDEX = st.one_of(
    st.integers(-3, 2),
    st.slices(3),
    st.tuples(st.integers(-3, 2), st.slices(500)),
    st.tuples(st.slices(3), st.integers(-500, 499)),
    st.just(Ellipsis),
)


@pytest.fixture(scope="module")
def three() -> Any:
    with holdfast.ExperimentStore() as store:
        with store.start_run("t", run_id="r", capture=False, system=False) as run:
            run.log_artifact(safetensors({"w": model(rows=3)["layer.weight"]}), "m")
        yield store.open_tensors("r", "m")


@settings(max_examples=60, deadline=None)
@given(index=INDEX)
def test_a_slice_is_what_numpy_takes(three: Any, index: Any) -> None:
    assert_array_equal(three.get_slice("w")[index], three.get_tensor("w")[index])


def test_an_index_outside_is_an_error_as_in_numpy(three: Any) -> None:
    with pytest.raises(IndexError):
        three.get_slice("w")[3]


def test_a_missing_name_says_what_is_near(three: Any) -> None:
    with pytest.raises(NotFound, match="near it are w"):
        three.get_tensor("ww")


def test_what_is_no_checkpoint_is_refused(run: Any) -> None:
    run.log_artifact(b"just text" * 100, "notes")
    with pytest.raises(InvalidValue, match="no checkpoint that is understood"):
        run.store.open_tensors("r", "notes")


class Counted(WatchedBackend):
    """Counts the requests, and the bytes that come back."""

    def __init__(self, inner: Any) -> None:
        super().__init__(inner, lambda operation, name: None)
        self.bytes = self.requests = 0

    def get(self, name: str) -> bytes:
        return self._count(super().get(name))

    def get_range(self, name: str, offset: int, length: int) -> bytes:
        return self._count(super().get_range(name, offset, length))

    def _count(self, data: bytes) -> bytes:
        self.bytes += len(data)
        self.requests += 1
        return data


def counted(store: holdfast.ExperimentStore) -> Counted:
    import dataclasses

    watched = Counted(store.repository.backend)
    store.repository = dataclasses.replace(store.repository, backend=watched)
    return watched


@pytest.mark.parametrize("layout", ["plain", "packed"])
def test_one_tensor_costs_few_requests_and_few_bytes(tmp_path: Path, layout: str) -> None:
    random = np.random.default_rng(3)
    state = {f"{n:02d}": random.integers(0, 256, 3_000_000, "u1").view("f2") for n in range(16)}
    with holdfast.open(tmp_path / "lab") as store:
        with store.start_run("t", run_id="r", capture=False) as run:
            about = run.log_artifact(safetensors(state), "m", layout=layout)
        watched = counted(store)
        tensors = store.open_tensors("r", "m")
        assert_array_equal(tensors["07"].view("u2"), state["07"].view("u2"))
        beyond = watched.bytes - state["07"].nbytes
        assert beyond < 0.01 * about.size_bytes
        assert watched.requests <= 6


def test_a_flipped_byte_is_named_and_other_tensors_still_come(tmp_path: Path) -> None:
    state = {name: model(seed, 2000)["layer.weight"] for seed, name in enumerate("abc")}
    with holdfast.open(tmp_path / "lab") as store:
        with store.start_run("t", run_id="r", capture=False) as run:
            run.log_artifact(safetensors(state), "m", layout="plain")
        [blob] = [p for p in (tmp_path / "lab/blobs").rglob("*") if p.stat().st_size > 1 << 20]
        data = bytearray(blob.read_bytes())
        data[6_000_000] ^= 1
        blob.chmod(0o644)
        blob.write_bytes(data)
        tensors = store.open_tensors("r", "m")
        assert_array_equal(tensors["a"], state["a"])
        with pytest.raises(DigestMismatch, match=blob.name):
            tensors["b"]
        assert_array_equal(tensors["c"], state["c"])


def test_shards_of_a_directory_are_one_checkpoint(run: Any, tmp_path: Path) -> None:
    state = model()
    names = sorted(state)
    folder = tmp_path / "sharded"
    folder.mkdir()
    index = {}
    for shard in range(2):
        file = f"model-{shard + 1:05d}-of-00002.safetensors"
        (folder / file).write_bytes(safetensors({n: state[n] for n in names[shard::2]}))
        index |= dict.fromkeys(names[shard::2], file)
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": index}))
    (folder / "config.json").write_text("{}")
    about = run.log_artifact(folder, "sharded")
    for address in (("r", "sharded"), (str(about.digest),)):
        tensors = run.store.open_tensors(*address)
        assert set(tensors) == set(state)
        assert all(np.array_equal(tensors[name], state[name]) for name in names)


def test_equal_names_in_several_files_bear_their_paths(run: Any, tmp_path: Path) -> None:
    for part, seed in (("ema", 1), ("raw", 2)):
        (tmp_path / "d" / part).mkdir(parents=True)
        only = {"w": model(seed)["layer.weight"]}
        (tmp_path / "d" / part / "m.safetensors").write_bytes(safetensors(only))
    run.log_artifact(tmp_path / "d", "d")
    tensors = run.store.open_tensors("r", "d")
    assert tensors.keys() == ["ema/m.safetensors/w", "raw/m.safetensors/w"]


def test_gguf(run: Any) -> None:
    weights = np.arange(2048, dtype="f4")
    packed = np.arange(144, dtype="u1")  # one block of a packed type
    rows = b""
    for name, kind, count, at in ((b"w", 0, 2048, 0), (b"q", 12, 256, 8192)):
        rows += struct.pack("<Q", len(name)) + name + struct.pack("<IQIQ", 1, count, kind, at)
    head = b"GGUF" + struct.pack("<IQQ", 3, 2, 0) + rows
    head += bytes(-len(head) % 32)
    run.log_artifact(head + weights.tobytes() + packed.tobytes(), "m.gguf")
    tensors = run.store.open_tensors("r", "m.gguf")
    assert_array_equal(tensors["w"], weights)
    assert (tensors.info("q").dtype, tensors.info("q").shape) == ("GGML_12", (256,))
    assert_array_equal(tensors["q"], packed)
    with pytest.raises(InvalidValue, match="packed type GGML_12"):
        tensors.get_tensor("q", dtype="float32")


SMALL = {
    "BF16": "bfloat16", "F8_E4M3": "float8_e4m3fn", "F8_E5M2": "float8_e5m2",
    "F8_E4M3FNUZ": "float8_e4m3fnuz", "F8_E5M2FNUZ": "float8_e5m2fnuz", "F8_E8M0": "float8_e8m0fnu",
}  # fmt: skip


def test_without_ml_dtypes_bfloat16_comes_as_its_bits(
    run: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(__import__("sys").modules, "ml_dtypes", None)
    values = np.linspace(-2, 2, 4096, dtype="f4")
    bits = (values.view("u4") >> 16).astype("u2")
    header = {"w": {"dtype": "BF16", "shape": [64, 64], "data_offsets": [0, bits.nbytes]}}
    text = json.dumps(header).encode()
    run.log_artifact(struct.pack("<Q", len(text)) + text + bits.tobytes(), "m")
    tensors = run.store.open_tensors("r", "m")
    assert_array_equal(tensors["w"], bits.reshape(64, 64))
    found = tensors.get_tensor("w", dtype="float32")
    assert np.abs(found.reshape(-1) - values).max() < 2**-7


# Differences.


@settings(max_examples=60, deadline=None)
@given(
    shape=st.lists(st.integers(0, 5), max_size=3),
    dtype=st.sampled_from(["f4", "f2", "i4", "u1", "f8", "c8"]),
    seed=st.integers(0, 9),
    changed=st.integers(0, 5),
)
def test_a_difference_is_what_numpy_says(shape: Any, dtype: str, seed: int, changed: int) -> None:
    from holdfast.ops.diff import diff
    from holdfast.ops.sharded import Part
    from holdfast.ops.tensors import Tensors

    random = np.random.default_rng(seed)
    old = random.integers(0, 99, shape).astype(dtype)
    new = old.copy()
    new.reshape(-1)[:changed] += 3

    class Memory:
        """Bytes without a store."""

        artifact = recipe = None

        def __init__(self, array: Any) -> None:
            self.raw = array.reshape(-1).view("u1")

        def read(self, start: int, stop: int) -> Any:
            return self.raw[start:stop]

    kind = arrays.from_numpy(old)[0]
    row = Tensor("w", kind, tuple(shape), 0, old.nbytes)
    sides: list[Any] = []
    for number, array in enumerate((old, new)):
        memory: Any = Memory(array)
        memory.artifact = number
        sides.append(Tensors({"w": [Part(memory, row)]}))
    [found] = diff(*sides)
    differ = old != new
    assert found.status == ("changed" if differ.any() else "equal")
    wide = "c16" if dtype == "c8" else "f8"
    off = np.abs(new.astype(wide) - old.astype(wide))
    assert found.max_abs == off.max(initial=0)
    assert found.changed_fraction == (differ.mean() if old.size else 0)
    assert found.mean_abs == pytest.approx(off.mean() if old.size else 0)
    norm = np.linalg.norm(old.astype(wide))
    if norm:
        assert found.relative_l2 == pytest.approx(np.linalg.norm(off) / norm)


def test_a_diff_names_what_was_added_removed_reshaped_and_changed(run: Any) -> None:
    old = model(rows=900)
    new = {**old, "layer.weight": old["layer.weight"].copy(), "new": np.ones(5)}
    new["layer.weight"][5, 7] += 1
    new["layer.bias"] = old["layer.bias"].astype("f4")
    del new["mask"]
    run.log_artifact(safetensors(old), "m/1")
    run.log_artifact(safetensors(new), "m/2")
    found = {c.name: c for c in run.store.checkpoint_diff("r:m/1", ("r", "m/2"))}
    assert {name: c.status for name, c in found.items() if c.status != "equal"} == {
        "layer.weight": "changed", "layer.bias": "reshaped", "mask": "removed", "new": "added",
    }  # fmt: skip
    change = found["layer.weight"]
    assert change.max_abs == pytest.approx(1)
    assert change.changed_fraction == pytest.approx(1 / 450_000)


def test_not_a_number_counts_as_a_change_and_not_in_the_norms(run: Any) -> None:
    old = {"w": np.ones(5000, "f4")}
    new = {"w": old["w"].copy()}
    new["w"][0] = np.nan
    run.log_artifact(safetensors(old), "1")
    run.log_artifact(safetensors(new), "2")
    [found] = run.store.checkpoint_diff("r:1", "r:2")
    assert (found.status, found.max_abs, found.relative_l2) == ("changed", 0, 0)
    assert found.changed_fraction == 1 / 5000


def test_what_both_recipes_list_is_not_read(tmp_path: Path) -> None:
    old = {name: model(seed, 2000)["layer.weight"] for seed, name in enumerate("abcd")}
    new = {**old, "c": old["c"] + np.float32(0.25), "z": np.zeros(3)}
    with holdfast.open(tmp_path / "lab") as store:
        with store.start_run("t", run_id="r", capture=False) as run:
            run.log_artifact(safetensors(old), "m/1")
            run.log_artifact(safetensors(new), "m/2")
        watched = counted(store)
        found = store.checkpoint_diff("r:m/1", "r:m/2")
    assert [c.name for c in found if c.status == "changed"] == ["c"]
    # Of 32 MB: the old tensor, the new one, and the chunks that it is encoded against.
    assert watched.bytes < 2.5 * old["c"].nbytes
