"""Tensors in checkpoints, found without running anything: in files that torch and numpy wrote, in files
written here by the words of their formats, and in damaged ones, where a doubt is no error."""

from __future__ import annotations

import hashlib
import io
import json
import pickle
import struct
import tracemalloc
import zipfile
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from holdfast.chunking import Contents, look
from holdfast.chunking.containers import DOUBTS
from holdfast.chunking.contents import MIN_TENSOR_BYTES
from holdfast.chunking.cutting import PIECE_BYTES, companions, cuts
from holdfast.chunking.walk import Global, walk
from holdfast.format.tensors import Tensor, element_bytes
from test_chunking import cut, getter

HOME = Path(__file__).parents[1] / "fixtures" / "checkpoints"
EXPECTED: dict[str, Any] = json.loads((HOME / "expected.json").read_text())
FILES = {name: (HOME / name).read_bytes() for name in EXPECTED}


def found_in(data: bytes) -> Contents:
    return look(getter(data), len(data))


def elements(data: bytes, tensor: Tensor) -> bytes:
    """The elements in C order, by the table alone."""
    width = element_bytes(tensor.dtype)
    raw = np.frombuffer(data[tensor.start : tensor.stop], f"V{width}")
    if tensor.strides is not None:
        strides = [width * stride for stride in tensor.strides]
        raw = np.lib.stride_tricks.as_strided(raw, tensor.shape, strides)
    return raw.tobytes()


def told(data: bytes, tensor: Tensor) -> list[Any]:
    digest = hashlib.sha256(elements(data, tensor)).hexdigest()
    return [tensor.dtype, list(tensor.shape), digest]


@pytest.mark.parametrize("name", EXPECTED)
def test_tensors_that_torch_wrote(name: str) -> None:
    data = FILES[name]
    found = {tensor.name: told(data, tensor) for tensor in found_in(data).tensors}
    if name.startswith("distributed"):
        assert sorted(found.values()) == EXPECTED[name][""]
    else:
        assert found == EXPECTED[name]


@pytest.mark.parametrize("name", EXPECTED)
def test_spans_are_the_storages_and_pieces_are_all_bytes(name: str) -> None:
    data, found = FILES[name], found_in(FILES[name])
    pieces = cut(data)
    assert [(p.start, p.size_bytes) for p in pieces if p.name is not None] == [
        (span.start, span.stop - span.start) for span in found.spans
    ]
    assert all(span.stop - span.start >= MIN_TENSOR_BYTES for span in found.spans)
    kept = {t.name for t in found.tensors if t.stop - t.start >= MIN_TENSOR_BYTES}
    assert len(found.spans) == (1 if name == "shared.pt" else len(kept))


def test_big_endian_marks_are_seen() -> None:
    out = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(FILES["shared.pt"])) as old, zipfile.ZipFile(out, "w") as new:
        for name in old.namelist():
            new.writestr(name, b"big" if name.endswith("/byteorder") else old.read(name))
    assert {t.dtype for t in found_in(out.getvalue()).tensors if t.shape} == {">F32", "F32"}
    assert found_in(out.getvalue()).spans[0].dtype == ">F32"


# safetensors


def safetensors(header: Any, body: bytes) -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + body


def test_safetensors() -> None:
    body = np.random.default_rng(1).bytes(20_000)
    header = {
        "__metadata__": {"format": "pt"},
        "b": {"dtype": "BF16", "shape": [2, 3000], "data_offsets": [8000, 20_000]},
        "a": {"dtype": "F32", "shape": [2000], "data_offsets": [0, 8000]},
    }
    data = safetensors(header, body)
    found, start = found_in(data), len(data) - len(body)
    assert found.tensors == (
        Tensor("a", "F32", (2000,), start, start + 8000),
        Tensor("b", "BF16", (2, 3000), start + 8000, start + 20_000),
    )
    assert [(span.name, span.dtype) for span in found.spans] == [("a", "F32"), ("b", "BF16")]


