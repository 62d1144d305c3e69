"""Codecs: any bytes come back exactly, bases or not; a payload that lies is refused before it costs."""

from __future__ import annotations

import struct
import threading
import tracemalloc
from contextlib import suppress
from typing import Any

import numpy as np
import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from holdfast import codecs
from holdfast.codecs import chunk, planes, predict, trial, zstd
from holdfast.codecs.planes import WIDTHS
from holdfast.codecs.predict import FLOATS
from holdfast.errors import Corrupt

DTYPES = [
    None, "BOOL", "U8", "I8", "F8_E4M3", "F8_E5M2", "I16", "U16", "F16", "BF16", "I32", "U32", "F32", "I64",
    "U64", "F64", "C32", "C64", "C128", ">F32", ">BF16", "GGML_12", "unheard of",
]  # fmt: skip


def back(made: codecs.Encoded, size: int, bases: list[bytes]) -> bytes:
    used = [bases[place] for place in made.bases]
    return codecs.decode(made.codec, made.payload, size, used).tobytes()


def as_bits(values: Any, dtype: str) -> bytes:
    """The values in the type, cut and not rounded in bfloat16."""
    if dtype == "BF16":
        return (np.float32(values).view("<u4") >> 16).astype("<u2").tobytes()
    types = {"F16": np.float16, "F32": np.float32, "F64": np.float64}
    return np.asarray(values).astype(types[dtype]).tobytes()


def weights(seed: int, count: int) -> tuple[Any, Any, Any]:
    """(before, after some training, a moving average of both)."""
    rng = np.random.default_rng(seed)
    before = rng.normal(size=count) * 0.02
    after = before + rng.normal(size=count) * 2e-4
    return before, after, before + 0.1 * (after - before)


raw = st.binary(max_size=300) | st.builds(
    lambda seed, size, top: np.random.default_rng(seed).integers(0, top, size, np.uint8).tobytes(),
    st.integers(0, 99), st.integers(0, 5000), st.integers(1, 256),
)  # fmt: skip


@settings(max_examples=300, deadline=None)
@given(
    data=raw, dtype=st.sampled_from(DTYPES), compact=st.booleans(), bases=st.lists(raw, max_size=2)
)
def test_any_bytes_come_back(
    data: bytes, dtype: str | None, compact: bool, bases: list[bytes]
) -> None:
    made = codecs.encode(data, dtype=dtype, bases=bases, compact=compact)
    assert len(made.payload) <= len(data)
    assert back(made, len(data), bases) == data


@settings(max_examples=200, deadline=None)
@given(
    data=raw.filter(len), seed=st.integers(0, 99), kind=st.sampled_from(list(FLOATS)),
    share=st.integers(-(4 << 16), 4 << 16), sort=st.booleans(),
)  # fmt: skip
def test_each_codec_gives_any_bytes_back(
    data: bytes, seed: int, kind: str, share: int, sort: bool
) -> None:
    """Also where the trial would not choose it: NaN, infinities and subnormals among the numbers."""
    rng = np.random.default_rng(seed)
    bases = [rng.bytes(len(data)), data[::-1]]
    about = FLOATS[kind]
    shift = about.shift if sort else None
    if len(data) < about.width:
        return
    for choice in (
        trial.Choice(codecs.ZSTD),
        trial.Choice(codecs.PLANES, about.width, rotate=sort),
        trial.Choice(codecs.DELTA, about.width, (0,)),
        trial.Choice(codecs.XOR, about.width, (0,)),
        trial.Choice(codecs.CONTEXT, about.width, (0,), shift=about.shift),
        trial.Choice(codecs.BLEND, about.width, (0, 1), shift=shift, kind=about, share=share),
    ):
        used = [np.frombuffer(bases[place], np.uint8) for place in choice.bases]
        payload = chunk._ENCODERS[choice.codec](np.frombuffer(data, np.uint8), choice, used)
        assert codecs.decode(choice.codec, payload, len(data), used).tobytes() == data


@pytest.mark.parametrize("dtype", FLOATS)
def test_the_trial_finds_what_helps(dtype: str) -> None:
    before, after, mean = (as_bits(values, dtype) for values in weights(1, 100_000))
    alone = codecs.encode(after, dtype=dtype)
    delta = codecs.encode(after, dtype=dtype, bases=[before])
    context = codecs.encode(after, dtype=dtype, bases=[before], compact=True)
    blend = codecs.encode(mean, dtype=dtype, bases=[before, after])
    assert [made.codec for made in (alone, delta, context, blend)] == [
        codecs.PLANES, codecs.DELTA, codecs.CONTEXT, codecs.BLEND,
    ]  # fmt: skip
    sizes = [len(made.payload) for made in (alone, delta, context, blend)]
    assert sizes == sorted(sizes, reverse=True)


