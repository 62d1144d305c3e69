"""Packs and recipes: what was put in is found again, with and without the index; what is damaged or made up
is refused, or costs no more than the page says."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import golden
from holdfast.digest import Digest
from holdfast.errors import Corrupt, InvalidValue, UnsupportedFormat
from holdfast.format import frame, pack, packing, recipe, trailer
from holdfast.format.recipe import Chunk, Recipe
from holdfast.format.tensors import Tensor
from test_golden import packed
from test_hostile import flips, truncations, values

ONE, OTHER = Digest.of(b"one"), Digest.of(b"other")


def getter(data: bytes) -> Callable[[int, int], bytes]:
    def get(offset: int, length: int) -> bytes:
        return data[offset : offset + length]

    return get


def scanned(data: bytes) -> list[pack.Packed]:
    return list(pack.scan(getter(data), len(data), place="pack"))


chunks = st.lists(
    st.tuples(
        st.binary(min_size=32, max_size=32), st.integers(0, 255),
        st.lists(st.binary(min_size=32, max_size=32), max_size=2), st.binary(min_size=1, max_size=300),
        st.integers(0, 10_000),
    ),
    max_size=12,
)  # fmt: skip


def built(rows: Any, nonce: bytes = bytes(16)) -> tuple[bytes, list[pack.Packed]]:
    builder = pack.Builder(nonce)
    out = bytearray(builder.begin())
    for id_, codec, bases, payload, more in rows:
        chunk, head = builder.add(id_, len(payload) + more, codec, bases, payload)
        out += head + payload
        assert (chunk.offset + chunk.length, builder.size_bytes) == (len(out), len(out))
    return bytes(out + builder.end()), builder.chunks


@settings(max_examples=100, deadline=None)
@given(rows=chunks)
def test_a_pack_is_read_by_its_index_and_by_its_heads(rows: Any) -> None:
    data, wanted = built(rows)
    assert list(packed(data).chunks()) == scanned(data) == wanted
    for chunk in wanted:
        found = packed(data).find(chunk.id)
        assert found is not None and found.id == chunk.id
    assert packed(data).find(b"?" * 32) is None


def test_the_index_takes_one_more_request_where_the_tail_is_short() -> None:
    data = golden.read("pack")
    asked = []

    def get(offset: int, length: int) -> bytes:
        asked.append((offset, length))
        return data[offset : offset + length]

    index = pack.index(data[-34:], len(data), get, place="p")
    assert len(index) == 3 and len(asked) == 1


def test_a_pack_in_a_pack_is_not_taken_for_its_chunks() -> None:
    inner, _ = built([(b"i" * 32, 0, [], b"inner", 0)] * 3)
    outer, wanted = built([(b"o" * 32, 0, [], inner, 0), (b"p" * 32, 0, [], b"more", 0)], b"n" * 16)
    damaged = bytearray(outer)
    damaged[pack.FRONT_BYTES + 10] ^= 1  # the head around the inner pack
    assert scanned(bytes(damaged)) == wanted[1:]


def test_any_flipped_bit_costs_at_most_one_chunk_without_the_index() -> None:
    data = golden.read("pack")
    wanted = scanned(data)
    end = wanted[-1].offset + wanted[-1].length
    for changed in flips(data[:end]):
        with suppress(Corrupt, UnsupportedFormat):
            found = scanned(changed + data[end:])
            missing = [chunk for chunk in wanted if chunk not in found]
            assert len(missing) <= 1 or changed[: pack.FRONT_BYTES] != data[: pack.FRONT_BYTES]
            assert not [chunk for chunk in found if chunk not in wanted]


def test_a_damaged_payload_is_left_out() -> None:
    data = golden.read("pack")
    wanted = scanned(data)
    for number, chunk in enumerate(wanted):
        damaged = bytearray(data)
        damaged[chunk.offset] ^= 1
        assert scanned(bytes(damaged)) == wanted[:number] + wanted[number + 1 :]


@pytest.mark.parametrize(
    ("name", "value"),
    [("offsets", 99), ("lengths", 7), ("lengths", 0), ("counts", 1), ("counts", 3), ("sizes", 5),
     ("sizes", 17 << 20)],
)  # fmt: skip
def test_an_index_that_lies_is_refused(name: str, value: int) -> None:
    data = golden.read("pack")
    end = int.from_bytes(data[-32:-24], "big")
    body = packing.unpack(data[end : -trailer.TRAILER_BYTES], place="index")
    column = np.frombuffer(body[name], pack._COLUMNS[name]).copy()
    column[0] = value
    body[name] = column.tobytes()
    changed = data[:end] + trailer.wrap(b"P", 1, packing.pack(body), end)
    with pytest.raises(Corrupt, match="pack is damaged: its index is wrong"):
        packed(changed)


def test_what_is_left_of_a_truncated_pack_is_found() -> None:
    data = golden.read("pack")
    wanted = scanned(data)
    for changed in truncations(data):
        with suppress(Corrupt):
            found = scanned(changed)
            assert found == wanted[: len(found)]
            assert len(found) == sum(c.offset + c.length <= len(changed) for c in wanted)


def test_a_damaged_index_is_refused() -> None:
    data = golden.read("pack")
    start = packed(data).chunk(2).offset + packed(data).chunk(2).length
    for changed in truncations(data):
        with pytest.raises((Corrupt, UnsupportedFormat)) as caught:
            packed(changed)
        assert caught.value.place == "pack"
    for changed in flips(data[start:]):
        with pytest.raises((Corrupt, UnsupportedFormat)):
            packed(data[:start] + changed)


def test_no_damaged_recipe_is_read() -> None:
    data = golden.read("recipe-2")
    for changed in [*truncations(data), *flips(data)]:
        with pytest.raises((Corrupt, UnsupportedFormat)) as caught:
            recipe.decode(changed, place="the file")
        assert caught.value.place == "the file"


@pytest.mark.parametrize(
    ("id_", "size", "bases", "payload", "words"),
    [
        (b"i" * 31, 5, [], b"abc", "31 bytes"),
        (b"i" * 32, 0, [], b"", "size of 0"),
        (b"i" * 32, 2, [], b"abc", "takes 3 bytes and holds 2"),
        (b"i" * 32, 17 << 20, [], b"abc", "outside"),
        (b"i" * 32, 5, [b"b" * 32] * 3, b"abc", "at most 2"),
        (b"i" * 32, 5, [b"b"], b"abc", "bases"),
    ],
)
def test_what_a_reader_would_refuse_is_not_packed(
    id_: bytes, size: int, bases: list[bytes], payload: bytes, words: str
) -> None:
    with pytest.raises(InvalidValue, match=words):
        pack.Builder(bytes(16)).add(id_, size, 1, bases, payload)
    with pytest.raises(InvalidValue, match="16 bytes, not 3"):
        pack.Builder(b"abc")


# Recipes


def sample() -> Recipe:
    return golden.recipe_2()


def changed_column(name: str, place: int, value: int) -> Recipe:
    found = sample()
    column = found.columns[name].copy()
    column[place] = value
    return replace(found, columns={**found.columns, name: column})


BAD = {
    "a size of 0": changed_column("sizes", 0, 0),
    "a home that is not there": changed_column("homes", 1, 9),
    "an offset behind 2**62": changed_column("offsets", 1, (1 << 62) + 1),
    "nothing stored": changed_column("lengths", 1, 0),
    "more stored than it holds": changed_column("lengths", 1, 5000),
    "a raw chunk of two lengths": changed_column("lengths", 2, 99),
    "a raw chunk with a base": changed_column("first", 2, 0),
    "a codec in a blob": changed_column("codecs", 0, 1),
    "itself as a base": changed_column("first", 1, 1),
    "a later base": changed_column("first", 1, 2),
    "a base that is not there": changed_column("first", 1, 77),
    "a second base and no first": changed_column("second", 1, 0),
    "another size": replace(sample(), size_bytes=4195),
    "a tensor outside": replace(sample(), tensors=(Tensor("t", "U8", (5000,), 0, 5000),)),
    "a tensor of another size": replace(sample(), tensors=(Tensor("t", "F32", (9,), 0, 35),)),
    "a base of another size": changed_column("sizes", 0, 4095),
    "too much in a pack": changed_column("sizes", 1, (16 << 20) + 1),
    "too few ids": replace(sample(), ids=bytes(64)),
}


@pytest.mark.parametrize("name", BAD)
def test_a_recipe_that_lies_is_refused(name: str) -> None:
    if name == "a second base and no first":
        BAD[name].columns["first"][1] = recipe.NONE
    data = frame.wrap(b"R", 2, packing.pack(recipe._body(BAD[name])))
    with pytest.raises(Corrupt, match="the file is damaged"):
        recipe.decode(data, place="the file")


def chain(depth: int) -> recipe.Builder:
    builder = recipe.Builder()
    for number in range(depth + 1):
        bases = (number - 1,) if number else ()
        codec = 3 if number else 0
        length = 5 if number else 10
        builder.add(Chunk(bytes([number]) * 32, 10, ONE, True, 100, length, codec, bases))
    builder.append(depth)
    return builder


def test_bases_lie_at_most_eight_deep() -> None:
    made = chain(recipe.MAX_DEPTH).build(OTHER)
    assert made.depths().tolist() == list(range(recipe.MAX_DEPTH + 1))
    assert recipe.decode(recipe.encode(made), place="r") == made
    with pytest.raises(InvalidValue, match="more than 8 deep"):
        chain(recipe.MAX_DEPTH + 1).build(OTHER)


def test_a_recipe_takes_from_another_what_a_chunk_needs() -> None:
    other = chain(5).build(OTHER)
    builder = recipe.Builder()
    builder.append(builder.take(other, 3))
    builder.append(builder.take(other, 1))
    made = builder.build(ONE)
    assert [made.chunk(n).id[0] for n in range(len(made))] == [0, 1, 2, 3]
    assert (made.order.tolist(), made.size_bytes, made.starts.tolist()) == ([3, 1], 20, [0, 10, 20])
    assert made.depths().tolist() == [0, 1, 2, 3]


def test_pieces_are_found_by_their_place() -> None:
    made = golden.recipe_2()
    assert [made.piece_at(at) for at in (0, 99, 100, 4195)] == [0, 0, 1, 1]
    assert made.piece(0).size_bytes == 100


def test_the_lowest_version_that_can_say_it_is_written() -> None:
    spans = recipe.Builder()
    for number, (home, offset) in enumerate([(ONE, 0), (ONE, 10), (OTHER, 5), (ONE, 99)]):
        spans.append(spans.add(Chunk(bytes([number]) * 32, 10, home, False, offset, 10)))
    made = spans.build(Digest.of(b"it"))
    assert recipe.encode(made)[10] == 1
    assert recipe.decode(recipe.encode(made), place="r") == made
    for newer in (golden.recipe_2(), replace(made, tensors=(Tensor("t", "U8", (1,), 0, 1),))):
        assert recipe.encode(newer)[10] == 2


@settings(max_examples=300, deadline=None)
@given(body=st.dictionaries(st.sampled_from([*recipe._body(golden.recipe_2())]), values), keep=st.sets(
    st.sampled_from([*recipe._body(golden.recipe_2())])))  # fmt: skip
def test_made_up_recipes_are_refused(body: dict[str, Any], keep: set[str]) -> None:
    good = recipe._body(golden.recipe_2())
    mixed = {**body, **{name: good[name] for name in keep}}
    if mixed != good:
        with suppress(Corrupt, InvalidValue):
            found = recipe.decode(frame.wrap(b"R", 2, packing.pack(mixed)), place="f")
            assert int(found.starts[-1]) == found.size_bytes


@settings(max_examples=300, deadline=None)
@given(body=st.dictionaries(st.sampled_from(["ids", "bases", *pack._COLUMNS]), values) | values)
def test_made_up_indexes_are_refused_or_read_nothing_outside(body: Any) -> None:
    with suppress(InvalidValue, Corrupt):
        data = frame.header(b"P", 1) + b"\xc4\x10" + bytes(16)
        data += trailer.wrap(b"P", 1, packing.pack(body), len(data))
        assert len(packed(data)) == 0


def test_a_recipe_of_many_chunks_is_small_and_takes_little_memory() -> None:
    count = 100_000
    ids = np.random.default_rng(1).bytes(32 * count)
    made = recipe.plain(ONE, count << 20, [ids[32 * n : 32 * n + 32] for n in range(count)])
    columns = {**made.columns, "homes": made.columns["homes"]}
    data = recipe.encode(replace(made, columns=columns, tensors=(Tensor("t", "U8", (1,), 0, 1),)))
    assert len(data) < 60 * count
    tracemalloc.start()
    try:
        recipe.decode(data, place="r")
        assert tracemalloc.get_traced_memory()[1] < 4 * len(data)
    finally:
        tracemalloc.stop()