@pytest.mark.parametrize(
    "about",
    [
        {"dtype": "F32", "shape": [2000], "data_offsets": [0, 8001]},
        {"dtype": "F32", "shape": [-2000], "data_offsets": [0, 8000]},
        {"dtype": "F32", "shape": [4000], "data_offsets": [9000, 25_000]},
        {"dtype": "U8", "shape": [-1], "data_offsets": [10, 9]},
        {"dtype": 7, "shape": [8000], "data_offsets": [0, 8000]},
        {"dtype": "U8", "shape": 8000, "data_offsets": [0, 8000]},
        {"dtype": "U8", "shape": [8000], "data_offsets": [0]},
        {"dtype": "U8", "shape": [True] * 99, "data_offsets": [0, 1]},
        [],
    ],
)
def test_safetensors_that_lie_are_cut_by_their_contents(about: Any) -> None:
    data = safetensors({"w": about}, bytes(20_000))
    assert found_in(data) == Contents()
    cut(data)


def test_tensors_that_overlap_are_a_doubt() -> None:
    one = {"dtype": "U8", "shape": [8000], "data_offsets": [0, 8000]}
    other = {"dtype": "U8", "shape": [8000], "data_offsets": [7000, 15_000]}
    assert found_in(safetensors({"a": one, "b": other}, bytes(20_000))) == Contents()


@pytest.mark.parametrize(
    "header", [b"{" * 100_000, b"[" * 100_000, b'{"a":' * 50_000, b"{}", b"{1}"]
)
def test_headers_that_are_none_are_a_doubt(header: bytes) -> None:
    assert found_in(safetensors(header, bytes(100))).tensors == ()


# numpy


def npz(arrays: dict[str, Any], **how: Any) -> bytes:
    out = io.BytesIO()
    (np.savez_compressed if how.pop("packed", False) else np.savez)(out, **arrays, **how)
    return out.getvalue()


ARRAYS = {
    "plain": np.arange(3000, dtype=np.float32).reshape(30, 100),
    "fortran": np.asfortranarray(np.arange(3000, dtype=np.float64).reshape(30, 10, 10)),
    "big": np.arange(3000, dtype=">i4"),
    "half": np.ones(5000, np.float16),
    "truth": np.ones(5000, bool),
    "complex": np.ones(5000, np.complex64),
    "single": np.array(3.5),
    "none": np.zeros((0, 3)),
}


@pytest.mark.parametrize("name", ARRAYS)
def test_npy(name: str) -> None:
    out = io.BytesIO()
    np.save(out, ARRAYS[name])
    [tensor] = found_in(out.getvalue()).tensors
    assert tensor.shape == ARRAYS[name].shape
    assert elements(out.getvalue(), tensor) == ARRAYS[name].tobytes()
    assert tensor.dtype.startswith(">") == (name == "big")


def test_npz() -> None:
    data = npz({**ARRAYS, "objects": np.array([{}], object)})
    found = found_in(data)
    assert {tensor.name for tensor in found.tensors} == set(ARRAYS)
    for tensor in found.tensors:
        assert elements(data, tensor) == ARRAYS[tensor.name].tobytes()
    assert len(found.spans) == 6
    cut(data)
    assert found_in(npz(ARRAYS, packed=True)).tensors == ()


def test_packed_members_beside_stored_ones_are_left_to_their_contents() -> None:
    out, array = io.BytesIO(), io.BytesIO()
    np.save(array, ARRAYS["plain"])
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr("readme", b"again and " * 1000, zipfile.ZIP_DEFLATED)
        archive.writestr("empty.npy", b"")
        archive.writestr("plain.npy", array.getvalue())
    [tensor] = found_in(out.getvalue()).tensors
    assert elements(out.getvalue(), tensor) == ARRAYS["plain"].tobytes()