def test_a_base_that_does_not_help_is_not_used() -> None:
    one, other = (as_bits(weights(seed, 50_000)[0], "BF16") for seed in (1, 2))
    assert codecs.encode(one, dtype="BF16", bases=[other]).codec == codecs.PLANES
    assert codecs.encode(one, dtype="BF16", bases=[one[:-2]]).bases == ()


def test_noise_is_stored_as_it_is() -> None:
    data = np.random.default_rng(1).bytes(100_000)
    for dtype in DTYPES:
        made = codecs.encode(data, dtype=dtype)
        assert (made.codec, made.payload) == (codecs.RAW, data)


def test_numbers_in_a_file_of_unknown_form_are_found() -> None:
    data = b"abc" + as_bits(weights(1, 50_000)[0], "F32")
    made = codecs.encode(data)
    assert made.codec == codecs.PLANES
    assert len(made.payload) < 0.9 * len(data)


def test_sparse_and_equal_numbers_cost_almost_nothing() -> None:
    assert len(codecs.encode(bytes(1 << 20), dtype="F32").payload) < 40
    data = np.zeros(1 << 18, np.float32)
    data[::1000] = 1.5
    assert len(codecs.encode(data, dtype="F32").payload) < 60_000


def test_a_codec_that_errs_costs_space_and_never_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    data = as_bits(weights(1, 50_000)[0], "F32")
    wrong = np.zeros(len(data), np.uint8)
    monkeypatch.setitem(chunk._DECODERS, codecs.PLANES, lambda *_: wrong)
    made = codecs.encode(data, dtype="F32")
    assert made.codec != codecs.PLANES
    assert back(made, len(data), []) == data


# The guess of a blend: by the words of the page, number by number.


def slow_mix(first: int, second: int, share: int, dtype: str) -> int:
    def value(bits: int) -> np.floating[Any]:
        if dtype == "BF16":
            return np.uint32(bits << 16).view(np.float32)
        if dtype == "F16":
            return np.float32(np.uint16(bits).view(np.float16))
        return np.uint32(bits).view(np.float32) if dtype == "F32" else np.uint64(bits).view(float)

    kind = FLOATS[dtype]
    with np.errstate(all="ignore"):
        b, c = value(first), value(second)
        m = (c - b) * type(b)(share / 65536) + b
    if not all(2.0**kind.least <= abs(float(number)) < 2.0**kind.most for number in (b, c, m)):
        return first
    if dtype == "F16":
        return int(np.float16(m).view(np.uint16))
    if dtype == "F64":
        return int(m.view(np.uint64))
    bits = int(m.view(np.uint32))
    if dtype == "F32":
        return bits
    upper, lower = bits >> 16, bits & 0xFFFF
    return upper + (lower > 0x8000 or (lower == 0x8000 and upper % 2 == 1))


@settings(max_examples=200, deadline=None)
@given(seed=st.integers(0, 10_000), dtype=st.sampled_from(list(FLOATS)), near=st.booleans(),
       share=st.integers(-(4 << 16), 4 << 16))  # fmt: skip
def test_mixtures_are_as_the_page_says(seed: int, dtype: str, near: bool, share: int) -> None:
    rng, width = np.random.default_rng(seed), FLOATS[dtype].width
    first = np.frombuffer(rng.bytes(40 * width), WIDTHS[width])
    second = np.frombuffer(rng.bytes(40 * width), WIDTHS[width])
    if near:
        second = first + second % WIDTHS[width].type(9)
    mixed = predict.mix(first, second, share, FLOATS[dtype])
    assert mixed.tolist() == [
        slow_mix(b, c, share, dtype) for b, c in zip(first.tolist(), second.tolist(), strict=True)
    ]


