"""Where artifacts are cut: the same cuts as the definition gives, for ever, whatever the file holds."""

from __future__ import annotations

import hashlib
import tracemalloc
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from holdfast.chunking import Contents, Piece, Span, gear, look, pieces


def getter(data: bytes) -> Callable[[int, int], bytes]:
    def get(offset: int, length: int) -> bytes:
        return data[offset : offset + length]

    return get


def cut(data: bytes) -> list[Piece]:
    """The pieces of `data`, checked to be all of it, in order."""
    get = getter(data)
    found = list(pieces(get, len(data), look(get, len(data))))
    assert b"".join(part.tobytes() for _, part in found) == data
    at = 0
    for piece, part in found:
        assert (piece.start, piece.size_bytes) == (at, part.size)
        at += part.size
    return [piece for piece, _ in found]


def slow_cuts(data: bytes, least: int, most: int, bits: int) -> list[int]:
    """The definition on the page, byte by byte."""
    table = [
        int.from_bytes(hashlib.sha256(b"holdfast gear " + bytes([b])).digest()[:4], "little")
        for b in range(256)
    ]
    lengths, start, value = [], 0, 0
    for place, byte in enumerate(data):
        value = ((value << 1) + table[byte]) & 0xFFFFFFFF
        length = place + 1 - start
        if (length >= least and value >> (32 - bits) == 0) or length == most:
            lengths.append(length)
            start, value = place + 1, 0
    return [*lengths, len(data) - start] if start < len(data) else lengths


def noise(seed: int, size: int) -> bytes:
    return np.random.default_rng(seed).bytes(size)


def test_the_example_on_the_page() -> None:
    data = b"".join(hashlib.sha256(str(n).encode()).digest() for n in range(32768))
    assert [piece.size_bytes for piece in cut(data)] == [98082, 400559, 191068, 82817, 276050]


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 1000), size=st.integers(0, 40_000), least=st.integers(32, 500),
    more=st.integers(0, 5000), bits=st.integers(4, 11), block=st.sampled_from([64, 300, 65536]),
    symbols=st.integers(1, 256),
)  # fmt: skip
def test_all_hashes_at_once_give_the_cuts_of_the_definition(
    seed: int, size: int, least: int, more: int, bits: int, block: int, symbols: int
) -> None:
    data = np.random.default_rng(seed).integers(0, symbols, size).astype(np.uint8)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(gear, "MIN_BYTES", least)
        patch.setattr(gear, "MAX_BYTES", least + more)
        patch.setattr(gear, "_LIMIT", np.uint32(1 << (32 - bits)))
        patch.setattr(gear, "_BLOCK", block)
        lengths, left = [], data
        while left.size:
            lengths.append(gear.cut(left, last=True))
            left = left[lengths[-1] :]
    assert lengths == slow_cuts(data.tobytes(), least, least + more, bits)


@pytest.mark.parametrize("window", [1 << 16, 100_001, 4 << 20])
def test_windows_give_the_cuts_of_the_whole(window: int, monkeypatch: pytest.MonkeyPatch) -> None:
    from holdfast.chunking import cutting as module

    data = noise(1, 3_000_000)
    whole, left = [], np.frombuffer(data, np.uint8)
    while left.size:
        whole.append(gear.cut(left, last=True))
        left = left[whole[-1] :]
    monkeypatch.setattr(module, "_WINDOW", window)
    assert [piece.size_bytes for piece in cut(data)] == whole


def test_what_was_inserted_changes_the_pieces_around_it_only() -> None:
    data = noise(2, 8_000_000)
    changed = data[:3_000_000] + b"a few bytes" + data[3_000_000:]

    def ids(data: bytes) -> set[bytes]:
        get = getter(data)
        return {part.tobytes() for _, part in pieces(get, len(data), Contents())}

    assert sum(map(len, ids(changed) - ids(data))) < 3 * gear.MAX_BYTES


def test_equal_bytes_have_no_cut_but_the_longest() -> None:
    assert {piece.size_bytes for piece in cut(bytes(5 << 20))} == {gear.MAX_BYTES}


def test_memory_stays_the_same_whatever_the_size() -> None:
    block = noise(3, 4 << 20)
    size, span = 64 << 20, Span(1 << 20, 40 << 20, "weights", "F32")
    tracemalloc.start()
    try:
        found = pieces(lambda _, length: block[:length], size, Contents("x", (), (span,)))
        assert sum(piece.size_bytes for piece, _ in found) == size
        assert tracemalloc.get_traced_memory()[1] < 32 << 20
    finally:
        tracemalloc.stop()


def test_a_file_that_shrinks_while_it_is_read_is_an_error() -> None:
    get = getter(bytes(3_000_000))
    with pytest.raises(ValueError, match="it was changed meanwhile"):
        list(pieces(get, 3_000_001, Contents()))