def test_structured_arrays_are_a_doubt() -> None:
    out = io.BytesIO()
    np.save(out, np.zeros(5000, [("a", "f4"), ("b", "i8")]))
    assert found_in(out.getvalue()) == Contents()


# GGUF


def text(value: str) -> bytes:
    return struct.pack("<Q", len(value)) + value.encode()


def gguf(tensors: list[tuple[str, list[int], int, bytes]], version: int = 3) -> bytes:
    about = [
        text("general.name") + struct.pack("<I", 8) + text("a model"),
        text("general.alignment") + struct.pack("<II", 4, 64),
        text("tokens") + struct.pack("<IIQ", 9, 8, 3) + text("a") + text("b") + text("c"),
        text("scores") + struct.pack("<IIQ3f", 9, 6, 3, 1, 2, 3),
        text("flag") + struct.pack("<I?", 7, True),
    ]
    head = b"GGUF" + struct.pack("<IQQ", version, len(tensors), len(about)) + b"".join(about)
    body = b""
    for name, shape, kind, raw in tensors:
        head += text(name) + struct.pack(f"<I{len(shape)}Q", len(shape), *shape)
        head += struct.pack("<IQ", kind, len(body))
        body += raw + bytes(-len(raw) % 64)
    return head + bytes(-len(head) % 64) + body


def test_gguf() -> None:
    noise = np.random.default_rng(1).bytes
    rows = [
        ("token_embd", [100, 30], 0, noise(12_000)),
        ("packed", [256, 40], 12, noise(5760)),
        ("half", [3000], 1, noise(6000)),
        ("norm", [64], 0, noise(256)),
    ]
    data = gguf(rows)
    found = {tensor.name: tensor for tensor in found_in(data).tensors}
    assert [(t.name, t.dtype, t.shape) for t in found.values()] == [
        ("token_embd", "F32", (30, 100)), ("packed", "GGML_12", (40, 256)), ("half", "F16", (3000,)),
        ("norm", "F32", (64,)),
    ]  # fmt: skip
    for name, _, _, raw in rows:
        assert data[found[name].start : found[name].stop] == raw
    assert [span.name for span in found_in(data).spans] == ["token_embd", "packed", "half"]
    assert found_in(gguf(rows, version=9)) == Contents()
    cut(data)


# Pickles


class Danger:
    def __reduce__(self) -> Any:
        return (exec, ("raise SystemExit('it ran')",))


def test_a_pickle_is_walked_and_never_run() -> None:
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        call = walk(pickle.dumps(Danger(), protocol))
        assert isinstance(call.what, Global) and call.what.name == "exec"


plain = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=9)
    | st.binary(max_size=9),
    lambda inner: st.lists(inner, max_size=4) | st.tuples(inner, inner)
    | st.dictionaries(st.text(max_size=5) | st.integers(), inner, max_size=4),
    max_leaves=15,
)  # fmt: skip


@settings(max_examples=200, deadline=None)
@given(value=plain, protocol=st.integers(3, pickle.HIGHEST_PROTOCOL))
def test_plain_values_are_what_they_were(value: Any, protocol: int) -> None:
    assert walk(pickle.dumps(value, protocol)) == value


BOMBS = {
    "a memo of two billion": b"\x80\x02Nr\xff\xff\xff\x7f.",
    "4 GiB of bytes": b"\x80\x04\x8e" + struct.pack("<Q", 1 << 32) + b"x.",
    "tuples in tuples as a key": b"\x80\x02}" + b")" + b"\x85" * 100_000 + b"Ns.",
    "lists in lists": b"\x80\x02" + b"]" * 30_000 + b"a" * 29_999 + b".",
    "the same list again and again": b"\x80\x02]q\x00" + b"(" + b"h\x00" * 50_000 + b"e.",
    "a number of many digits": b"\x80\x02}\x8b"
    + struct.pack("<i", 90_000)
    + b"\x7f" * 90_000
    + b"Ns.",
    "nothing to take": b"\x80\x02\x85.",
    "no mark": b"\x80\x02Nt.",
}