@settings(max_examples=100, deadline=None)
@given(data=raw, width=st.sampled_from([1, 2, 4, 8]))
def test_planes_are_the_bytes_by_their_places(data: bytes, width: int) -> None:
    numbers = np.frombuffer(data[: len(data) // width * width], WIDTHS[width])
    apart = planes.split(numbers)
    assert [plane.tobytes() for plane in apart] == [
        numbers.tobytes()[place::width] for place in range(width)
    ]
    assert np.array_equal(planes.merge(apart, width), numbers)


def test_threads_do_not_disturb_each_other() -> None:
    versions = [as_bits(weights(seed, 60_000)[seed % 2], "BF16") for seed in range(8)]
    wrong: list[int] = []

    def work(seed: int) -> None:
        for _ in range(5):
            bases = [versions[seed - 1]]
            made = codecs.encode(versions[seed], dtype="BF16", bases=bases, compact=seed % 2 == 0)
            if back(made, len(versions[seed]), bases) != versions[seed]:
                wrong.append(seed)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


# Payloads that somebody made up.


@settings(max_examples=500, deadline=None)
@given(codec=st.integers(-1, 8), payload=st.binary(max_size=120), size=st.integers(0, 2000),
       bases=st.integers(0, 3))  # fmt: skip
def test_a_made_up_payload_is_refused_or_gives_as_many_bytes_as_asked(
    codec: int, payload: bytes, size: int, bases: int
) -> None:
    with suppress(Corrupt):
        assert codecs.decode(codec, payload, size, [bytes(size)] * bases).size == size


@settings(max_examples=300, deadline=None)
@given(seed=st.integers(0, 50), dtype=st.sampled_from(list(FLOATS)), compact=st.booleans(),
       place=st.integers(0, 10**6), bit=st.integers(0, 7), keep=st.integers(0, 10**6))  # fmt: skip
def test_a_damaged_payload_is_refused_or_gives_as_many_bytes_as_asked(
    seed: int, dtype: str, compact: bool, place: int, bit: int, keep: int
) -> None:
    before, after, mean = (as_bits(values, dtype) for values in weights(seed, 700))
    bases = [before, after]
    made = codecs.encode(mean, dtype=dtype, bases=bases, compact=compact)
    damaged = bytearray(made.payload)
    damaged[place % len(damaged)] ^= 1 << bit
    used = [bases[place] for place in made.bases]
    for payload in (bytes(damaged), bytes(made.payload)[: keep % len(made.payload)]):
        try:
            found = codecs.decode(made.codec, payload, len(mean), used)
            assert found.size == len(mean)
        except Corrupt:
            continue


@pytest.mark.parametrize("compact", [False, True])
def test_other_bases_than_the_codec_needs_are_refused(compact: bool) -> None:
    before, after, _ = (as_bits(values, "BF16") for values in weights(1, 5000))
    made = codecs.encode(after, dtype="BF16", bases=[before], compact=compact)
    assert made.bases == (0,)
    for bases in ([], [before[2:]], [before + b"xx"], [before, before]):
        with pytest.raises(Corrupt, match="the chunk is damaged: its bases"):
            codecs.decode(made.codec, made.payload, len(after), bases, place="the chunk")


def test_bytes_behind_a_payload_are_refused() -> None:
    before, after, mean = (as_bits(values, "F32") for values in weights(1, 5000))
    for bases in ([], [before], [before, after]):
        made = codecs.encode(mean, dtype="F32", bases=bases)
        used = [bases[place] for place in made.bases]
        with pytest.raises(Corrupt):
            codecs.decode(made.codec, made.payload + b"x", len(mean), used)


def test_a_frame_that_claims_to_be_huge_is_refused_before_it_is_unpacked() -> None:
    bomb = zstandard.ZstdCompressor().compress(bytes(256 << 20))
    in_planes = bytes([2, 0, planes.FRAME, planes.FRAME])
    in_planes += struct.pack("<2I", len(bomb), len(bomb)) + bomb + bomb
    streamed = zstandard.ZstdCompressor().compressobj()
    unsized = streamed.compress(bytes(64 << 20)) + streamed.flush()
    tracemalloc.start()
    try:
        for codec, payload in (
            (codecs.ZSTD, bomb), (codecs.ZSTD, unsized), (codecs.PLANES, in_planes),
        ):  # fmt: skip
            with pytest.raises(Corrupt):
                codecs.decode(codec, payload, 1 << 20)
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
    finally:
        tracemalloc.stop()


def test_decoding_takes_no_more_memory_than_the_page_says() -> None:
    size = 4 << 20
    before, after, mean = (as_bits(values, "F16") for values in weights(1, size // 2))
    made = codecs.encode(mean, dtype="F16", bases=[before, after], compact=True)
    tracemalloc.start()
    try:
        codecs.decode(made.codec, made.payload, size, [before, after])
        assert tracemalloc.get_traced_memory()[1] < 12 * size
    finally:
        tracemalloc.stop()


def test_groups_are_one_plain_frame() -> None:
    data = np.frombuffer(bytes(5000) + bytes(range(256)) * 40, np.uint8)
    frame = zstd.compress_groups(data, [5000, 9000])
    assert zstandard.ZstdDecompressor().decompress(frame) == data.tobytes()


def test_no_version_is_more_than_three_deep_and_most_are_near_their_base() -> None:
    depths, reach = {}, []
    for number in range(200):
        base = codecs.base_of(number)
        assert base is None or 0 <= base < number
        depths[number] = 0 if base is None else depths[base] + 1
        reach.append(0 if base is None else number - base)
    assert max(depths.values()) == codecs.MAX_DEPTH
    assert [number for number in depths if not depths[number]] == list(range(0, 200, 27))
    assert sum(distance <= 2 for distance in reach) > 2 / 3 * len(reach)