@pytest.mark.parametrize("name", BOMBS)
def test_pickles_that_mean_harm_are_a_doubt(name: str) -> None:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr("a/data.pkl", BOMBS[name])
        archive.writestr("a/data/0", bytes(5000))
    tracemalloc.start()
    try:
        assert found_in(out.getvalue()).tensors == ()
        assert tracemalloc.get_traced_memory()[1] < 64 << 20
    finally:
        tracemalloc.stop()


# Damage: mutations of real files


@settings(max_examples=400, deadline=None)
@given(data=st.data(), name=st.sampled_from([*EXPECTED, "npz", "gguf", "safetensors"]))
def test_any_mutation_comes_back_exactly(data: st.DataObject, name: str) -> None:
    made = {
        "npz": lambda: npz({"a": ARRAYS["plain"], "b": ARRAYS["big"]}),
        "gguf": lambda: gguf([("a", [2000], 0, bytes(8000)), ("b", [256, 30], 12, bytes(4320))]),
        "safetensors": lambda: safetensors(
            {"a": {"dtype": "F32", "shape": [2000], "data_offsets": [0, 8000]}}, bytes(8000)
        ),
    }
    raw = bytearray(made[name]() if name in made else FILES[name])
    for _ in range(data.draw(st.integers(1, 4))):
        near = data.draw(st.sampled_from(["start", "end", "anywhere"]))
        most = max(len(raw) - 1, 0)
        low, high = {"start": (0, 400), "end": (most - 3000, most), "anywhere": (0, most)}[near]
        place = data.draw(st.integers(max(0, low), max(0, min(high, most))))
        new = data.draw(st.binary(max_size=8))
        raw[place : place + data.draw(st.integers(0, 8))] = new
    if data.draw(st.booleans()):
        del raw[data.draw(st.integers(0, len(raw))) :]
    cut(bytes(raw))
    found = found_in(bytes(raw))
    assert all(0 <= tensor.start <= tensor.stop <= len(raw) for tensor in found.tensors)


@settings(max_examples=300, deadline=None)
@given(raw=st.binary(max_size=400), start=st.sampled_from(
    [b"", b"PK\x03\x04", b"GGUF\x03\0\0\0", b"\x93NUMPY\x01\x00", b"\x40\0\0\0\0\0\0\0{"]))  # fmt: skip
def test_made_up_files_are_a_doubt_at_most(raw: bytes, start: bytes) -> None:
    cut(start + raw)
    with suppress(*DOUBTS):
        walk(raw)


# Pieces of tensors


@pytest.mark.parametrize(
    ("size", "wanted"),
    [
        (0, []),
        (5000, [5000]),
        (PIECE_BYTES * 5 // 4, [PIECE_BYTES * 5 // 4]),
        (PIECE_BYTES * 5 // 4 + 1, [PIECE_BYTES, PIECE_BYTES // 4 + 1]),
        (3 * PIECE_BYTES, [PIECE_BYTES] * 3),
    ],
)
def test_the_last_piece_may_be_a_quarter_longer(size: int, wanted: list[int]) -> None:
    assert [length for _, length in cuts(size)] == wanted


def test_a_moving_average_finds_its_weights() -> None:
    data = safetensors(
        {
            name: {"dtype": dtype, "shape": [2000], "data_offsets": [8000 * n, 8000 * n + 8000]}
            for n, (name, dtype) in enumerate(
                [("model.a.w", "F32"), ("model.b.w", "F32"), ("ema.b.w", "F32"), ("ema.c.w", "F32"),
                 ("ema.a.w", "I32")]
            )
        },
        bytes(40_000),
    )  # fmt: skip
    found = found_in(data)
    assert companions(found) == {"ema.b.w": "model.b.w"}
